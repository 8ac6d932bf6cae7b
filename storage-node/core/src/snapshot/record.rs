//! The records of a snapshot. Persisted: a number is never reused or changed.

use prost::{Message, Oneof};
use ursula_common::wire;

/// One record.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15")]
    pub(super) kind: Option<Kind>,
}

/// What a record tells.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Kind {
    #[prost(message, tag = "1")]
    Head(Head),
    #[prost(message, tag = "2")]
    Bucket(Bucket),
    #[prost(message, tag = "3")]
    Stream(Stream),
    #[prost(message, tag = "4")]
    Session(Session),
    #[prost(message, tag = "5")]
    Saga(Saga),
    #[prost(message, tag = "6")]
    Released(Fork),
    #[prost(message, tag = "7")]
    Dropped(wire::BucketStep),
    #[prost(message, tag = "8")]
    Cluster(wire::cluster::Cluster),
    #[prost(message, tag = "9")]
    Packs(Packs),
    #[prost(message, tag = "10")]
    Pack(wire::packs::Pack),
    #[prost(message, tag = "11")]
    Removed(Removed),
    #[prost(message, tag = "12")]
    Replaced(Replaced),
    #[prost(message, tag = "14")]
    Import(Import),
    #[prost(message, tag = "15")]
    End(End),
}

/// The first record.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Head {
    #[prost(uint32, tag = "1")]
    pub(super) group: u32,
    #[prost(uint32, tag = "2")]
    pub(super) data_groups: u32,
    #[prost(uint64, tag = "3")]
    pub(super) now: u64,
    #[prost(uint64, tag = "4")]
    pub(super) next_stream: u64,
    #[prost(uint64, tag = "5")]
    pub(super) last_saga: u64,
}

/// A bucket; its streams follow.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Bucket {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(uint64, tag = "2")]
    pub(super) order: u64,
    #[prost(bool, tag = "3")]
    pub(super) busy: bool,
    #[prost(uint32, tag = "4")]
    pub(super) ack: u32,
}

/// A stream of the bucket before it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Stream {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(uint64, tag = "2")]
    pub(super) id: u64,
    #[prost(uint64, tag = "3")]
    pub(super) tail: u64,
    #[prost(uint64, tag = "4")]
    pub(super) touched: u64,
    #[prost(uint64, tag = "5")]
    pub(super) indexed: u64,
    #[prost(string, tag = "6")]
    pub(super) content_type: String,
    #[prost(message, optional, tag = "7")]
    pub(super) lifetime: Option<wire::Lifetime>,
    #[prost(bool, tag = "8")]
    pub(super) closed: bool,
    /// 0 live, 1 deleted, 2 expired.
    #[prost(uint32, tag = "9")]
    pub(super) presence: u32,
    #[prost(string, optional, tag = "10")]
    pub(super) stream_seq: Option<String>,
    #[prost(message, optional, tag = "11")]
    pub(super) closed_by: Option<wire::Producer>,
    #[prost(message, repeated, tag = "12")]
    pub(super) producers: Vec<Producer>,
    #[prost(message, optional, tag = "13")]
    pub(super) fork: Option<ForkLink>,
    #[prost(message, repeated, tag = "14")]
    pub(super) forks: Vec<Fork>,
    #[prost(message, optional, tag = "15")]
    pub(super) cold: Option<Cold>,
    #[prost(message, optional, tag = "16")]
    pub(super) kept: Option<Kept>,
    /// The newest is the last.
    #[prost(message, repeated, tag = "17")]
    pub(super) snapshots: Vec<Snapshot>,
}

/// A snapshot of a stream; the bytes are in the stream `<name>//<upload>`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Snapshot {
    #[prost(uint64, tag = "1")]
    pub(super) at: u64,
    #[prost(fixed64, tag = "2")]
    pub(super) upload: u64,
    #[prost(string, tag = "3")]
    pub(super) content_type: String,
    #[prost(uint64, tag = "4")]
    pub(super) bytes: u64,
    /// 32 bytes.
    #[prost(bytes = "vec", tag = "5")]
    pub(super) digest: Vec<u8>,
    /// 0 once a record in packs names it.
    #[prost(uint64, tag = "6")]
    pub(super) since: u64,
}

/// What is kept of a stream that was trimmed, or has a retention.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Kept {
    #[prost(uint64, tag = "1")]
    pub(super) earliest: u64,
    #[prost(message, optional, tag = "2")]
    pub(super) retention: Option<wire::Retention>,
    #[prost(uint64, tag = "3")]
    pub(super) run_at: u64,
    #[prost(uint64, tag = "4")]
    pub(super) run_time: u64,
    /// Of each mark.
    #[prost(uint64, repeated, tag = "5")]
    pub(super) ends: Vec<u64>,
    /// As many.
    #[prost(uint64, repeated, tag = "6")]
    pub(super) times: Vec<u64>,
    #[prost(uint64, tag = "7")]
    pub(super) told: u64,
}

/// An object that counts no more, and may still be in the store.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Replaced {
    #[prost(message, required, tag = "1")]
    pub(super) object: wire::packs::Pack,
    #[prost(uint64, tag = "2")]
    pub(super) at: u64,
    #[prost(uint64, tag = "3")]
    pub(super) newest: u64,
}

