//! The bytes of an index file. Does no I/O.

use crc32c::crc32c;
use ursula_common::{GroupId, StreamId};

use super::{Extent, NewRow, Row, RowRef};
use crate::segment::SegmentId;

pub(super) const HEADER_BYTES: usize = 32;
pub(super) const ROW_BYTES: usize = 60;
pub(super) const EXTENT_BYTES: usize = 12;

const MAGIC: [u8; 8] = *b"ursulidx";
/// Persisted: the format that is written.
const VERSION: u32 = 1;
/// Persisted: the segment of a row that has none before it. Segments are counted from 1.
const NO_SEGMENT: u64 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) segment: SegmentId,
    pub(super) rows: u32,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.rows.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.segment.0.to_le_bytes());
        seal(&mut bytes);
        bytes
    }

    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Header> {
        let known = is_sealed(bytes) && bytes[..8] == MAGIC && number32(bytes, 8) == VERSION;
        known.then(|| Header { segment: SegmentId(number64(bytes, 16)), rows: number32(bytes, 12) })
    }
}

/// The bytes of a whole file.
pub(super) fn encode(segment: SegmentId, rows: &[NewRow]) -> Vec<u8> {
    let extents: usize = rows.iter().map(|row| row.extents.len()).sum();
    let mut extents_at = HEADER_BYTES + rows.len() * ROW_BYTES;
    let mut file = Vec::with_capacity(extents_at + extents * EXTENT_BYTES);
    file.extend_from_slice(&Header { segment, rows: rows.len() as u32 }.encode());
    for row in rows {
        file.extend_from_slice(&encode_row(row, extents_at as u32));
        extents_at += row.extents.len() * EXTENT_BYTES;
    }
    for row in rows {
        encode_extents(&row.extents, &mut file);
    }
    file
}

fn encode_row(row: &NewRow, extents_at: u32) -> [u8; ROW_BYTES] {
    let mut extents = Vec::with_capacity(row.extents.len() * EXTENT_BYTES);
    encode_extents(&row.extents, &mut extents);
    let prev = row.prev.unwrap_or(RowRef { segment: SegmentId(NO_SEGMENT), part: 0, row: 0 });
    let mut bytes = [0; ROW_BYTES];
    bytes[..8].copy_from_slice(&row.stream.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&row.extents.first().map_or(0, |first| first.offset).to_le_bytes());
    bytes[16..24].copy_from_slice(&row.extents.last().map_or(0, Extent::end).to_le_bytes());
    bytes[24..32].copy_from_slice(&prev.segment.0.to_le_bytes());
    bytes[32..36].copy_from_slice(&prev.part.to_le_bytes());
    bytes[36..40].copy_from_slice(&prev.row.to_le_bytes());
    bytes[40..44].copy_from_slice(&row.group.0.to_le_bytes());
    bytes[44..48].copy_from_slice(&extents_at.to_le_bytes());
    bytes[48..52].copy_from_slice(&(row.extents.len() as u32).to_le_bytes());
    bytes[52..56].copy_from_slice(&crc32c(&extents).to_le_bytes());
    seal(&mut bytes);
    bytes
}

pub(super) fn decode_row(bytes: &[u8; ROW_BYTES]) -> Option<Row> {
    let prev = RowRef { segment: SegmentId(number64(bytes, 24)), part: number32(bytes, 32), row: number32(bytes, 36) };
    is_sealed(bytes).then(|| Row {
        first: number64(bytes, 8),
        end: number64(bytes, 16),
        prev: (prev.segment.0 != NO_SEGMENT).then_some(prev),
        group: GroupId(number32(bytes, 40)),
        stream: StreamId(number64(bytes, 0)),
        extents_at: number32(bytes, 44),
        extents: number32(bytes, 48),
        extents_crc: number32(bytes, 52),
    })
}

fn encode_extents(extents: &[Extent], to: &mut Vec<u8>) {
    for extent in extents {
        to.extend_from_slice(&extent.at.to_le_bytes());
        to.extend_from_slice(&extent.len.to_le_bytes());
        to.extend_from_slice(&extent.crc.to_le_bytes());
    }
}

/// The extents of a row whose first has the offset `first`, and the checksum of their bytes.
pub(super) fn decode_extents(bytes: &[u8], first: u64) -> (Vec<Extent>, u32) {
    let mut offset = first;
    let extent = |bytes: &[u8]| {
        let extent = Extent { offset, at: number32(bytes, 0), len: number32(bytes, 4), crc: number32(bytes, 8) };
        offset = extent.end();
        extent
    };
    (bytes.chunks_exact(EXTENT_BYTES).map(extent).collect(), crc32c(bytes))
}

/// Ends a block with the checksum of what is before it.
fn seal(bytes: &mut [u8]) {
    let end = bytes.len() - 4;
    let crc = crc32c(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
}

fn is_sealed(bytes: &[u8]) -> bool {
    let end = bytes.len() - 4;
    number32(bytes, end) == crc32c(&bytes[..end])
}

fn number32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn number64(bytes: &[u8], at: usize) -> u64 {
    u64::from(number32(bytes, at)) | u64::from(number32(bytes, at + 4)) << 32
}
