//! The bytes of streams that are in memory: what the log and the cold tier do not have to be asked for.
//!
//! Knows stream ids and offsets, nothing of names, types or consensus. Single-threaded: one [`Hot`] for
//! each core, so that its budget is shared by the groups of that core.

mod chunk;

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use ursula_common::{GroupId, Offset, StreamId};

use chunk::Chunk;

/// Bytes a [`StreamLog`] costs before its first chunk: a map of such is half empty at its worst.
const STREAM_OVERHEAD_BYTES: usize = 128;

/// Chunks of streams that are gone may stay in the order of eviction up to so many, beyond as many as
/// there are others.
const STALE_CHUNKS_MAX: usize = 1024;

/// The recent bytes of every stream of one core, within a byte budget.
#[derive(Debug)]
pub(crate) struct Hot {
    streams: HashMap<(GroupId, StreamId), StreamLog>,
    used_bytes: usize,
    /// Bytes of ops that were let in and are not applied yet.
    reserved_bytes: usize,
    budget_bytes: usize,
    evictable: Option<Evictable>,
}

/// The chunks of all streams, oldest first, if the log on disk has their bytes too.
#[derive(Debug, Default)]
struct Evictable {
    chunks: VecDeque<(GroupId, StreamId, u64)>,
    /// How many of `chunks` are still there.
    live: usize,
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
        Hot { streams: HashMap::new(), used_bytes: 0, reserved_bytes: 0, budget_bytes, evictable: None }
    }

    /// An empty store that lets go of the oldest bytes beyond `budget_bytes`: they can be read from disk.
    pub(crate) fn evicting(budget_bytes: usize) -> Hot {
        Hot { evictable: Some(Evictable::default()), ..Hot::new(budget_bytes) }
    }

    /// Memory in use and the budget, in bytes.
    pub(crate) fn usage(&self) -> (usize, usize) {
        (self.used_bytes, self.budget_bytes)
    }

    /// Sets `bytes` aside for an op, unless that would go beyond the budget. Must be given back by
    /// [`Hot::release`] when the op is applied or has failed.
    pub(crate) fn reserve(&mut self, bytes: usize) -> bool {
        let used_bytes = if self.evictable.is_some() { 0 } else { self.used_bytes };
        let fits = used_bytes + self.reserved_bytes + bytes <= self.budget_bytes;
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
        let chunks = log.chunks.len();
        self.used_bytes += log.append(record);
        if let Some(evictable) = self.evictable.as_mut().filter(|_| log.chunks.len() > chunks) {
            evictable.chunks.push_back((group, stream, at.0));
            evictable.live += 1;
        }
    }

    /// Forgets a stream.
    pub(crate) fn remove(&mut self, group: GroupId, stream: StreamId) {
        let Some(log) = self.streams.remove(&(group, stream)) else { return };
        self.used_bytes -= log.memory_bytes() + STREAM_OVERHEAD_BYTES;
        self.forget(log.chunks.len());
    }

    /// Lets go of the chunks of a stream that end at or before an offset.
    pub(crate) fn trim(&mut self, group: GroupId, stream: StreamId, to: Offset) {
        let Some(log) = self.streams.get_mut(&(group, stream)) else { return };
        let gone = log.chunk_of(to.0);
        if gone == 0 {
            return;
        }
        if gone == log.chunks.len() {
            return self.remove(group, stream);
        }
        let before = log.memory_bytes();
        log.chunks.drain(..gone);
        log.start = log.chunks.front().map_or(log.end, Chunk::start);
        self.used_bytes -= before - log.memory_bytes();
        self.forget(gone);
    }

    /// So many chunks are gone, and were not the oldest.
    fn forget(&mut self, chunks: usize) {
        let Some(evictable) = &mut self.evictable else { return };
        evictable.live -= chunks;
        if evictable.chunks.len() > 2 * evictable.live + STALE_CHUNKS_MAX {
            let streams = &self.streams;
            let is_live = |(group, stream, start): &(GroupId, StreamId, u64)| {
                streams.get(&(*group, *stream)).is_some_and(|log| log.start <= *start && *start < log.end)
            };
            evictable.chunks.retain(is_live);
        }
    }

    /// Forgets all streams of a group.
    pub(crate) fn remove_group(&mut self, group: GroupId) {
        let streams: Vec<StreamId> = self.streams.keys().filter(|key| key.0 == group).map(|key| key.1).collect();
        streams.into_iter().for_each(|stream| self.remove(group, stream));
    }

    /// Lets go of the oldest chunks beyond the budget, if the log has them.
    pub(crate) fn evict(&mut self) {
        let Some(evictable) = &mut self.evictable else { return };
        while self.used_bytes > self.budget_bytes {
            let Some((group, stream, start)) = evictable.chunks.pop_front() else { return };
            let Some(log) = self.streams.get_mut(&(group, stream)).filter(|log| log.start == start) else { continue };
            let Some(chunk) = log.chunks.pop_front() else { continue };
            evictable.live -= 1;
            self.used_bytes -= chunk.memory_bytes();
            log.start = chunk.end();
            if log.chunks.is_empty() {
                self.used_bytes -= log.memory_bytes() + STREAM_OVERHEAD_BYTES;
                self.streams.remove(&(group, stream));
            }
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

    /// The records from the one on that begins at `from`, up to the first that ends at or after `until`; none if the first
    /// is not here.
    pub(crate) fn records(&self, group: GroupId, stream: StreamId, from: Offset, until: Offset) -> Vec<Bytes> {
        let log = self.streams.get(&(group, stream)).filter(|log| (log.start..log.end).contains(&from.0));
        let Some(log) = log else { return Vec::new() };
        let next = log.boundary_at_or_after(until.0.min(log.end));
        let covering = log.chunks.range(log.chunk_of(from.0)..).take_while(|chunk| chunk.start() < next);
        covering.flat_map(|chunk| chunk.records(from.0, next)).collect()
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
    fn memory_bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(Chunk::memory_bytes).sum();
        chunks + self.chunks.capacity() * size_of::<Chunk>()
    }

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
                let places = self.chunks.capacity();
                self.chunks.push_back(chunk);
                grown += (self.chunks.capacity() - places) * size_of::<Chunk>();
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
