//! The log of one group on disk: its entries lie in the journal of the core, and this knows where.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::rc::Rc;

use futures_util::{Stream, TryStreamExt, stream};
use openraft::alias::{EntryOf, LogIdOf, VoteOf};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use ursula_common::GroupId;
use ursula_wal::{Damage, Fact, Location, RecoveredGroup, SegmentId};

use super::codec;
use super::machine::damaged;
use super::types::TypeConfig;
use crate::journal::Journal;
use crate::platform::Sizes;

/// One read for a peer that lags ends at the first entry after so many bytes.
const READ_BYTES: u64 = 4 << 20;

/// A checkpoint is not due before there is so many times its own size of log.
const CHECKPOINT_FACTOR: u64 = 4;

/// The log of one group. Clones share it.
#[derive(Clone)]
pub(crate) struct DiskLog {
    group: GroupId,
    journal: Journal,
    sizes: Sizes,
    inner: Rc<RefCell<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// The index of the first of `places`.
    first: u64,
    /// Where each entry lies.
    places: VecDeque<Location>,
    recent: BTreeMap<u64, EntryOf<TypeConfig>>,
    recent_bytes: usize,
    /// Entries before this index are on disk.
    synced: u64,
    last: Option<LogIdOf<TypeConfig>>,
    purged: Option<LogIdOf<TypeConfig>>,
    committed: Option<LogIdOf<TypeConfig>>,
    applied: Option<u64>,
    vote: Option<VoteOf<TypeConfig>>,
    /// Bytes of entries appended in this life of the process, and as many at the last checkpoint.
    appended_bytes: u64,
    checkpointed_bytes: u64,
    /// Size of the last checkpoint.
    checkpoint_bytes: u64,
}

impl DiskLog {
    /// The log of a group as it was found, or an empty one.
    ///
    /// # Errors
    /// If what was found is damaged or cannot be read.
    pub(crate) async fn open(
        group: GroupId,
        journal: Journal,
        sizes: Sizes,
        found: RecoveredGroup,
    ) -> io::Result<DiskLog> {
        if let Some(Damage { segment, at, .. }) = found.damage {
            return Err(damaged(&format!("its log is damaged in file {segment}.log at byte {at}")));
        }
        let mut inner = Inner {
            vote: found.vote.map(codec::decode_vote).transpose()?,
            committed: found.committed.map(codec::decode_log_id).transpose()?,
            purged: found.purged.map(|(_, id)| codec::decode_log_id(id)).transpose()?,
            ..Inner::default()
        };
        inner.first = found.entries.first().map_or_else(|| next_index(inner.purged), |(index, _)| *index);
        inner.places = found.entries.into_iter().map(|(_, place)| place).collect();
        inner.synced = inner.end();
        inner.appended_bytes = inner.places.iter().map(|place| u64::from(place.len)).sum();
        inner.last = match inner.places.back() {
            Some(place) => {
                let last = journal.read_all(group, vec![*place]).await?.into_iter().next();
                last.map(codec::decode_entry).transpose()?.map(|entry| entry.log_id)
            }
            None => inner.purged,
        };
        Ok(DiskLog { group, journal, sizes, inner: Rc::new(RefCell::new(inner)) })
    }

    /// Where an entry lies, if it is in the log.
    pub(crate) fn place(&self, index: u64) -> Option<Location> {
        self.inner.borrow().place(index)
    }

    /// Returns when the core writes nothing.
    pub(super) async fn idle(&self) {
        self.journal.idle().await;
    }

    /// The last entry that was purged.
    pub(super) fn purged(&self) -> Option<u64> {
        self.inner.borrow().purged.map(|id| id.index)
    }

    /// Notes that the state has everything up to `index` in a moment, before anybody else can look at it.
    pub(super) fn apply(&self, index: Option<u64>) {
        self.inner.borrow_mut().applied = index;
    }

    /// The last entry that the state has.
    pub(super) fn applied(&self) -> Option<u64> {
        self.inner.borrow().applied
    }

    /// Returns when everything that was added until now is on disk.
    ///
    /// # Errors
    /// If the log has failed.
    pub(super) async fn sync(&self) -> io::Result<()> {
        self.journal.sync().await
    }

