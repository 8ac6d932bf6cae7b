//! What can be asked of a stream, as plain requests and replies. A verb keeps its name at every hop.
//!
//! [`Op`] changes state: it travels on a lane, becomes part of one Raft entry and is decided at
//! apply. Everything else only reads.

mod snapshot;

use std::sync::Arc;

use bytes::Bytes;

use crate::cluster::ClusterOp;
use crate::packs::{ColdEnd, PackRef};
use crate::{BucketName, ContentType, Error, Millis, Offset, SagaId, StreamId, StreamKey};

pub use snapshot::{PublishSnapshot, RemoveSnapshot, SnapshotCondition, SnapshotInfo};

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Creates a bucket (meta group).
    CreateBucket(BucketName, Ack),
    /// Removes an empty bucket (meta group).
    DeleteBucket(BucketName),
    /// Creates a stream, or a fork of one.
    Create(Create),
    /// Appends to a stream, closes it, or both.
    Append(Append),
    /// Deletes a stream.
    Delete(StreamKey),
    /// Lets the beginning of a stream go.
    Trim(Trim),
    /// Says that an upload is the snapshot of a stream.
    PublishSnapshot(PublishSnapshot),
    /// Removes the snapshot of a stream.
    RemoveSnapshot(RemoveSnapshot),
    /// Renews the sliding time to live of a stream after a read.
    Touch(StreamKey),
    /// Removes what has outlived its time. Proposed by the leader of a group to itself.
    Expire,
    /// Makes a bucket known in a group that holds streams. Sent by the meta group.
    InstallBucket(BucketStep),
    /// Removes a bucket from a group, unless it holds streams there. Sent by the meta group.
    DropBucket(BucketStep),
    /// Takes a reference on the source of a fork. Sent by the group of the fork.
    AcquireFork(AcquireFork),
    /// Gives a reference back. Sent by the group of the fork.
    ReleaseFork(ForkRef),
    /// The answer of another group to one step of a saga. Proposed by the leader to its own group.
    SagaStep(SagaStep),
    /// Changes the cluster (meta group).
    Cluster(Box<ClusterOp>),
    /// Begins to keep account of what is not in packs yet. Proposed by the leader of a group to itself.
    BeginPacks,
    /// A pack is stored, and counts from now on. Proposed by the leader of a group to itself.
    CommitPack(Box<CommitPack>),
    /// An object is stored that has what others have, and counts in their place. Proposed by the leader of a group to itself.
    MergePacks(Box<MergePacks>),
    /// Objects that count no more are gone from the store. Proposed by the leader of a group to itself.
    SweepPacks(Vec<PackRef>),
    /// Begins to take in the streams of another cluster from its packs, or begins anew. Sent by whoever restores.
    BeginImport(ImportRun),
    /// Takes in streams, and packs that have their bytes. Sent by whoever restores.
    Import(Box<Import>),
    /// Everything is there: from now on clients are served. Sent by whoever restores.
    EndImport(EndImport),
}

/// One attempt to take something in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportRun {
    /// What is taken in: the same number for the same.
    pub import: u64,
    /// Drawn anew for each attempt; only the latest that has begun can go on.
    pub attempt: u64,
}

/// Some of the streams that a group takes in, and of the packs that have their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Whose they are.
    pub run: ImportRun,
    /// Packs that follow those that were named before.
    pub packs: Vec<PackRef>,
    /// Streams, as the records of a pack have them; may be empty.
    pub records: Bytes,
}

/// Ends an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndImport {
    /// Which one.
    pub run: ImportRun,
    /// How many streams were to be taken in.
    pub streams: u64,
    /// No stream of the group may get an id below this one.
    pub next_stream: StreamId,
}

/// A pack that is stored, and what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPack {
    /// The object; it must be the next one of its group.
    pub pack: PackRef,
    /// Changes of the group up to this one are in the pack: see [`PackedStream`].
    pub as_of: u64,
    /// What it has of streams, in ascending order of turns.
    pub streams: Vec<PackedStream>,
}

/// What a pack has of one stream, also of one that was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedStream {
    /// The stream's turn among those that wait for a pack. It has a new one whenever it begins to wait, so this also says
    /// that no other pack came between.
    pub turn: u64,
    /// The stream, which may have been removed while the pack was made: packs must then say so.
    pub stream: StreamId,
    /// Bytes that follow those in the packs before, and that nobody needed any more when the pack was planned.
    pub skipped: u64,
    /// Bytes in the pack, which follow these.
    pub bytes: u64,
    /// If its record is in the pack: from where on its bytes were needed then; 0 for all of them.
    pub floor: Offset,
    /// Whether its record is in the pack and names snapshots.
    pub named: bool,
}

impl PackedStream {
    /// What a pack says of a stream that was removed.
    pub fn removed(turn: u64, stream: StreamId) -> PackedStream {
        PackedStream { turn, stream, skipped: 0, bytes: 0, floor: Offset::ZERO, named: false }
    }
}

