//! The state of a group, and the dispatch of commands to the file of each verb. Owns what all verbs
//! share: finding a stream, adding and ending one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ursula_common::cluster::Cluster;
use ursula_common::verb::{Ack, ForkRef, Op, Reply};
use ursula_common::{BucketName, Error, GroupId, Millis, Offset, SagaId, SessionId, StreamId, StreamKey, StreamName};

use crate::import::Import;
use crate::packing::Packs;
use crate::saga::{Saga, Sagas};
use crate::session::Sessions;
use crate::stream::{ContentTypes, ForkId, Presence, Stream};
use crate::{
    Answer, Command, Effect, append, bucket, cluster, create, expire, fork, import, packing, publish, saga, trim,
};

/// The most groups that one meta group can serve.
pub(crate) const DATA_GROUPS_MAX: u32 = 1 << 16;

/// Everything that a group knows: about its streams, or about the buckets if it is the meta group.
#[derive(Debug, Clone)]
pub struct State {
    pub(crate) group: GroupId,
    pub(crate) data_groups: u32,
    pub(crate) now: Millis,
    pub(crate) next_stream: u64,
    /// The id of the first stream of this life; see [`State::with_first_stream`].
    pub(crate) first_stream: u64,
    /// Streams that are there, with those that only forks keep.
    pub(crate) streams: usize,
    pub(crate) buckets: BTreeMap<BucketName, Bucket>,
    /// Steps that removed a bucket, so that an older one that was held up does not bring it back.
    pub(crate) dropped: BTreeMap<u64, BucketName>,
    /// Live streams that can expire, or hold what can be too old, under a time that is never later than that.
    pub(crate) deadlines: BTreeMap<(Millis, StreamId), StreamKey>,
    /// References given back, oldest first, so that a held-up request for one does not take it again.
    pub(crate) released: VecDeque<ForkId>,
    pub(crate) sessions: Sessions,
    pub(crate) sagas: Sagas,
    pub(crate) content_types: ContentTypes,
    /// Nodes and places of groups, once the cluster was formed; only in the meta group. Shared with whoever looks.
    pub(crate) cluster: Option<Arc<Cluster>>,
    /// Once packs have begun.
    pub(crate) packs: Option<Box<Packs>>,
    /// If the group takes in the streams of another cluster, or has done so.
    pub(crate) import: Option<Box<Import>>,
}

/// A bucket. In the meta group it has no streams.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bucket {
    /// Being created or removed at this moment; only in the meta group.
    pub(crate) busy: bool,
    /// The step that made it; only outside the meta group.
    pub(crate) order: u64,
    /// When ops in it are acknowledged. Otherwise than by a majority only once packs have begun.
    pub(crate) ack: Ack,
    /// Shared with copies of the state that are being encoded; see [`State::freeze`].
    pub(crate) streams: BTreeMap<StreamName, Arc<Stream>>,
}

/// The op of a session that waits for a saga.
pub(crate) type Caller = Option<(SessionId, u64)>;

impl State {
    /// An empty group of a cluster with groups `1..=data_groups` for streams. Group 0 is the meta group
    /// and owns the list of buckets. The default bucket is there from the start, in every group.
    ///
    /// # Panics
    /// If there are no groups for streams, or more than 65,536.
    pub fn new(group: GroupId, data_groups: u32) -> State {
        assert!((1..=DATA_GROUPS_MAX).contains(&data_groups), "between 1 and {DATA_GROUPS_MAX} groups for streams");
        State {
            group,
            data_groups,
            now: Millis::default(),
            next_stream: 1,
            first_stream: 1,
            streams: 0,
            buckets: BTreeMap::from([(BucketName::default_bucket(), Bucket::default())]),
            dropped: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            released: VecDeque::new(),
            sessions: Sessions::default(),
            sagas: Sagas::default(),
            content_types: ContentTypes::default(),
            cluster: None,
            packs: None,
            import: None,
        }
    }

    /// The same group, whose first stream will have this id. For a group whose state does not outlive its
    /// process: ids of the next life must not be those of this one, which clients may remember in tags.
    #[must_use]
    pub fn with_first_stream(mut self, first: StreamId) -> State {
        self.next_stream = self.next_stream.max(first.0);
        self.first_stream = self.next_stream;
        self
    }

