//! Packs on the walk: planned, stored, and committed at once, late, or not at all. Beside them stands what somebody would
//! find who has nothing but the packs that count: when nothing waits, that must be the state.

use std::sync::Arc;

use ursula_common::BucketName;
use ursula_common::packs::PackRef;

use super::*;
use crate::packing::Waiting;
use crate::stream::{Rare, Stream};
use crate::{PackPlan, StreamImage};

/// Records of the walk have at most so many bytes.
const RECORD_BYTES_MAX: u64 = 5;
/// Packs that are stored and were not committed yet, or never will be.
const STORED_MAX: usize = 6;

/// A store, for each group: what is in it, and what the packs that count say.
#[derive(Default)]
pub(super) struct Store {
    stored: Vec<(GroupId, Stored)>,
    committed: BTreeMap<GroupId, Committed>,
}

struct Stored {
    plan: PackPlan,
    ends: Vec<Offset>,
    bytes: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Committed {
    streams: BTreeMap<StreamId, (StreamKey, Arc<Stream>)>,
    /// Own bytes of each stream, and where they begin.
    bytes: BTreeMap<StreamId, (Offset, Vec<u8>)>,
    /// The records of the last pack.
    last: Option<State>,
}

impl Walk {
    pub(super) fn packs(&mut self) {
        let group = GroupId(self.dice.below(3) as u32);
        if self.world.state(group).packing().is_none() {
            if self.dice.chance(10) {
                assert_eq!(self.apply(group, Op::BeginPacks, None), Answer::Done(Ok(Reply::Done)));
                self.begin_packs(group);
            }
            return;
        }
        match self.dice.below(100) {
            0..40 => self.plan(group),
            40..93 => self.commit(),
            93..96 => self.settle(group),
            _ => {
                let before = self.once_time_has_passed(group);
                assert_eq!(self.apply(group, Op::BeginPacks, None), Answer::Done(Ok(Reply::Done)));
                assert!(self.world.state(group).encode() == before, "packs begin once");
            }
        }
    }

    /// The state of a group that heard of nothing but the time.
    fn once_time_has_passed(&self, group: GroupId) -> Vec<u8> {
        let mut state = self.world.state(group).clone();
        state.sessions.pass(self.world.now.since(state.now));
        state.now = self.world.now;
        state.encode()
    }

    /// Stores what the next pack should hold.
    fn plan(&mut self, group: GroupId) {
        let (bytes_max, streams_max) = (self.dice.below(1500), 1 + self.dice.below(8) as usize);
        let state = self.world.state(group);
        let plan = state.plan_pack_of(bytes_max, streams_max, RECORD_BYTES_MAX);
        assert_eq!(plan.is_some(), state.packing().is_some_and(|packing| packing.due));
        let Some(plan) = plan else { return };
        assert!(plan.streams.len() + plan.removed.len() <= streams_max);
        if self.store.stored.len() >= STORED_MAX {
            self.store.stored.remove(0);
        }
        let boundary = |planned: &crate::PlannedStream| {
            let past = if planned.whole { 0 } else { self.dice.below(RECORD_BYTES_MAX) };
            Offset(planned.end.0 + past)
        };
        let ends: Vec<_> = plan.streams.iter().map(boundary).collect();
        let bytes = |(planned, end): (&crate::PlannedStream, &Offset)| match self.world.rings.get(&(group, planned.id))
        {
            Some((at, ring)) => ring[(planned.start.0 - at.0) as usize..(end.0 - at.0) as usize].to_vec(),
            None => Vec::new(),
        };
        let bytes = plan.streams.iter().zip(&ends).map(bytes).collect();
        self.store.stored.push((group, Stored { plan, ends, bytes }));
    }

    /// Commits any of the packs in the store: also one that was planned before another one was committed.
    fn commit(&mut self) {
        if self.store.stored.is_empty() {
            return;
        }
        let place = self.dice.below(self.store.stored.len() as u64) as usize;
        let (group, stored) = self.store.stored.swap_remove(place);
        let (number, maker) = (stored.plan.pack, self.dice.below(1 << 40));
        let pack = PackRef { first: number, last: number, maker, bytes: 1, hash: [7; 32] };
        let op = Op::CommitPack(Box::new(stored.plan.commit(pack, &stored.ends)));
        if self.world.state(group).packing().is_some_and(|packing| packing.next != number) {
            let before = self.once_time_has_passed(group);
            assert_eq!(self.apply(group, op, None), Answer::Done(Err(Error::Malformed)));
            assert!(self.world.state(group).encode() == before, "a pack that came too late changes nothing");
            return;
        }
        assert_eq!(self.apply(group, op, None), Answer::Done(Ok(Reply::Done)));
        let told = self.world.state(group).told(&stored.plan, &stored.ends);
        self.store.committed.entry(group).or_default().take(stored);
        self.tell(group, &told);
        self.compare_packs(group);
    }

    /// Packs until nothing waits.
    pub(super) fn settle(&mut self, group: GroupId) {
        for round in 0.. {
            assert!(round < 1000, "what waits becomes less");
            self.store.stored.retain(|(other, _)| *other != group);
            self.plan(group);
            if self.store.stored.last().is_none_or(|(last, _)| *last != group) {
                return;
            }
            let others = std::mem::take(&mut self.store.stored);
            let (mine, others) = others.into_iter().partition(|(other, _)| *other == group);
            self.store.stored = mine;
            self.commit();
            self.store.stored.extend::<Vec<_>>(others);
        }
    }

