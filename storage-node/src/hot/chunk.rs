//! One piece of memory of a stream: records back to back, and where each ends.
//!
//! A chunk is written while it is open, and shared without copying once it is sealed.

use bytes::{Bytes, BytesMut};

/// The first chunk of a stream is at least so large; each further one is twice as large as the last.
const CHUNK_BYTES_MIN: usize = 256;
/// No chunk is larger, except to hold one record.
const CHUNK_BYTES_MAX: usize = 64 << 10;
/// What a chunk costs beside itself, its bytes and its index: what shares the bytes, and its place in the order of
/// eviction.
const CHUNK_OVERHEAD_BYTES: usize = 96;
/// And what the allocator needs to hold it, as a part of its bytes: blocks of such a size share pages, and leave in
/// another order than they came, so pages are never quite full. Measured: resident memory was 1.25 times what was
/// asked for.
const CHUNK_SLACK_PART: usize = 4;

#[derive(Debug)]
pub(super) struct Chunk {
    start: u64,
    data: Data,
    /// Bytes allocated for `data`, also after sealing.
    capacity: usize,
    /// Where each record ends, relative to `start`.
    ends: Vec<u32>,
}

#[derive(Debug)]
enum Data {
    Open(BytesMut),
    Sealed(Bytes),
}

impl Chunk {
    /// An empty chunk at `start` with room for a record of `record_len`, after one of `previous` bytes.
    pub(super) fn after(previous: usize, start: u64, record_len: usize) -> Chunk {
        let capacity = (previous * 2).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX).max(record_len);
        Chunk { start, data: Data::Open(BytesMut::with_capacity(capacity)), capacity, ends: Vec::new() }
    }

    pub(super) fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn end(&self) -> u64 {
        self.start + self.bytes().len() as u64
    }

    pub(super) fn has_room(&self, len: usize) -> bool {
        matches!(&self.data, Data::Open(data) if self.capacity - data.len() >= len)
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let slack = if self.capacity <= CHUNK_BYTES_MAX { self.capacity / CHUNK_SLACK_PART } else { 0 };
        self.capacity + slack + self.ends.capacity() * size_of::<u32>() + CHUNK_OVERHEAD_BYTES
    }

    /// Adds a record that fits and returns by how many bytes memory grew.
    pub(super) fn push(&mut self, record: &[u8]) -> usize {
        let before = self.memory_bytes();
        let Data::Open(data) = &mut self.data else { unreachable!("invariant: only open chunks grow") };
        data.extend_from_slice(record);
        let end = u32::try_from(data.len()).expect("invariant: a chunk is shorter than 4 GiB");
        self.ends.push(end);
        self.memory_bytes() - before
    }

    /// Ends writing, so that reads share the bytes. The unused rest stays allocated: it is less than a
    /// record, and was counted when the chunk was made.
    pub(super) fn seal(&mut self) {
        if let Data::Open(data) = &mut self.data {
            self.data = Data::Sealed(data.split().freeze());
        }
    }

    pub(super) fn boundary_at_or_after(&self, at: u64) -> u64 {
        let index = self.ends.partition_point(|end| self.start + u64::from(*end) < at);
        if at <= self.start {
            self.start
        } else {
            self.ends.get(index).map_or(self.end(), |end| self.start + u64::from(*end))
        }
    }

    pub(super) fn boundary_at_or_before(&self, at: u64) -> u64 {
        let index = self.ends.partition_point(|end| self.start + u64::from(*end) <= at);
        index.checked_sub(1).map_or(self.start, |last| self.start + u64::from(self.ends[last]))
    }

    /// The part of `[from, to)` that is in this chunk: a slice if sealed, else a copy.
    pub(super) fn slice(&self, from: u64, to: u64) -> Bytes {
        let first = from.saturating_sub(self.start) as usize;
        let last = (to.min(self.end()) - self.start) as usize;
        match &self.data {
            Data::Open(data) => Bytes::copy_from_slice(&data[first..last]),
            Data::Sealed(data) => data.slice(first..last),
        }
    }

    /// The records from the one on that begins at `from`, up to `to`, where one ends.
    pub(super) fn records(&self, from: u64, to: u64) -> impl Iterator<Item = Bytes> {
        let mut rest = self.slice(from, to);
        let mut at = from.max(self.start);
        let first = self.ends.partition_point(|end| self.start + u64::from(*end) <= at);
        let ends = self.ends[first..].iter().map(|end| self.start + u64::from(*end)).take_while(move |end| *end <= to);
        ends.map(move |end| {
            let record = rest.split_to((end - at) as usize);
            at = end;
            record
        })
    }

    fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Open(data) => data,
            Data::Sealed(data) => data,
        }
    }
}
