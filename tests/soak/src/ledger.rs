//! What one incarnation of a stream holds, by everything that was said about it: judges each answer as it comes.
//!
//! An acknowledgement carries the tail after the append, so it says where the record lies, and a page says the same of
//! each of its records. Both are claims on bytes; the first claim on a byte stands, and whatever contradicts it later is
//! a lie. Claims without a gap from the start on are kept in 16 bytes each, so memory follows the number of records in
//! the streams of a moment, not what passed through the server. Does no I/O and knows no clock: what must have
//! been visible to a request is what was claimed before it began.

mod back;
mod beginning;
mod read;
mod shots;

use std::collections::{BTreeMap, BTreeSet};

pub use back::Restored;
pub use beginning::Limits;
pub use read::Page;
pub use shots::Shot;

use crate::record::{Format, Record, Tag};
use crate::violation::{Lie, Violation};
use beginning::Beginning;
use shots::Shots;

/// What was known when a request began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Since {
    /// The tail was at least here.
    pub tail: u64,
    /// The stream was closed.
    pub closed: bool,
    /// It began at least here.
    pub earliest: u64,
    /// Which of the states of its snapshots was certain.
    pub shots: usize,
}

/// One claim; it begins where the one before ends.
#[derive(Debug, Clone, Copy)]
struct Claim {
    end: u64,
    seq: u32,
    writer: u16,
    /// Acknowledged to its writer.
    acked: bool,
    /// Shown to a reader.
    seen: bool,
}

impl Claim {
    fn is(&self, record: Record) -> bool {
        (self.writer, self.seq) == (record.writer, record.seq)
    }
}

/// What one writer did to the stream.
#[derive(Debug, Default)]
struct Writer {
    /// The last record that it sent.
    sent: Option<u32>,
    /// The highest record that has its place.
    placed: Option<u32>,
    /// Records without a place, whose writer heard nothing certain: they may come late, or never.
    unknown: BTreeSet<u32>,
    /// The last record that was refused, and why: for messages.
    refused: Option<(u32, String)>,
}

/// The judge of one incarnation of a stream.
#[derive(Debug)]
pub struct Ledger {
    tag: Tag,
    format: Format,
    /// What a fork shows of its sources: up to where, and whose records.
    inherited: Vec<(u64, Tag)>,
    /// Claims without a gap, from the start on.
    settled: Vec<Claim>,
    /// Claims beyond a gap, by their start.
    ahead: BTreeMap<u64, Claim>,
    writers: BTreeMap<u16, Writer>,
    /// Acknowledged as sent before, which does not say where they lie.
    unplaced: BTreeSet<(u16, u32)>,
    /// The highest tail of which anybody heard.
    known: u64,
    close_sent: bool,
    closed_at: Option<u64>,
    beginning: Beginning,
    shots: Shots,
    /// What its writers were told of the tail, and of its end: in a bucket whose ops are acknowledged when they are offloaded a
    /// promise for whatever happens.
    promised: Promised,
}

/// What writers were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Promised {
    /// The tail was at least here.
    pub tail: u64,
    /// It was closed.
    pub closed: bool,
}

impl Ledger {
    /// Of a new, empty stream.
    pub fn new(tag: Tag, format: Format) -> Ledger {
        Ledger {
            tag,
            format,
            inherited: Vec::new(),
            settled: Vec::new(),
            ahead: BTreeMap::new(),
            writers: BTreeMap::new(),
            unplaced: BTreeSet::new(),
            known: 0,
            close_sent: false,
            closed_at: None,
            beginning: Beginning::default(),
            shots: Shots::default(),
            promised: Promised::default(),
        }
    }