/// An object that was made of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergePacks {
    /// The objects that it was made of, which must be all that count of its packs.
    pub replaced: Vec<PackRef>,
    /// The object.
    pub object: PackRef,
}

/// When an op on a stream of a bucket is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ack {
    /// When a majority of the replicas has it.
    #[default]
    Quorum,
    /// When a pack has it that counts: then the loss of every machine loses nothing that was acknowledged.
    Offloaded,
}

impl Ack {
    /// Its name, as clients write and read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Ack::Quorum => "quorum",
            Ack::Offloaded => "offloaded",
        }
    }
}

/// One step of creating or removing a bucket, from the meta group to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketStep {
    /// The bucket.
    pub bucket: BucketName,
    /// Grows from step to step: one that is older than the last one seen for its bucket was held up
    /// on its way and changes nothing.
    pub order: u64,
    /// Of a bucket that is made known: when ops in it are acknowledged.
    pub ack: Ack,
}

impl Op {
    /// The stream that a client asks to change; `None` for ops on buckets, and for those of the server itself.
    pub fn stream_key(&self) -> Option<&StreamKey> {
        match self {
            Op::Create(create) => Some(&create.key),
            Op::Append(append) => Some(&append.key),
            Op::Delete(key) => Some(key),
            Op::Trim(trim) => Some(&trim.key),
            Op::PublishSnapshot(publish) => Some(&publish.key),
            Op::RemoveSnapshot(remove) => Some(&remove.key),
            _ => None,
        }
    }

    /// Stream bytes that this op carries.
    pub fn body_bytes(&self) -> usize {
        match self {
            Op::Create(create) => create.body.len(),
            Op::Append(append) => append.body.len(),
            _ => 0,
        }
    }
}

/// Creates a stream, or a fork of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// The stream to create.
    pub key: StreamKey,
    /// Its type; `None` is the default, or the type of the source for a fork.
    pub content_type: Option<ContentType>,
    /// How long it lives; `Forever` for a fork means what the source has.
    pub lifetime: Lifetime,
    /// How much of it is kept; everything, for a fork, means what the source has.
    pub retention: Retention,
    /// Whether it is closed from the start.
    pub closed: bool,
    /// First content, in stored form; may be empty.
    pub body: Bytes,
    /// The source, if this is a fork.
    pub fork: Option<ForkFrom>,
    /// Whether its offsets tell it from a stream that had its name before. Ops of older versions do not ask for it, and
    /// whoever applies them again must find what was found then.
    pub numbered: bool,
}

/// Where a fork begins, as the client asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkFrom {
    /// The stream to fork.
    pub source: StreamKey,
    /// The anchor; `None` is the tail of the source.
    pub offset: Option<Offset>,
    /// Bytes (or JSON messages) past the anchor, within the record that starts there.
    pub sub_offset: u64,
}

/// How long a stream lives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// Until it is deleted.
    #[default]
    Forever,
    /// Until nobody has read or written it for so many seconds.
    Ttl(u64),
    /// Until a point in time.
    ExpiresAt {
        /// The text of the client, which is compared and returned as it is.
        text: Arc<str>,
        /// The point in time that the text names.
        at: Millis,
    },
}

/// How much of a stream is kept. What is older, or more, goes from the beginning, in whole records; somewhat later than
/// it might, never earlier. Without limits everything is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Seconds for which a record is kept, from 1.
    pub max_age: Option<u64>,
    /// Stored bytes before the tail that are kept, from 1.
    pub max_bytes: Option<u64>,
    /// Whether what is before the newest snapshot goes.
    pub snapshot: bool,
}

/// Lets the beginning of a stream go: its bytes up to an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trim {
    /// The stream.
    pub key: StreamKey,
    /// Where it is to begin, if it does not begin later.
    pub to: Offset,
    /// Where the record begins in which that lies, for a stream begins with a whole one. The leader fills this in before it
    /// proposes, like [`AcquireFork::cut`]; not needed at the tail.
    pub cut: Option<ForkCut>,
}

/// Appends to a stream, closes it, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// The stream.
    pub key: StreamKey,
    /// The type of the body; compared with the type of the stream unless the body is empty.
    pub content_type: Option<ContentType>,
    /// The bytes, in stored form; empty only together with `close`.
    pub body: Bytes,
    /// Whether this is the last append.
    pub close: bool,
    /// The position of this append in the sequence of an idempotent producer.
    pub producer: Option<Producer>,
    /// Must be greater, byte by byte, than that of the last accepted append.
    pub stream_seq: Option<Arc<str>>,
    /// Must equal the tail.
    pub expected_offset: Option<Offset>,
}

/// Who appends, and which of its appends this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Producer {
    /// The name of the producer.
    pub id: Arc<str>,
    /// Counts the producer's restarts.
    pub epoch: u64,
    /// Counts its appends within an epoch, from 0.
    pub seq: u64,
}

