//! The one encoding of ops and their answers: the same bytes travel on lanes and lie in the log.
//!
//! Protocol Buffers, written here as prost structs so that every number stands beside its field. A
//! number is never reused or changed; `docs/formats/ops.md` lists them with those that are kept for
//! later. Decoding checks everything that the newtypes of this crate promise.

pub mod cluster;
mod convert;
mod error;
pub mod import;
pub mod packs;
pub mod reply;
pub mod snapshot;

use bytes::Bytes;
use prost::{Message, Oneof};

use crate::Error;
use crate::verb;
pub use convert::{decode_ack, encode_ack};

/// Encodes an op.
pub fn encode_op(op: &verb::Op) -> Vec<u8> {
    Op::from(op.clone()).encode_to_vec()
}

/// Decodes an op; its body is a slice of `bytes`, not a copy.
///
/// # Errors
/// [`Error::Malformed`] for anything that [`encode_op`] does not write.
pub fn decode_op(bytes: Bytes) -> Result<verb::Op, Error> {
    Op::decode(bytes).map_err(|_| Error::Malformed)?.try_into()
}

/// Decodes an op like [`decode_op`]; also tells whether `bytes` say nothing beyond it, so that they may be kept as
/// they are. Others hold what a later version wrote and this one ignores: another replica may know what it means.
///
/// # Errors
/// Those of [`decode_op`].
pub fn decode_whole_op(bytes: Bytes) -> Result<(verb::Op, bool), Error> {
    let len = bytes.len();
    let op = Op::decode(bytes).map_err(|_| Error::Malformed)?;
    let whole = op.encoded_len() == len;
    Ok((op.try_into()?, whole))
}

/// Numbers 1 to 31 are kept for clients' ops, 32 to 63 for those between groups, 64 and up for those
/// of a group to itself. Kept for later: 8 to 12 (attributes),
/// 40 to 47 (slot freeze, import, drop), 69 to 74, 78 and 79 (checkpoint).
#[derive(Clone, PartialEq, Message)]
pub struct Op {
    /// What to do; never absent in a valid op.
    #[prost(
        oneof = "op::Kind",
        tags = "1, 2, 3, 4, 5, 6, 7, 13, 14, 15, 32, 33, 34, 35, 64, 65, 66, 67, 68, 71, 72, 75, 76, 77"
    )]
    pub kind: Option<op::Kind>,
}

/// The kinds of [`Op`].
pub mod op {
    use super::*;

    #[allow(missing_docs)]
    #[derive(Clone, PartialEq, Oneof)]
    pub enum Kind {
        #[prost(message, tag = "1")]
        Create(Create),
        #[prost(message, tag = "2")]
        Append(Append),
        #[prost(message, tag = "3")]
        Delete(Key),
        #[prost(message, tag = "4")]
        Touch(Key),
        #[prost(message, tag = "5")]
        Trim(Trim),
        #[prost(message, tag = "6")]
        PublishSnapshot(snapshot::PublishSnapshot),
        #[prost(message, tag = "7")]
        RemoveSnapshot(snapshot::RemoveSnapshot),
        #[prost(string, tag = "13")]
        CreateBucket(String),
        #[prost(string, tag = "14")]
        DeleteBucket(String),
        #[prost(message, tag = "15")]
        CreateBucketWith(BucketConfig),
        #[prost(message, tag = "32")]
        InstallBucket(BucketStep),
        #[prost(message, tag = "33")]
        DropBucket(BucketStep),
        #[prost(message, tag = "34")]
        AcquireFork(AcquireFork),
        #[prost(message, tag = "35")]
        ReleaseFork(ForkRef),
        #[prost(message, tag = "64")]
        Expire(Empty),
        #[prost(message, tag = "65")]
        SagaStep(SagaStep),
        #[prost(message, tag = "66")]
        Cluster(cluster::ClusterOp),
        #[prost(message, tag = "67")]
        CommitPack(packs::CommitPack),
        #[prost(message, tag = "68")]
        BeginPacks(Empty),
        #[prost(message, tag = "71")]
        MergePacks(packs::MergePacks),
        #[prost(message, tag = "72")]
        SweepPacks(packs::SweepPacks),
        #[prost(message, tag = "75")]
        BeginImport(import::Run),
        #[prost(message, tag = "76")]
        Import(import::Import),
        #[prost(message, tag = "77")]
        EndImport(import::End),
    }
}

/// Nothing.
#[derive(Clone, PartialEq, Message)]
pub struct Empty {}

/// See [`verb::BucketStep`].
#[derive(Clone, PartialEq, Message)]
pub struct BucketStep {
    /// Bucket name.
    #[prost(string, tag = "1")]
    pub bucket: String,
    /// Order of the step.
    #[prost(uint64, tag = "2")]
    pub order: u64,
    /// When ops in it are acknowledged; see [`encode_ack`].
    #[prost(uint32, tag = "3")]
    pub ack: u32,
}

/// A bucket that is not as buckets are unless somebody asks.
#[derive(Clone, PartialEq, Message)]
pub struct BucketConfig {
    /// Bucket name.
    #[prost(string, tag = "1")]
    pub bucket: String,
    /// When ops in it are acknowledged; see [`encode_ack`].
    #[prost(uint32, tag = "2")]
    pub ack: u32,
}

/// The full name of a stream.
#[derive(Clone, PartialEq, Message)]
pub struct Key {
    /// Bucket name.
    #[prost(string, tag = "1")]
    pub bucket: String,
    /// Stream name.
    #[prost(string, tag = "2")]
    pub name: String,
}

