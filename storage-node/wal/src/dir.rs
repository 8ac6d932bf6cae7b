//! A log directory as its users see it: who writes, what can be read, how much space is left.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ursula_common::GroupId;

use crate::appender::Appender;
use crate::io::{File, Io, Lock};
use crate::open::{self, OpenError};
use crate::options::Options;
use crate::read::{Content, ReadError, Recent};
use crate::record::Location;
use crate::recover::Recovered;
use crate::segment::SegmentId;
use crate::spare::Pool;
use crate::state::GroupLog;
use crate::table::Table;
use crate::writer::Writer;

/// The segments of all cores of a node. Cheap to clone; its lock goes with the last clone and the last writer.
#[derive(Clone)]
pub struct LogDir {
    pub(crate) shared: Arc<Shared>,
}

/// Bytes of the log and around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// In segments and spares.
    pub used: u64,
    /// Free in the file system.
    pub free: u64,
    /// Files that are ready to become segments.
    pub spares: u32,
    /// Appends should be refused, so that votes and truncation can still be written.
    pub high_water: bool,
}

pub(crate) struct Shared {
    pub(crate) io: Arc<dyn Io>,
    pub(crate) path: PathBuf,
    pub(crate) options: Options,
    pub(crate) next: AtomicU64,
    pub(crate) table: Mutex<Table>,
    pub(crate) pool: Mutex<Pool>,
    pub(crate) files: Mutex<Recent<Arc<dyn File>>>,
    pub(crate) claims: Mutex<BTreeMap<GroupId, Claim>>,
    pub(crate) lock: Mutex<Option<Box<dyn Lock>>>,
}

/// Who has a group, and what is known of it until somebody has.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    pub(crate) log: GroupLog,
    /// It may not be gone on with: it can only be forgotten.
    damaged: bool,
    /// The last that had it in this life of the process.
    writer: Option<u32>,
    held: bool,
}

impl Claim {
    pub(crate) fn recovered(log: GroupLog, damaged: bool) -> Claim {
        Claim { log, damaged, writer: None, held: false }
    }
}

