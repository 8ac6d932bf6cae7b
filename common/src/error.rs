//! Why an op or a read failed, as the tiers tell each other.
//!
//! Every error answers two questions: may I send the same request again ([`Error::retry`]), and did
//! anything happen ([`Error::outcome`])? Knows no status of HTTP or gRPC: the edges translate.

use std::sync::Arc;

use crate::{ContentType, NodeId, Offset};

/// Whether a failed request changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Certainly nothing happened.
    NotApplied,
    /// The request may or may not have been applied.
    Unknown,
}

/// Whether the same request can succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It will fail again until something else changes.
    Useless,
    /// It may succeed after a while.
    Later,
    /// It may succeed, but it may also be applied twice unless it is idempotent.
    OnlyIfIdempotent,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No bucket of this name.
    #[error("the bucket does not exist: create it with PUT /<bucket>")]
    BucketNotFound,
    /// The bucket still holds streams.
    #[error("the bucket is not empty: delete its streams first")]
    BucketNotEmpty,
    /// The bucket is being created or removed at this moment.
    #[error("the bucket is being created or removed by another request: try again")]
    BucketBusy,
    /// A bucket of this name exists with another configuration.
    #[error("a bucket with another Bucket-Ack exists under this name: use that, or another name")]
    BucketExists,
    /// A bucket that wants its ops in packs, where there are none.
    #[error(
        "Bucket-Ack: offloaded needs an object store: give every node the setting `store`, or leave the header out"
    )]
    StoreMissing,
    /// The default bucket, which always exists.
    #[error("the default bucket cannot be deleted")]
    BucketProtected,
    /// No stream of this name, or it has expired.
    #[error("the stream does not exist: create it with PUT")]
    StreamNotFound,
    /// The stream was deleted while forks still need its bytes.
    #[error("the stream was deleted; its name is free again when its last fork is deleted")]
    StreamGone,
    /// A stream of this name exists with another configuration.
    #[error("a stream with another configuration exists under this name: use its configuration, or another name")]
    StreamExists {
        /// Its tail.
        tail: Offset,
        /// Whether it is closed.
        closed: bool,
    },
    /// The stream takes no more appends.
    #[error("the stream is closed: it takes no more appends")]
    StreamClosed {
        /// Its final offset.
        tail: Offset,
    },
    /// The body has another type than the stream.
    #[error("the stream holds {expected}: append with this Content-Type")]
    ContentTypeMismatch {
        /// The type of the stream.
        expected: ContentType,
    },
    /// A newer epoch of the producer is known.
    #[error("the producer was replaced by epoch {current}: stop, or start again with a greater epoch")]
    StaleEpoch {
        /// The newest epoch known.
        current: u64,
    },
    /// A new epoch that does not start with sequence 0.
    #[error("a new producer epoch must start with Producer-Seq 0")]
    EpochStart,
    /// An append of the producer before this one is missing.
    #[error("an earlier append of this producer is missing: expected Producer-Seq {expected}, received {received}")]
    ProducerGap {
        /// The sequence that is due.
        expected: u64,
        /// The sequence that came.
        received: u64,
    },
    /// `Stream-Seq` is not greater than the last one.
    #[error("Stream-Seq must be greater, byte by byte, than that of the last append")]
    StreamSeqConflict {
        /// The tail.
        tail: Offset,
    },
    /// The tail is not where the append expects it.
    #[error("the stream ends at {tail}, not at the expected offset: read on from there and decide again")]
    OffsetMismatch {
        /// The tail.
        tail: Offset,
    },
    /// The stream remembers as many producers as it may.
    #[error("the stream has as many active producers as it may: reuse a Producer-Id")]
    TooManyProducers,
    /// The offset is before the earliest byte that is kept, or of a stream that had this name before.
    #[error(
        "nothing is kept at this offset, or it is of a deleted stream that had this name: what there is begins at {earliest}"
    )]
    OffsetGone {
        /// The earliest offset that is kept.
        earliest: Offset,
    },
    /// The offset lies inside a message.
    #[error("the offset is not one that this stream returned: use -1 to read from the start")]
    OffsetInvalid,
    /// The stream would grow past the largest offset.
    #[error("the stream is as long as a stream can be: continue in another one")]
    StreamFull,
    /// The stream has no snapshot, or none at this offset.
    #[error("there is no snapshot here: read the stream from its beginning, or ask for the newest snapshot")]
    SnapshotNotFound,
    /// There is a newer snapshot.
    #[error("the stream has a newer snapshot, at {newest}: an older one would never be read")]
    SnapshotStale {
        /// Where the newest is.
        newest: Offset,
    },
    /// The snapshot at this offset is not the one that was named, or there is one.
    #[error("the snapshot at this offset is another one than the condition names: look at it and decide again")]
    SnapshotMismatch {
        /// SHA-256 of the one that is there.
        current: Option<[u8; 32]>,
    },
    /// Other bytes are the snapshot at this offset.
    #[error("other bytes are the snapshot at this offset: name them with If-Match to replace them")]
    SnapshotDiffers,
    /// The upload is not there, or not all of it.
    #[error("the snapshot was lost on its way: send it again")]
    SnapshotIncomplete,
    /// The source of the fork does not exist.
    #[error("the stream to fork does not exist")]
    ForkSourceNotFound,
    /// The source of the fork was deleted.
    #[error("the stream to fork was deleted")]
    ForkSourceGone,
    /// The fork asks for another type than its source has.
    #[error("a fork has the type of its source, {expected}: omit Content-Type or send this one")]
    ForkContentTypeMismatch {
        /// The type of the source.
        expected: ContentType,
    },
    /// The fork offset is not an offset of the source.
    #[error("Stream-Fork-Offset is not an offset of the source, which ends at {tail}")]
    ForkOffsetInvalid {
        /// The tail of the source.
        tail: Offset,
    },
    /// The sub-offset leads past the end of the record at the fork offset.
    #[error("Stream-Fork-Sub-Offset leads past the end of the append that starts at the fork offset")]
    ForkSubOffsetInvalid,
    /// Too many live forks, or forks of forks.
    #[error("the stream has as many forks as it may")]
    TooManyForks,

    /// A change of the cluster that breaks a rule. Only operators hear of it, never clients of streams.
    #[error("{reason}")]
    ClusterRefused {
        /// Which rule, and what to do.
        reason: Arc<str>,
    },

    /// Memory for recent bytes is used up; reads go on.
    #[error("the server's memory for stream data is full: delete streams, or raise ring_bytes")]
    MemoryFull,
    /// The disk of the log is nearly full; reads go on.
    #[error("the server's disk is nearly full: delete streams, or give it more room")]
    DiskFull,
    /// Ops in the bucket wait for the object store, which does not do what it is asked.
    #[error(
        "the object store does not answer, and ops in this bucket wait for it: nothing was applied, try again later"
    )]
    StoreAway,
    /// The streams of the group are being restored.
    #[error("the streams are being restored from a backup: try again when `ursula restore` has ended")]
    Restoring,
    /// Bytes of the stream are not in the object store as they were stored, and nowhere else.
    #[error(
        "the stream's history is damaged from {from} on; it can be read again at {until}, and other streams are not concerned: \
         whoever runs the server finds the details in the logs of its nodes"
    )]
    HistoryDamaged {
        /// Where was to be read.
        from: Offset,
        /// Where what can be read begins again, as far as is known.
        until: Offset,
    },
    /// A queue on the way is full.
    #[error("the server is busy: try again in a moment")]
    Overloaded,
    /// No storage node that could have done it was reached: it was not done.
    #[error("the storage node cannot be reached: try again in a moment")]
    Unavailable,
    /// The request was sent, and no answer came.
    #[error("the request may or may not have been applied: look at the stream before sending it again")]
    OutcomeUnknown,
    /// The group is led elsewhere, or by nobody at this moment.
    #[error("this node does not lead the group")]
    NotLeader {
        /// Who leads it, as far as the node knows that answers.
        leader: Option<NodeId>,
        /// The term of which it knows that, or the newest that it has seen; 0 if the group is not on it.
        term: u64,
    },
    /// The result of this op is no longer remembered.
    #[error("the request was answered before, and the answer is no longer kept")]
    ResultForgotten,
    /// A message of another tier that this one does not understand.
    #[error("a message of another version or a damaged one: run the same version everywhere")]
    Malformed,
}