    /// Decides a command. What it means depends on the state and the command alone.
    pub fn apply(&mut self, command: Command, effects: &mut Vec<Effect>) -> Answer {
        self.sessions.pass(command.at.since(self.now));
        self.now = self.now.max(command.at);
        let Some(origin) = command.origin else { return self.decide(command.op, None, effects) };
        if let Some(answer) = self.sessions.admit(&origin, self.now) {
            return answer;
        }
        let answer = self.decide(command.op, Some((origin.session, origin.seq)), effects);
        self.sessions.record(&origin, &answer);
        answer
    }

    fn decide(&mut self, op: Op, caller: Caller, effects: &mut Vec<Effect>) -> Answer {
        let meta = self.group == GroupId::META;
        let outcome = match op {
            Op::CreateBucket(name, ack) if meta => return bucket::create(self, name, ack, caller, effects),
            Op::DeleteBucket(name) if meta => return bucket::delete(self, name, caller, effects),
            Op::Cluster(op) if meta => cluster::apply(self, *op),
            _ if self.is_importing() && !import::may_pass(&op) => Err(Error::Restoring),
            Op::SagaStep(step) => saga::step(self, step, effects),
            Op::Expire => expire::expire(self, effects),
            Op::BeginPacks => packing::begin(self),
            Op::CommitPack(commit) => packing::commit(self, *commit, effects),
            Op::MergePacks(merge) => packing::merge(self, *merge),
            Op::SweepPacks(gone) => packing::sweep(self, &gone),
            _ if meta => Err(Error::Malformed),
            Op::BeginImport(run) => import::begin(self, run),
            Op::Import(more) => import::import(self, *more),
            Op::EndImport(end) => import::end(self, end),
            Op::Create(create) => return create::create(self, create, caller, effects),
            Op::Append(append) => append::append(self, append, effects),
            Op::Delete(key) => expire::delete(self, &key, effects),
            Op::Touch(key) => expire::touch(self, &key, effects),
            Op::Trim(trim) => trim::trim(self, trim, effects),
            Op::PublishSnapshot(publish) => publish::publish(self, publish, effects),
            Op::RemoveSnapshot(remove) => publish::remove(self, remove, effects),
            Op::AcquireFork(acquire) => fork::acquire(self, acquire, effects),
            Op::ReleaseFork(fork_ref) => fork::release(self, fork_ref, effects),
            Op::InstallBucket(step) => bucket::install(self, step),
            Op::DropBucket(step) => bucket::drop(self, step, effects),
            Op::CreateBucket(..) | Op::DeleteBucket(_) | Op::Cluster(_) => Err(Error::Malformed),
        };
        Answer::Done(outcome)
    }

    /// The stream under this name, whatever its presence.
    pub(crate) fn stream(&self, key: &StreamKey) -> Option<&Stream> {
        Some(self.buckets.get(&key.bucket)?.streams.get(&key.name)?)
    }

    /// The stream under this name, whatever its presence.
    pub(crate) fn stream_mut(&mut self, key: &StreamKey) -> Option<&mut Stream> {
        Some(Arc::make_mut(self.buckets.get_mut(&key.bucket)?.streams.get_mut(&key.name)?))
    }

    /// The stream that a client means by this name.
    pub(crate) fn live(&mut self, key: &StreamKey, effects: &mut Vec<Effect>) -> Result<&mut Stream, Error> {
        self.live_beside_packs(key, effects).map(|(stream, _)| stream)
    }

    /// The same, and where to mark it: to look for it twice would be dear.
    pub(crate) fn live_beside_packs(
        &mut self,
        key: &StreamKey,
        effects: &mut Vec<Effect>,
    ) -> Result<(&mut Stream, Option<&mut Packs>), Error> {
        self.expire_if_due(key, effects);
        let bucket = self.buckets.get_mut(&key.bucket).ok_or(Error::BucketNotFound)?;
        let stream = bucket.streams.get_mut(&key.name).ok_or(Error::StreamNotFound)?;
        match stream.presence {
            Presence::Live => Ok((Arc::make_mut(stream), self.packs.as_deref_mut())),
            Presence::Deleted | Presence::Expired => Err(Error::StreamGone),
        }
    }

