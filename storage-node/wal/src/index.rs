//! Where the bytes of streams lie in a full segment: files beside it, written once, that can be made again from
//! the log. `docs/formats/index.md` describes the bytes.
//!
//! Rows are of fixed size, so a reference finds its row without a search, and a row names the one with the stream's
//! earlier bytes: older bytes are found by walking back.

mod format;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ursula_common::{GroupId, StreamId};

use crate::dir::{LogDir, Shared};
use crate::io::{File, Io};
use crate::segment::{self, SegmentId};
use format::{EXTENT_BYTES, HEADER_BYTES, Header, ROW_BYTES};

/// A record of a stream, and where it lies in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// In the stream.
    pub offset: u64,
    /// In the segment.
    pub at: u32,
    /// Bytes; never 0.
    pub len: u32,
    /// CRC32C of the bytes.
    pub crc: u32,
}

impl Extent {
    /// The offset after it.
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.len)
    }
}

/// A row of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRef {
    /// Whose index.
    pub segment: SegmentId,
    /// Which of its files: one for each time that streams of it were indexed.
    pub part: u32,
    /// Which row in it.
    pub row: u32,
}

/// What an index is to say of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRow {
    /// The group of the stream.
    pub group: GroupId,
    /// The stream.
    pub stream: StreamId,
    /// The row with the bytes before these.
    pub prev: Option<RowRef>,
    /// Its records in the segment, in order and without a gap; at least one.
    pub extents: Vec<Extent>,
}

/// What an index says of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The stream's first offset in the segment.
    pub first: u64,
    /// The offset after its last record there.
    pub end: u64,
    /// The row with the bytes before these.
    pub prev: Option<RowRef>,
    group: GroupId,
    stream: StreamId,
    /// Its extents in the file.
    extents_at: u32,
    extents: u32,
    extents_crc: u32,
}

impl LogDir {
    /// Whether nothing more will be written to a segment.
    pub fn is_complete(&self, segment: SegmentId) -> bool {
        self.shared.table().segments.get(&segment).is_some_and(|segment| !segment.active)
    }

    /// Writes an index of a segment, beside those it may have. Returns the references to its rows; blocks.
    ///
    /// # Errors
    /// If it cannot be written; then nothing refers to it, and it may be tried again.
    pub fn write_index(&self, segment: SegmentId, rows: &[NewRow]) -> io::Result<Vec<RowRef>> {
        let bytes = format::encode(segment, rows);
        let (part, file) = self.new_part(segment)?;
        file.write_at(&bytes, 0)?;
        file.sync_data()?;
        self.shared.io.sync_dir(&self.shared.path)?;
        Ok((0..rows.len() as u32).map(|row| RowRef { segment, part, row }).collect())
    }