/// See [`verb::Create`].
#[derive(Clone, PartialEq, Message)]
pub struct Create {
    /// The stream.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// Its type.
    #[prost(string, optional, tag = "2")]
    pub content_type: Option<String>,
    /// Its lifetime.
    #[prost(message, optional, tag = "3")]
    pub lifetime: Option<Lifetime>,
    /// Closed from the start.
    #[prost(bool, tag = "4")]
    pub closed: bool,
    /// First content.
    #[prost(bytes = "bytes", tag = "5")]
    pub body: Bytes,
    /// Source of a fork.
    #[prost(message, optional, tag = "6")]
    pub fork: Option<ForkFrom>,
    /// With offsets of its own.
    #[prost(bool, tag = "7")]
    pub numbered: bool,
    /// How much is kept.
    #[prost(message, optional, tag = "8")]
    pub retention: Option<Retention>,
}

/// See [`verb::Retention`].
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Retention {
    /// Seconds.
    #[prost(uint64, optional, tag = "1")]
    pub max_age: Option<u64>,
    /// Bytes.
    #[prost(uint64, optional, tag = "2")]
    pub max_bytes: Option<u64>,
    /// From the newest snapshot on.
    #[prost(bool, tag = "3")]
    pub snapshot: bool,
}

/// See [`verb::Trim`].
#[derive(Clone, PartialEq, Message)]
pub struct Trim {
    /// The stream.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// Where it is to begin.
    #[prost(uint64, tag = "2")]
    pub to: u64,
    /// The record in which that lies.
    #[prost(message, optional, tag = "3")]
    pub cut: Option<ForkCut>,
}

/// See [`verb::ForkFrom`].
#[derive(Clone, PartialEq, Message)]
pub struct ForkFrom {
    /// The source.
    #[prost(message, required, tag = "1")]
    pub source: Key,
    /// The anchor.
    #[prost(uint64, optional, tag = "2")]
    pub offset: Option<u64>,
    /// Past the anchor.
    #[prost(uint64, tag = "3")]
    pub sub_offset: u64,
}

/// See [`verb::Lifetime`]: `ttl_seconds`, or both of the others.
#[derive(Clone, PartialEq, Message)]
pub struct Lifetime {
    /// Sliding.
    #[prost(uint64, optional, tag = "1")]
    pub ttl_seconds: Option<u64>,
    /// Absolute, as the client wrote it.
    #[prost(string, optional, tag = "2")]
    pub expires_at: Option<String>,
    /// Absolute, in milliseconds since the Unix epoch.
    #[prost(uint64, tag = "3")]
    pub expires_at_ms: u64,
}

/// See [`verb::Append`].
#[derive(Clone, PartialEq, Message)]
pub struct Append {
    /// The stream.
    #[prost(message, required, tag = "1")]
    pub key: Key,
    /// Type of the body.
    #[prost(string, optional, tag = "2")]
    pub content_type: Option<String>,
    /// The bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub body: Bytes,
    /// Last append.
    #[prost(bool, tag = "4")]
    pub close: bool,
    /// Idempotent producer.
    #[prost(message, optional, tag = "5")]
    pub producer: Option<Producer>,
    /// `Stream-Seq`.
    #[prost(string, optional, tag = "6")]
    pub stream_seq: Option<String>,
    /// Expected tail.
    #[prost(uint64, optional, tag = "7")]
    pub expected_offset: Option<u64>,
}

/// See [`verb::Producer`].
#[derive(Clone, PartialEq, Message)]
pub struct Producer {
    /// Name.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Epoch.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Sequence.
    #[prost(uint64, tag = "3")]
    pub seq: u64,
}

/// See [`verb::ForkRef`].
#[derive(Clone, PartialEq, Message)]
pub struct ForkRef {
    /// The source.
    #[prost(message, required, tag = "1")]
    pub source: Key,
    /// The fork.
    #[prost(message, required, tag = "2")]
    pub fork: Key,
    /// Its incarnation.
    #[prost(uint64, tag = "3")]
    pub fork_id: u64,
}

/// See [`verb::AcquireFork`].
#[derive(Clone, PartialEq, Message)]
pub struct AcquireFork {
    /// The reference.
    #[prost(message, required, tag = "1")]
    pub fork_ref: ForkRef,
    /// The anchor.
    #[prost(uint64, optional, tag = "2")]
    pub offset: Option<u64>,
    /// Past the anchor.
    #[prost(uint64, tag = "3")]
    pub sub_offset: u64,
    /// Type of the fork.
    #[prost(string, optional, tag = "4")]
    pub content_type: Option<String>,
    /// Where both lead.
    #[prost(message, optional, tag = "5")]
    pub cut: Option<ForkCut>,
}

/// See [`verb::ForkCut`].
#[derive(Clone, PartialEq, Message)]
pub struct ForkCut {
    /// Incarnation of the source.
    #[prost(uint64, tag = "1")]
    pub stream: u64,
    /// The place.
    #[prost(uint64, tag = "2")]
    pub at: u64,
}

/// See [`verb::SagaStep`].
#[derive(Clone, PartialEq, Message)]
pub struct SagaStep {
    /// The saga.
    #[prost(uint64, tag = "1")]
    pub saga: u64,
    /// The message.
    #[prost(uint32, tag = "2")]
    pub message: u32,
    /// The answer.
    #[prost(message, required, tag = "3")]
    pub outcome: reply::Outcome,
}

#[cfg(test)]
mod tests;