    /// Notes that there is a checkpoint of everything up to `index`, of that size.
    pub(super) fn checkpointed(&self, index: u64, bytes: u64) {
        let mut inner = self.inner.borrow_mut();
        let after = (index + 1).saturating_sub(inner.first) as usize;
        let after: u64 = inner.places.iter().skip(after).map(|place| u64::from(place.len)).sum();
        inner.checkpointed_bytes = inner.appended_bytes - after;
        inner.checkpoint_bytes = bytes;
    }

    /// Whether so much was appended that a restart should not have to apply it again.
    pub(super) fn checkpoint_due(&self) -> bool {
        let inner = self.inner.borrow();
        let bytes = inner.appended_bytes - inner.checkpointed_bytes;
        bytes > self.sizes.checkpoint_log_bytes.max(CHECKPOINT_FACTOR * inner.checkpoint_bytes)
    }

    /// Up to where the log may be purged when there is a checkpoint up to `index`: entries are kept for
    /// replicas that lag.
    pub(super) fn purgeable(&self, index: u64) -> Option<u64> {
        let inner = self.inner.borrow();
        let upto = index.min(inner.end().saturating_sub(self.sizes.entries_kept));
        (upto > inner.first).then_some(upto)
    }

    /// The last entry in a segment or before it, if there is one.
    pub(super) fn last_in(&self, segment: SegmentId) -> Option<u64> {
        let inner = self.inner.borrow();
        let count = inner.places.partition_point(|place| place.segment <= segment) as u64;
        count.checked_sub(1).map(|last| inner.first + last)
    }

    /// Where the oldest entry lies, if there is one.
    pub(super) fn oldest(&self) -> Option<SegmentId> {
        self.inner.borrow().places.front().map(|place| place.segment)
    }

    /// The part of a range that is in the log.
    fn held(&self, range: &impl RangeBounds<u64>) -> Range<u64> {
        let first = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => index + 1,
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        let inner = self.inner.borrow();
        first.max(inner.first)..end.min(inner.end())
    }

    /// Entries from the first index on, up to the first that ends at or after `bytes_max` bytes.
    async fn read(&self, indexes: Range<u64>, bytes_max: u64) -> io::Result<Vec<EntryOf<TypeConfig>>> {
        let mut wanted = Vec::new();
        let mut bytes = 0;
        {
            let inner = self.inner.borrow();
            for index in indexes {
                let Some(place) = inner.place(index).filter(|_| bytes < bytes_max) else { break };
                wanted.push((place, inner.recent.get(&index).cloned()));
                bytes += u64::from(place.len);
            }
        }
        let missing = wanted.iter().filter(|(_, recent)| recent.is_none()).map(|(place, _)| *place).collect();
        let mut read = self.journal.read_all(self.group, missing).await?.into_iter();
        let entry = |(_, recent): (Location, Option<EntryOf<TypeConfig>>)| match recent {
            Some(entry) => Ok(entry),
            None => codec::decode_entry(read.next().expect("invariant: what was missing was read")),
        };
        wanted.into_iter().map(entry).collect()
    }
}

impl Inner {
    /// The index after the last entry.
    fn end(&self) -> u64 {
        self.first + self.places.len() as u64
    }

    fn place(&self, index: u64) -> Option<Location> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.places.get(at).copied()
    }

    fn push(&mut self, entry: EntryOf<TypeConfig>, place: Location) {
        if self.places.is_empty() {
            self.first = entry.log_id.index;
        }
        assert_eq!(entry.log_id.index, self.end(), "invariant: the log of a group has no hole");
        self.places.push_back(place);
        self.appended_bytes += u64::from(place.len);
        self.recent_bytes += place.len as usize;
        self.last = Some(entry.log_id);
        self.recent.insert(entry.log_id.index, entry);
    }

    /// Lets go of the oldest entries in memory that can be read from disk.
    fn shrink(&mut self, bytes_max: usize) {
        while self.recent_bytes > bytes_max {
            let Some(oldest) = self.recent.first_entry().filter(|entry| *entry.key() < self.synced) else { return };
            let (index, _) = oldest.remove_entry();
            self.recent_bytes -= self.place(index).map_or(0, |place| place.len as usize);
        }
    }

    fn forget_recent(&mut self, indexes: impl RangeBounds<u64>) {
        let indexes: Vec<u64> = self.recent.range(indexes).map(|(index, _)| *index).collect();
        for index in indexes {
            self.recent.remove(&index);
            self.recent_bytes -= self.place(index).map_or(0, |place| place.len as usize);
        }
    }
}