    /// Of a new fork at `at`, which is a boundary of `source`; see [`Ledger::boundary`].
    ///
    /// # Panics
    /// If it is not.
    pub fn fork(source: &Ledger, tag: Tag, at: u64) -> Ledger {
        let count = source.settled.partition_point(|claim| claim.end <= at);
        assert_eq!(source.start(count), at, "a fork begins at a boundary");
        let mut inherited: Vec<_> = source.inherited.iter().copied().filter(|(end, _)| *end < at).collect();
        inherited.push((at, source.tag_at(at.saturating_sub(1))));
        let settled = source.settled[..count].to_vec();
        let beginning = source.beginning_of_fork(at);
        Ledger { inherited, settled, known: at, beginning, ..Ledger::new(tag, source.format) }
    }

    /// How it is stored and shown.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whose it is.
    pub fn tag(&self) -> Tag {
        self.tag
    }

    /// How many records have their place.
    pub fn records(&self) -> usize {
        self.settled.len()
    }

    /// The place after record number `count`, or after the last one.
    pub fn boundary(&self, count: usize) -> u64 {
        self.start(count.min(self.settled.len()))
    }

    /// How many records end at `at` or before.
    pub fn records_until(&self, at: u64) -> usize {
        self.settled.partition_point(|claim| claim.end <= at)
    }

    /// To be asked when a request begins.
    pub fn since(&self) -> Since {
        let (earliest, shots) = (self.beginning.certain(), self.shots.certain());
        Since { tail: self.known, closed: self.closed_at.is_some(), earliest, shots }
    }

    /// A writer sends a record; the same again counts as one.
    pub fn sent(&mut self, writer: u16, seq: u32) -> Since {
        let sent = &mut self.writers.entry(writer).or_default().sent;
        *sent = (*sent).max(Some(seq));
        self.since()
    }

    /// An append was acknowledged: the tail is `end` after it. `expected` is the tail that it asked for.
    ///
    /// # Errors
    /// If that cannot be.
    pub fn acked(&mut self, since: Since, record: Record, end: u64, expected: Option<u64>) -> Result<(), Violation> {
        let start = end.checked_sub(record.stored_bytes(self.format));
        let start = start.ok_or_else(|| Violation::new(Lie::Gap, format!("{record} ends at {end}")))?;
        if expected.is_some_and(|expected| expected != start) {
            return Err(Violation::new(Lie::Gap, format!("{record} was to begin at {expected:?}, not {start}")));
        }
        if let Some(closed) = self.closed_at.filter(|closed| end > *closed) {
            return Err(Violation::new(Lie::AfterClose, format!("{record} ends at {end}, the stream at {closed}")));
        }
        let (writer, seq) = (record.writer, record.seq);
        self.claim(start, Claim { end, seq, writer, acked: true, seen: false }, &[])?;
        if start < since.tail {
            let text = format!("{record} was put at {start} when the tail had been {}", since.tail);
            return Err(Violation::new(Lie::RolledBack, text));
        }
        self.promised.tail = self.promised.tail.max(end);
        self.beginning.grown(end, end - start);
        Ok(())
    }

    /// An append was acknowledged as one that had been applied before; the tail is `tail` now.
    ///
    /// # Errors
    /// If that cannot be.
    pub fn acked_again(&mut self, since: Since, record: Record, tail: u64) -> Result<(), Violation> {
        self.told_tail(since, tail)?;
        if !self.has(record.writer, record.seq) {
            self.unplaced.insert((record.writer, record.seq));
        }
        Ok(())
    }

    /// A writer was told the tail, and nothing of a close.
    ///
    /// # Errors
    /// If it goes back.
    pub fn told_tail(&mut self, since: Since, tail: u64) -> Result<(), Violation> {
        if tail < since.tail {
            return Err(Violation::new(Lie::Stale, format!("the tail is {tail}, but was {} before", since.tail)));
        }
        self.known = self.known.max(tail);
        self.promised.tail = self.promised.tail.max(tail);
        Ok(())
    }

    /// Whether nobody has sent a close.
    pub fn is_open(&self) -> bool {
        !self.close_sent
    }

    /// A writer heard nothing certain of a record, and will not send it again.
    pub fn unknown(&mut self, writer: u16, seq: u32) {
        if !self.has(writer, seq) {
            self.writers.entry(writer).or_default().unknown.insert(seq);
        }
    }