/// What packs have of a stream; there once packs have begun.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Cold {
    #[prost(uint64, tag = "1")]
    pub(super) end: u64,
    #[prost(uint64, tag = "2")]
    pub(super) pack: u64,
    #[prost(uint64, tag = "3")]
    pub(super) turn: u64,
    #[prost(uint64, tag = "4")]
    pub(super) changed: u64,
    #[prost(bool, tag = "5")]
    pub(super) recorded: bool,
}

/// An idempotent producer.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Producer {
    #[prost(message, required, tag = "1")]
    pub(super) last: wire::Producer,
    #[prost(uint64, tag = "2")]
    pub(super) at: u64,
}

/// The source of a fork.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ForkLink {
    #[prost(message, required, tag = "1")]
    pub(super) source: wire::Key,
    #[prost(uint64, tag = "2")]
    pub(super) source_id: u64,
    #[prost(uint64, tag = "3")]
    pub(super) anchor: u64,
    #[prost(uint64, tag = "4")]
    pub(super) sub_offset: u64,
    #[prost(uint64, tag = "5")]
    pub(super) at: u64,
    #[prost(uint32, tag = "6")]
    pub(super) depth: u32,
}

/// A fork, as its source knows it. Of one that was released, only key and id.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Fork {
    #[prost(message, required, tag = "1")]
    pub(super) key: wire::Key,
    #[prost(uint64, tag = "2")]
    pub(super) id: u64,
    #[prost(uint64, tag = "3")]
    pub(super) anchor: u64,
    #[prost(uint64, tag = "4")]
    pub(super) at: u64,
    /// 0 for the first offset of the source.
    #[prost(uint64, tag = "5")]
    pub(super) from: u64,
}

/// A session.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Session {
    #[prost(fixed64, tag = "1")]
    pub(super) id: u64,
    #[prost(uint64, tag = "2")]
    pub(super) floor: u64,
    #[prost(uint64, tag = "3")]
    pub(super) last: u64,
    #[prost(message, repeated, tag = "4")]
    pub(super) results: Vec<SessionResult>,
}

/// The answer to an op: one of `outcome` and `pending`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionResult {
    #[prost(uint64, tag = "1")]
    pub(super) seq: u64,
    #[prost(message, optional, tag = "2")]
    pub(super) outcome: Option<wire::reply::Outcome>,
    /// The saga that it waits for.
    #[prost(uint64, optional, tag = "3")]
    pub(super) pending: Option<u64>,
}

/// A saga: one of `fork`, `release` and `bucket`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Saga {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(message, optional, tag = "2")]
    pub(super) caller: Option<Caller>,
    #[prost(message, optional, tag = "3")]
    pub(super) fork: Option<ForkSaga>,
    #[prost(message, optional, tag = "4")]
    pub(super) release: Option<wire::ForkRef>,
    #[prost(message, optional, tag = "5")]
    pub(super) bucket: Option<BucketSaga>,
}

/// The op that waits for a saga.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Caller {
    #[prost(fixed64, tag = "1")]
    pub(super) session: u64,
    #[prost(uint64, tag = "2")]
    pub(super) seq: u64,
}

/// A fork that waits for its source.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ForkSaga {
    #[prost(message, required, tag = "1")]
    pub(super) create: wire::Create,
    #[prost(uint64, tag = "2")]
    pub(super) fork_id: u64,
}

/// A bucket that is created or removed.
#[derive(Clone, PartialEq, Message)]
pub(super) struct BucketSaga {
    #[prost(string, tag = "1")]
    pub(super) bucket: String,
    /// 0 create, 1 remove, 2 restore.
    #[prost(uint32, tag = "2")]
    pub(super) phase: u32,
    #[prost(uint64, tag = "3")]
    pub(super) order: u64,
    #[prost(uint32, repeated, tag = "4")]
    pub(super) waiting: Vec<u32>,
    #[prost(bool, tag = "5")]
    pub(super) refused: bool,
    #[prost(uint32, tag = "6")]
    pub(super) ack: u32,
}

/// Packs have begun.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Packs {
    #[prost(uint64, tag = "1")]
    pub(super) changes: u64,
    #[prost(uint64, tag = "2")]
    pub(super) group_changed: u64,
}

/// A stream that was removed, which packs have yet to say.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Removed {
    #[prost(uint64, tag = "1")]
    pub(super) turn: u64,
    #[prost(uint64, tag = "2")]
    pub(super) stream: u64,
}

/// Streams of another cluster are, or were, taken in.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Import {
    #[prost(fixed64, tag = "1")]
    pub(super) import: u64,
    #[prost(fixed64, tag = "2")]
    pub(super) attempt: u64,
    #[prost(bool, tag = "3")]
    pub(super) ended: bool,
    /// Those that came with it, until it has ended.
    #[prost(message, repeated, tag = "4")]
    pub(super) packs: Vec<wire::packs::Pack>,
}

/// The last record.
#[derive(Clone, PartialEq, Message)]
pub(super) struct End {
    /// How many streams there are.
    #[prost(uint64, tag = "1")]
    pub(super) streams: u64,
}