/// Names one fork, as its source remembers it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForkRef {
    /// The source.
    pub source: StreamKey,
    /// The fork.
    pub fork: StreamKey,
    /// The incarnation of the fork: with its key it is unique for all time.
    pub fork_id: StreamId,
}

/// Takes a reference on the source of a fork, and fixes where the fork begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcquireFork {
    /// The reference to take.
    pub fork_ref: ForkRef,
    /// As the client asked.
    pub offset: Option<Offset>,
    /// As the client asked.
    pub sub_offset: u64,
    /// As the client asked; must be that of the source.
    pub content_type: Option<ContentType>,
    /// Where `offset` and `sub_offset` lead in the stored bytes. The leader of the source fills this
    /// in before it proposes: stored bytes never change, so any replica would find the same.
    pub cut: Option<ForkCut>,
}

impl AcquireFork {
    /// Where the fork is anchored in a source that ends at `tail`; `None` if the offset is not one of the source.
    pub fn anchor(&self, tail: Offset) -> Option<Offset> {
        let anchor = self.offset.map_or(tail, |offset| offset.within(tail));
        (tail.first()..=tail).contains(&anchor).then_some(anchor)
    }
}

/// A place in one incarnation of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForkCut {
    /// The incarnation whose bytes were looked at.
    pub stream: StreamId,
    /// The place.
    pub at: Offset,
}

/// Where a fork begins, and what it inherits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkPoint {
    /// The incarnation of the source.
    pub source_id: StreamId,
    /// The anchor: the offset that was asked for, or the tail at that time.
    pub anchor: Offset,
    /// Where the fork begins: the anchor and the sub-offset.
    pub at: Offset,
    /// The type of the source.
    pub content_type: ContentType,
    /// The lifetime of the source.
    pub lifetime: Lifetime,
    /// The retention of the source.
    pub retention: Retention,
    /// Where the source began for its readers, and so does the fork.
    pub earliest: Offset,
    /// 1 for a fork of a stream, 2 for a fork of a fork.
    pub depth: u32,
}

/// The answer of another group to one step of a saga.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SagaStep {
    /// The saga.
    pub saga: SagaId,
    /// Which of its outgoing messages was answered.
    pub message: u32,
    /// The answer.
    pub outcome: Result<Reply, Error>,
}

/// The answer to an [`Op`].
pub type OpResult = Result<Reply, Error>;

/// What an [`Op`] achieved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The bucket is there; `true` if this op created it.
    Bucket(bool),
    /// The stream is there.
    Created(Created),
    /// The append was accepted, or had been before.
    Appended(Appended),
    /// The reference was taken.
    ForkAcquired(ForkPoint),
    /// The stream begins here now.
    Trimmed(Offset),
    /// The snapshot is there.
    SnapshotPublished {
        /// Whether it was not there before.
        new: bool,
        /// Where it is.
        at: Offset,
    },
    /// Done; there is nothing to tell.
    Done,
    /// An import has begun; the packs that come with it follow this one.
    ImportBegun(Option<PackRef>),
}

/// What a create found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Whether this op created it; `false` if it was there with the same configuration.
    pub new: bool,
    /// Its tail.
    pub tail: Offset,
    /// Whether it is closed.
    pub closed: bool,
    /// Its type, which a fork may have inherited.
    pub content_type: ContentType,
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The tail after it.
    pub tail: Offset,
    /// Whether the stream is closed.
    pub closed: bool,
    /// Whether the producer had sent this append before, so that it changed nothing.
    pub duplicate: bool,
    /// Epoch and highest accepted sequence of the producer, if one was named.
    pub producer: Option<(u64, u64)>,
}

/// Where a read begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// At the earliest byte that is kept.
    Start,
    /// At the tail.
    Now,
    /// At an offset that the server returned before.
    At(Offset),
}

/// Everything about a stream but its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// Its incarnation.
    pub id: StreamId,
    /// Its type.
    pub content_type: ContentType,
    /// The earliest offset that is kept.
    pub earliest: Offset,
    /// The end.
    pub tail: Offset,
    /// Whether it takes no more appends.
    pub closed: bool,
    /// How long it lives.
    pub lifetime: Lifetime,
    /// How much of it is kept.
    pub retention: Retention,
    /// Its newest snapshot.
    pub snapshot: Option<Box<SnapshotInfo>>,
    /// Where bytes before `fork.at` are to be read, if this is a fork.
    pub fork: Option<ForkLink>,
    /// What packs have of its own bytes, if any. Nobody but the nodes of its group is told.
    pub cold: Option<ColdEnd>,
}

/// Where the inherited bytes of a fork are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkLink {
    /// The source.
    pub source: StreamKey,
    /// The incarnation of the source.
    pub source_id: StreamId,
    /// The anchor that the fork was created with.
    pub anchor: Offset,
    /// The sub-offset that the fork was created with.
    pub sub_offset: u64,
    /// The first offset that is the fork's own.
    pub at: Offset,
    /// How many forks lie between this stream and one that is none.
    pub depth: u32,
}
