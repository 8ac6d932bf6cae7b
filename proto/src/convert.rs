//! Between the messages of the contract and the verbs.

use ursula_common::placement::SlotTable;
use ursula_common::verb::{ForkLink, Lifetime, ReadFrom, Retention, SnapshotInfo, StreamInfo};
use ursula_common::{ContentType, Error, GroupId, Millis, Offset, StreamId, StreamKey};

use crate::v1;

/// What a read call is about: a stream, or one incarnation of it on behalf of a fork.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetRef {
    /// The group that holds it.
    pub group: GroupId,
    /// Its name.
    pub key: StreamKey,
    /// The incarnation, if a fork asks; then also one that was deleted is found.
    pub inherited: Option<StreamId>,
}

impl From<TargetRef> for v1::Target {
    fn from(target: TargetRef) -> v1::Target {
        v1::Target {
            group: target.group.0,
            bucket: target.key.bucket.to_string(),
            name: target.key.name.to_string(),
            inherited_id: target.inherited.map(|id| id.0),
        }
    }
}

impl TryFrom<Option<v1::Target>> for TargetRef {
    type Error = Error;

    fn try_from(target: Option<v1::Target>) -> Result<TargetRef, Error> {
        let target = target.ok_or(Error::Malformed)?;
        Ok(TargetRef {
            group: GroupId(target.group),
            key: StreamKey::parse_any(&target.bucket, &target.name).map_err(|_| Error::Malformed)?,
            inherited: target.inherited_id.map(StreamId),
        })
    }
}

impl From<StreamInfo> for v1::StreamInfo {
    fn from(info: StreamInfo) -> v1::StreamInfo {
        let (ttl_seconds, expires_at, expires_at_ms) = match info.lifetime {
            Lifetime::Forever => (None, None, 0),
            Lifetime::Ttl(seconds) => (Some(seconds), None, 0),
            Lifetime::ExpiresAt { text, at } => (None, Some(text.to_string()), at.0),
        };
        let fork = info.fork.map(|link| v1::Fork {
            bucket: link.source.bucket.to_string(),
            name: link.source.name.to_string(),
            source_id: link.source_id.0,
            anchor: link.anchor.0,
            sub_offset: link.sub_offset,
            at: link.at.0,
            depth: link.depth,
        });
        v1::StreamInfo {
            id: info.id.0,
            content_type: info.content_type.to_string(),
            earliest: info.earliest.0,
            tail: info.tail.0,
            closed: info.closed,
            ttl_seconds,
            expires_at,
            expires_at_ms,
            fork,
            retention_max_age: info.retention.max_age,
            retention_max_bytes: info.retention.max_bytes,
            retention_snapshot: info.retention.snapshot,
            snapshot: info.snapshot.map(|snapshot| v1::Snapshot::from(*snapshot)),
        }
    }
}

impl TryFrom<v1::StreamInfo> for StreamInfo {
    type Error = Error;

    fn try_from(info: v1::StreamInfo) -> Result<StreamInfo, Error> {
        let lifetime = match (info.ttl_seconds, info.expires_at) {
            (Some(seconds), _) => Lifetime::Ttl(seconds),
            (None, Some(text)) => Lifetime::ExpiresAt { text: text.into(), at: Millis(info.expires_at_ms) },
            (None, None) => Lifetime::Forever,
        };
        Ok(StreamInfo {
            id: StreamId(info.id),
            content_type: ContentType::parse(&info.content_type),
            earliest: Offset(info.earliest),
            tail: Offset(info.tail),
            closed: info.closed,
            lifetime,
            retention: Retention {
                max_age: info.retention_max_age,
                max_bytes: info.retention_max_bytes,
                snapshot: info.retention_snapshot,
            },
            snapshot: info.snapshot.map(SnapshotInfo::try_from).transpose()?.map(Box::new),
            fork: info.fork.map(fork_link).transpose()?,
            cold: None,
        })
    }
}

impl From<SnapshotInfo> for v1::Snapshot {
    fn from(snapshot: SnapshotInfo) -> v1::Snapshot {
        v1::Snapshot {
            at: snapshot.at.0,
            upload: snapshot.upload,
            content_type: snapshot.content_type.to_string(),
            bytes: snapshot.bytes,
            digest: Vec::from(snapshot.digest).into(),
        }
    }
}

impl TryFrom<v1::Snapshot> for SnapshotInfo {
    type Error = Error;

    fn try_from(snapshot: v1::Snapshot) -> Result<SnapshotInfo, Error> {
        Ok(SnapshotInfo {
            at: Offset(snapshot.at),
            upload: snapshot.upload,
            content_type: ContentType::parse(&snapshot.content_type),
            bytes: snapshot.bytes,
            digest: snapshot.digest[..].try_into().map_err(|_| Error::Malformed)?,
        })
    }
}

fn fork_link(fork: v1::Fork) -> Result<ForkLink, Error> {
    Ok(ForkLink {
        source: StreamKey::parse(&fork.bucket, &fork.name).map_err(|_| Error::Malformed)?,
        source_id: StreamId(fork.source_id),
        anchor: Offset(fork.anchor),
        sub_offset: fork.sub_offset,
        at: Offset(fork.at),
        depth: fork.depth,
    })
}

impl From<ReadFrom> for v1::Position {
    fn from(from: ReadFrom) -> v1::Position {
        use v1::position::{Now, Position, Start};
        let position = match from {
            ReadFrom::Start => Position::Start(Start {}),
            ReadFrom::Now => Position::Now(Now {}),
            ReadFrom::At(offset) => Position::Offset(offset.0),
        };
        v1::Position { position: Some(position) }
    }
}

/// Decodes where a read begins.
///
/// # Errors
/// [`Error::Malformed`] if nothing is said.
pub fn read_from(position: Option<v1::Position>) -> Result<ReadFrom, Error> {
    use v1::position::Position;
    Ok(match position.and_then(|p| p.position).ok_or(Error::Malformed)? {
        Position::Start(_) => ReadFrom::Start,
        Position::Now(_) => ReadFrom::Now,
        Position::Offset(at) => ReadFrom::At(Offset(at)),
    })
}

/// The topology with its slot table checked.
///
/// # Errors
/// [`Error::Malformed`] if a slot has no group.
pub fn slot_table(topology: &v1::Topology) -> Result<SlotTable, Error> {
    SlotTable::from_groups(topology.slots.iter().copied().map(GroupId).collect()).ok_or(Error::Malformed)
}
