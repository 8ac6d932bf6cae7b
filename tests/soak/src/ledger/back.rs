//! What a stream holds that was restored after its server had lost everything: its beginning, up to some record.

use crate::ledger::{Ledger, Promised};
use crate::violation::{Lie, Violation};

/// What a restore found of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Restored {
    /// Where it begins.
    pub begin: u64,
    /// Where it ends.
    pub tail: u64,
    /// Whether for ever.
    pub closed: bool,
}

impl Ledger {
    /// What its writers were told.
    pub fn promised(&self) -> Promised {
        self.promised
    }

    /// It begins and ends there now, and what was behind that is gone. What is left has to be shown again. If `whole`, nothing
    /// may be missing that was acknowledged.
    ///
    /// # Errors
    /// If it ends before `packed`, within a record, or not as it was closed.
    pub fn roll_back(&mut self, packed: u64, whole: bool, restored: Restored) -> Result<(), Violation> {
        let Restored { begin, tail, closed } = restored;
        let packed = packed.max(if whole { self.promised.tail } else { 0 });
        if tail < packed {
            return Err(Violation::new(Lie::Lost, format!("restored up to {tail}, and packs had it up to {packed}")));
        }
        if whole && self.promised.closed && !closed {
            return Err(Violation::new(Lie::Lost, "restored open, and a close was acknowledged"));
        }
        self.begin_again(begin, whole)?;
        self.shots.begin_again(whole);
        let count = self.settled.partition_point(|claim| claim.end <= tail);
        if tail < self.settled_end() && self.start(count) != tail {
            return Err(Violation::new(Lie::Gap, format!("restored up to {tail}, which lies within a record")));
        }
        if closed && !self.close_sent || self.closed_at.is_some_and(|at| tail > at || closed && tail != at) {
            let text = format!("restored up to {tail}, closed: {closed}; it was closed at {:?}", self.closed_at);
            return Err(Violation::new(Lie::AfterClose, text));
        }
        self.settled.truncate(count);
        self.ahead.retain(|_, claim| claim.end <= tail);
        self.settled.iter_mut().chain(self.ahead.values_mut()).for_each(|claim| claim.seen = false);
        self.unplaced.clear();
        (self.known, self.closed_at) = (tail, closed.then_some(tail));
        self.promised = Promised { tail, closed };
        let own = self.inherited_records();
        for (writer, state) in &mut self.writers {
            let placed = self.settled[own..].iter().filter(|claim| claim.writer == *writer);
            state.placed = placed.map(|claim| claim.seq).max();
        }
        Ok(())
    }

    /// Whether its beginning is that of another stream.
    pub fn is_fork(&self) -> bool {
        !self.inherited.is_empty()
    }

    /// The last record of a writer that has its place.
    pub fn last_of(&self, writer: u16) -> Option<u32> {
        self.writers.get(&writer)?.placed
    }
}