    /// A writer was told that a record was certainly not appended, and may send it again.
    pub fn refused(&mut self, writer: u16, seq: u32, reason: &str) {
        self.writers.entry(writer).or_default().refused = Some((seq, reason.to_owned()));
    }

    /// Somebody sends a close.
    pub fn close_sent(&mut self) {
        self.close_sent = true;
    }

    /// A close was acknowledged: the tail is `at` for ever.
    ///
    /// # Errors
    /// If that cannot be.
    pub fn closed(&mut self, since: Since, at: u64) -> Result<(), Violation> {
        if at < since.tail {
            let text = format!("closed at {at} when the tail had been {}", since.tail);
            return Err(Violation::new(Lie::Stale, text));
        }
        self.promised = Promised { tail: self.promised.tail.max(at), closed: true };
        self.end_at(at)
    }

    /// All of it was read after all its writers had stopped: from where it begins up to `tail`.
    ///
    /// # Errors
    /// If something that was acknowledged or seen has not come.
    pub fn finish(&self, begin: u64, tail: u64) -> Result<(), Violation> {
        if let Some((writer, seq)) = self.unplaced.first() {
            let text = format!("record {seq} of writer {writer} was acknowledged as sent before, and is not there");
            return Err(Violation::new(Lie::Lost, text));
        }
        if tail < self.known {
            let all = self.settled.iter().chain(self.ahead.values());
            let gone: Vec<&Claim> = all.filter(|claim| claim.end > tail).collect();
            let lie = if gone.iter().any(|claim| claim.seen) { Lie::RolledBack } else { Lie::Lost };
            let text = format!("the tail was {}, now it is {tail}; {} records are gone", self.known, gone.len());
            return Err(Violation::new(lie, text));
        }
        let unseen = self.settled.iter().chain(self.ahead.values()).find(|claim| claim.end > begin && !claim.seen);
        if let Some(claim) = unseen {
            let text = format!("record {} of writer {} was not shown", claim.seq, claim.writer);
            return Err(Violation::new(Lie::Lost, text));
        }
        Ok(())
    }

    /// Where the settled claim `index` begins; for the number of claims, where the next one would.
    fn start(&self, index: usize) -> u64 {
        index.checked_sub(1).map_or(0, |before| self.settled[before].end)
    }

    fn settled_end(&self) -> u64 {
        self.start(self.settled.len())
    }

    /// Whose records lie at a place.
    fn tag_at(&self, at: u64) -> Tag {
        self.inherited.iter().find(|(end, _)| at < *end).map_or(self.tag, |(_, tag)| *tag)
    }

    fn inherited_records(&self) -> usize {
        let end = self.inherited.last().map_or(0, |(end, _)| *end);
        self.settled.partition_point(|claim| claim.end <= end)
    }

    /// Whether a record of this stream has its place. Looks at all only where something is wrong or was unknown.
    fn has(&self, writer: u16, seq: u32) -> bool {
        let here = |claim: &Claim| (claim.writer, claim.seq) == (writer, seq);
        self.ahead.values().any(here) || self.settled[self.inherited_records()..].iter().rev().any(here)
    }

    /// Puts a claim on bytes. `later` are the records that the same page shows after it.
    fn claim(&mut self, start: u64, new: Claim, later: &[(Record, u64)]) -> Result<(), Violation> {
        let end = self.settled_end();
        if start < end {
            let index = self.settled.partition_point(|claim| claim.end <= start);
            let (begin, old) = (self.start(index), self.settled[index]);
            return match merge(&mut self.settled[index], begin, start, new) {
                true => Ok(()),
                false => Err(self.conflict(old, begin, start, new, later)),
            };
        }
        let before = self.ahead.range(..=start).next_back().map(|(start, claim)| (*start, *claim));
        let after = self.ahead.range(start + 1..).next().map(|(start, claim)| (*start, *claim));
        let overlapped = before.filter(|(_, claim)| claim.end > start).or(after.filter(|(begin, _)| *begin < new.end));
        match overlapped {
            Some((begin, mut old)) => {
                if !merge(&mut old, begin, start, new) {
                    return Err(self.conflict(old, begin, start, new, later));
                }
                self.ahead.insert(begin, old);
            }
            None => {
                self.ahead.insert(start, new);
            }
        }
        self.known = self.known.max(new.end);
        self.settle()
    }

