//! What a stream holds that was restored after its server had lost everything: its beginning, up to some record.

use crate::ledger::Ledger;
use crate::violation::{Lie, Violation};

impl Ledger {
    /// It ends at `tail` now, and what was behind that is gone. What is left has to be shown again.
    ///
    /// # Errors
    /// If that is before `packed`, within a record, or not as it was closed.
    pub fn roll_back(&mut self, packed: u64, tail: u64, closed: bool) -> Result<(), Violation> {
        if tail < packed {
            return Err(Violation::new(Lie::Lost, format!("restored up to {tail}, and packs had it up to {packed}")));
        }
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
