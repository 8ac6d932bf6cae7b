//! Where a stream begins that loses its beginning: because a client trims it, or because of its retention. Of each place that
//! anybody is told, this says whether the stream can begin there.

use crate::ledger::{Ledger, Since};
use crate::violation::{Lie, Violation};

/// What lets a stream lose its beginning by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// It keeps so many bytes, and a little more.
    pub bytes: Option<u64>,
    /// It keeps what is not older than so many seconds. Clocks leap, so anything may go at any time.
    pub seconds: Option<u64>,
    /// It begins at its newest snapshot.
    pub snapshot: bool,
}

/// A stream keeps up to so small a part more than its bytes.
const PART: u64 = 32;

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Beginning {
    limits: Limits,
    /// Here or later: that was acknowledged, or told for certain.
    certain: u64,
    /// Here or later: that was acknowledged.
    promised: u64,
    /// Clients asked that it begins here.
    asked: u64,
    /// It may begin here, also because of a snapshot.
    possible: u64,
    /// The largest record.
    record_max: u64,
}

impl Beginning {
    pub(super) fn certain(&self) -> u64 {
        self.certain
    }

    /// Where clients asked it to begin.
    pub(super) fn asked(&self) -> u64 {
        self.asked
    }

    /// It may begin here.
    pub(super) fn may_be(&mut self, at: u64) {
        self.possible = self.possible.max(at);
    }

    /// The latest place where it may begin, if its tail is not behind `tail`.
    fn latest(&self, tail: u64) -> u64 {
        let Limits { bytes, seconds, snapshot: _ } = self.limits;
        let by_bytes = bytes.map_or(0, |bytes| tail.saturating_sub(bytes));
        if seconds.is_some() { tail } else { self.possible.max(by_bytes) }
    }

    fn promise(&mut self, at: u64) {
        self.promised = self.promised.max(at);
        self.certain = self.certain.max(at);
    }

    /// It grew to `tail` by a record.
    pub(super) fn grown(&mut self, tail: u64, record: u64) {
        self.record_max = self.record_max.max(record);
        if let Some(bytes) = self.limits.bytes {
            let kept = bytes + bytes / PART + 2 * self.record_max;
            self.promise(tail.saturating_sub(kept));
        }
    }
}

impl Ledger {
    /// The same with limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Ledger {
        self.beginning.limits = limits;
        self
    }

    /// What lets it lose its beginning.
    pub fn limits(&self) -> Limits {
        self.beginning.limits
    }

    /// What a fork at `at` finds: it begins where its source does at that moment, and loses more by itself.
    pub(super) fn beginning_of_fork(&self, at: u64) -> Beginning {
        let Beginning { limits, certain, .. } = self.beginning;
        // How much of what it inherits counts for its bytes is told by no mark.
        let possible = self.latest_beginning().min(at);
        Beginning { limits, certain, promised: 0, asked: possible, possible, record_max: at }
    }

    /// Nobody can be told that it begins behind this.
    pub fn latest_beginning(&self) -> u64 {
        self.beginning.latest(self.known)
    }

    /// Somebody asks that it begins at `to`.
    pub fn trim_sent(&mut self, to: u64) -> Since {
        self.beginning.asked = self.beginning.asked.max(to);
        self.beginning.may_be(to);
        self.since()
    }

    /// That was acknowledged: it begins at `at` now.
    ///
    /// # Errors
    /// If it cannot.
    pub fn trimmed(&mut self, since: Since, to: u64, at: u64) -> Result<(), Violation> {
        if at < to {
            return Err(Violation::new(Lie::Returned, format!("trimmed to {to}, and it begins at {at}")));
        }
        self.begins(since, at)?;
        self.beginning.promise(at);
        Ok(())
    }

    /// Somebody was told for certain that it begins at `at`.
    ///
    /// # Errors
    /// If it cannot, or what was gone is there again.
    pub fn begins(&mut self, since: Since, at: u64) -> Result<(), Violation> {
        if at < since.earliest {
            let text = format!("it begins at {at}, but had lost all before {}", since.earliest);
            return Err(Violation::new(Lie::Returned, text));
        }
        self.may_begin(at)?;
        if self.beginning.limits.seconds.is_none() {
            self.beginning.certain = self.beginning.certain.max(at);
        }
        Ok(())
    }

    /// A reader that asked for what is at `from` was told that it begins at `at`.
    ///
    /// # Errors
    /// If it cannot.
    pub fn gone(&mut self, since: Since, from: u64, at: u64) -> Result<(), Violation> {
        if at <= from {
            return Err(Violation::new(Lie::Lost, format!("{from} is gone, where it begins at {at}")));
        }
        self.begins(since, at)
    }

    fn may_begin(&self, at: u64) -> Result<(), Violation> {
        let latest = self.latest_beginning();
        if at > latest {
            return Err(Violation::new(Lie::Lost, format!("it begins at {at}, and may not behind {latest}")));
        }
        if at < self.settled_end() && self.start(self.settled.partition_point(|claim| claim.end <= at)) != at {
            return Err(Violation::new(Lie::Gap, format!("it begins at {at}, within a record")));
        }
        Ok(())
    }

    /// It was restored and begins at `at`; if it is `whole`, with all that was acknowledged.
    pub(super) fn begin_again(&mut self, at: u64, whole: bool) -> Result<(), Violation> {
        if whole && at < self.beginning.promised {
            let text = format!("restored from {at} on, but had lost all before {}", self.beginning.promised);
            return Err(Violation::new(Lie::Returned, text));
        }
        self.may_begin(at)?;
        // Marks of a retention may be of less than there was.
        self.beginning.promised = 0;
        self.beginning.certain = if self.beginning.limits.seconds.is_none() { at } else { 0 };
        Ok(())
    }
}
