//! Makes packs. Must not choose what goes into them.

use bytes::Bytes;
use crc32c::crc32c;
use ursula_common::{Offset, StreamId};

use super::format::{MAGIC, PAGE_ROWS, START_BYTES, Trailer, VERSION, encode_block_row, encode_row, encode_table};
use super::{BLOCK_BYTES, Block, Hash, Head, Row, hash};

/// A pack that is being made, in memory: it has as many bytes as were given to it.
#[derive(Debug)]
pub struct Builder {
    head: Head,
    body: Vec<u8>,
    rows: Vec<Row>,
    blocks: Vec<Block>,
}

/// A pack that is ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The whole object.
    pub body: Bytes,
    /// SHA-256 of it.
    pub hash: Hash,
    /// What it has of each stream, ascending.
    pub rows: Vec<Row>,
}

impl Builder {
    /// The most bytes of payload of one pack: places in it are numbers of 32 bits.
    pub const BYTES_MAX: usize = 1 << 30;

    /// An empty pack.
    pub fn new(head: Head) -> Builder {
        let mut body = Vec::with_capacity(START_BYTES);
        body.extend_from_slice(&MAGIC);
        body.extend_from_slice(&VERSION.to_le_bytes());
        body.resize(START_BYTES, 0);
        Builder { head, body, rows: Vec::new(), blocks: Vec::new() }
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// Adds what a stream has from `start` on, in whole records; `prev` is the newest pack before with bytes of it.
    ///
    /// # Panics
    /// If streams do not come in ascending order, or one comes without bytes.
    pub fn add(&mut self, stream: StreamId, start: Offset, prev: Option<u64>, records: &[Bytes]) {
        assert!(self.rows.last().is_none_or(|last| last.stream < stream), "invariant: streams come in order");
        let first_block = self.blocks.len() as u32;
        let (mut rest, mut at) = (records, start);
        while !rest.is_empty() {
            let (block, after) = rest.split_at(block_records(rest));
            at = self.add_block(at, block);
            rest = after;
        }
        assert!(at > start, "invariant: a stream in a pack has bytes");
        let blocks = self.blocks.len() as u32 - first_block;
        self.rows.push(Row { stream, start, end: at, prev, first_block, blocks });
    }

    /// Adds a block; returns the offset after it.
    fn add_block(&mut self, start: Offset, records: &[Bytes]) -> Offset {
        let at = self.body.len();
        let mut end = start.0;
        for record in records {
            push_varint(record.len() as u64, &mut self.body);
            end += record.len() as u64;
        }
        records.iter().for_each(|record| self.body.extend_from_slice(record));
        let bytes = &self.body[at..];
        let (crc, bytes) = (crc32c(bytes), bytes.len() as u32);
        self.blocks.push(Block { start, at: at as u32, bytes, records: records.len() as u32, crc });
        Offset(end)
    }

    /// The pack, with the records of its streams: bytes that mean nothing here.
    pub fn finish(self, records: &[u8]) -> Packed {
        let Builder { head, mut body, rows, blocks } = self;
        let records_at = body.len() as u32;
        body.extend_from_slice(records);
        encode_table(&blocks, encode_block_row, &mut body);
        encode_table(&rows, encode_row, &mut body);
        let root_at = body.len();
        let firsts = rows.chunks(PAGE_ROWS).filter_map(|page| page.first());
        firsts.for_each(|row| body.extend_from_slice(&row.stream.0.to_le_bytes()));
        let trailer = Trailer {
            head,
            rows: rows.len() as u32,
            blocks: blocks.len() as u32,
            records_at,
            records_bytes: records.len() as u32,
            records_crc: crc32c(records),
            root_crc: crc32c(&body[root_at..]),
        };
        body.extend_from_slice(&trailer.encode());
        let hash = hash(&body);
        Packed { body: body.into(), hash, rows }
    }
}

/// How many of the first records go into one block; at least one.
fn block_records(records: &[Bytes]) -> usize {
    let mut bytes = 0;
    let full = records.iter().position(|record| {
        bytes += record.len();
        bytes >= BLOCK_BYTES
    });
    full.map_or(records.len(), |last| last + 1)
}

/// A number in groups of seven bits, the lowest first (LEB128).
fn push_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
