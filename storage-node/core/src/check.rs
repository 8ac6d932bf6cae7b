//! Every invariant of the state in one place, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ursula_common::limits::{FORKS_MAX, PRODUCERS_MAX, SESSION_RESULTS_MAX, SESSIONS_MAX};
use ursula_common::verb::Ack;
use ursula_common::{GroupId, Offset, StreamKey, StreamName};

use crate::bucket::DROPPED_MAX;
use crate::cluster::is_sound;
use crate::fork::RELEASED_MAX;
use crate::kept::{Kept, MARKS_MAX};
use crate::packing::Waiting;
use crate::published::BEFORE_MAX;
use crate::saga::{Phase, Saga};
use crate::state::Bucket;
use crate::stream::{ForkStart, Life, Presence, Rare, Stream};
use crate::{Answer, State};

impl State {
    /// Asserts every invariant.
    ///
    /// # Panics
    /// If one is broken; the message names it.
    pub fn check(&self) {
        self.check_streams();
        self.check_sessions();
        self.check_sagas();
        if let Some(cluster) = &self.cluster {
            assert!(is_sound(cluster) && self.group == GroupId::META, "the cluster is sound");
        }
        self.check_packs();
        assert!(self.dropped.len() <= DROPPED_MAX, "too many dropped buckets are remembered");
        assert!(self.released.len() <= RELEASED_MAX, "too many released forks are remembered");
    }

    /// All streams with their names.
    pub(crate) fn all_streams(&self) -> impl Iterator<Item = (StreamKey, &Arc<Stream>)> {
        self.buckets.iter().flat_map(|(bucket, known)| {
            let key = |name: &StreamName| StreamKey { bucket: bucket.clone(), name: name.clone() };
            known.streams.iter().map(move |(name, stream)| (key(name), stream))
        })
    }

    fn check_streams(&self) {
        let (mut ids, mut indexed) = (BTreeSet::new(), BTreeMap::new());
        for (key, stream) in self.all_streams() {
            assert!(self.group != GroupId::META, "the meta group holds no streams");
            assert!(ids.insert(stream.id) && stream.id.0 < self.next_stream, "the id of {key} is its own");
            check_stream(stream);
            // A stream and its uploads come in any order.
            if !self.is_importing() {
                self.check_snapshots(&key, stream);
            }
            if stream.presence == Presence::Live && stream.due_at().is_some() {
                indexed.insert((stream.indexed, stream.id), key);
            }
        }
        assert_eq!(ids.len(), self.streams, "the streams are counted");
        assert_eq!(indexed, self.deadlines, "the index holds exactly the live streams that are due some time");
    }

    fn check_snapshots(&self, key: &StreamKey, stream: &Stream) {
        if key.name.is_companion() {
            let owner = self.stream(&key.owner()).filter(|owner| owner.presence == Presence::Live);
            let names = owner.expect("an upload ends with its stream").snapshots();
            let is_named = names.is_some_and(|all| all.iter().any(|known| key.companion(known.info.upload) == *key));
            assert_eq!(
                stream.life == Life::Forever,
                is_named,
                "what was published lives for ever, and nothing else does"
            );
            assert!(
                stream.fork().is_none() && !stream.has_forks() && stream.snapshots().is_none(),
                "an upload is plain"
            );
        }
        let Some(all) = stream.snapshots() else { return };
        assert!(stream.presence == Presence::Live, "snapshots end with their stream");
        assert!(all.iter().is_sorted_by_key(|known| known.info.at), "snapshots in order");
        assert!(all.before.len() <= if self.packs.is_some() { BEFORE_MAX } else { 0 }, "snapshots are few");
        for known in all.iter() {
            assert!(stream.tail.first() <= known.info.at && known.info.at <= stream.tail, "first <= snapshot <= tail");
            let companion = self.stream(&key.companion(known.info.upload)).expect("a snapshot has its bytes");
            assert!(
                companion.is_whole(known.info.bytes) && companion.closed,
                "a snapshot is whole, and stays as it is"
            );
        }
        let certain = all.iter().rev().find(|known| self.is_certain(key, known));
        let Some(certain) = certain else { return };
        assert!(all.iter().next() == Some(certain), "nothing stays that comes before one that is certain");
        let begins = stream.kept().is_some_and(|kept| kept.earliest >= certain.info.at);
        assert!(begins || !stream.retention().snapshot, "a stream that is kept from its snapshot on begins there");
    }

