//! A log directory as its users see it: who writes, what can be read, how much space is left.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use crc32c::crc32c;
use ursula_common::GroupId;

use crate::appender::{Appender, GroupLog};
use crate::io::{File, Io, Lock};
use crate::open::{self, OpenError};
use crate::options::Options;
use crate::record::{self, Header, Location};
use crate::recover::Recovered;
use crate::segment::{self, SegmentId};
use crate::spare::Pool;
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
    /// Appends should be refused, so that votes and truncation can still be written.
    pub high_water: bool,
}

/// Bytes that cannot be had from this log.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The segment was removed.
    #[error("segment {0} is not there any more")]
    Gone(SegmentId),
    /// The bytes are not those that were written.
    #[error("bytes of segment {segment} at {at} are damaged")]
    Damaged {
        /// Where.
        segment: SegmentId,
        /// Where in it.
        at: u32,
    },
    /// The disk failed.
    #[error("segment {segment} cannot be read: {error}")]
    Io {
        /// Where.
        segment: SegmentId,
        /// How.
        error: io::Error,
    },
}

pub(crate) struct Shared {
    pub(crate) io: Arc<dyn Io>,
    pub(crate) path: PathBuf,
    pub(crate) options: Options,
    pub(crate) next: AtomicU64,
    pub(crate) table: Mutex<Table>,
    pub(crate) pool: Mutex<Pool>,
    pub(crate) files: Mutex<Files>,
    pub(crate) claims: Mutex<BTreeMap<GroupId, Claim>>,
    pub(crate) _lock: Box<dyn Lock>,
}

/// Who has a group, and what is known of it until somebody has.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    pub(crate) log: GroupLog,
    /// The last that had it in this life of the process.
    writer: Option<u32>,
    held: bool,
}

impl Claim {
    pub(crate) fn recovered(log: GroupLog) -> Claim {
        Claim { log, writer: None, held: false }
    }
}

/// Open segments, those used last at the end.
#[derive(Default)]
pub(crate) struct Files(Vec<(SegmentId, Arc<dyn File>)>);

impl LogDir {
    /// Opens the log in `dir`, making it if need be: reads all segments, judges them, and only then writes.
    ///
    /// # Errors
    /// Nothing was changed, except if the disk failed.
    pub fn open(io: Arc<dyn Io>, dir: &Path, options: Options) -> Result<(LogDir, Recovered), OpenError> {
        let (shared, recovered) = open::open(io, dir, options)?;
        Ok((LogDir { shared: Arc::new(shared) }, recovered))
    }

    /// The two ends of the log of one core, to be asked for once for each.
    pub fn writer(&self, index: u32) -> (Appender, Writer) {
        (Appender::new(self.shared.clone(), index), Writer::new(self.shared.clone()))
    }

    /// The payload of a record; blocks.
    pub fn read(&self, at: Location) -> Result<Bytes, ReadError> {
        let Location { segment, at, len } = at;
        let Some(start) = at.checked_sub(record::HEADER_BYTES) else {
            return Err(ReadError::Damaged { segment, at });
        };
        let (bytes, seed) = self.shared.read(segment, start, len as usize + record::HEADER_BYTES as usize)?;
        let bytes = Bytes::from(bytes);
        let payload = bytes.slice(record::HEADER_BYTES as usize..);
        let whole = Header::decode(&bytes, seed, start)
            .is_some_and(|header| header.len == len && header.payload_crc == crc32c(&payload));
        if whole { Ok(payload) } else { Err(self.shared.unless_gone(segment, at)) }
    }

    /// Bytes inside a record, with a checksum (CRC32C) of their own; blocks.
    pub fn read_part(&self, segment: SegmentId, at: u32, len: u32, crc: u32) -> Result<Bytes, ReadError> {
        let (bytes, _) = self.shared.read(segment, at, len as usize)?;
        if crc32c(&bytes) == crc { Ok(Bytes::from(bytes)) } else { Err(self.shared.unless_gone(segment, at)) }
    }

    /// Makes a file ready for a coming segment; blocks for long. Returns false when there is nothing to do.
    pub fn prepare_spare(&self) -> io::Result<bool> {
        self.shared.prepare_spare()
    }