    fn compare_packs(&self, group: GroupId) {
        let (state, committed) = (self.world.state(group), &self.store.committed[&group]);
        let known: BTreeMap<_, _> = by_id(state).collect();
        for (id, (key, stream)) in &known {
            let cold = stream.cold.as_ref().expect("packs have begun");
            let end = committed.bytes.get(id).map_or(stream.own_start(), |(at, own)| Offset(at.0 + own.len() as u64));
            assert_eq!(cold.end, end, "{key}");
        }
        self.check_restored(committed.streams.values().map(|(key, stream)| (key, &**stream)));
        if state.packing().is_some_and(|packing| packing.due) {
            return;
        }
        let plain = |(key, stream): &(StreamKey, Arc<Stream>)| (key.clone(), plain(stream));
        let in_packs: BTreeMap<_, _> = committed.streams.iter().map(|(id, known)| (*id, plain(known))).collect();
        assert_eq!(in_packs, known.iter().map(|(id, known)| (*id, plain(known))).collect());
        for id in known.keys() {
            let own = self.world.rings.get(&(group, *id)).map(|(_, own)| &own[..]).filter(|own| !own.is_empty());
            let floor = known[id].1.floor();
            let in_packs = committed.bytes.get(id).map(|(at, own)| &own[(floor.0 - at.0) as usize..]);
            assert_eq!(in_packs.filter(|own| !own.is_empty()), own, "the bytes of stream {id}");
        }
        let last = committed.last.as_ref().expect("a pack was committed");
        let buckets = |state: &State| -> Vec<(BucketName, u64, bool, Ack)> {
            let all = state.buckets.iter();
            all.map(|(name, bucket)| (name.clone(), bucket.order, bucket.busy, bucket.ack)).collect()
        };
        assert_eq!(buckets(last), buckets(state));
        assert_eq!((&last.dropped, &last.released), (&state.dropped, &state.released));
        assert_eq!((&last.sagas.running, &last.cluster), (&state.sagas.running, &state.cluster));
    }
}

impl Store {
    /// Packs have what an answer speaks of.
    pub(super) fn knows(&self, state: &State, spoken: &super::held::Spoken) {
        let super::held::Spoken { group, key, stream, gone } = spoken;
        let nothing = Committed::default();
        let committed = self.committed.get(group).unwrap_or(&nothing);
        match stream {
            Some((id, tail)) => match committed.streams.get(id) {
                Some((_, known)) => {
                    let end =
                        committed.bytes.get(id).map_or(known.own_start(), |(at, own)| Offset(at.0 + own.len() as u64));
                    assert!(known.tail >= *tail && end >= known.tail, "{key} up to {tail} is in packs");
                }
                None => assert!(by_id(state).all(|(other, _)| other != *id), "{key} is in packs"),
            },
            None => {
                let is_there = gone.is_some_and(|gone| committed.streams.contains_key(&gone));
                assert!(!is_there, "packs say that {key} is gone");
            }
        }
    }
}

impl Committed {
    fn take(&mut self, stored: Stored) {
        let state = State::decode(stored.plan.records.into()).expect("the records of a pack are a snapshot");
        for (planned, bytes) in stored.plan.streams.iter().zip(stored.bytes) {
            let (at, own) =
                self.bytes.entry(planned.id).or_insert((Offset(planned.start.0 - planned.skipped), Vec::new()));
            let end = at.0 + own.len() as u64;
            assert_eq!(end + planned.skipped, planned.start.0, "a pack goes on where those before ended");
            if planned.skipped > 0 {
                assert_eq!(planned.prev, 0, "nothing comes before it that anybody needs");
                (*at, *own) = (planned.start, Vec::new());
            }
            own.extend(bytes);
            assert_eq!(planned.whole, state.stream(&planned.key).is_some(), "{}", planned.key);
        }
        self.streams.extend(by_id(&state));
        let packs = state.packs.as_ref().expect("packs have begun");
        for gone in packs.waiting.values() {
            let Waiting::Removed(id) = gone else { panic!("a stream in a pack does not wait") };
            self.streams.remove(id);
            self.bytes.remove(id);
        }
        self.last = Some(state);
    }
}

impl Store {
    /// The streams of a group, as the packs know them that count.
    pub(super) fn images(&self, group: GroupId) -> Vec<StreamImage> {
        let streams = self.committed.get(&group).into_iter().flat_map(|committed| committed.streams.values());
        streams.map(|(key, stream)| StreamImage { key: key.clone(), stream: stream.clone() }).collect()
    }
}

/// A stream without what no restore brings back: it begins lifetimes anew, and does not miss what is empty.
pub(super) fn plain(stream: &Stream) -> Stream {
    let mut rare = stream.rare.clone();
    if let Some(kept) = rare.as_mut().and_then(|rare| rare.kept.as_mut()) {
        kept.told = Offset::ZERO;
    }
    let rare = rare.filter(|rare| **rare != Rare::default());
    Stream { touched: START, indexed: START, rare, ..stream.clone() }
}

fn by_id(state: &State) -> impl Iterator<Item = (StreamId, (StreamKey, Arc<Stream>))> {
    state.all_streams().map(|(key, stream)| (stream.id, (key, stream.clone())))
}
