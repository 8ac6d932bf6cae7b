//! One record: its 40-byte header, its checksums, and what its fields mean. Does no I/O.
//!
//! The checksum of the header is seeded by the segment and covers its position, so a record is valid in one place
//! of one segment of one life of a process, and nowhere else; the checksum of the payload stands in the header.

use crc32c::{crc32c, crc32c_append};
use ursula_common::GroupId;

use crate::segment::SegmentId;

/// Bytes of a header.
pub(crate) const HEADER_BYTES: u32 = 40;
/// Every record begins at a multiple of this.
pub(crate) const ALIGN: u32 = 8;

/// Where a payload lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The segment.
    pub segment: SegmentId,
    /// The first byte of the payload, from the start of the segment.
    pub at: u32,
    /// Bytes of the payload.
    pub len: u32,
}

/// What a record says. The numbers are on disk and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// An entry of a group.
    Entry = 1,
    /// A fact.
    Vote = 2,
    /// A fact.
    Committed = 3,
    /// A fact: entries up to `index` are not needed.
    Purged = 4,
    /// Entries of a group at `index` and after it are void.
    Truncate = 5,
    /// Bytes of stream `extra` at offset `index`.
    Slice = 6,
    /// All that was said about a group is void.
    Forget = 7,
    /// The entries of a group are [`index`, `extra`); with its facts, it replaces what was said before.
    State = 8,
    /// Says nothing, and proves by its place that all before its batch was synced.
    Mark = 9,
    /// The segment ends here.
    Seal = 10,
}

impl Kind {
    fn from_wire(byte: u8) -> Option<Kind> {
        use Kind::*;
        [Entry, Vote, Committed, Purged, Truncate, Slice, Forget, State, Mark, Seal]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// What the header of a record holds, except for its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) group: GroupId,
    /// Where the batch of this record begins: all before it was synced before this was written.
    pub(crate) batch: u32,
    pub(crate) index: u64,
    pub(crate) extra: u64,
    pub(crate) len: u32,
    pub(crate) payload_crc: u32,
}

impl Header {
    pub(crate) fn new(kind: Kind, group: GroupId, index: u64, extra: u64, payload: &[&[u8]]) -> Header {
        // No payload is longer than a segment, and no segment longer than a u32 can say.
        let len = payload.iter().map(|part| part.len() as u32).sum();
        let payload_crc = payload.iter().fold(0, |crc, part| crc32c_append(crc, part));
        Header { kind, group, batch: 0, index, extra, len, payload_crc }
    }

    /// Bytes of the whole record.
    pub(crate) fn record_bytes(&self) -> u32 {
        record_bytes(self.len)
    }

    /// The bytes of a record that begins at `at`.
    pub(crate) fn encode(&self, seed: u32, at: u32) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        bytes[4..8].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
        bytes[12] = self.kind as u8;
        bytes[16..20].copy_from_slice(&self.group.0.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.batch.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.index.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.extra.to_le_bytes());
        let crc = header_crc(seed, at, &bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` if no record of this segment begins at `at`.
    pub(crate) fn decode(bytes: &[u8], seed: u32, at: u32) -> Option<Header> {
        let kind = Kind::from_wire(bytes[12])?;
        let header = Header {
            kind,
            group: GroupId(u32_at(bytes, 16)),
            batch: u32_at(bytes, 20),
            index: u64_at(bytes, 24),
            extra: u64_at(bytes, 32),
            len: u32_at(bytes, 8),
            payload_crc: u32_at(bytes, 4),
        };
        let sane = header.batch <= at && bytes[13..16] == [0; 3];
        (sane && u32_at(bytes, 0) == header_crc(seed, at, &bytes[4..HEADER_BYTES as usize])).then_some(header)
    }
}

/// Bytes of a record with a payload of `len` bytes.
pub(crate) fn record_bytes(len: u32) -> u32 {
    HEADER_BYTES + len.next_multiple_of(ALIGN)
}

/// What the checksums of a segment start from.
pub(crate) fn seed(salt: u64, segment: SegmentId) -> u32 {
    crc32c_append(crc32c(&salt.to_le_bytes()), &segment.0.to_le_bytes())
}

fn header_crc(seed: u32, at: u32, rest: &[u8]) -> u32 {
    crc32c_append(crc32c_append(seed, &at.to_le_bytes()), rest)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests;
