//! What a log should say: a model of groups, and the comparison with what was recovered.

use std::collections::BTreeMap;

use crc32c::crc32c;
use ursula_common::StreamId;

use super::*;

#[derive(Debug, Clone)]
pub(super) enum Op {
    Append(u64, Bytes),
    Put(Fact, Bytes),
    Truncate(Option<u64>),
    Slice(Slice, Bytes),
    Forget,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct GroupWorld {
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<Bytes>,
    pub(super) purged: Option<(u64, Bytes)>,
    pub(super) entries: Vec<(u64, Bytes)>,
    pub(super) slices: Vec<(Slice, Bytes)>,
}

impl GroupWorld {
    /// The index that the next entry must have; `None` if it may have any.
    pub(super) fn next(&self) -> Option<u64> {
        let last = self.entries.last().map(|(index, _)| *index);
        last.max(self.purged.as_ref().map(|(index, _)| *index)).map(|last| last + 1)
    }

    fn apply(&mut self, op: &Op) {
        match op.clone() {
            Op::Append(index, payload) => self.entries.push((index, payload)),
            Op::Put(Fact::Vote, payload) => self.vote = Some(payload),
            Op::Put(Fact::Committed, payload) => self.committed = Some(payload),
            Op::Put(Fact::Purged { index }, payload) => {
                self.purged = Some((index, payload));
                self.entries.retain(|(at, _)| *at > index);
            }
            Op::Truncate(after) => self.entries.retain(|(at, _)| after.is_some_and(|after| *at <= after)),
            Op::Slice(slice, payload) => self.slices.push((slice, payload)),
            Op::Forget => *self = GroupWorld::default(),
        }
    }
}

/// All groups as they certainly are, and what may have happened since.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    pub(super) groups: BTreeMap<GroupId, GroupWorld>,
    /// Written, and not acknowledged: a prefix may be there.
    pub(super) in_flight: Vec<(GroupId, Op)>,
    /// Segments whose indexes were written.
    pub(super) indexed: BTreeMap<SegmentId, Vec<RowRef>>,
    /// Slices of segments before this may be gone.
    pub(super) kept_from: SegmentId,
}

impl World {
    /// What was in flight was acknowledged.
    pub(super) fn acknowledge(&mut self) {
        for (group, op) in std::mem::take(&mut self.in_flight) {
            self.groups.entry(group).or_default().apply(&op);
        }
    }

    /// Finds out which prefix was recovered, and goes on from there.
    pub(super) fn settle(&mut self, log: &LogDir, found: &Recovered) -> Result<(), String> {
        if !found.damage.is_empty() {
            return Err(format!("damage without a cause: {:?}", found.damage));
        }
        self.check_indexes(log)?;
        let mut recovered = BTreeMap::new();
        for (id, group) in &found.groups {
            recovered.insert(*id, read(log, group)?);
        }
        let ops = std::mem::take(&mut self.in_flight);
        for applied in 0..=ops.len() {
            if let Some(groups) = self.same(&recovered) {
                self.groups = groups;
                return Ok(());
            }
            if let Some((group, op)) = ops.get(applied) {
                self.groups.entry(*group).or_default().apply(op);
            }
        }
        Err(format!("no prefix of {} fits: {}\nshould be {}", ops.len(), brief(&recovered), brief(&self.groups)))
    }

    /// Every index that was written says what it should.
    fn check_indexes(&self, log: &LogDir) -> Result<(), String> {
        for (segment, refs) in &self.indexed {
            if !log.segments().iter().any(|(id, _)| id == segment) {
                continue;
            }
            for (at, row) in refs.iter().zip(rows(log, *segment)) {
                let found = log.index_row(*at, row.group, row.stream).map_err(|error| error.to_string())?;
                let found = found.ok_or_else(|| format!("no index of {segment}"))?;
                let extents = log.extents(*at, &found, 0, u64::MAX, 1000).map_err(|error| error.to_string())?;
                if (found.prev, &extents) != (row.prev, &row.extents) {
                    return Err(format!("the index of {segment} has {found:?} {extents:?} for {row:?}"));
                }
            }
        }
        Ok(())
    }

    /// What was recovered, if it is what should be, except for slices that may be gone.
    fn same(&self, recovered: &BTreeMap<GroupId, GroupWorld>) -> Option<BTreeMap<GroupId, GroupWorld>> {
        let nothing = GroupWorld::default();
        let mut groups = BTreeMap::new();
        for id in self.groups.keys().chain(recovered.keys()) {
            let mut should = self.groups.get(id).unwrap_or(&nothing).clone();
            let is = recovered.get(id).unwrap_or(&nothing);
            should.slices.retain(|slice| slice.0.at.segment >= self.kept_from || is.slices.contains(slice));
            if should != *is {
                return None;
            }
            groups.insert(*id, should);
        }
        Some(groups)
    }
}

/// What is said of a segment in its index: as if each entry held bytes of a stream.
pub(super) fn rows(log: &LogDir, segment: SegmentId) -> Vec<NewRow> {
    let mut rows: BTreeMap<(GroupId, StreamId), Vec<Extent>> = BTreeMap::new();
    let mut add = |content: Content| {
        let Content::Entry { group, index, at } = content else { return };
        let extents = rows.entry((group, StreamId(index % 3))).or_default();
        if at.len > 0 {
            let offset = extents.last().map_or(u64::from(segment.0 as u32), Extent::end);
            extents.push(Extent { offset, at: at.at, len: at.len, crc: crc32c(&log.read(at).unwrap()) });
        }
    };
    log.contents(segment, &mut add).unwrap();
    rows.retain(|_, extents| !extents.is_empty());
    let row = |((group, stream), extents): ((GroupId, StreamId), Vec<Extent>)| {
        let prev = (segment.0 > 3).then(|| RowRef { segment: SegmentId(segment.0 - 3), part: 1, row: group.0 });
        NewRow { group, stream, prev, extents }
    };
    rows.into_iter().map(row).collect()
}

fn read(log: &LogDir, group: &RecoveredGroup) -> Result<GroupWorld, String> {
    let RecoveredGroup { vote, committed, purged, .. } = group.clone();
    let payload = |at| log.read(at).map_err(|error| format!("recovered, and not to be read: {error}"));
    let mut world = GroupWorld { vote, committed, purged, ..GroupWorld::default() };
    for (index, at) in &group.entries {
        world.entries.push((*index, payload(*at)?));
    }
    for slice in &group.slices {
        world.slices.push((*slice, payload(slice.at)?));
    }
    Ok(world)
}

fn brief(groups: &BTreeMap<GroupId, GroupWorld>) -> String {
    let len = |bytes: &Option<Bytes>| bytes.as_ref().map(Bytes::len);
    let line = |(id, group): (&GroupId, &GroupWorld)| {
        let entries: Vec<_> = group.entries.iter().map(|(index, payload)| (*index, payload.len())).collect();
        let slices: Vec<_> = group.slices.iter().map(|(slice, _)| slice.at).collect();
        let (vote, committed) = (len(&group.vote), len(&group.committed));
        format!("\n{id}: {vote:?} {committed:?} {:?} {entries:?} {slices:?}", group.purged)
    };
    groups.iter().map(line).collect()
}
