//! Files that wait to become segments: made ahead, so that a write touches no metadata. Knows no records.

use std::io;
use std::sync::Arc;

use crate::dir::Shared;
use crate::io::File;
use crate::segment::{self, SegmentId};

/// Zeros are written so many at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// The spares that are ready, by number.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    pub(crate) ready: Vec<u64>,
    /// Those that are being made.
    making: u32,
    pub(crate) next: u64,
}

impl Pool {
    /// An empty one, behind the spares with these numbers.
    pub(crate) fn after(next: u64) -> Pool {
        Pool { next, ..Pool::default() }
    }

    pub(crate) fn wants(&self, spares: u32) -> bool {
        (self.ready.len() as u64) + u64::from(self.making) < u64::from(spares)
    }
}

impl Shared {
    /// Makes one spare if one is wanted, and there is space for it beside what must stay free.
    pub(crate) fn prepare_spare(&self) -> io::Result<bool> {
        let size = u64::from(self.options.segment_bytes);
        let needed = if self.pool().ready.len() < self.options.reserve as usize {
            size
        } else {
            size.saturating_add(self.options.free_bytes_min)
        };
        let free = self.io.free(&self.path)?;
        {
            let mut pool = self.pool();
            if !pool.wants(self.options.spares) || free < needed {
                return Ok(false);
            }
            pool.making += 1;
        }
        let made = self.make_spare();
        let mut pool = self.pool();
        pool.making -= 1;
        pool.ready.push(made?);
        Ok(true)
    }

    /// A file full of zeros that are on disk: allocating alone would leave extents that are converted at each sync.
    fn make_spare(&self) -> io::Result<u64> {
        let number = self.next_spare();
        let path = self.path.join(segment::spare_name(number));
        let unfinished = self.path.join(format!("{}.new", segment::spare_name(number)));
        let made = self.io.create(&unfinished).and_then(|file| {
            let zeros = vec![0; CHUNK_BYTES.min(self.options.segment_bytes as usize)];
            let mut at = 0;
            while at < u64::from(self.options.segment_bytes) {
                let rest = u64::from(self.options.segment_bytes) - at;
                let chunk = &zeros[..zeros.len().min(rest as usize)];
                file.write_at(chunk, at)?;
                at += chunk.len() as u64;
            }
            file.sync_data()?;
            // The name becomes durable with that of the segment.
            self.io.rename(&unfinished, &path)
        });
        if let Err(error) = made {
            // It may be there or not, under either name; nobody counts on it.
            let _ = self.io.remove(&unfinished);
            return Err(error);
        }
        Ok(number)
    }

    pub(crate) fn next_spare(&self) -> u64 {
        let mut pool = self.pool();
        pool.next += 1;
        pool.next
    }

    /// The file of a segment that begins, with nothing in its header.
    pub(crate) fn begin_segment(&self, id: SegmentId) -> io::Result<Arc<dyn File>> {
        let ready = self.pool().ready.pop();
        let number = match ready {
            Some(number) => number,
            None => self.make_spare()?,
        };
        let path = self.path.join(segment::file_name(id));
        self.io.rename(&self.path.join(segment::spare_name(number)), &path)?;
        self.io.sync_dir(&self.path)?;
        self.io.open(&path)
    }
}

/// Makes a file that was a segment fit to become another one. Its records may stay: they are bound to the old segment.
pub(crate) fn blank(file: &dyn File) -> io::Result<()> {
    file.write_at(&[0; segment::HEADER_BYTES as usize], 0)?;
    file.sync_data()
}
