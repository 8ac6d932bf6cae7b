//! The state of one group as its core sees it: the pure state machine, the bytes it speaks of, and
//! the tails that wait for more.
//!
//! The order within one entry is an invariant: first the bytes are stored, then tails are woken, then
//! answers go out. So whoever hears of an append can read it. Bytes that have left memory are read by
//! `group/stored.rs`.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;
use ursula_common::cluster::Cluster;
use ursula_common::packs::Catalogue;
use ursula_common::verb::{Ack, Lifetime, OpResult, StreamInfo};
use ursula_common::{BucketName, Error, GroupId, Millis, Offset, SagaId, StreamId, StreamKey, StreamName};
use ursula_stream_core::{
    Answer, Command, Effect, Message, Origin, PackPlan, Packing, Replaced, State, Stats, Told, Wanted,
};

use crate::archive::{Archive, Places, Stored};
use crate::checkpoint::StateParts;
use crate::hot::{Hot, Range};
use crate::raft::StateMachine;
use crate::tails::{TailPage, Tails, Waiter};

/// The state of one group.
pub(crate) struct GroupState {
    group: GroupId,
    streams: State,
    hot: Rc<RefCell<Hot>>,
    /// Where bytes are that are not in memory, if there is a log on disk.
    archive: Option<Archive>,
    tails: Tails,
    outgoing: Vec<Message>,
    finished: Vec<(SagaId, OpResult)>,
    /// Who hears of changes of the cluster, if this is the meta group.
    cluster: Option<watch::Sender<Option<Arc<Cluster>>>>,
    /// See [`GroupState::prove_with`].
    proof: Box<dyn Fn() -> Result<(), Error>>,
}

impl GroupState {
    /// The state of a group that begins its life, in memory, at `now`.
    pub(crate) fn in_memory(group: GroupId, data_groups: u32, hot: Rc<RefCell<Hot>>, now: Millis) -> GroupState {
        // A million streams for each millisecond that an earlier life may have lasted.
        let first = StreamId(now.0 << 20);
        GroupState::new(group, State::new(group, data_groups).with_first_stream(first), hot, None)
    }

    /// The state of a group with a log on disk, before anything in it was applied.
    pub(crate) fn on_disk(group: GroupId, data_groups: u32, hot: Rc<RefCell<Hot>>, archive: Archive) -> GroupState {
        GroupState::new(group, State::new(group, data_groups), hot, Some(archive))
    }

    fn new(group: GroupId, streams: State, hot: Rc<RefCell<Hot>>, archive: Option<Archive>) -> GroupState {
        let (tails, outgoing, finished) = (Tails::default(), Vec::new(), Vec::new());
        let proof = Box::new(|| Err(Error::NOT_HERE));
        GroupState { group, streams, hot, archive, tails, outgoing, finished, cluster: None, proof }
    }

    /// What tails are told of the end of a stream is true while `proof` succeeds. Until this is called nothing is.
    pub(crate) fn prove_with(&mut self, proof: impl Fn() -> Result<(), Error> + 'static) {
        self.proof = Box::new(proof);
    }

    /// Whether what is applied is certainly all that was acknowledged.
    pub(crate) fn is_proven(&self) -> bool {
        (self.proof)().is_ok()
    }

    /// Lets `listener` hear of every change of the cluster.
    pub(crate) fn tell_cluster(&mut self, listener: watch::Sender<Option<Arc<Cluster>>>) {
        self.cluster = Some(listener);
    }

    /// Lets go of everything, because the replica is no longer here.
    pub(crate) fn clear(&mut self) {
        self.replace_bytes(Places::default());
        self.tails.end_all(&Error::NOT_HERE);
    }

    /// Forgets where all bytes were: they are at `places` now, and nowhere else.
    fn replace_bytes(&mut self, places: Places) {
        self.hot.borrow_mut().remove_group(self.group);
        if let Some(archive) = &self.archive {
            archive.restore(self.group, places);
        }
    }

    fn tell_cluster_news(&self) {
        let Some(listener) = &self.cluster else { return };
        let now = self.streams.cluster();
        let version = |cluster: Option<&Arc<Cluster>>| cluster.map(|cluster| cluster.version);
        listener.send_if_modified(|known| {
            let news = version(known.as_ref()) != version(now);
            if news {
                *known = now.cloned();
            }
            news
        });
    }

    /// Everything about a stream but its bytes; `inherited` asks on behalf of a fork.
    pub(crate) fn info(&self, key: &StreamKey, inherited: Option<StreamId>, now: Millis) -> Result<StreamInfo, Error> {
        match inherited {
            Some(id) => self.streams.inherited(key, id),
            None => self.streams.info(key, now),
        }
    }

    pub(crate) fn bucket(&self, name: &BucketName) -> Result<Ack, Error> {
        self.streams.bucket(name)
    }

    pub(crate) fn list(
        &self,
        bucket: &BucketName,
        prefix: &str,
        after: &str,
        limit: usize,
        now: Millis,
    ) -> Result<Vec<(StreamName, StreamInfo)>, Error> {
        self.streams.list(bucket, prefix, after, limit, now)
    }

