//! What a group wants remembered beside its entries: the latest of each kind counts. Payloads are opaque.

/// The longest payload of a fact.
pub const FACT_BYTES_MAX: usize = 512;

/// A kind of fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// Term and vote.
    Vote,
    /// How far the log is known to be committed.
    Committed,
    /// Entries up to and including `index` are not needed any more.
    Purged {
        /// The last entry that is not needed.
        index: u64,
    },
}

/// The latest facts of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) vote: Option<Vec<u8>>,
    pub(crate) committed: Option<Vec<u8>>,
    pub(crate) purged: Option<(u64, Vec<u8>)>,
}

impl Facts {
    pub(crate) fn put(&mut self, fact: Fact, payload: &[u8]) {
        match fact {
            Fact::Vote => replace(&mut self.vote, payload),
            Fact::Committed => replace(&mut self.committed, payload),
            Fact::Purged { index } => {
                let mut bytes = self.purged.take().map(|(_, bytes)| bytes);
                replace(&mut bytes, payload);
                self.purged = bytes.map(|bytes| (index, bytes));
            }
        }
    }
}

/// Replaced in place: facts change with nearly every batch.
fn replace(slot: &mut Option<Vec<u8>>, payload: &[u8]) {
    let bytes = slot.get_or_insert_default();
    bytes.clear();
    bytes.extend_from_slice(payload);
}