    /// Removes the segments before `segment`, except those that hold live entries or the facts of a group, or are
    /// being written. Returns those that went; blocks.
    pub fn remove_before(&self, segment: SegmentId) -> io::Result<Vec<SegmentId>> {
        self.shared.remove(&mut |id| id < segment)
    }

    /// Removes all segments that `unneeded` gives up, except those that [`LogDir::remove_before`] would keep too.
    pub fn remove(&self, mut unneeded: impl FnMut(SegmentId) -> bool) -> io::Result<Vec<SegmentId>> {
        self.shared.remove(&mut unneeded)
    }

    /// The segments that can be read, oldest first, and whether they are complete.
    pub fn segments(&self) -> Vec<(SegmentId, bool)> {
        self.shared.table().segments.iter().map(|(id, segment)| (*id, !segment.active)).collect()
    }

    /// How full the disk is.
    pub fn space(&self) -> io::Result<Space> {
        let Options { segment_bytes, reserve, free_bytes_min, .. } = self.shared.options;
        let free = self.shared.io.free(&self.shared.path)?;
        let spares = self.shared.pool().ready.len() as u64 * u64::from(segment_bytes);
        let segments: u64 = self.shared.table().segments.values().map(|each| u64::from(each.header.size)).sum();
        let keep = (u64::from(reserve) * u64::from(segment_bytes)).saturating_add(free_bytes_min);
        Ok(Space { used: segments + spares, free, high_water: free.saturating_add(spares) < keep })
    }
}

impl Shared {
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn next_segment(&self) -> SegmentId {
        SegmentId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// A group for a writer, and whether another one had it before.
    pub(crate) fn claim(&self, group: GroupId, writer: u32) -> (GroupLog, bool) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let claim = claims.entry(group).or_default();
        assert!(!claim.held, "group {group} has a writer already");
        let moved = claim.writer.is_some_and(|last| last != writer);
        claim.held = true;
        claim.writer = Some(writer);
        (std::mem::take(&mut claim.log), moved)
    }

    pub(crate) fn release(&self, group: GroupId) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.entry(group).or_default().held = false;
    }

    /// Bytes of a segment, and the seed of its checksums.
    fn read(&self, segment: SegmentId, at: u32, len: usize) -> Result<(Vec<u8>, u32), ReadError> {
        let header = self.table().segments.get(&segment).map(|segment| segment.header);
        let header = header.ok_or(ReadError::Gone(segment))?;
        if at as usize + len > header.size as usize {
            return Err(ReadError::Damaged { segment, at });
        }
        let failed = |error| match self.is_there(segment) {
            true => ReadError::Io { segment, error },
            false => ReadError::Gone(segment),
        };
        let file = self.file(segment).map_err(failed)?;
        let mut bytes = vec![0; len];
        file.read_at(&mut bytes, u64::from(at)).map_err(failed)?;
        Ok((bytes, record::seed(header.salt, segment)))
    }

    /// A file that was removed while it was read may hold another segment by now.
    fn unless_gone(&self, segment: SegmentId, at: u32) -> ReadError {
        if self.is_there(segment) { ReadError::Damaged { segment, at } } else { ReadError::Gone(segment) }
    }

    fn is_there(&self, segment: SegmentId) -> bool {
        self.table().segments.contains_key(&segment)
    }

    fn file(&self, segment: SegmentId) -> io::Result<Arc<dyn File>> {
        if let Some(file) = self.files().get(segment) {
            return Ok(file);
        }
        let file = self.io.open(&self.path.join(segment::file_name(segment)))?;
        self.files().keep(segment, file.clone(), self.options.files_max);
        Ok(file)
    }
}

impl Files {
    fn get(&mut self, segment: SegmentId) -> Option<Arc<dyn File>> {
        let at = self.0.iter().position(|(id, _)| *id == segment)?;
        self.0[at..].rotate_left(1);
        self.0.last().map(|(_, file)| file.clone())
    }

    fn keep(&mut self, segment: SegmentId, file: Arc<dyn File>, most: usize) {
        self.close(segment);
        let excess = (self.0.len() + 1).saturating_sub(most.max(1));
        self.0.drain(..excess);
        self.0.push((segment, file));
    }

    pub(crate) fn close(&mut self, segment: SegmentId) {
        self.0.retain(|(id, _)| *id != segment);
    }
}

impl fmt::Debug for LogDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogDir").field("path", &self.shared.path).finish_non_exhaustive()
    }
}