fn next_index(id: Option<LogIdOf<TypeConfig>>) -> u64 {
    id.map_or(0, |id| id.index + 1)
}

impl RaftLogReader<TypeConfig> for DiskLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<EntryOf<TypeConfig>>, io::Error> {
        let range = self.held(&range);
        self.read(range, u64::MAX).await
    }

    /// What is applied after a restart, or by a replica that was behind, does not fit in memory at once.
    async fn entries_stream<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<EntryOf<TypeConfig>, io::Error>> + OptionalSend {
        let (log, range) = (self.clone(), self.held(&range));
        let pages = stream::try_unfold(range.start, move |next| {
            let log = log.clone();
            async move {
                let page = log.read(next..range.end, READ_BYTES).await?;
                let next = next + page.len() as u64;
                Ok::<_, io::Error>((!page.is_empty()).then_some((page, next)))
            }
        });
        Box::pin(pages.map_ok(|page| stream::iter(page.into_iter().map(Ok))).try_flatten())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<EntryOf<TypeConfig>>, io::Error> {
        self.read(start..end, READ_BYTES).await
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<TypeConfig>>, io::Error> {
        Ok(self.inner.borrow().vote)
    }
}

impl RaftLogStorage<TypeConfig> for DiskLog {
    type LogReader = DiskLog;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let inner = self.inner.borrow();
        Ok(LogState { last_purged_log_id: inner.purged, last_log_id: inner.last })
    }

    async fn get_log_reader(&mut self) -> DiskLog {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<TypeConfig>) -> Result<(), io::Error> {
        self.journal.put(self.group, Fact::Vote, &codec::encode_vote(vote));
        self.journal.sync().await?;
        self.inner.borrow_mut().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogIdOf<TypeConfig>>) -> Result<(), io::Error> {
        // Goes with the next batch: it only saves waiting after a restart.
        if let Some(committed) = committed {
            self.journal.put(self.group, Fact::Committed, &codec::encode_log_id(&committed));
        }
        self.inner.borrow_mut().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf<TypeConfig>>, io::Error> {
        Ok(self.inner.borrow().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = EntryOf<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut inner = self.inner.borrow_mut();
        for entry in entries {
            let (head, batch) = codec::encode_entry(&entry);
            let place = self.journal.append(self.group, entry.log_id.index, &[&head, &batch]);
            inner.push(entry, place);
        }
        let (end, shared) = (inner.end(), self.inner.clone());
        let recent_bytes = self.sizes.recent_bytes;
        drop(inner);
        self.journal.when_synced(move |result| {
            if result.is_ok() {
                let mut inner = shared.borrow_mut();
                inner.synced = inner.synced.max(end.min(inner.end()));
                inner.shrink(recent_bytes);
            }
            callback.io_completed(result);
        });
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<TypeConfig>>) -> Result<(), io::Error> {
        let end = next_index(last);
        let mut inner = self.inner.borrow_mut();
        inner.forget_recent(end..);
        let keep = end.saturating_sub(inner.first) as usize;
        inner.places.truncate(keep);
        inner.synced = inner.synced.min(end);
        inner.last = last.or(inner.purged);
        self.journal.truncate_after(self.group, last.map(|id| id.index));
        Ok(())
    }

    async fn purge(&mut self, upto: LogIdOf<TypeConfig>) -> Result<(), io::Error> {
        let mut inner = self.inner.borrow_mut();
        inner.forget_recent(..=upto.index);
        let gone = (upto.index + 1).saturating_sub(inner.first) as usize;
        let gone = gone.min(inner.places.len());
        inner.places.drain(..gone);
        inner.first = upto.index + 1;
        inner.synced = inner.synced.max(upto.index + 1);
        inner.purged = Some(upto);
        inner.last = inner.last.max(Some(upto));
        self.journal.put(self.group, Fact::Purged { index: upto.index }, &codec::encode_log_id(&upto));
        Ok(())
    }
}
