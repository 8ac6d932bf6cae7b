//! What memory knows of the places of bytes in the log.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ursula_common::{GroupId, Offset, StreamId};
use ursula_wal::{Extent, LogDir, NewRow, RowRef, SegmentId};

use super::find::Plan;

/// One incarnation of a stream.
type Key = (GroupId, StreamId);

#[derive(Debug, Default)]
pub(super) struct Table {
    /// Records in segments without an index.
    unindexed: BTreeMap<SegmentId, BTreeMap<Key, Vec<Extent>>>,
    groups: BTreeMap<GroupId, Chains>,
    /// How often the places of a group were replaced.
    restored: BTreeMap<GroupId, u64>,
}

/// The streams of one group that have bytes.
#[derive(Debug, Default)]
struct Chains {
    streams: HashMap<StreamId, Chain>,
    /// How many streams begin in each segment: older segments have nothing that is needed.
    begins: BTreeMap<SegmentId, usize>,
}

/// Where the bytes of one stream begin and end in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain {
    /// The newest row in an index.
    pub(crate) newest: Option<RowRef>,
    /// The segment of the oldest bytes.
    pub(crate) oldest: SegmentId,
}

/// The places of one group's bytes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) chains: HashMap<StreamId, Chain>,
    /// By segment, then by stream.
    pub(crate) unindexed: Vec<(SegmentId, Vec<Extents>)>,
}

/// The records of a stream in one segment.
pub(crate) type Extents = (StreamId, Vec<Extent>);

impl Chains {
    fn new(streams: HashMap<StreamId, Chain>) -> Chains {
        let mut begins = BTreeMap::new();
        for chain in streams.values() {
            *begins.entry(chain.oldest).or_default() += 1;
        }
        Chains { streams, begins }
    }

    fn insert(&mut self, stream: StreamId, chain: Chain) {
        *self.begins.entry(chain.oldest).or_default() += 1;
        self.streams.insert(stream, chain);
    }

    fn remove(&mut self, stream: StreamId) -> bool {
        let Some(chain) = self.streams.remove(&stream) else { return false };
        if let Some(count) = self.begins.get_mut(&chain.oldest) {
            *count -= 1;
            if *count == 0 {
                self.begins.remove(&chain.oldest);
            }
        }
        true
    }
}

impl Table {
    pub(super) fn add(&mut self, group: GroupId, stream: StreamId, segment: SegmentId, extent: Extent) {
        let chains = self.groups.entry(group).or_default();
        if !chains.streams.contains_key(&stream) {
            chains.insert(stream, Chain { newest: None, oldest: segment });
        }
        self.unindexed.entry(segment).or_default().entry((group, stream)).or_default().push(extent);
    }

    pub(super) fn remove(&mut self, group: GroupId, stream: StreamId) {
        if self.groups.get_mut(&group).is_some_and(|chains| chains.remove(stream)) {
            self.forget_unindexed(|streams| drop(streams.remove(&(group, stream))));
        }
    }

    /// A segment of which nothing is left has no index to wait for: it may go at any moment.
    fn forget_unindexed(&mut self, forget: impl Fn(&mut BTreeMap<Key, Vec<Extent>>)) {
        self.unindexed.retain(|_, streams| {
            forget(streams);
            !streams.is_empty()
        });
    }

    /// The oldest segment that has bytes of each group.
    pub(super) fn oldest(&self) -> impl Iterator<Item = (GroupId, SegmentId)> {
        let oldest = |(group, chains): (&GroupId, &Chains)| Some((*group, *chains.begins.first_key_value()?.0));
        self.groups.iter().filter_map(oldest)
    }

    pub(super) fn restored(&self, group: GroupId) -> u64 {
        self.restored.get(&group).copied().unwrap_or_default()
    }

    /// Forgets what a group has up to a segment. What is in it without an index is not asked for.
    pub(super) fn release(&mut self, group: GroupId, upto: SegmentId) {
        let Some(chains) = self.groups.get_mut(&group) else { return };
        let later: BTreeSet<StreamId> = self
            .unindexed
            .range(SegmentId(upto.0 + 1)..)
            .flat_map(|(_, streams)| streams.range((group, StreamId(0))..=(group, StreamId(u64::MAX))))
            .map(|((_, stream), _)| *stream)
            .collect();
        let mut streams = std::mem::take(&mut chains.streams);
        streams.retain(|stream, chain| {
            let goes_on = chain.newest.is_some_and(|newest| newest.segment > upto) || later.contains(stream);
            goes_on || chain.oldest > upto
        });
        for chain in streams.values_mut() {
            chain.oldest = chain.oldest.max(SegmentId(upto.0 + 1));
        }
        *chains = Chains::new(streams);
    }