impl LogDir {
    /// Lets others have the log. Whoever calls this knows that nobody uses it any more.
    pub fn release(&self) {
        drop(self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Opens the log in `dir`, making it if need be: reads all segments, judges them, and only then writes.
    ///
    /// # Errors
    /// Nothing was changed, except if the disk failed.
    pub fn open(io: Arc<dyn Io>, dir: &Path, options: Options) -> Result<(LogDir, Recovered), OpenError> {
        LogDir::open_after(io, dir, options, &|_| None, &|_| None)
    }

    /// The same for a log of which everything up to the entry that `applied` tells, for each group that it knows of, is
    /// only kept for others: that much is not read again of segments that have a summary. It is checked when it is
    /// read. `against` says what speaks against going on with what was found, if anything does.
    ///
    /// # Errors
    /// Nothing was changed, except if the disk failed. [`OpenError::Unfit`] has the reason that `against` gives.
    pub fn open_after(
        io: Arc<dyn Io>,
        dir: &Path,
        options: Options,
        applied: &dyn Fn(GroupId) -> Option<u64>,
        against: &dyn Fn(&Recovered) -> Option<String>,
    ) -> Result<(LogDir, Recovered), OpenError> {
        let (shared, recovered) = open::open(io, dir, options, applied, against)?;
        Ok((LogDir { shared: Arc::new(shared) }, recovered))
    }

    /// The two ends of the log of one core, to be asked for once for each.
    pub fn writer(&self, index: u32) -> (Appender, Writer) {
        (Appender::new(self.shared.clone(), index), Writer::new(self.shared.clone()))
    }

    /// The payload of a record; blocks.
    pub fn read(&self, at: Location) -> Result<Bytes, ReadError> {
        self.shared.read_record(at)
    }

    /// Bytes inside a record, with a checksum (CRC32C) of their own; blocks.
    pub fn read_part(&self, segment: SegmentId, at: u32, len: u32, crc: u32) -> Result<Bytes, ReadError> {
        self.shared.read_part(segment, at, len, crc)
    }

    /// Shows the entries and slices of a segment that is complete, in the order they were written, so that its index
    /// can be made again; blocks for long.
    pub fn contents(&self, segment: SegmentId, visit: &mut dyn FnMut(Content)) -> Result<(), ReadError> {
        self.shared.contents(segment, visit)
    }

    /// Makes a file ready for a coming segment; blocks for long. Returns false when there is nothing to do.
    pub fn prepare_spare(&self) -> io::Result<bool> {
        self.shared.prepare_spare()
    }

    /// Writes the summary of a segment that is complete and has none, so that it need not be read whole when the log is
    /// opened. Returns false when there is nothing to do; blocks.
    ///
    /// # Errors
    /// If the disk fails; then it may be tried again.
    pub fn summarize(&self) -> io::Result<bool> {
        self.shared.summarize_next()
    }

    /// Removes the segments before `segment`, except those that hold live entries or the facts of a group, or are
    /// being written. Returns those that went; blocks.
    pub fn remove_before(&self, segment: SegmentId) -> io::Result<Vec<SegmentId>> {
        self.shared.remove(&mut |id, _| id < segment)
    }

    /// Removes all segments that `unneeded` gives up, except those that [`LogDir::remove_before`] would keep too. It is
    /// asked about a segment and the groups that may have anything in it.
    pub fn remove(&self, mut unneeded: impl FnMut(SegmentId, &[GroupId]) -> bool) -> io::Result<Vec<SegmentId>> {
        self.shared.remove(&mut unneeded)
    }

    /// No segment that begins from now on is before this one.
    pub fn upcoming(&self) -> SegmentId {
        self.shared.upcoming()
    }

    /// The segments that can be read, oldest first, and whether they are complete.
    pub fn segments(&self) -> Vec<(SegmentId, bool)> {
        self.shared.table().segments.iter().map(|(id, segment)| (*id, !segment.active)).collect()
    }

    /// Bytes of a segment that is full.
    pub fn segment_bytes(&self) -> u64 {
        self.shared.options.segment_bytes.into()
    }

    /// How full the disk is.
    pub fn space(&self) -> io::Result<Space> {
        let Options { segment_bytes, reserve, free_bytes_min, .. } = self.shared.options;
        let free = self.shared.io.free(&self.shared.path)?;
        let spares = self.shared.pool().ready.len() as u32;
        let spare_bytes = u64::from(spares) * u64::from(segment_bytes);
        let segments: u64 = self.shared.table().segments.values().map(|segment| segment.len).sum();
        let keep = (u64::from(reserve) * u64::from(segment_bytes)).saturating_add(free_bytes_min);
        let high_water = free.saturating_add(spare_bytes) < keep;
        Ok(Space { used: segments + spare_bytes, free, spares, high_water })
    }
}

impl Shared {
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn files(&self) -> MutexGuard<'_, Recent<Arc<dyn File>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn upcoming(&self) -> SegmentId {
        SegmentId(self.next.load(Ordering::Relaxed))
    }

    pub(crate) fn next_segment(&self) -> SegmentId {
        SegmentId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// A group for a writer, and whether another one had it before. One that is damaged can only be had to `forget` it.
    pub(crate) fn claim(&self, group: GroupId, writer: u32, forget: bool) -> (GroupLog, bool) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let claim = claims.entry(group).or_default();
        assert!(!claim.held, "group {group} has a writer already");
        assert!(forget || !claim.damaged, "group {group} is damaged: forget it before it is written again");
        let moved = claim.writer.is_some_and(|last| last != writer);
        claim.held = true;
        claim.writer = Some(writer);
        (std::mem::take(&mut claim.log), moved)
    }

    pub(crate) fn release(&self, group: GroupId) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let claim = claims.entry(group).or_default();
        (claim.held, claim.damaged) = (false, false);
    }
}

impl fmt::Debug for LogDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogDir").field("path", &self.shared.path).finish_non_exhaustive()
    }
}