    fn check_packs(&self) {
        let is_prompt = |bucket: &Bucket| bucket.ack == Ack::Quorum;
        assert!(self.packs.is_some() || self.buckets.values().all(is_prompt), "who waits for packs has some");
        let Some(packs) = &self.packs else {
            assert!(self.all_streams().all(|(_, stream)| stream.cold.is_none()), "packs have not begun");
            return;
        };
        let (mut waiting, mut bytes, mut ids) = (BTreeMap::new(), 0, BTreeSet::new());
        for (key, stream) in self.all_streams() {
            let cold = stream.cold.as_ref().expect("packs have begun");
            assert!(stream.own_start() <= cold.end && cold.end <= stream.tail, "start <= packed end <= tail");
            assert!(cold.pack == 0 || cold.end > stream.own_start(), "what is in a pack is packed");
            assert!(cold.pack > 0 || cold.end <= stream.floor(), "what is packed, and needed, is in a pack");
            assert!(self.is_importing() || cold.pack < packs.catalogue.next(), "the newest pack of a stream counts");
            assert!(cold.turn.max(cold.changed) <= packs.changes, "changes and turns have numbers that were given out");
            assert_eq!(cold.turn == 0, cold.changed == 0, "what has changed waits");
            assert!(cold.turn > 0 || (cold.recorded && cold.end == stream.tail), "what does not wait is in packs");
            if cold.turn > 0 {
                waiting.insert(cold.turn, Waiting::Stream(key));
            }
            bytes += stream.left();
            ids.insert(stream.id);
        }
        for (turn, gone) in &packs.waiting {
            let Waiting::Removed(id) = gone else { continue };
            assert!(*turn <= packs.changes && !ids.contains(id), "what was removed is not there");
            waiting.insert(*turn, gone.clone());
        }
        assert_eq!(waiting, packs.waiting, "every stream that waits has its turn");
        assert_eq!(bytes, packs.bytes, "bytes that wait are counted");
        assert!(packs.group_changed <= packs.changes, "a change has a number that was given out");
    }

    fn check_sessions(&self) {
        assert!(self.sessions.known.len() <= SESSIONS_MAX, "too many sessions");
        let waits = |answer: &Answer| matches!(answer, Answer::Pending(id) if !self.sagas.running.contains_key(id));
        for session in self.sessions.known.values() {
            assert!(session.results.len() <= SESSION_RESULTS_MAX, "too many results");
            assert!(session.results.keys().all(|seq| *seq >= session.floor), "a result below the floor");
            assert!(!session.results.values().any(waits), "a result waits for a saga that has ended");
        }
    }

    fn check_sagas(&self) {
        let weights = self.sagas.running.values().map(Saga::weight);
        let sum = weights.fold((0, 0), |sum, weight| (sum.0 + weight.0, sum.1 + weight.1));
        assert_eq!(sum, (self.sagas.waiting, self.sagas.waiting_bytes), "the sagas are counted");
        let mut busy = BTreeSet::new();
        for (id, saga) in &self.sagas.running {
            assert!(id.0 <= self.sagas.last, "a saga has a number that was given out");
            match saga {
                Saga::Fork(fork) => assert!(fork.id.0 < self.next_stream && fork.create.fork.is_some()),
                Saga::Release(_) => {}
                Saga::Bucket(saga) => {
                    assert!(self.group == GroupId::META && !saga.waiting.is_empty(), "it waits for a group");
                    assert!(busy.insert(saga.bucket.clone()), "one saga for a bucket at a time");
                    assert!(saga.refused || saga.phase != Phase::Restore, "restored only after a refusal");
                }
            }
        }
        let marked = self.buckets.iter().filter(|(_, bucket)| bucket.busy).map(|(name, _)| name.clone());
        assert_eq!(busy, marked.collect(), "a bucket is busy while its saga runs");
    }
}

fn check_stream(stream: &Stream) {
    assert!(stream.tail <= Offset::MAX, "tail <= max");
    assert!(stream.due_at().is_none_or(|due| stream.indexed <= due), "indexed <= due");
    assert!(stream.presence == Presence::Live || stream.has_forks(), "only forks keep a stream that has ended");
    let Some(rare) = &stream.rare else { return };
    assert!(rare.producers.len() <= PRODUCERS_MAX && rare.forks.len() <= FORKS_MAX, "within the limits");
    assert!(rare.producers.is_sorted_by(|a, b| a.id < b.id), "producers are sorted");
    assert!(rare.closed_by.is_none() || stream.closed, "what closed the stream closed it");
    assert!(
        rare.forks
            .values()
            .all(|start| { start.from <= start.anchor && start.anchor <= start.at && start.at <= stream.tail }),
        "from <= anchor <= at <= tail"
    );
    if let Some(kept) = &rare.kept {
        check_kept(stream, rare, kept);
    }
    if let Some(link) = &rare.fork {
        assert!(link.anchor <= link.at && link.at <= stream.tail, "a fork ends behind where it begins");
    }
}

fn check_kept(stream: &Stream, rare: &Rare, kept: &Kept) {
    assert!(stream.tail.first() <= kept.earliest && kept.earliest <= stream.tail, "first <= earliest <= tail");
    let ends = || kept.marks.iter().map(|mark| mark.at);
    assert!(
        ends().is_sorted_by(|a, b| a < b) && kept.marks.iter().is_sorted_by_key(|mark| mark.time),
        "marks in order"
    );
    assert!(ends().all(|at| kept.earliest < at && at <= stream.tail), "earliest < marks <= tail");
    assert!(kept.marks.len() <= MARKS_MAX, "marks are few");
    let needed = rare.forks.values().filter_map(ForkStart::needs).min();
    assert_eq!(kept.floor(), needed.map_or(kept.earliest, |from| from.min(kept.earliest)), "what forks need is kept");
}