    pub(crate) fn touch_due(&self, key: &StreamKey, now: Millis) -> bool {
        self.streams.touch_due(key, now)
    }

    pub(crate) fn next_expiry(&self) -> Option<Millis> {
        self.streams.next_expiry()
    }

    pub(crate) fn outbox(&self) -> Vec<Message> {
        self.streams.outbox().collect()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.streams.stats()
    }

    pub(crate) fn waiting_tails(&self) -> usize {
        self.tails.len()
    }

    /// Sets memory aside for an op; see [`Hot::reserve`].
    pub(crate) fn reserve(&self, bytes: usize) -> bool {
        self.hot.borrow_mut().reserve(bytes)
    }

    /// Gives back what [`GroupState::reserve`] set aside.
    pub(crate) fn release(&self, bytes: usize) {
        self.hot.borrow_mut().release(bytes);
    }

    /// Bytes of one incarnation that are in memory; see [`Hot::read`].
    pub(crate) fn read_hot(&self, stream: StreamId, from: Offset, until: Option<Offset>, bytes_max: usize) -> Range {
        self.hot.borrow().read(self.group, stream, from, until, bytes_max)
    }

    /// The same, record by record, up to the first that ends at or after `until`; see [`Hot::records`].
    pub(crate) fn hot_records(&self, stream: StreamId, from: Offset, until: Offset) -> Vec<Bytes> {
        self.hot.borrow().records(self.group, stream, from, until)
    }

    /// What no pack has, and what comes next; see [`State::packing`].
    pub(crate) fn packing(&self) -> Option<Packing> {
        self.streams.packing()
    }

    /// What the next pack is to have; see [`State::plan_pack`].
    pub(crate) fn plan_pack(&self, bytes_max: u64, streams_max: usize) -> Option<PackPlan> {
        self.streams.plan_pack(bytes_max, streams_max)
    }

    /// When ops on streams of a bucket are acknowledged; see [`State::ack`].
    pub(crate) fn ack(&self, bucket: &BucketName) -> Option<Ack> {
        self.streams.ack(bucket)
    }

    /// Whether an op was decided before; see [`State::remembers`].
    pub(crate) fn remembers(&self, origin: &Origin) -> bool {
        self.streams.remembers(origin)
    }

    /// What packs do not have yet of a stream; see [`State::wanted`].
    pub(crate) fn wanted(&self, key: &StreamKey) -> Option<Wanted> {
        self.streams.wanted(key)
    }

    /// What the newest pack has told; see [`State::told`].
    pub(crate) fn told(&self, plan: &PackPlan, ends: &[Offset]) -> Told {
        self.streams.told(plan, ends)
    }

    /// Whether an incarnation of a stream is there.
    pub(crate) fn has(&self, key: &StreamKey, id: StreamId) -> bool {
        self.streams.floor(key, id).is_some()
    }

    /// Streams, and from where on packs must keep their bytes; see [`State::kept`].
    pub(crate) fn kept(&self, after: Option<&StreamKey>, count: usize) -> (Vec<(StreamId, Offset)>, Option<StreamKey>) {
        self.streams.kept(after, count)
    }

    /// Streams that were removed, which packs may have; see [`State::untold`].
    pub(crate) fn untold(&self) -> impl Iterator<Item = StreamId> {
        self.streams.untold()
    }

    /// Objects that count no more and may still be in the store.
    pub(crate) fn replaced(&self) -> impl ExactSizeIterator<Item = &Replaced> {
        self.streams.replaced()
    }

    /// The packs that count.
    pub(crate) fn catalogue(&self) -> Option<Arc<Catalogue>> {
        self.streams.catalogue().cloned()
    }

    /// Streams that have bytes which no pack has, and from where on; `None` if there are no packs.
    pub(crate) fn unpacked(&self) -> Option<HashMap<StreamId, Offset>> {
        self.streams.packing().map(|_| self.streams.unpacked().collect())
    }

    /// The record in memory that `at` lies in; see [`Hot::record_at`].
    pub(crate) fn hot_record(&self, stream: StreamId, at: Offset) -> Option<(Offset, Offset)> {
        self.hot.borrow().record_at(self.group, stream, at)
    }

    /// Where bytes are that are not in memory.
    pub(crate) fn archive(&self) -> Option<&Archive> {
        self.archive.as_ref()
    }

    /// Answers `waiter` as soon as the stream has bytes from its offset on, has ended, or is gone. Gives it
    /// back, with its stream, if what it wants now is not in memory.
    pub(crate) fn wait(&mut self, key: &StreamKey, now: Millis, waiter: Waiter) -> Option<(Waiter, StreamInfo)> {
        let info = match self.streams.info(key, now) {
            Ok(info) if info.id != waiter.stream => Err(Error::StreamNotFound),
            Ok(info) if waiter.from < info.earliest => Err(Error::OffsetGone { earliest: info.earliest }),
            Ok(info) if waiter.from > info.tail => Err(Error::OffsetInvalid),
            Ok(info) if info.fork.as_ref().is_some_and(|fork| waiter.from < fork.at) => Err(Error::OffsetInvalid),
            info => info,
        };
        let info = match info {
            Ok(info) => info,
            Err(error) => {
                // A replica that lags may not have heard of the stream yet, nor of its last bytes.
                waiter.answer(Err((self.proof)().err().unwrap_or(error)));
                return None;
            }
        };
        if waiter.from < info.tail || info.closed || (waiter.tell_up_to_date && self.is_proven()) {
            return self.answer(waiter, info);
        }
        self.tails.add(info.id, key, matches!(info.lifetime, Lifetime::Ttl(_)), waiter);
        None
    }