    /// The row of a stream; `None` if its segment was removed; blocks.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or is about another stream.
    pub fn index_row(&self, at: RowRef, group: GroupId, stream: StreamId) -> io::Result<Option<Row>> {
        match self.index(at) {
            Ok(file) => {
                let row = format::decode_row(&row_bytes(&*file, at)?);
                row.filter(|row| (row.group, row.stream) == (group, stream)).map(Some).ok_or_else(|| damaged(at))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The extents of a row from the one on that has the offset `from`, up to the first that ends at or after `end`,
    /// but not more than `most`; blocks.
    ///
    /// # Errors
    /// If they cannot be read, or are damaged.
    pub fn extents(&self, at: RowRef, row: &Row, from: u64, end: u64, most: usize) -> io::Result<Vec<Extent>> {
        let file = self.index(at)?;
        let extents = row_extents(&*file, row)?.ok_or_else(|| damaged(at))?;
        let wanted = extents.into_iter().skip_while(|extent| extent.end() <= from);
        Ok(wanted.take_while(|extent| extent.offset < end).take(most).collect())
    }

    /// What the indexes of a segment say: for each stream the offset after its last record there; blocks.
    ///
    /// # Errors
    /// If one cannot be read, or is damaged.
    pub fn index_ends(&self, segment: SegmentId) -> io::Result<Vec<(GroupId, StreamId, u64)>> {
        let mut ends = Vec::new();
        for part in 0.. {
            let first = RowRef { segment, part, row: 0 };
            let file = match self.index(first) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                file => file?,
            };
            let mut header = [0; HEADER_BYTES];
            file.read_at(&mut header, 0)?;
            let rows = Header::decode(&header).ok_or_else(|| damaged(first))?.rows;
            let mut bytes = vec![0; rows as usize * ROW_BYTES];
            file.read_at(&mut bytes, HEADER_BYTES as u64)?;
            for (row, bytes) in (0..).zip(bytes.as_chunks().0) {
                let row = format::decode_row(bytes).ok_or_else(|| damaged(RowRef { row, ..first }))?;
                ends.push((row.group, row.stream, row.end));
            }
        }
        Ok(ends)
    }

    /// Opens the index file of a row and makes sure that it is the right one.
    fn index(&self, at: RowRef) -> io::Result<Arc<dyn File>> {
        let file = self.shared.io.open(&self.part_path(at.segment, at.part))?;
        let mut header = [0; HEADER_BYTES];
        file.read_at(&mut header, 0)?;
        let header = Header::decode(&header).filter(|header| header.segment == at.segment);
        if header.is_some_and(|header| at.row < header.rows) { Ok(file) } else { Err(damaged(at)) }
    }

    /// Removes the indexes of a segment that is gone.
    pub(crate) fn remove_index(shared: &Shared, segment: SegmentId) -> io::Result<()> {
        for part in 0.. {
            match shared.io.remove(&shared.path.join(segment::index_name(segment, part))) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                removed => removed?,
            }
        }
        Ok(())
    }

    fn new_part(&self, segment: SegmentId) -> io::Result<(u32, Arc<dyn File>)> {
        let mut part = 0;
        loop {
            match self.shared.io.create(&self.part_path(segment, part)) {
                Ok(file) => return Ok((part, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => part += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn part_path(&self, segment: SegmentId, part: u32) -> PathBuf {
        self.shared.path.join(segment::index_name(segment, part))
    }
}

fn row_bytes(file: &dyn File, at: RowRef) -> io::Result<[u8; ROW_BYTES]> {
    let mut bytes = [0; ROW_BYTES];
    file.read_at(&mut bytes, (HEADER_BYTES + at.row as usize * ROW_BYTES) as u64)?;
    Ok(bytes)
}

/// All extents of a row, unless they are damaged.
fn row_extents(file: &dyn File, row: &Row) -> io::Result<Option<Vec<Extent>>> {
    let mut bytes = vec![0; row.extents as usize * EXTENT_BYTES];
    file.read_at(&mut bytes, u64::from(row.extents_at))?;
    let (extents, crc) = format::decode_extents(&bytes, row.first);
    let whole = extents.last().map(Extent::end) == Some(row.end) && crc == row.extents_crc;
    Ok(whole.then_some(extents))
}

/// Reads a whole file. Returns the number of its rows.
pub(crate) fn check(io: &dyn Io, path: &Path, segment: SegmentId) -> io::Result<u32> {
    let file = io.open(path)?;
    let mut header = [0; HEADER_BYTES];
    file.read_at(&mut header, 0)?;
    let header = Header::decode(&header).filter(|header| header.segment == segment);
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "damaged");
    let rows = header.ok_or_else(damaged)?.rows;
    for row in 0..rows {
        let row = format::decode_row(&row_bytes(&*file, RowRef { segment, part: 0, row })?).ok_or_else(damaged)?;
        row_extents(&*file, &row)?.ok_or_else(damaged)?;
    }
    Ok(rows)
}

fn damaged(at: RowRef) -> io::Error {
    let name = segment::index_name(at.segment, at.part);
    io::Error::new(io::ErrorKind::InvalidData, format!("row {} of {name} is damaged", at.row))
}

#[cfg(test)]
mod tests;