    /// Takes claims over to those without a gap.
    fn settle(&mut self) -> Result<(), Violation> {
        let mut result = Ok(());
        while let Some(claim) = self.ahead.remove(&self.settled_end()) {
            result = result.and(self.in_order(claim));
            self.settled.push(claim);
        }
        result
    }

    /// Whether a claim comes in the order of its writer.
    fn in_order(&mut self, claim: Claim) -> Result<(), Violation> {
        let Claim { writer, seq, .. } = claim;
        let record = Record { tag: self.tag, writer, seq };
        self.unplaced.remove(&(writer, seq));
        let state = self.writers.entry(writer).or_default();
        if state.sent.is_none_or(|sent| seq > sent) {
            return Err(Violation::new(Lie::Invented, format!("nobody has sent {record}")));
        }
        let was_unknown = state.unknown.remove(&seq);
        if state.placed.is_none_or(|placed| placed < seq) {
            state.placed = Some(seq);
            return Ok(());
        }
        let placed = state.placed;
        let refused = state.refused.as_ref().filter(|(refused, _)| *refused == seq).map(|(_, reason)| reason.clone());
        if self.settled[self.inherited_records()..].iter().any(|claim| claim.is(record)) {
            let text = format!("{record} is there twice, again at {}; refused: {refused:?}", self.settled_end());
            return Err(Violation::new(Lie::Twice, text));
        }
        if was_unknown {
            // Nothing bounds how late it may be applied.
            return Ok(());
        }
        Err(Violation::new(Lie::Reordered, format!("{record} comes after record {placed:?} of the same writer")))
    }

    /// `new` at `start` contradicts `old`, which begins at `begin`.
    fn conflict(&self, old: Claim, begin: u64, start: u64, new: Claim, later: &[(Record, u64)]) -> Violation {
        let name = |claim: Claim| format!("record {} of writer {} until {}", claim.seq, claim.writer, claim.end);
        let text = format!("at {start} is {}, where at {begin} was {}", name(new), name(old));
        let before = self.settled.iter().take_while(|claim| claim.end <= start);
        let mut before = before.chain(self.ahead.range(..start).map(|(_, claim)| claim));
        let lie = if begin != start && !new.seen {
            Lie::Gap
        } else if before.any(|claim| (claim.writer, claim.seq) == (new.writer, new.seq)) {
            Lie::Twice
        } else if later.iter().any(|(record, _)| old.is(*record)) {
            Lie::Reordered
        } else if old.seen {
            Lie::RolledBack
        } else {
            Lie::Lost
        };
        Violation::new(lie, text)
    }

    /// The stream ends at `at`.
    fn end_at(&mut self, at: u64) -> Result<(), Violation> {
        if !self.close_sent {
            return Err(Violation::new(Lie::Invented, format!("closed at {at}, and nobody has sent a close")));
        }
        let last = self.ahead.values().next_back().map_or(self.settled_end(), |claim| claim.end).max(self.known);
        if last > at || self.closed_at.is_some_and(|closed| closed != at) {
            let text = format!("closed at {at}, but also known: the end at {:?}, a tail of {last}", self.closed_at);
            return Err(Violation::new(Lie::AfterClose, text));
        }
        self.closed_at = Some(at);
        self.known = at;
        Ok(())
    }
}

/// Adds what a claim says to one that stands, if both say the same.
fn merge(old: &mut Claim, begin: u64, start: u64, new: Claim) -> bool {
    let same = (begin, old.end, old.writer, old.seq) == (start, new.end, new.writer, new.seq);
    if same {
        old.acked |= new.acked;
        old.seen |= new.seen;
    }
    same
}

#[cfg(test)]
mod tests;
