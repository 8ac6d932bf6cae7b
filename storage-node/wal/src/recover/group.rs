//! One group while its log is read back: its entries, with holes where some are missing. Does no I/O.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Damage, RecoveredGroup, Slice};
use crate::fact::{Fact, Facts};
use crate::record::{Kind, Location};
use crate::segment::SegmentId;
use crate::state::GroupLog;

/// An entry that is not there; no segment has the number 0.
const HOLE: Location = Location { segment: SegmentId(0), at: 0, len: 0 };

#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) since: SegmentId,
    first: u64,
    entries: VecDeque<Location>,
    /// Entries whose payloads are damaged.
    bad: Vec<(u64, Damage)>,
    facts: Facts,
    /// Facts whose latest payloads are damaged.
    bad_facts: Vec<(Kind, Damage)>,
    pub(super) slices: Vec<Slice>,
    /// Records that may have been about this group are lost.
    lost: Option<Damage>,
    pub(super) forgotten: bool,
}

impl Group {
    pub(super) fn forgotten() -> Group {
        Group { forgotten: true, ..Group::default() }
    }

    fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(super) fn lose(&mut self, damage: Damage) {
        self.lost = self.lost.max(Some(damage));
    }

    pub(super) fn entry(&mut self, index: u64, place: Location, bad: bool, damage: Damage) {
        self.forgotten = false;
        if index < self.first {
            return;
        }
        if self.next() == 0 && self.facts.purged.is_none() {
            self.first = index;
        }
        if index < self.next() {
            // A truncation came before this, and it is not there.
            self.lose(damage);
            self.truncate(index);
        } else if index > self.next() {
            // Entries or a purge came before this, and they are not there; it may be far.
            self.lose(damage);
            self.entries.clear();
            self.bad.clear();
            self.first = index;
        }
        self.entries.push_back(place);
        if bad {
            self.bad.push((index, damage));
        }
    }

    /// Entries from `next` on are void.
    pub(super) fn truncate(&mut self, next: u64) {
        let keep = next.saturating_sub(self.first);
        if keep < self.entries.len() as u64 {
            self.entries.truncate(keep as usize);
        }
        let purged = self.facts.purged.as_ref().map_or(0, |(index, _)| index + 1);
        if self.entries.is_empty() {
            self.first = self.first.min(next.max(purged));
        }
        self.bad.retain(|(index, _)| *index < next);
    }

    pub(super) fn put(&mut self, kind: Kind, index: u64, payload: Option<&[u8]>, damage: Damage) {
        self.forgotten = false;
        self.bad_facts.retain(|(bad, _)| *bad != kind);
        if payload.is_none() {
            self.bad_facts.push((kind, damage));
        }
        let fact = match kind {
            Kind::Vote => Fact::Vote,
            Kind::Committed => Fact::Committed,
            _ => Fact::Purged { index },
        };
        self.facts.put(fact, payload.unwrap_or_default());
        if kind == Kind::Purged {
            self.purge(index + 1);
        }
    }

    /// Entries before `first` are not needed.
    fn purge(&mut self, first: u64) {
        let gone = first.saturating_sub(self.first).min(self.entries.len() as u64);
        self.entries.drain(..gone as usize);
        self.first = self.first.max(first);
        self.bad.retain(|(index, _)| *index >= first);
    }

    /// The writer restates the group.
    pub(super) fn state(&mut self, log: GroupLog) {
        let GroupLog { since, first, next, last, facts } = log;
        self.forgotten = false;
        if since > self.since {
            *self = Group { since, lost: self.lost, ..Group::default() };
        }
        self.facts = facts;
        self.bad_facts.clear();
        self.truncate(next);
        if self.entries.is_empty() || self.first > first {
            self.entries.clear();
            self.first = first;
        }
        self.purge(first);
        self.entries.resize((next - first) as usize, HOLE);
        if let Some(entry) = self.entries.back_mut()
            && last.0 != HOLE.segment
            && (entry.segment, entry.at) != last
        {
            *entry = HOLE;
        }
        // What was lost cannot matter if all that counts came after it.
        let after = |lost: Damage| self.entries.iter().all(|entry| (entry.segment, entry.at) > (lost.segment, lost.at));
        if self.lost.is_some_and(after) {
            self.lost = None;
        }
    }

    /// What its next writer must know.
    pub(super) fn log(&self) -> GroupLog {
        let last = self.entries.back().map(|last| (last.segment, last.at)).unwrap_or_default();
        GroupLog { since: self.since, first: self.first, next: self.next(), last, facts: self.facts.clone() }
    }

    /// # Errors
    /// The index of an entry that is missing without a reason.
    pub(super) fn finish(self) -> Result<RecoveredGroup, u64> {
        let bad = self.bad.first().map(|(_, damage)| *damage);
        let bad_fact = self.bad_facts.first().map(|(_, damage)| *damage);
        let damage = self.lost.or(bad).or(bad_fact);
        let indexed = (self.first..).zip(self.entries);
        let hole = indexed.clone().find(|(_, entry)| *entry == HOLE).map(|(index, _)| index);
        if let (Some(index), None) = (hole, damage) {
            return Err(index);
        }
        let Facts { vote, committed, purged } = self.facts;
        Ok(RecoveredGroup {
            vote: vote.map(Bytes::from),
            committed: committed.map(Bytes::from),
            purged: purged.map(|(index, payload)| (index, Bytes::from(payload))),
            entries: indexed.take_while(|(_, entry)| *entry != HOLE).collect(),
            slices: self.slices,
            damage,
        })
    }
}
