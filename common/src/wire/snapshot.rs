//! The encoding of what changes the snapshot of a stream.

use prost::Message;

use super::convert::{content_type, cut_in, cut_out, offset};
use super::{ForkCut, Key};
use crate::{Error, Offset, verb};

/// See [`verb::PublishSnapshot`].
#[derive(Clone, PartialEq, Message)]
pub struct PublishSnapshot {
    /// The stream.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// What it says ends here.
    #[prost(uint64, tag = "2")]
    pub at: u64,
    /// The record in which that lies.
    #[prost(message, optional, tag = "3")]
    pub cut: Option<ForkCut>,
    /// The companion; never 0.
    #[prost(fixed64, tag = "4")]
    pub upload: u64,
    /// Its type.
    #[prost(string, tag = "5")]
    pub content_type: String,
    /// Its length.
    #[prost(uint64, tag = "6")]
    pub bytes: u64,
    /// 32 bytes.
    #[prost(bytes = "vec", tag = "7")]
    pub digest: Vec<u8>,
    /// See [`condition_out`].
    #[prost(bytes = "vec", optional, tag = "8")]
    pub condition: Option<Vec<u8>>,
}

/// See [`verb::RemoveSnapshot`].
#[derive(Clone, PartialEq, Message)]
pub struct RemoveSnapshot {
    /// The stream.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// Where the snapshot is.
    #[prost(uint64, tag = "2")]
    pub at: u64,
    /// See [`condition_out`].
    #[prost(bytes = "vec", optional, tag = "3")]
    pub condition: Option<Vec<u8>>,
}

/// The answer to [`PublishSnapshot`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Published {
    /// It was not there before.
    #[prost(bool, tag = "1")]
    pub new: bool,
    /// Where it is.
    #[prost(uint64, tag = "2")]
    pub at: u64,
}

impl From<verb::PublishSnapshot> for PublishSnapshot {
    fn from(publish: verb::PublishSnapshot) -> PublishSnapshot {
        PublishSnapshot {
            key: publish.key.into(),
            at: publish.at.0,
            cut: publish.cut.map(cut_out),
            upload: publish.upload,
            content_type: publish.content_type.to_string(),
            bytes: publish.bytes,
            digest: publish.digest.into(),
            condition: condition_out(publish.condition),
        }
    }
}

impl TryFrom<PublishSnapshot> for verb::PublishSnapshot {
    type Error = Error;

    fn try_from(publish: PublishSnapshot) -> Result<verb::PublishSnapshot, Error> {
        if publish.upload == 0 {
            return Err(Error::Malformed);
        }
        Ok(verb::PublishSnapshot {
            key: publish.key.try_into()?,
            at: offset(publish.at)?,
            cut: publish.cut.map(cut_in).transpose()?,
            upload: publish.upload,
            content_type: content_type(&publish.content_type)?,
            bytes: publish.bytes,
            digest: publish.digest.try_into().map_err(|_| Error::Malformed)?,
            condition: condition_in(publish.condition)?,
        })
    }
}

impl From<verb::RemoveSnapshot> for RemoveSnapshot {
    fn from(remove: verb::RemoveSnapshot) -> RemoveSnapshot {
        let condition = condition_out(remove.condition);
        RemoveSnapshot { key: remove.key.into(), at: remove.at.0, condition }
    }
}

impl TryFrom<RemoveSnapshot> for verb::RemoveSnapshot {
    type Error = Error;

    fn try_from(remove: RemoveSnapshot) -> Result<verb::RemoveSnapshot, Error> {
        let condition = condition_in(remove.condition)?;
        Ok(verb::RemoveSnapshot { key: remove.key.try_into()?, at: offset(remove.at)?, condition })
    }
}

impl From<Published> for verb::Reply {
    fn from(published: Published) -> verb::Reply {
        verb::Reply::SnapshotPublished { new: published.new, at: Offset(published.at) }
    }
}

/// Absent for any snapshot or none, empty for none, otherwise the digest of the one there must be.
fn condition_out(condition: verb::SnapshotCondition) -> Option<Vec<u8>> {
    match condition {
        verb::SnapshotCondition::Any => None,
        verb::SnapshotCondition::Absent => Some(Vec::new()),
        verb::SnapshotCondition::Is(digest) => Some(digest.into()),
    }
}

fn condition_in(condition: Option<Vec<u8>>) -> Result<verb::SnapshotCondition, Error> {
    Ok(match condition {
        None => verb::SnapshotCondition::Any,
        Some(none) if none.is_empty() => verb::SnapshotCondition::Absent,
        Some(digest) => verb::SnapshotCondition::Is(digest.try_into().map_err(|_| Error::Malformed)?),
    })
}
