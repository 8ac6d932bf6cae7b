//! What a log says, read back: its records applied in the order they were written. Does no I/O.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ursula_common::{GroupId, Offset, StreamId};

use crate::record::{HEADER_BYTES, Header, Kind, Location};
use crate::scan::Item;
use crate::segment::{self, SegmentId};
use crate::state::GroupLog;
use crate::table::Note;

mod group;

use group::Group;

/// What was found in a log directory.
#[derive(Debug, Default)]
pub struct Recovered {
    /// All groups that were not forgotten.
    pub groups: BTreeMap<GroupId, RecoveredGroup>,
    /// Every place that was on disk and is damaged now, whether or not a group still needs it. A place whose group
    /// is not known may have held all that there was of a group.
    pub damage: Vec<Damage>,
    /// Segments that a crash cut off within a batch that was never acknowledged, and where.
    pub torn: Vec<(SegmentId, u32)>,
}

/// What was found of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveredGroup {
    /// The latest vote.
    pub vote: Option<Bytes>,
    /// The latest statement of what is committed.
    pub committed: Option<Bytes>,
    /// The last entry that is not needed any more, and what was said with it.
    pub purged: Option<(u64, Bytes)>,
    /// Entries after that, without gaps: their indexes and payloads.
    pub entries: Vec<(u64, Location)>,
    /// Bytes that came otherwise, in the order they came, of segments that are still there.
    pub slices: Vec<Slice>,
    /// If there is any, the rest is not to be trusted: something that this group said may be missing.
    pub damage: Option<Damage>,
}

/// Bytes of a stream that came otherwise than with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// The stream.
    pub stream: StreamId,
    /// Of the first byte.
    pub offset: Offset,
    /// Where they are.
    pub at: Location,
}

/// A place that was on disk and does not say any more what it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    /// The segment.
    pub segment: SegmentId,
    /// The record in it.
    pub at: u32,
    /// Whose record it is, if that can still be told.
    pub group: Option<GroupId>,
}

/// Entries that should be there, and no damage explains why they are not: a segment is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) group: GroupId,
    pub(crate) index: u64,
}

/// The records read so far.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    groups: BTreeMap<GroupId, Group>,
    /// Who was heard of in each life of each writer, and whether something in it is lost.
    lives: BTreeMap<(u64, u32), Life>,
    life: (u64, u32),
    segment: SegmentId,
    damage: Vec<Damage>,
    /// What each segment says of each group.
    notes: BTreeMap<(SegmentId, GroupId), Note>,
}

#[derive(Debug, Default)]
struct Life {
    seen: BTreeSet<GroupId>,
    lost: Option<Damage>,
}

/// All that a replay found.
pub(crate) struct Outcome {
    pub(crate) recovered: Recovered,
    pub(crate) logs: BTreeMap<GroupId, GroupLog>,
    pub(crate) notes: BTreeMap<(SegmentId, GroupId), Note>,
}

impl Replay {
    /// The items that follow are of this segment; older ones come first.
    pub(crate) fn begin(&mut self, header: &segment::Header) {
        self.segment = header.id;
        self.life = (header.salt, header.writer);
    }

    pub(crate) fn item(&mut self, item: Item<'_>) {
        match item {
            Item::Record { at, header, payload } => self.record(at, &header, Some(payload)),
            Item::BadPayload { at, header } => {
                self.damage.push(Damage { segment: self.segment, at, group: Some(header.group) });
                self.record(at, &header, None);
            }
            Item::Lost { at } => self.lost(Damage { segment: self.segment, at, group: None }),
        }
    }

    /// Nobody can tell whose records these were: any group that may have been with this writer is damaged.
    fn lost(&mut self, damage: Damage) {
        self.damage.push(damage);
        let elsewhere = |group: &GroupId| {
            let others = self.lives.iter().filter(|((salt, _), _)| *salt == self.life.0);
            let with = |writer: bool| {
                others.clone().any(|(life, known)| (*life == self.life) == writer && known.seen.contains(group))
            };
            with(false) && !with(true)
        };
        let hit: Vec<GroupId> = self.groups.keys().copied().filter(|group| !elsewhere(group)).collect();
        for group in hit {
            self.groups.entry(group).or_default().lose(damage);
        }
        self.lives.entry(self.life).or_default().lost = Some(damage);
    }

    fn record(&mut self, at: u32, header: &Header, payload: Option<&[u8]>) {
        if matches!(header.kind, Kind::Mark | Kind::Seal) {
            return;
        }
        let place = Location { segment: self.segment, at: at + HEADER_BYTES, len: header.len };
        let damage = Damage { segment: self.segment, at, group: Some(header.group) };
        let life = self.lives.entry(self.life).or_default();
        let group = self.groups.entry(header.group).or_default();
        if life.seen.insert(header.group)
            && let Some(lost) = life.lost
        {
            group.lose(lost);
        }
        let note = self.notes.entry((self.segment, header.group)).or_default();
        note.forgotten = false;
        let index = header.index;
        match (header.kind, payload) {
            (Kind::Entry, payload) => {
                group.entry(index, place, payload.is_none(), damage);
                note.last = note.last.max(Some(index));
            }
            (Kind::Slice, _) => {
                let (stream, offset) = (StreamId(header.extra), Offset(index));
                group.slices.push(Slice { stream, offset, at: place });
            }
            (Kind::Truncate, _) => {
                group.truncate(index);
                note.truncate(index);
            }
            (Kind::Forget, _) => {
                *group = Group::forgotten();
                *note = Note::forgotten();
            }
            (Kind::State, Some(payload)) => {
                let Some(log) = GroupLog::decode(index, header.extra, payload) else { return group.lose(damage) };
                note.reset |= log.since > group.since;
                note.purged = note.purged.max(log.facts.purged.as_ref().map(|(index, _)| *index));
                group.state(log);
            }
            (Kind::State, None) => group.lose(damage),
            (kind @ (Kind::Vote | Kind::Committed | Kind::Purged), payload) => {
                group.put(kind, index, payload, damage);
                if kind == Kind::Purged {
                    note.purged = note.purged.max(Some(index));
                }
            }
            (Kind::Mark | Kind::Seal, _) => {}
        }
    }

    /// Everything was read.
    pub(crate) fn finish(self) -> Result<Outcome, Gap> {
        let mut recovered = Recovered { damage: self.damage, ..Recovered::default() };
        let mut logs = BTreeMap::new();
        for (id, group) in self.groups.into_iter().filter(|(_, group)| !group.forgotten) {
            logs.insert(id, group.log());
            recovered.groups.insert(id, group.finish().map_err(|index| Gap { group: id, index })?);
        }
        Ok(Outcome { recovered, logs, notes: self.notes })
    }
}
