//! A log in memory: what a group without a data directory has.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::rc::Rc;

use openraft::alias::{EntryOf, LogIdOf, VoteOf};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader};

use super::config::APPEND_BYTES_MAX;
use super::types::TypeConfig;

/// The log of one group. Clones share it.
#[derive(Clone, Default)]
pub(super) struct MemoryLog(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    entries: BTreeMap<u64, EntryOf<TypeConfig>>,
    bytes: usize,
    purged: Option<LogIdOf<TypeConfig>>,
    vote: Option<VoteOf<TypeConfig>>,
}

impl MemoryLog {
    /// Memory held by the commands of all entries.
    pub(super) fn bytes(&self) -> usize {
        self.0.borrow().bytes
    }

    /// The index of the first entry held.
    pub(super) fn first(&self) -> Option<u64> {
        self.0.borrow().entries.first_key_value().map(|(index, _)| *index)
    }

    /// Entries held.
    pub(super) fn entries(&self) -> usize {
        self.0.borrow().entries.len()
    }
}

impl Inner {
    fn remove(&mut self, range: impl RangeBounds<u64>) {
        let indexes: Vec<u64> = self.entries.range(range).map(|(index, _)| *index).collect();
        for entry in indexes.iter().filter_map(|index| self.entries.remove(index)) {
            self.bytes -= memory_bytes(&entry);
        }
    }
}

fn memory_bytes(entry: &EntryOf<TypeConfig>) -> usize {
    match &entry.payload {
        EntryPayload::Normal(batch) => batch.memory_bytes(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

impl RaftLogReader<TypeConfig> for MemoryLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<EntryOf<TypeConfig>>, io::Error> {
        Ok(self.0.borrow().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<EntryOf<TypeConfig>>, io::Error> {
        let (inner, mut bytes) = (self.0.borrow(), 0);
        let fits = |entry: &&EntryOf<TypeConfig>| {
            let fits = bytes < APPEND_BYTES_MAX;
            bytes += memory_bytes(entry);
            fits
        };
        Ok(inner.entries.range(start..end).map(|(_, entry)| entry).take_while(fits).cloned().collect())
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<TypeConfig>>, io::Error> {
        Ok(self.0.borrow().vote)
    }
}

impl RaftLogStorage<TypeConfig> for MemoryLog {
    type LogReader = MemoryLog;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let inner = self.0.borrow();
        let last = inner.entries.last_key_value().map(|(_, entry)| entry.log_id);
        Ok(LogState { last_purged_log_id: inner.purged, last_log_id: last.or(inner.purged) })
    }

    async fn get_log_reader(&mut self) -> MemoryLog {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<TypeConfig>) -> Result<(), io::Error> {
        self.0.borrow_mut().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = EntryOf<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut inner = self.0.borrow_mut();
        for entry in entries {
            inner.bytes += memory_bytes(&entry);
            inner.entries.insert(entry.log_id.index, entry);
        }
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<TypeConfig>>) -> Result<(), io::Error> {
        let first = last.map_or(0, |id| id.index + 1);
        self.0.borrow_mut().remove(first..);
        Ok(())
    }

    async fn purge(&mut self, upto: LogIdOf<TypeConfig>) -> Result<(), io::Error> {
        let mut inner = self.0.borrow_mut();
        inner.remove(..=upto.index);
        inner.purged = Some(upto);
        Ok(())
    }
}
