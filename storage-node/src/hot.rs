//! The bytes of streams that are in memory: what the log and the cold tier do not have to be asked for.
//!
//! Knows stream ids and offsets, nothing of names, types or consensus. Single-threaded: one [`Hot`] for
//! each core, so that its budget is shared by the groups of that core.

mod chunk;

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use ursula_common::{GroupId, Offset, StreamId};

use chunk::Chunk;

/// Bytes a [`StreamLog`] costs before its first chunk.
const STREAM_OVERHEAD_BYTES: usize = 128;

/// The recent bytes of every stream of one core, within a byte budget.
#[derive(Debug)]
pub(crate) struct Hot {
    streams: HashMap<(GroupId, StreamId), StreamLog>,
    used_bytes: usize,
    /// Bytes of ops that were let in and are not applied yet.
    reserved_bytes: usize,
    budget_bytes: usize,
}

/// A range of stored bytes that ends at a record boundary, or where the caller asked it to end.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    /// The bytes in order; slices of the stored chunks where these are complete.
    pub(crate) pieces: Vec<Bytes>,
    /// The offset after the last byte.
    pub(crate) next: Offset,
}

impl Hot {
    /// An empty store that asks for appends to be refused beyond `budget_bytes`.
    pub(crate) fn new(budget_bytes: usize) -> Hot {
        Hot { streams: HashMap::new(), used_bytes: 0, reserved_bytes: 0, budget_bytes }
    }

    /// Memory in use and the budget, in bytes.
    pub(crate) fn usage(&self) -> (usize, usize) {
        (self.used_bytes, self.budget_bytes)
    }

    /// Sets `bytes` aside for an op, unless that would go beyond the budget. Must be given back by
    /// [`Hot::release`] when the op is applied or has failed.
    pub(crate) fn reserve(&mut self, bytes: usize) -> bool {
        let fits = self.used_bytes + self.reserved_bytes + bytes <= self.budget_bytes;
        if fits {
            self.reserved_bytes += bytes;
        }
        fits
    }

    /// Gives back what [`Hot::reserve`] set aside.
    pub(crate) fn release(&mut self, bytes: usize) {
        self.reserved_bytes -= bytes;
    }

    /// Adds one record; `at` continues the stream.
    ///
    /// # Panics
    /// If `at` is not where the stream ends: a gap in stored bytes must never be served.
    pub(crate) fn append(&mut self, group: GroupId, stream: StreamId, at: Offset, record: &[u8]) {
        let log = self.streams.entry((group, stream)).or_insert_with(|| {
            self.used_bytes += STREAM_OVERHEAD_BYTES;
            StreamLog { start: at.0, end: at.0, chunks: VecDeque::new() }
        });
        assert_eq!(log.end, at.0, "invariant: stored bytes of a stream have no gap");
        self.used_bytes += log.append(record);
    }

    /// Forgets a stream.
    pub(crate) fn remove(&mut self, group: GroupId, stream: StreamId) {
        if let Some(log) = self.streams.remove(&(group, stream)) {
            let chunks: usize = log.chunks.iter().map(Chunk::memory_bytes).sum();
            self.used_bytes -= chunks + STREAM_OVERHEAD_BYTES;
        }
    }

    /// The bytes from `from` to the first record boundary at or after `bytes_max` more, but not past
    /// `until`. Empty when nothing is stored there.
    pub(crate) fn read(
        &self,
        group: GroupId,
        stream: StreamId,
        from: Offset,
        until: Option<Offset>,
        bytes_max: usize,
    ) -> Range {
        let nothing = Range { pieces: Vec::new(), next: from };
        let Some(log) = self.streams.get(&(group, stream)) else { return nothing };
        let end = until.map_or(log.end, |until| until.0.min(log.end));
        if from.0 < log.start || from.0 >= end {
            return nothing;
        }
        let wanted = from.0.saturating_add(bytes_max as u64);
        let next = if wanted >= end { end } else { log.boundary_at_or_after(wanted).min(end) };
        Range { pieces: log.slices(from.0, next), next: Offset(next) }
    }

    /// The record that `at` lies in: where it begins, and where it ends.
    pub(crate) fn record_at(&self, group: GroupId, stream: StreamId, at: Offset) -> Option<(Offset, Offset)> {
        let log = self.streams.get(&(group, stream))?;
        (at.0 >= log.start && at.0 < log.end)
            .then(|| (Offset(log.boundary_at_or_before(at.0)), Offset(log.boundary_at_or_after(at.0 + 1))))
    }
}

/// The stored bytes `[start, end)` of one stream.
#[derive(Debug)]
struct StreamLog {
    start: u64,
    end: u64,
    chunks: VecDeque<Chunk>,
}

impl StreamLog {
    /// Adds a record and returns by how many bytes memory grew.
    fn append(&mut self, record: &[u8]) -> usize {
        let mut grown = 0;
        let open = self.chunks.back_mut().filter(|last| last.has_room(record.len()));
        match open {
            Some(last) => grown += last.push(record),
            None => {
                if let Some(last) = self.chunks.back_mut() {
                    last.seal();
                }
                let previous = self.chunks.back().map_or(0, Chunk::capacity);
                let mut chunk = Chunk::after(previous, self.end, record.len());
                chunk.push(record);
                grown += chunk.memory_bytes();
                self.chunks.push_back(chunk);
            }
        }
        self.end += record.len() as u64;
        grown
    }

    /// The index of the chunk that holds the byte at `at`.
    fn chunk_of(&self, at: u64) -> usize {
        self.chunks.partition_point(|chunk| chunk.end() <= at)
    }

    fn boundary_at_or_after(&self, at: u64) -> u64 {
        self.chunks.get(self.chunk_of(at)).map_or(self.end, |chunk| chunk.boundary_at_or_after(at))
    }

    fn boundary_at_or_before(&self, at: u64) -> u64 {
        self.chunks.get(self.chunk_of(at)).map_or(self.end, |chunk| chunk.boundary_at_or_before(at))
    }

    fn slices(&self, from: u64, to: u64) -> Vec<Bytes> {
        let first = self.chunk_of(from);
        let covering = self.chunks.range(first..).take_while(|chunk| chunk.start() < to);
        covering.map(|chunk| chunk.slice(from, to)).collect()
    }
}

#[cfg(test)]
mod tests;
