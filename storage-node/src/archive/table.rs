//! What memory knows of the places of bytes in the log.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use ursula_common::{GroupId, Offset, StreamId};
use ursula_wal::{Extent, LogDir, NewRow, RowRef, SegmentId};

use super::find::Plan;

/// One incarnation of a stream.
type Key = (GroupId, StreamId);

#[derive(Debug, Default)]
pub(super) struct Table {
    /// Records in segments without an index.
    unindexed: BTreeMap<SegmentId, BTreeMap<Key, Vec<Extent>>>,
    chains: HashMap<Key, Chain>,
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
    /// By stream, ascending.
    pub(crate) chains: Vec<(StreamId, Chain)>,
    /// By segment, then by stream.
    pub(crate) unindexed: Vec<(SegmentId, Vec<Extents>)>,
}

/// The records of a stream in one segment.
pub(crate) type Extents = (StreamId, Vec<Extent>);

impl Table {
    pub(super) fn add(&mut self, group: GroupId, stream: StreamId, segment: SegmentId, extent: Extent) {
        let key = (group, stream);
        if let Entry::Vacant(vacant) = self.chains.entry(key) {
            vacant.insert(Chain { newest: None, oldest: segment });
            *self.begins.entry(segment).or_default() += 1;
        }
        self.unindexed.entry(segment).or_default().entry(key).or_default().push(extent);
    }

    pub(super) fn remove(&mut self, group: GroupId, stream: StreamId) {
        let key = (group, stream);
        let Some(chain) = self.chains.remove(&key) else { return };
        self.unindexed.values_mut().for_each(|streams| drop(streams.remove(&key)));
        if let Some(count) = self.begins.get_mut(&chain.oldest) {
            *count -= 1;
            if *count == 0 {
                self.begins.remove(&chain.oldest);
            }
        }
    }

    pub(super) fn oldest(&self) -> Option<SegmentId> {
        let begins = self.begins.first_key_value().map(|(segment, _)| *segment);
        let unindexed = self.unindexed.first_key_value().map(|(segment, _)| *segment);
        begins.into_iter().chain(unindexed).min()
    }

    pub(super) fn unindexed_records(&self) -> usize {
        self.unindexed.values().flat_map(BTreeMap::values).map(Vec::len).sum()
    }

    pub(super) fn plan(&self, dir: LogDir, group: GroupId, stream: StreamId, from: Offset) -> Plan {
        let key = (group, stream);
        let unindexed = self.unindexed.iter().filter_map(|(segment, streams)| Some((*segment, streams.get(&key)?)));
        let newest = self.chains.get(&key).and_then(|chain| chain.newest);
        Plan::new(dir, key, newest, unindexed, from)
    }

    pub(super) fn of_group(&self, group: GroupId) -> Places {
        let of_group = self.chains.iter().filter(|(key, _)| key.0 == group);
        let mut chains: Vec<(StreamId, Chain)> = of_group.map(|(key, chain)| (key.1, *chain)).collect();
        chains.sort_unstable_by_key(|(stream, _)| *stream);
        let range = (group, StreamId(0))..=(group, StreamId(u64::MAX));
        let of_segment = |(segment, streams): (&SegmentId, &BTreeMap<Key, Vec<Extent>>)| {
            let streams = streams.range(range.clone()).map(|(key, extents)| (key.1, extents.clone()));
            (*segment, streams.collect())
        };
        Places { chains, unindexed: self.unindexed.iter().map(of_segment).collect() }
    }

    pub(super) fn restore(&mut self, group: GroupId, places: Places) {
        let known: Vec<StreamId> = self.chains.keys().filter(|key| key.0 == group).map(|key| key.1).collect();
        known.into_iter().for_each(|stream| self.remove(group, stream));
        for (stream, chain) in places.chains {
            *self.begins.entry(chain.oldest).or_default() += 1;
            self.chains.insert((group, stream), chain);
        }
        for (segment, streams) in places.unindexed {
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
            prev: self.chains.get(key).and_then(|chain| chain.newest),
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
            let (Some(chain), Some(extents)) = (self.chains.get_mut(&key), streams.get_mut(&key)) else { continue };
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
