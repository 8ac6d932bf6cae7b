//! The bytes of a pack's parts. Does no I/O.
//!
//! Persisted: the meaning of what was ever written must not change; a new meaning is a new version.

use crc32c::crc32c;
use ursula_common::{ClusterId, GroupId, Millis, Offset, StreamId};

use super::{Block, Hash, Head, Link, PackId, Row};

pub(super) const MAGIC: [u8; 8] = *b"ursulapk";
/// The format that is written.
pub(super) const VERSION: u32 = 1;

pub(super) const START_BYTES: usize = 16;
pub(super) const ROW_BYTES: usize = 40;
pub(super) const BLOCK_ROW_BYTES: usize = 24;
pub(super) const TRAILER_BYTES: usize = 256;
/// A checksum after every page of a table.
pub(super) const CRC_BYTES: usize = 4;
/// Rows in a page of either table; the last page may have fewer.
pub(super) const PAGE_ROWS: usize = 100;
/// One number for each page of rows.
pub(super) const ROOT_ENTRY_BYTES: usize = 8;

/// The end of a pack: where its parts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) head: Head,
    pub(super) rows: u32,
    pub(super) blocks: u32,
    /// Where the records of streams are, and their checksum. Before them are the blocks, after them the tables.
    pub(super) records_at: u32,
    pub(super) records_bytes: u32,
    pub(super) records_crc: u32,
    pub(super) root_crc: u32,
}

