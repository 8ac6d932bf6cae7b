//! Reading an index, block by block. Holds an open file, and nothing of what is in it but the counts.

use std::io;
use std::sync::Arc;

use ursula_common::{GroupId, Offset, StreamId};

use super::{
    BLOCK_BYTES, EXTENT_BYTES, EXTENTS_PER_BLOCK, Extent, MAGIC, ROW_BYTES, ROWS_PER_BLOCK, RowRef, VERSION, block_crc,
};
use crate::io::File;
use crate::record::{u32_at, u64_at};
use crate::segment::SegmentId;

/// An index that is open. Blocks when it reads.
#[derive(Clone)]
pub struct IndexReader {
    file: Arc<dyn File>,
    segment: SegmentId,
    rows: u32,
    extents: u32,
}

/// A row without its extents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowHead {
    /// The group of the stream.
    pub group: GroupId,
    /// The stream.
    pub stream: StreamId,
    /// Of the first byte in this segment.
    pub first: Offset,
    /// The row with earlier bytes of the stream.
    pub prev: Option<RowRef>,
    /// How many extents it has.
    pub extents: u32,
    /// The number of its first extent.
    start: u32,
}

/// An index that is of no use: make it again from its segment.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// There is none.
    #[error("segment {0} has no index")]
    Missing(SegmentId),
    /// It does not say what was written, or it was written for something else.
    #[error("the index of segment {segment} is damaged in block {block}")]
    Damaged {
        /// The segment.
        segment: SegmentId,
        /// The block of 4 KiB.
        block: u32,
    },
    /// Nothing has that number.
    #[error("the index of segment {segment} has no row {row}")]
    NoRow {
        /// The segment.
        segment: SegmentId,
        /// The number.
        row: u32,
    },
    /// The disk failed.
    #[error("the index of segment {segment} cannot be read: {error}")]
    Io {
        /// The segment.
        segment: SegmentId,
        /// How.
        error: io::Error,
    },
}

impl IndexReader {
    /// An index of anybody, if there is no identity.
    pub(crate) fn new(
        file: Arc<dyn File>,
        segment: SegmentId,
        identity: Option<u64>,
    ) -> Result<IndexReader, IndexError> {
        let mut reader = IndexReader { file, segment, rows: 0, extents: 0 };
        let header = reader.block(0)?;
        let version = u16::from_le_bytes([header[8], header[9]]);
        let ours = header[..8] == MAGIC && version == VERSION;
        if !ours || u64_at(&header, 16) != segment.0 || identity.is_some_and(|identity| u64_at(&header, 24) != identity)
        {
            return Err(IndexError::Damaged { segment, block: 0 });
        }
        reader.rows = u32_at(&header, 32);
        reader.extents = u32_at(&header, 36);
        Ok(reader)
    }

    /// How many rows there are.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// One row.
    pub fn row(&self, row: u32) -> Result<RowHead, IndexError> {
        let segment = self.segment;
        let (bytes, at) = self.row_block(row)?;
        let back = u64::from(u32_at(&bytes, at + 24));
        let prev_row = u32_at(&bytes, at + 28);
        let start = u32_at(&bytes, at + 4);
        let end = if row + 1 == self.rows {
            self.extents
        } else {
            let (bytes, at) = self.row_block(row + 1)?;
            u32_at(&bytes, at + 4)
        };
        Ok(RowHead {
            group: GroupId(u32_at(&bytes, at)),
            stream: StreamId(u64_at(&bytes, at + 8)),
            first: Offset(u64_at(&bytes, at + 16)),
            prev: (back > 0).then(|| RowRef { segment: SegmentId(segment.0.saturating_sub(back)), row: prev_row }),
            extents: end.saturating_sub(start),
            start,
        })
    }

    /// The row of a stream, if the segment has bytes of it.
    pub fn find(&self, group: GroupId, stream: StreamId) -> Result<Option<u32>, IndexError> {
        let (mut low, mut high) = (0, self.rows);
        while low < high {
            let middle = low + (high - low) / 2;
            let row = self.row(middle)?;
            match (row.group, row.stream).cmp(&(group, stream)) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(Some(middle)),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    /// At most `most` extents of a row, from the one that ends after `offset`.
    pub fn extents_from(&self, row: u32, offset: Offset, most: usize) -> Result<Vec<Extent>, IndexError> {
        let head = self.row(row)?;
        let (mut low, mut high) = (0, head.extents);
        let mut cached = None;
        while low < high {
            let middle = low + (high - low) / 2;
            if self.extent(&head, middle, &mut cached)?.end() <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let numbers = (low..head.extents).take(most);
        numbers.map(|number| self.extent(&head, number, &mut cached)).collect()
    }

    fn extent(&self, row: &RowHead, number: u32, cached: &mut Option<(u32, Vec<u8>)>) -> Result<Extent, IndexError> {
        let number = row.start + number;
        let rows = self.rows.div_ceil(ROWS_PER_BLOCK as u32);
        let block = 1 + rows + number / EXTENTS_PER_BLOCK as u32;
        if cached.as_ref().is_none_or(|(have, _)| *have != block) {
            *cached = Some((block, self.block(block)?));
        }
        let (_, bytes) = cached.as_ref().expect("read");
        let at = number as usize % EXTENTS_PER_BLOCK * EXTENT_BYTES;
        let offset = Offset(row.first.0 + u64::from(u32_at(bytes, at)));
        let (at, len, crc) = (u32_at(bytes, at + 4), u32_at(bytes, at + 8), u32_at(bytes, at + 12));
        Ok(Extent { offset, at, len, crc })
    }

    /// The block that holds a row, and where the row begins in it.
    fn row_block(&self, row: u32) -> Result<(Vec<u8>, usize), IndexError> {
        if row >= self.rows {
            return Err(IndexError::NoRow { segment: self.segment, row });
        }
        let block = 1 + row / ROWS_PER_BLOCK as u32;
        Ok((self.block(block)?, row as usize % ROWS_PER_BLOCK * ROW_BYTES))
    }

    fn block(&self, block: u32) -> Result<Vec<u8>, IndexError> {
        let segment = self.segment;
        let damaged = IndexError::Damaged { segment, block };
        let mut bytes = vec![0; BLOCK_BYTES];
        match self.file.read_at(&mut bytes, u64::from(block) * BLOCK_BYTES as u64) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(damaged),
            Err(error) => return Err(IndexError::Io { segment, error }),
        }
        let (payload, crc) = bytes.split_at(BLOCK_BYTES - 4);
        if u32_at(crc, 0) == block_crc(segment, block, payload) { Ok(bytes) } else { Err(damaged) }
    }
}