impl Error {
    /// The answer of a node that does not have the group, and knows nothing of it.
    pub const NOT_HERE: Error = Error::NotLeader { leader: None, term: 0 };

    /// A stable name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Error::BucketNotFound => "bucket_not_found",
            Error::BucketNotEmpty => "bucket_not_empty",
            Error::BucketBusy => "bucket_busy",
            Error::BucketProtected => "bucket_protected",
            Error::BucketExists => "bucket_exists",
            Error::StoreMissing => "store_missing",
            Error::StreamNotFound => "stream_not_found",
            Error::StreamGone => "stream_gone",
            Error::StreamExists { .. } => "stream_exists",
            Error::StreamClosed { .. } => "stream_closed",
            Error::ContentTypeMismatch { .. } => "content_type_mismatch",
            Error::StaleEpoch { .. } => "producer_epoch_stale",
            Error::EpochStart => "producer_epoch_start",
            Error::ProducerGap { .. } => "producer_gap",
            Error::StreamSeqConflict { .. } => "stream_seq_conflict",
            Error::OffsetMismatch { .. } => "offset_mismatch",
            Error::TooManyProducers => "too_many_producers",
            Error::OffsetGone { .. } => "offset_gone",
            Error::OffsetInvalid => "offset_invalid",
            Error::StreamFull => "stream_full",
            Error::SnapshotNotFound => "snapshot_not_found",
            Error::SnapshotStale { .. } => "snapshot_stale",
            Error::SnapshotMismatch { .. } => "snapshot_mismatch",
            Error::SnapshotDiffers => "snapshot_differs",
            Error::SnapshotIncomplete => "snapshot_incomplete",
            Error::ForkSourceNotFound => "fork_source_not_found",
            Error::ForkSourceGone => "fork_source_gone",
            Error::ForkContentTypeMismatch { .. } => "fork_content_type_mismatch",
            Error::ForkOffsetInvalid { .. } => "fork_offset_invalid",
            Error::ForkSubOffsetInvalid => "fork_sub_offset_invalid",
            Error::TooManyForks => "too_many_forks",
            Error::ClusterRefused { .. } => "cluster_refused",
            Error::MemoryFull => "memory_full",
            Error::DiskFull => "disk_full",
            Error::StoreAway => "store_away",
            Error::Restoring => "restoring",
            Error::HistoryDamaged { .. } => "history_damaged",
            Error::Overloaded => "overloaded",
            Error::Unavailable => "unavailable",
            Error::OutcomeUnknown => "outcome_unknown",
            Error::NotLeader { .. } => "not_leader",
            Error::ResultForgotten => "result_forgotten",
            Error::Malformed => "malformed_message",
        }
    }

    /// Whether anything happened.
    pub fn outcome(&self) -> Outcome {
        match self {
            Error::OutcomeUnknown | Error::ResultForgotten => Outcome::Unknown,
            _ => Outcome::NotApplied,
        }
    }

    /// Whether the same request may succeed later.
    pub fn retry(&self) -> Retry {
        match self {
            Error::BucketBusy
            | Error::MemoryFull
            | Error::DiskFull
            | Error::StoreAway
            | Error::Restoring
            | Error::Overloaded
            | Error::Unavailable
            | Error::NotLeader { .. }
            | Error::SnapshotIncomplete
            | Error::TooManyProducers => Retry::Later,
            Error::OutcomeUnknown | Error::ResultForgotten => Retry::OnlyIfIdempotent,
            _ => Retry::Useless,
        }
    }
}
