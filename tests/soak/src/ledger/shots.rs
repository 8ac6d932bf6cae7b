//! The snapshots of one stream, by everything that was said of them. One client publishes and removes them, one after the
//! other, so there is an order of states; what a reader is shown is one of those between the last that was certain when it
//! asked and the last that was sent when it was answered.

use crate::ledger::{Ledger, Since};
use crate::record::{Format, Record, Tag};
use crate::violation::{Lie, Violation};

/// One snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shot {
    /// Where.
    pub at: u64,
    /// Which of the stream.
    pub number: u32,
}

/// Whose record snapshots are made of.
const WRITER: u16 = u16::MAX;
/// They have as many of it as make no more bytes: memory may be small where this is used.
const BYTES_MAX: usize = 8 << 10;

impl Shot {
    /// Its bytes.
    pub fn content(self, tag: Tag) -> Vec<u8> {
        let body = Record { tag, writer: WRITER, seq: self.number }.body(Format::Text);
        let times_max = (BYTES_MAX / body.len()).max(1);
        body.repeat(1 + self.number as usize * 7 % times_max)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shots {
    /// The states that were sent and may have been, the oldest first.
    states: Vec<Option<Shot>>,
    /// The last that is certain: it was acknowledged, or shown.
    certain: usize,
    /// The last that was acknowledged.
    promised: usize,
    removed: bool,
}

impl Default for Shots {
    fn default() -> Shots {
        Shots { states: vec![None], certain: 0, promised: 0, removed: false }
    }
}

impl Shots {
    pub(super) fn certain(&self) -> usize {
        self.certain
    }

    /// After a loss: any of them, or if it is `whole`, none before the one that was acknowledged.
    pub(super) fn begin_again(&mut self, whole: bool) {
        self.certain = if whole { self.promised } else { 0 };
    }
}

impl Ledger {
    /// The snapshot that was published last. For whoever publishes them.
    pub fn newest_shot(&self) -> Option<Shot> {
        self.shots.states.last().copied().flatten()
    }

    /// Somebody publishes a snapshot, or removes it; nobody else does until it is certain what became of that.
    pub fn shot_sent(&mut self, shot: Option<Shot>) -> Since {
        self.shots.states.push(shot);
        self.shots.removed |= shot.is_none();
        if let Some(shot) = shot.filter(|_| self.limits().snapshot) {
            self.beginning.may_be(shot.at);
        }
        self.since()
    }

    /// That was acknowledged.
    pub fn shot_done(&mut self) {
        let last = self.shots.states.len() - 1;
        (self.shots.certain, self.shots.promised) = (last, last);
    }

    /// A reader was shown this snapshot, or told that there is none. It may read as none if the stream begins behind it.
    ///
    /// # Errors
    /// If it is not the newest.
    pub fn shown_shot(&mut self, since: Since, shown: Option<(u64, &[u8])>) -> Result<(), Violation> {
        let (begins, tag) = (self.latest_beginning(), self.tag);
        let is_shown = |state: &Option<Shot>| match (state, shown) {
            (Some(shot), Some((at, body))) => shot.at == at && shot.content(tag) == body,
            (Some(shot), None) => shot.at < begins,
            (None, shown) => shown.is_none(),
        };
        let what = || shown.map_or("no snapshot".to_owned(), |(at, body)| format!("{} bytes at {at}", body.len()));
        self.found_shot(since, is_shown, shown.map(|(at, _)| at), what)
    }

    /// A reader was told where the newest snapshot is.
    ///
    /// # Errors
    /// If it is not.
    pub fn told_shot(&mut self, since: Since, told: Option<u64>) -> Result<(), Violation> {
        self.found_shot(since, |state| state.map(|shot| shot.at) == told, told, || format!("a snapshot at {told:?}"))
    }

    fn found_shot(
        &mut self,
        since: Since,
        is_it: impl Fn(&Option<Shot>) -> bool,
        at: Option<u64>,
        what: impl Fn() -> String,
    ) -> Result<(), Violation> {
        let Shots { states, certain, .. } = &mut self.shots;
        if let Some(found) = states[since.shots..].iter().position(&is_it) {
            *certain = (since.shots + found).max(*certain);
            return Ok(());
        }
        let newest = states[since.shots..].iter().collect::<Vec<_>>();
        let text = format!("{}, where there could be {newest:?}", what());
        let lie = match at {
            _ if states[..since.shots].iter().any(is_it) => Lie::Stale,
            None => Lie::Lost,
            Some(at) if states.iter().flatten().any(|shot| shot.at == at) => Lie::Damaged,
            Some(_) => Lie::Invented,
        };
        Err(Violation::new(lie, text))
    }

    /// The stream was restored and begins at `begins`: what let it begin there has to be there too.
    ///
    /// # Errors
    /// If there is no snapshot to read on from.
    pub fn begins_at_shot(&self, begins: u64, at: Option<u64>) -> Result<(), Violation> {
        let is_needed = self.limits().snapshot && !self.shots.removed && begins > self.beginning.asked();
        if is_needed && at.is_none_or(|at| at < begins) {
            let text = format!("it begins at {begins}, and its snapshot is at {at:?}");
            return Err(Violation::new(Lie::Lost, text));
        }
        Ok(())
    }
}