    /// Answers a waiter from memory, if its bytes are there.
    fn answer(&self, waiter: Waiter, info: StreamInfo) -> Option<(Waiter, StreamInfo)> {
        let range = self.read_hot(info.id, waiter.from, None, waiter.bytes_max);
        if range.pieces.is_empty() && waiter.from < info.tail {
            return Some((waiter, info));
        }
        let page = TailPage::new(waiter.from, range, &info, || self.is_proven());
        waiter.answer(Ok(page));
        None
    }

    /// Messages to other groups that came up since the last call.
    pub(crate) fn take_outgoing(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.outgoing)
    }

    /// Sagas that were finished since the last call.
    pub(crate) fn take_finished(&mut self) -> Vec<(SagaId, OpResult)> {
        std::mem::take(&mut self.finished)
    }

    /// Streams with a sliding time to live that somebody tails.
    pub(crate) fn tailed_sliding(&self) -> Vec<StreamKey> {
        self.tails.sliding().cloned().collect()
    }

    /// Lets go of tails whose reader has gone.
    pub(crate) fn forget_abandoned_tails(&mut self) {
        self.tails.forget_abandoned();
    }

    fn wake(&mut self, stream: StreamId, now: Millis) {
        let Some((key, waiters)) = self.tails.take(stream) else { return };
        let info = self.streams.info(&key, now).ok().filter(|info| info.id == stream);
        for waiter in waiters {
            match &info {
                Some(info) if waiter.from < info.earliest => {
                    waiter.answer(Err(Error::OffsetGone { earliest: info.earliest }));
                }
                // They waited at the tail, and what came after it is in memory.
                Some(info) => drop(self.answer(waiter, info.clone())),
                None => waiter.answer(Err(Error::StreamNotFound)),
            }
        }
    }

    fn appended(&mut self, stream: StreamId, at: Offset, bytes: &Bytes, entry: Option<&Stored>) {
        self.hot.borrow_mut().append(self.group, stream, at, bytes);
        if let (Some(archive), Some(entry)) = (&self.archive, entry) {
            archive.add(self.group, stream, at, bytes, entry);
        }
    }

    fn removed(&mut self, stream: StreamId) {
        self.hot.borrow_mut().remove(self.group, stream);
        if let Some(archive) = &self.archive {
            archive.remove(self.group, stream);
        }
    }
}

impl StateMachine for GroupState {
    fn apply(&mut self, commands: Vec<Command>, entry: Option<&Stored>) -> Vec<Answer> {
        let now = commands.last().map_or(Millis(0), |command| command.at);
        let mut effects = Vec::new();
        let mut woken = BTreeSet::new();
        let mut ended = Vec::new();
        let mut answers = Vec::with_capacity(commands.len());
        for command in commands {
            answers.push(self.streams.apply(command, &mut effects));
            for effect in effects.drain(..) {
                match effect {
                    Effect::Appended { stream, at, bytes } => {
                        self.appended(stream, at, &bytes, entry);
                        woken.insert(stream);
                    }
                    Effect::Trimmed { stream, to } => self.hot.borrow_mut().trim(self.group, stream, to),
                    Effect::Closed { stream } => drop(woken.insert(stream)),
                    Effect::Detached { stream } => ended.push((stream, Error::StreamGone)),
                    Effect::Removed { stream } => {
                        self.removed(stream);
                        ended.push((stream, Error::StreamNotFound));
                    }
                    Effect::Send(message) => self.outgoing.push(message),
                    Effect::Finished { saga, outcome } => self.finished.push((saga, outcome)),
                }
            }
        }
        // A stream that ended may have had its last bytes in this entry.
        woken.into_iter().for_each(|stream| self.wake(stream, now));
        ended.into_iter().for_each(|(stream, error)| self.tails.end(stream, &error));
        self.hot.borrow_mut().evict();
        self.tell_cluster_news();
        answers
    }

    fn freeze(&self) -> StateParts {
        let frozen = self.streams.freeze();
        Box::new(move |put| frozen.encode_chunks().try_for_each(|part| put(&part)))
    }

    fn places(&self) -> Places {
        self.archive.as_ref().map(|archive| archive.places(self.group)).unwrap_or_default()
    }

    fn restore(&mut self, state: Bytes, places: Places) -> io::Result<()> {
        self.streams = State::decode(state).map_err(io::Error::other)?;
        self.replace_bytes(places);
        self.tails.end_all(&Error::Unavailable);
        self.tell_cluster_news();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
