//! What the log knows of one group, and how a segment restates it: in one record, so that a crash leaves it whole or
//! not at all. Does no I/O.

use crate::fact::{FACT_BYTES_MAX, Facts};
use crate::record;
use crate::segment::SegmentId;

/// Bytes before the facts.
const FIXED_BYTES: usize = 36;
/// The longest payload.
pub(crate) const STATE_BYTES_MAX: usize = FIXED_BYTES + 3 * FACT_BYTES_MAX;
/// The length of a fact that there is not.
const NONE: u16 = u16::MAX;

/// A group as its latest record leaves it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupLog {
    /// Everything about the group in segments before this one is void: it was another replica.
    pub(crate) since: SegmentId,
    /// Entries are `first..next`. These two are in the header of the record.
    pub(crate) first: u64,
    pub(crate) next: u64,
    /// The payload of the last entry; zeros if there is none, or its place is not known.
    pub(crate) last: (SegmentId, u32),
    pub(crate) facts: Facts,
}

impl GroupLog {
    /// The payload of its record.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Facts { vote, committed, purged } = &self.facts;
        let (purged, payload) = purged.as_ref().map_or((0, None), |(index, payload)| (*index, Some(payload)));
        let facts = [vote.as_ref(), committed.as_ref(), payload];
        let mut bytes = Vec::with_capacity(STATE_BYTES_MAX);
        bytes.extend_from_slice(&self.since.0.to_le_bytes());
        bytes.extend_from_slice(&self.last.0.0.to_le_bytes());
        bytes.extend_from_slice(&self.last.1.to_le_bytes());
        bytes.extend_from_slice(&purged.to_le_bytes());
        for fact in facts {
            // A fact is much shorter than what a u16 can say.
            let len = fact.map_or(NONE, |fact| fact.len() as u16);
            bytes.extend_from_slice(&len.to_le_bytes());
        }
        bytes.extend_from_slice(&[0; 2]);
        facts.into_iter().flatten().for_each(|fact| bytes.extend_from_slice(fact));
        bytes
    }

    /// `None` if no such group was ever encoded.
    pub(crate) fn decode(first: u64, next: u64, payload: &[u8]) -> Option<GroupLog> {
        let (fixed, mut rest) = payload.split_first_chunk::<FIXED_BYTES>()?;
        let u16_at = |at: usize| u16::from_le_bytes([fixed[at], fixed[at + 1]]);
        let u64_at = |at: usize| record::u64_at(fixed, at);
        let mut fact = |at: usize| -> Option<Option<Vec<u8>>> {
            let len = u16_at(at);
            if len == NONE {
                return Some(None);
            }
            let (bytes, after) = rest.split_at_checked(len.into())?;
            rest = after;
            Some(Some(bytes.to_vec()))
        };
        let (vote, committed, purged) = (fact(28)?, fact(30)?, fact(32)?);
        let last = (SegmentId(u64_at(8)), record::u32_at(fixed, 16));
        let facts = Facts { vote, committed, purged: purged.map(|payload| (u64_at(20), payload)) };
        let log = GroupLog { since: SegmentId(u64_at(0)), first, next, last, facts };
        (rest.is_empty() && first <= next).then_some(log)
    }
}

#[cfg(test)]
mod tests;
