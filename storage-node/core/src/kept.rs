//! What is kept of one stream: where it begins for its readers, from where on its forks need it, and what its retention
//! lets go. Only streams that were trimmed, or that have a retention, have this. Knows no commands.
//!
//! The state knows neither records nor their times, so a stream with a retention keeps marks: places where an append ended,
//! and when. Appends that follow each other closely share one, so there are few, and what goes is behind by as little as
//! one of them covers.

use std::collections::{BTreeMap, VecDeque};

use ursula_common::verb::Retention;
use ursula_common::{Millis, Offset};

/// Appends share a mark for this part of what is to be kept.
const PARTS: u64 = 32;
/// Marks of one stream: for each limit one for each part, and those that are begun or just over.
pub(crate) const MARKS_MAX: usize = 2 * (PARTS as usize + 2);

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Where readers of the stream find it to begin.
    pub(crate) earliest: Offset,
    pub(crate) retention: Retention,
    /// Oldest first, all of them behind `earliest`.
    pub(crate) marks: VecDeque<Mark>,
    /// Where the first append began that shares the last mark, and when.
    pub(crate) run: Mark,
    /// Packs know that what is before nobody needs any more: their newest record of the stream says so.
    pub(crate) told: Offset,
    /// How many forks need the stream from an offset on. Follows from the forks.
    needed: BTreeMap<Offset, usize>,
}

/// A place, and when it was the tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    pub(crate) at: Offset,
    pub(crate) time: Millis,
}

impl Kept {
    /// A stream that begins at `earliest`, and that forks need from these offsets on.
    pub(crate) fn new(earliest: Offset, retention: Retention, needed: impl Iterator<Item = Offset>) -> Kept {
        let mut kept = Kept {
            earliest,
            retention,
            marks: VecDeque::new(),
            run: Mark::default(),
            told: Offset::ZERO,
            needed: BTreeMap::new(),
        };
        kept.set_needed(needed);
        kept
    }

    /// Forks need it from these offsets on, and no other ones.
    pub(crate) fn set_needed(&mut self, needed: impl Iterator<Item = Offset>) {
        self.needed.clear();
        needed.for_each(|from| self.need(from));
    }

    /// Where it begins for whoever needs most of it.
    pub(crate) fn floor(&self) -> Offset {
        self.needed.first_key_value().map_or(self.earliest, |(from, _)| self.earliest.min(*from))
    }

    /// A fork needs it from here on.
    pub(crate) fn need(&mut self, from: Offset) {
        *self.needed.entry(from).or_default() += 1;
    }

    /// A fork that needed it from here on is gone.
    pub(crate) fn let_go(&mut self, from: Offset) {
        let Some(forks) = self.needed.get_mut(&from) else { return };
        *forks -= 1;
        if *forks == 0 {
            self.needed.remove(&from);
        }
    }

    /// Whether time and appends let some of it go.
    pub(crate) fn has_limits(&self) -> bool {
        self.retention.max_age.is_some() || self.retention.max_bytes.is_some()
    }

    /// Bytes from `at` to `tail` were appended.
    pub(crate) fn appended(&mut self, at: Offset, tail: Offset, now: Millis) {
        if !self.has_limits() {
            return;
        }
        let Retention { max_age, max_bytes, snapshot: _ } = self.retention;
        let Mark { at: began, time } = self.run;
        let is_over = max_age.is_some_and(|seconds| now.0.saturating_sub(time.0) >= (seconds * 1000).div_ceil(PARTS))
            || max_bytes.is_some_and(|bytes| at.0 - began.0 >= bytes.div_ceil(PARTS));
        let mark = Mark { at: tail, time: now };
        match self.marks.back_mut().filter(|_| !is_over) {
            Some(last) => *last = mark,
            None => {
                self.run = Mark { at, time: now };
                self.marks.push_back(mark);
            }
        }
    }

    /// Where it begins at this time: the retention may let more go than has gone yet.
    pub(crate) fn earliest_at(&self, tail: Offset, now: Millis) -> Offset {
        let is_over = |mark: &Mark| {
            self.over_at(mark).is_some_and(|at| at <= now)
                || self.retention.max_bytes.is_some_and(|bytes| tail.0 - mark.at.0 >= bytes)
        };
        let over = self.marks.partition_point(is_over);
        over.checked_sub(1).and_then(|last| self.marks.get(last)).map_or(self.earliest, |mark| mark.at)
    }

    /// When the next of it goes because of its age.
    pub(crate) fn due_at(&self) -> Option<Millis> {
        self.over_at(self.marks.front()?)
    }

    fn over_at(&self, mark: &Mark) -> Option<Millis> {
        self.retention.max_age.map(|seconds| Millis(mark.time.0.saturating_add(seconds * 1000)))
    }

    /// Lets it begin here, if it does not begin later.
    pub(crate) fn trim(&mut self, to: Offset) {
        self.earliest = self.earliest.max(to);
        let gone = self.marks.partition_point(|mark| mark.at <= self.earliest);
        self.marks.drain(..gone);
    }
}

#[cfg(test)]
mod tests;
