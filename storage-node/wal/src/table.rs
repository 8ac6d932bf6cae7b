//! Which segments there are, who is in them, and which of them may go. Does no I/O.

use std::collections::BTreeMap;

use ursula_common::GroupId;

use crate::segment::{Header, SegmentId};

/// What one segment says about one group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Note {
    /// The highest entry.
    pub(crate) last: Option<u64>,
    /// Entries of older batches from here on are void.
    void_from: Option<u64>,
    pub(crate) purged: Option<u64>,
    /// All that older segments say is void.
    pub(crate) reset: bool,
    /// And nothing came after that.
    pub(crate) forgotten: bool,
}

impl Note {
    pub(crate) fn forgotten() -> Note {
        Note { reset: true, forgotten: true, ..Note::default() }
    }

    /// Entries from `next` on are void.
    pub(crate) fn truncate(&mut self, next: u64) {
        self.void_from = Some(self.void_from.map_or(next, |void| void.min(next)));
        self.last = before(self.last, next);
    }
}

/// The highest entry, when those from `next` on are void.
fn before(last: Option<u64>, next: u64) -> Option<u64> {
    last.zip(next.checked_sub(1)).map(|(last, before)| last.min(before))
}

/// A segment that is on disk.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: Header,
    /// Bytes in its file.
    pub(crate) len: u64,
    /// Its writer may still add to it.
    pub(crate) active: bool,
    /// It needs no summary any more.
    pub(crate) summarized: bool,
    /// The highest entry of each group that it speaks of.
    groups: BTreeMap<GroupId, Option<u64>>,
}

#[derive(Debug)]
struct Group {
    /// The newest segment that speaks of the group: it holds its facts, or that it was forgotten.
    anchor: SegmentId,
    purged: Option<u64>,
    forgotten: bool,
}

/// All segments, and what must be known of groups to judge them.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) segments: BTreeMap<SegmentId, Segment>,
    groups: BTreeMap<GroupId, Group>,
}

impl Table {
    /// A segment that is on disk now; the one that its writer wrote before is complete.
    pub(crate) fn add(&mut self, header: Header, len: u64, active: bool, summarized: bool) {
        if let Some(previous) = self.segments.get_mut(&header.previous) {
            previous.active = false;
        }
        self.segments.insert(header.id, Segment { header, len, active, summarized, groups: BTreeMap::new() });
    }

    /// What a segment was found to say, or says now that a batch is durable. In the order of the segments.
    pub(crate) fn note(&mut self, id: SegmentId, group: GroupId, note: &Note) {
        let known = self.groups.entry(group).or_insert(Group { anchor: id, purged: None, forgotten: false });
        known.anchor = known.anchor.max(id);
        known.forgotten = note.forgotten;
        if note.reset {
            known.purged = None;
        }
        let void_from = if note.reset { Some(0) } else { note.void_from };
        if let Some(next) = void_from {
            let lasts = self.segments.values_mut().filter_map(|segment| segment.groups.get_mut(&group));
            lasts.for_each(|last| *last = before(*last, next));
        }
        known.purged = known.purged.max(note.purged);
        if let Some(segment) = self.segments.get_mut(&id) {
            let last = segment.groups.entry(group).or_default();
            *last = (*last).max(note.last);
        }
    }

    /// Whether no group needs this segment.
    pub(crate) fn is_free(&self, id: SegmentId) -> bool {
        let Some(segment) = self.segments.get(&id).filter(|segment| !segment.active) else { return false };
        segment.groups.iter().all(|(group, last)| {
            let Some(known) = self.groups.get(group) else { return false };
            let live = last.is_some_and(|last| known.purged.is_none_or(|purged| purged < last));
            let anchors = known.anchor == id && (!known.forgotten || self.others_mention(*group, id));
            !live && !anchors
        })
    }

    /// The groups that a segment speaks of: all that may have anything in it.
    pub(crate) fn groups_in(&self, id: SegmentId) -> Vec<GroupId> {
        self.segments.get(&id).map(|segment| segment.groups.keys().copied().collect()).unwrap_or_default()
    }

    fn others_mention(&self, group: GroupId, than: SegmentId) -> bool {
        self.segments.iter().any(|(id, segment)| *id != than && segment.groups.contains_key(&group))
    }

    /// Takes a segment off the table.
    pub(crate) fn remove(&mut self, id: SegmentId) {
        self.segments.remove(&id);
        let Table { segments, groups } = self;
        groups.retain(|group, known| {
            !known.forgotten || segments.values().any(|segment| segment.groups.contains_key(group))
        });
    }
}

#[cfg(test)]
mod tests;