    pub(super) fn unindexed_groups(&self, segment: SegmentId) -> BTreeSet<GroupId> {
        self.unindexed.get(&segment).into_iter().flat_map(BTreeMap::keys).map(|(group, _)| *group).collect()
    }

    fn chain(&self, (group, stream): &Key) -> Option<&Chain> {
        self.groups.get(group)?.streams.get(stream)
    }

    pub(super) fn unindexed_records(&self) -> usize {
        self.unindexed.values().flat_map(BTreeMap::values).map(Vec::len).sum()
    }

    pub(super) fn plan(&self, dir: LogDir, group: GroupId, stream: StreamId, from: Offset) -> Plan {
        let key = (group, stream);
        let unindexed = self.unindexed.iter().filter_map(|(segment, streams)| Some((*segment, streams.get(&key)?)));
        let newest = self.chain(&key).and_then(|chain| chain.newest);
        Plan::new(dir, key, newest, unindexed, from)
    }

    pub(super) fn of_group(&self, group: GroupId) -> Places {
        let chains = self.groups.get(&group).map(|chains| chains.streams.clone()).unwrap_or_default();
        let range = (group, StreamId(0))..=(group, StreamId(u64::MAX));
        let of_segment = |(segment, streams): (&SegmentId, &BTreeMap<Key, Vec<Extent>>)| {
            let streams = streams.range(range.clone()).map(|(key, extents)| (key.1, extents.clone()));
            (*segment, streams.collect())
        };
        Places { chains, unindexed: self.unindexed.iter().map(of_segment).collect() }
    }

    /// Takes over the places of a group. What was said of segments that are gone is about streams that have ended.
    pub(super) fn restore(&mut self, group: GroupId, places: Places, is_there: impl Fn(SegmentId) -> bool) {
        *self.restored.entry(group).or_default() += 1;
        self.groups.remove(&group);
        self.forget_unindexed(|streams| streams.retain(|key, _| key.0 != group));
        if !places.chains.is_empty() {
            self.groups.insert(group, Chains::new(places.chains));
        }
        let there = places.unindexed.into_iter().filter(|(segment, streams)| is_there(*segment) && !streams.is_empty());
        for (segment, streams) in there {
            let of_segment = self.unindexed.entry(segment).or_default();
            of_segment.extend(streams.into_iter().map(|(stream, extents)| ((group, stream), extents)));
        }
    }

    /// The oldest segment without an index if `is_settled`, and its rows.
    pub(super) fn unindexed(&self, is_settled: impl Fn(SegmentId) -> bool) -> Option<(SegmentId, Vec<NewRow>)> {
        let (segment, streams) = self.unindexed.first_key_value().filter(|(segment, _)| is_settled(**segment))?;
        let row = |(key, extents): (&Key, &Vec<Extent>)| NewRow {
            group: key.0,
            stream: key.1,
            prev: self.chain(key).and_then(|chain| chain.newest),
            extents: extents.clone(),
        };
        Some((*segment, streams.iter().map(row).collect()))
    }

    /// Takes the rows that were written for a segment in place of their records. What has changed meanwhile
    /// stays as it is: a stream that ended, or that a snapshot replaced, and records that were added.
    pub(super) fn indexed(&mut self, segment: SegmentId, rows: impl Iterator<Item = (NewRow, RowRef)>) {
        let Some(streams) = self.unindexed.get_mut(&segment) else { return };
        for (row, at) in rows {
            let key = (row.group, row.stream);
            let chain = self.groups.get_mut(&key.0).and_then(|chains| chains.streams.get_mut(&key.1));
            let (Some(chain), Some(extents)) = (chain, streams.get_mut(&key)) else { continue };
            if chain.newest != row.prev || !extents.starts_with(&row.extents) {
                continue;
            }
            chain.newest = Some(at);
            extents.drain(..row.extents.len());
            if extents.is_empty() {
                streams.remove(&key);
            }
        }
        if streams.is_empty() {
            self.unindexed.remove(&segment);
        }
    }
}