    /// Lets a stream end whose time is over, or that of its beginning, so that what a command means does not depend on
    /// when the sweep comes by.
    pub(crate) fn expire_if_due(&mut self, key: &StreamKey, effects: &mut Vec<Effect>) {
        let Some(stream) = self.stream(key) else { return };
        if stream.due(self.now) {
            self.end(key, Presence::Expired, effects);
        } else if stream.has_outlived(self.now) {
            trim::outlived(self, key, effects);
        }
    }

    /// Adds a stream; its bucket exists and its name is free.
    pub(crate) fn insert(&mut self, key: &StreamKey, mut stream: Stream) {
        stream.indexed = stream.due_at().unwrap_or_default();
        if let Some(packs) = &mut self.packs {
            packs.add(key, &mut stream);
        }
        self.restore(key, stream);
    }

    /// Adds a stream as it is.
    pub(crate) fn restore(&mut self, key: &StreamKey, mut stream: Stream) {
        stream.content_type = self.content_types.share(stream.content_type);
        if stream.due_at().is_some() && stream.presence == Presence::Live {
            self.deadlines.insert((stream.indexed, stream.id), key.clone());
        }
        if let Some(bucket) = self.buckets.get_mut(&key.bucket) {
            bucket.streams.insert(key.name.clone(), Arc::new(stream));
            self.streams += 1;
        }
    }

    /// Ends a live stream: it is removed, or hidden while forks need its bytes. Its snapshots end with it.
    pub(crate) fn end(&mut self, key: &StreamKey, presence: Presence, effects: &mut Vec<Effect>) {
        self.remove_companions(key, effects);
        let Some(stream) = self.stream_mut(key) else { return };
        if !stream.has_forks() {
            return self.remove(key, effects);
        }
        stream.detach(presence);
        let (id, indexed) = (stream.id, stream.indexed);
        self.deadlines.remove(&(indexed, id));
        self.mark(key);
        effects.push(Effect::Detached { stream: id });
    }

    /// Removes a stream that no fork needs. A fork gives its reference back.
    pub(crate) fn remove(&mut self, key: &StreamKey, effects: &mut Vec<Effect>) {
        let Some(bucket) = self.buckets.get_mut(&key.bucket) else { return };
        let Some(stream) = bucket.streams.remove(&key.name) else { return };
        self.streams -= 1;
        self.deadlines.remove(&(stream.indexed, stream.id));
        if let Some(packs) = &mut self.packs {
            packs.remove(&stream, bucket.ack);
        }
        effects.push(Effect::Removed { stream: stream.id });
        if let Some(link) = stream.fork() {
            let fork_ref = ForkRef { source: link.source.clone(), fork: key.clone(), fork_id: stream.id };
            self.send(Saga::Release(fork_ref), effects);
        }
    }

    /// Where the next stream begins. As long as every stream is still there that was ever made, its name is new;
    /// afterwards somebody may have offsets of another one that had its name, and its own are under another number,
    /// unless a whole round of numbers was given out in between.
    pub(crate) fn first_offset(&self) -> Offset {
        let all_there = self.next_stream - self.first_stream == self.streams as u64;
        if all_there { Offset::ZERO } else { Offset::first_of(1 + self.next_stream % (Offset::NUMBERS - 1)) }
    }

    /// A number that no stream of this group had before.
    pub(crate) fn new_stream_id(&mut self) -> StreamId {
        let id = StreamId(self.next_stream);
        self.next_stream += 1;
        id
    }

    /// Starts a saga and sends its first messages.
    pub(crate) fn send(&mut self, saga: Saga, effects: &mut Vec<Effect>) -> SagaId {
        let id = self.sagas.start(saga);
        self.mark_group();
        effects.extend(self.sagas.messages(id).map(Effect::Send));
        id
    }

    /// Tells whoever waits for a saga that has ended.
    pub(crate) fn finish(
        &mut self,
        saga: SagaId,
        caller: Caller,
        outcome: Result<Reply, Error>,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(caller) = caller {
            self.sessions.settle(caller, saga, &outcome);
        }
        effects.push(Effect::Finished { saga, outcome });
    }
}