impl Trailer {
    pub(super) fn encode(&self) -> [u8; TRAILER_BYTES] {
        let Head { cluster, id, made, as_of, prev, merged } = &self.head;
        let mut bytes = [0; TRAILER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&id.group.0.to_le_bytes());
        bytes[16..32].copy_from_slice(&cluster.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&id.first.to_le_bytes());
        bytes[40..48].copy_from_slice(&id.last.to_le_bytes());
        bytes[48..56].copy_from_slice(&id.maker.to_le_bytes());
        bytes[56..64].copy_from_slice(&made.0.to_le_bytes());
        for (link, at) in [(prev, 64), (merged, 144)] {
            if let Some(Link { id, hash }) = link {
                bytes[at..at + 8].copy_from_slice(&id.first.to_le_bytes());
                bytes[at + 8..at + 16].copy_from_slice(&id.last.to_le_bytes());
                bytes[at + 16..at + 24].copy_from_slice(&id.maker.to_le_bytes());
                bytes[at + 24..at + 56].copy_from_slice(hash);
            }
        }
        bytes[200..208].copy_from_slice(&as_of.to_le_bytes());
        let numbers = [self.rows, self.blocks, self.records_at, self.records_bytes, self.records_crc, self.root_crc];
        for (number, place) in numbers.iter().zip(bytes[120..144].chunks_exact_mut(4)) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c(&bytes[..TRAILER_BYTES - CRC_BYTES]);
        bytes[TRAILER_BYTES - CRC_BYTES..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the end of a pack.
    ///
    /// # Errors
    /// A sentence about what is wrong.
    pub(super) fn decode(bytes: &[u8]) -> Result<Trailer, String> {
        if bytes.len() != TRAILER_BYTES || bytes[..8] != MAGIC {
            return Err("it does not end as a pack does".to_owned());
        }
        let version = number32(bytes, 8);
        if version != VERSION {
            return Err(format!("it has format {version}, and this build reads format {VERSION}"));
        }
        let body = checked(bytes).ok_or("its last part is damaged")?;
        let group = GroupId(number32(body, 12));
        let id = |at: usize| PackId {
            group,
            first: number64(body, at),
            last: number64(body, at + 8),
            maker: number64(body, at + 16),
        };
        let link = |at: usize| {
            let mut hash: Hash = [0; 32];
            hash.copy_from_slice(&body[at + 24..at + 56]);
            Some(Link { id: id(at), hash }).filter(|link| link.id.first > 0)
        };
        let cluster = ClusterId(u128::from(number64(body, 24)) << 64 | u128::from(number64(body, 16)));
        Ok(Trailer {
            head: Head {
                cluster,
                id: id(32),
                made: Millis(number64(body, 56)),
                as_of: number64(body, 200),
                prev: link(64),
                merged: link(144),
            },
            rows: number32(body, 120),
            blocks: number32(body, 124),
            records_at: number32(body, 128),
            records_bytes: number32(body, 132),
            records_crc: number32(body, 136),
            root_crc: number32(body, 140),
        })
    }

    pub(super) fn blocks_at(&self) -> u64 {
        u64::from(self.records_at) + u64::from(self.records_bytes)
    }

    pub(super) fn rows_at(&self) -> u64 {
        self.blocks_at() + table_bytes(self.blocks, BLOCK_ROW_BYTES)
    }

    pub(super) fn root_at(&self) -> u64 {
        self.rows_at() + table_bytes(self.rows, ROW_BYTES)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.root_at() + (pages(self.rows) * ROOT_ENTRY_BYTES + TRAILER_BYTES) as u64
    }
}

/// Pages of a table with so many rows.
pub(super) fn pages(rows: u32) -> usize {
    (rows as usize).div_ceil(PAGE_ROWS)
}

/// Bytes of a table.
fn table_bytes(rows: u32, row_bytes: usize) -> u64 {
    (rows as usize * row_bytes + pages(rows) * CRC_BYTES) as u64
}

/// Writes a table in pages, each with its checksum.
pub(super) fn encode_table<'a, R: 'a, const BYTES: usize>(
    rows: &'a [R],
    encode: impl Fn(&'a R) -> [u8; BYTES],
    out: &mut Vec<u8>,
) {
    for page in rows.chunks(PAGE_ROWS) {
        let start = out.len();
        page.iter().for_each(|row| out.extend_from_slice(&encode(row)));
        let crc = crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
    }
}

/// The part before the checksum at the end, if that is right.
pub(super) fn checked(part: &[u8]) -> Option<&[u8]> {
    let (body, crc) = part.split_last_chunk::<CRC_BYTES>()?;
    (crc32c(body) == u32::from_le_bytes(*crc)).then_some(body)
}

pub(super) fn encode_row(row: &Row) -> [u8; ROW_BYTES] {
    let mut bytes = [0; ROW_BYTES];
    bytes[..8].copy_from_slice(&row.stream.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&row.start.0.to_le_bytes());
    bytes[16..24].copy_from_slice(&row.end.0.to_le_bytes());
    bytes[24..32].copy_from_slice(&row.prev.unwrap_or_default().to_le_bytes());
    bytes[32..36].copy_from_slice(&row.first_block.to_le_bytes());
    bytes[36..40].copy_from_slice(&row.blocks.to_le_bytes());
    bytes
}

pub(super) fn decode_row(bytes: &[u8]) -> Row {
    Row {
        stream: StreamId(number64(bytes, 0)),
        start: Offset(number64(bytes, 8)),
        end: Offset(number64(bytes, 16)),
        prev: Some(number64(bytes, 24)).filter(|prev| *prev > 0),
        first_block: number32(bytes, 32),
        blocks: number32(bytes, 36),
    }
}

pub(super) fn encode_block_row(block: &Block) -> [u8; BLOCK_ROW_BYTES] {
    let mut bytes = [0; BLOCK_ROW_BYTES];
    bytes[..8].copy_from_slice(&block.start.0.to_le_bytes());
    bytes[8..12].copy_from_slice(&block.at.to_le_bytes());
    bytes[12..16].copy_from_slice(&block.bytes.to_le_bytes());
    bytes[16..20].copy_from_slice(&block.records.to_le_bytes());
    bytes[20..24].copy_from_slice(&block.crc.to_le_bytes());
    bytes
}

pub(super) fn decode_block_row(bytes: &[u8]) -> Block {
    Block {
        start: Offset(number64(bytes, 0)),
        at: number32(bytes, 8),
        bytes: number32(bytes, 12),
        records: number32(bytes, 16),
        crc: number32(bytes, 20),
    }
}

pub(super) fn number32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("invariant: four bytes"))
}

pub(super) fn number64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("invariant: eight bytes"))
}
