//! The encoding of answers to ops.

use prost::{Message, Oneof};

use super::{Empty, Lifetime, Retention};
use crate::Error;
use crate::verb;

/// Encodes the answer to an op.
pub fn encode(outcome: &Result<verb::Reply, Error>) -> Vec<u8> {
    Outcome::from(outcome.clone()).encode_to_vec()
}

/// Decodes the answer to an op.
///
/// # Errors
/// [`Error::Malformed`] for anything that [`encode`] does not write.
pub fn decode(bytes: &[u8]) -> Result<Result<verb::Reply, Error>, Error> {
    Outcome::decode(bytes).map_err(|_| Error::Malformed)?.try_into()
}

/// A reply or an error. Kept for later: 9 to 31.
#[derive(Clone, PartialEq, Message)]
pub struct Outcome {
    /// Never absent in a valid answer.
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 32")]
    pub kind: Option<Kind>,
}

#[allow(missing_docs)]
#[derive(Clone, PartialEq, Oneof)]
pub enum Kind {
    #[prost(bool, tag = "1")]
    Bucket(bool),
    #[prost(message, tag = "2")]
    Created(Created),
    #[prost(message, tag = "3")]
    Appended(Appended),
    #[prost(message, tag = "4")]
    ForkAcquired(ForkPoint),
    #[prost(message, tag = "5")]
    Done(Empty),
    #[prost(uint64, tag = "6")]
    Trimmed(u64),
    #[prost(message, tag = "7")]
    ImportBegun(super::import::Begun),
    #[prost(message, tag = "8")]
    SnapshotPublished(super::snapshot::Published),
    #[prost(message, tag = "32")]
    Failed(Failure),
}

/// See [`verb::Created`].
#[derive(Clone, PartialEq, Message)]
pub struct Created {
    /// This op created it.
    #[prost(bool, tag = "1")]
    pub new: bool,
    /// Its tail.
    #[prost(uint64, tag = "2")]
    pub tail: u64,
    /// Closed.
    #[prost(bool, tag = "3")]
    pub closed: bool,
    /// Its type.
    #[prost(string, tag = "4")]
    pub content_type: String,
}

/// See [`verb::Appended`].
#[derive(Clone, PartialEq, Message)]
pub struct Appended {
    /// The tail.
    #[prost(uint64, tag = "1")]
    pub tail: u64,
    /// Closed.
    #[prost(bool, tag = "2")]
    pub closed: bool,
    /// Known before.
    #[prost(bool, tag = "3")]
    pub duplicate: bool,
    /// Producer's epoch.
    #[prost(uint64, optional, tag = "4")]
    pub producer_epoch: Option<u64>,
    /// Producer's highest sequence.
    #[prost(uint64, tag = "5")]
    pub producer_seq: u64,
}

/// See [`verb::ForkPoint`].
#[derive(Clone, PartialEq, Message)]
pub struct ForkPoint {
    /// Incarnation of the source.
    #[prost(uint64, tag = "1")]
    pub source_id: u64,
    /// The anchor.
    #[prost(uint64, tag = "2")]
    pub anchor: u64,
    /// Where the fork begins.
    #[prost(uint64, tag = "3")]
    pub at: u64,
    /// Type of the source.
    #[prost(string, tag = "4")]
    pub content_type: String,
    /// Lifetime of the source.
    #[prost(message, optional, tag = "5")]
    pub lifetime: Option<Lifetime>,
    /// Depth of the fork.
    #[prost(uint32, tag = "6")]
    pub depth: u32,
    /// Retention of the source.
    #[prost(message, optional, tag = "7")]
    pub retention: Option<Retention>,
    /// Where the source begins; 0 for its first offset.
    #[prost(uint64, tag = "8")]
    pub earliest: u64,
}

/// See [`Error`]; the other fields mean what the error of that number needs.
#[derive(Clone, PartialEq, Message)]
pub struct Failure {
    /// Which error.
    #[prost(uint32, tag = "1")]
    pub error: u32,
    /// First number.
    #[prost(uint64, tag = "2")]
    pub a: u64,
    /// Second number.
    #[prost(uint64, tag = "3")]
    pub b: u64,
    /// Text.
    #[prost(string, tag = "4")]
    pub text: String,
    /// SHA-256, 32 bytes; empty for none.
    #[prost(bytes = "vec", tag = "5")]
    pub digest: Vec<u8>,
}
