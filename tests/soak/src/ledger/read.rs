//! Judges what readers are told: pages, events, tails.

use crate::ledger::{Claim, Ledger, Since};
use crate::record::Record;
use crate::violation::{Lie, Violation};

/// One answer with bytes.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// The place that was asked for.
    pub from: u64,
    /// The bytes, as the format shows them.
    pub payload: &'a [u8],
    /// Where the answer says that it ends.
    pub next: u64,
    /// It says that there is no more.
    pub up_to_date: bool,
    /// It says that there never will be.
    pub closed: bool,
}

impl Ledger {
    /// A page or an event was shown.
    ///
    /// # Errors
    /// If it contradicts what is known.
    pub fn page(&mut self, since: Since, page: Page<'_>) -> Result<(), Violation> {
        let Page { from, payload, next, up_to_date, closed } = page;
        let place = |violation: Violation| violation.seen(format!("a page from {from}"));
        let records = self.format.split(payload).map_err(|text| place(Violation::new(Lie::Damaged, text)))?;
        let bytes: u64 = records.iter().map(|(_, bytes)| bytes).sum();
        let mut at = from;
        for (index, (record, bytes)) in records.iter().enumerate() {
            self.shown(at, *record, *bytes, &records[index + 1..]).map_err(place)?;
            at += bytes;
        }
        if from + bytes != next {
            let text = format!("{bytes} bytes from {from}, but the next offset is {next}");
            return Err(place(Violation::new(Lie::Gap, text)));
        }
        if up_to_date {
            self.known_tail(since, next, closed).map_err(place)
        } else if closed {
            Err(place(Violation::new(Lie::Unexpected, "the end of a stream that is not up to date")))
        } else {
            self.not_after_the_end(next).map_err(place)
        }
    }

    /// A tail was told, by an answer that speaks for the whole stream.
    ///
    /// # Errors
    /// If it goes back, lies within a record, or contradicts a close.
    pub fn known_tail(&mut self, since: Since, tail: u64, closed: bool) -> Result<(), Violation> {
        if tail < since.tail {
            return Err(Violation::new(Lie::Stale, format!("the tail is {tail}, but was {} before", since.tail)));
        }
        if since.closed && !closed {
            return Err(Violation::new(Lie::Stale, format!("open at {tail}, but it was closed before")));
        }
        if tail < self.settled_end() {
            let index = self.settled.partition_point(|claim| claim.end <= tail);
            if self.start(index) != tail {
                return Err(Violation::new(Lie::Gap, format!("the tail {tail} lies within a record")));
            }
        }
        if closed {
            return self.end_at(tail);
        }
        self.not_after_the_end(tail)?;
        self.known = self.known.max(tail);
        Ok(())
    }

    fn not_after_the_end(&self, next: u64) -> Result<(), Violation> {
        match self.closed_at {
            Some(closed) if next > closed => {
                Err(Violation::new(Lie::AfterClose, format!("bytes until {next}, but it was closed at {closed}")))
            }
            _ => Ok(()),
        }
    }

    /// A record was shown at `at`.
    fn shown(&mut self, at: u64, record: Record, bytes: u64, later: &[(Record, u64)]) -> Result<(), Violation> {
        let tag = self.tag_at(at);
        if record.tag != tag {
            let text =
                format!("at {at} is {record}, but what is there was written to {}.{}", tag.stream, tag.incarnation);
            return Err(Violation::new(Lie::Invented, text));
        }
        let Record { writer, seq, .. } = record;
        self.claim(at, Claim { end: at + bytes, seq, writer, acked: false, seen: true }, later)
    }
}
