//! The index of a full segment: where in it the bytes of each stream lie. It can be made again from the segment.
//!
//! Written whole, never changed. Rows are sorted, so that the same rows have the same numbers whenever it is made.

use std::io;
use std::path::Path;

use crc32c::{crc32c, crc32c_append};
use ursula_common::{GroupId, Offset, StreamId};

use crate::io::Io;
use crate::segment::SegmentId;

mod reader;

pub use reader::{IndexError, IndexReader, RowHead};

const MAGIC: [u8; 8] = *b"ursulidx";
const VERSION: u16 = 1;
/// A block ends with its checksum.
const BLOCK_BYTES: usize = 4096;
const ROW_BYTES: usize = 32;
const ROWS_PER_BLOCK: usize = 127;
const EXTENT_BYTES: usize = 16;
const EXTENTS_PER_BLOCK: usize = 255;

/// A row of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowRef {
    /// The segment.
    pub segment: SegmentId,
    /// The number of the row.
    pub row: u32,
}

/// Where a segment holds bytes of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The group of the stream.
    pub group: GroupId,
    /// The stream.
    pub stream: StreamId,
    /// The row with earlier bytes of the stream, in an older segment.
    pub prev: Option<RowRef>,
    /// At least one; by offset, without overlaps, within 4 GiB of the stream.
    pub extents: Vec<Extent>,
}

/// Bytes of a stream that lie together in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Of the first byte.
    pub offset: Offset,
    /// Where it lies in the segment.
    pub at: u32,
    /// How many bytes there are; at least one.
    pub len: u32,
    /// CRC32C of them, as [`crate::LogDir::read_part`] wants it.
    pub crc: u32,
}

impl Extent {
    /// Behind the last byte.
    pub fn end(&self) -> Offset {
        Offset(self.offset.0 + u64::from(self.len))
    }
}

/// The file of an index.
pub(crate) fn file_name(segment: SegmentId) -> String {
    format!("{segment}.index")
}

/// Writes the index of a segment, over an older one if there is one: afterwards it is on disk, whole. The row at
/// place `n` of `rows` has the number `n`.
///
/// # Panics
/// If the rows are not sorted by group and stream, or the extents of a row not by offset.
pub(crate) fn write(io: &dyn Io, dir: &Path, segment: SegmentId, identity: u64, rows: &[Row]) -> io::Result<()> {
    let bytes = encode(segment, identity, rows);
    let path = dir.join(file_name(segment));
    let unfinished = dir.join(format!("{}.new", file_name(segment)));
    let written = io.create(&unfinished).and_then(|file| {
        file.write_at(&bytes, 0)?;
        file.sync_data()?;
        io.rename(&unfinished, &path)?;
        io.sync_dir(dir)
    });
    if written.is_err() {
        let _ = io.remove(&unfinished);
    }
    written
}

fn encode(segment: SegmentId, identity: u64, rows: &[Row]) -> Vec<u8> {
    let sorted = rows.is_sorted_by(|a, b| (a.group, a.stream) < (b.group, b.stream));
    assert!(sorted, "rows of an index are sorted by group and stream");
    let extents: usize = rows.iter().map(|row| row.extents.len()).sum();
    let mut bytes = Blocks { segment, bytes: Vec::new() };
    let mut header = [0; 40];
    header[..8].copy_from_slice(&MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&segment.0.to_le_bytes());
    header[24..32].copy_from_slice(&identity.to_le_bytes());
    header[32..36].copy_from_slice(&(rows.len() as u32).to_le_bytes());
    header[36..40].copy_from_slice(&(extents as u32).to_le_bytes());
    bytes.put(&header);
    bytes.end_block();
    let mut first = 0;
    for row in rows {
        bytes.put(&encode_row(segment, row, first));
        first += row.extents.len() as u32;
    }
    bytes.end_block();
    for row in rows {
        encode_extents(row, &mut bytes);
    }
    bytes.end_block();
    bytes.bytes
}

fn encode_row(segment: SegmentId, row: &Row, first: u32) -> [u8; ROW_BYTES] {
    let start = row.extents.first().expect("a row has bytes").offset;
    let (back, prev) = row.prev.map_or((0, 0), |prev| (segment.0.saturating_sub(prev.segment.0), prev.row));
    let back = u32::try_from(back).ok().filter(|back| *back > 0 || row.prev.is_none());
    let mut bytes = [0; ROW_BYTES];
    bytes[..4].copy_from_slice(&row.group.0.to_le_bytes());
    bytes[4..8].copy_from_slice(&first.to_le_bytes());
    bytes[8..16].copy_from_slice(&row.stream.0.to_le_bytes());
    bytes[16..24].copy_from_slice(&start.0.to_le_bytes());
    bytes[24..28].copy_from_slice(&back.expect("earlier bytes are in an older segment").to_le_bytes());
    bytes[28..32].copy_from_slice(&prev.to_le_bytes());
    bytes
}

fn encode_extents(row: &Row, bytes: &mut Blocks) {
    let sorted = row.extents.is_sorted_by(|a, b| a.end() <= b.offset && a.len > 0);
    assert!(sorted, "extents of a row are sorted and do not overlap");
    for extent in &row.extents {
        let delta = u32::try_from(extent.offset.0 - row.extents[0].offset.0).expect("a row spans less than 4 GiB");
        let mut one = [0; EXTENT_BYTES];
        one[..4].copy_from_slice(&delta.to_le_bytes());
        one[4..8].copy_from_slice(&extent.at.to_le_bytes());
        one[8..12].copy_from_slice(&extent.len.to_le_bytes());
        one[12..16].copy_from_slice(&extent.crc.to_le_bytes());
        bytes.put(&one);
    }
}

/// Items in blocks with checksums.
struct Blocks {
    segment: SegmentId,
    bytes: Vec<u8>,
}

impl Blocks {
    fn put(&mut self, item: &[u8]) {
        if self.bytes.len() % BLOCK_BYTES + item.len() > BLOCK_BYTES - 4 {
            self.end_block();
        }
        self.bytes.extend_from_slice(item);
    }

    fn end_block(&mut self) {
        let used = self.bytes.len() % BLOCK_BYTES;
        if used == 0 {
            return;
        }
        let block = self.bytes.len() / BLOCK_BYTES;
        self.bytes.resize((block + 1) * BLOCK_BYTES - 4, 0);
        let crc = block_crc(self.segment, block as u32, &self.bytes[block * BLOCK_BYTES..]);
        self.bytes.extend_from_slice(&crc.to_le_bytes());
    }
}

/// Bound to its place.
fn block_crc(segment: SegmentId, block: u32, bytes: &[u8]) -> u32 {
    crc32c_append(crc32c_append(crc32c(&segment.0.to_le_bytes()), &block.to_le_bytes()), bytes)
}

#[cfg(test)]
mod tests;
