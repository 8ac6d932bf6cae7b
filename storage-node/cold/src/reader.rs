//! Reads records of streams from the packs of their groups. Must not decide which packs count, and must not believe what
//! has no checksum that fits, or what is of another cluster.
//!
//! A read finds the pack that has an offset (`trail.rs`), fetches blocks that lie next to each other in one piece
//! (`blocks.rs`), and keeps what it fetched (`cache.rs`); whoever reads on is read ahead for (`ahead.rs`). Buckets share the
//! store (`gate.rs`, `share.rs`).

mod ahead;
mod blocks;
mod cache;
mod gate;
mod share;
mod trail;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use ursula_common::packs::Catalogue;
use ursula_common::{BucketName, ClusterId, GroupId, Offset, StreamId};

use crate::store::{Store, StoreError};
use ahead::Ahead;
use blocks::Fetched;
use cache::Cache;
use gate::Gate;
use trail::Step;

pub use gate::Counters;

/// Packs in which one read looks for bytes: a stream with little in each of them is read in small pages.
const PACKS_MAX: usize = 16;

/// What a reader may use.
#[derive(Debug, Clone, Copy)]
pub struct ReaderOptions {
    /// Memory for what was fetched.
    pub cache_bytes: usize,
    /// GETs under way at a time, of all reads together; of those of one bucket half as many.
    pub gets_max: usize,
    /// How far ahead of somebody who reads on it is fetched; much less than the cache.
    pub ahead_bytes: usize,
}

/// Reads packs. Cheap to clone; all clones share what was fetched.
#[derive(Debug, Clone)]
pub struct Reader(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cluster: ClusterId,
    store: Gate,
    cache: Cache,
    ahead: Ahead,
}

/// What is to be read.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Whose GETs these are: the bucket of the stream.
    pub bucket: BucketName,
    /// The group of the stream.
    pub group: GroupId,
    /// The packs of the group.
    pub packs: Arc<Catalogue>,
    /// The stream.
    pub stream: StreamId,
    /// The newest pack with bytes of the stream.
    pub newest: u64,
    /// Where to begin.
    pub from: Offset,
    /// Where to end; not after the end of what the newest pack has.
    pub until: Offset,
    /// How much is wanted at most, but for the last record.
    pub bytes_max: usize,
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Where the first record begins.
    pub start: Offset,
    /// Whole records that follow each other.
    pub records: Vec<Bytes>,
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct ReadError {
    /// What the store said, or is wrong with what it has.
    pub error: StoreError,
    /// If that is for good, where what can be read begins again, as far as is known.
    pub until: Option<Offset>,
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> ReadError {
        ReadError { error, until: None }
    }
}

/// What a reader uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in the cache.
    pub cache_bytes: u64,
    /// The most bytes in the cache.
    pub cache_bytes_max: u64,
    /// Bytes in it, or on their way there, that were read ahead for somebody who has not come to them yet.
    pub ahead_bytes: u64,
    /// GETs under way.
    pub gets: usize,
    /// GETs that wait for others to end.
    pub gets_waiting: usize,
}

impl Reader {
    /// A reader of the packs of a cluster.
    pub fn new(store: Arc<dyn Store>, cluster: ClusterId, options: ReaderOptions) -> Reader {
        Reader(Arc::new(Inner {
            cluster,
            store: Gate::new(store, options.gets_max),
            cache: Cache::new(options.cache_bytes),
            ahead: Ahead::new(&options),
        }))
    }

    /// Whole records from the one on that has `from`, without a gap, up to the first that ends at or after `bytes_max` more
    /// bytes, or at `until`. May end earlier, between records; empty only if there is nothing to be read. Needs a tokio
    /// runtime, for what is read ahead.
    ///
    /// # Errors
    /// If the store cannot give the first of the bytes, or they are damaged, or packs contradict each other.
    pub async fn read(&self, wanted: Wanted) -> Result<Found, ReadError> {
        let goal = wanted.until.min(Offset(wanted.from.0.saturating_add(wanted.bytes_max.max(1) as u64)));
        let mut page = Page { start: None, end: wanted.from, records: Vec::new() };
        for _ in 0..PACKS_MAX {
            if page.end >= goal {
                break;
            }
            match self.0.take(&wanted, goal, &mut page).await {
                Ok(()) => {}
                Err(error) if page.records.is_empty() => {
                    let for_good = matches!(error, StoreError::NotFound(_) | StoreError::Damaged { .. });
                    let until = if for_good { self.0.resumes(&wanted, wanted.from).await } else { None };
                    return Err(ReadError { error, until });
                }
                // Whoever reads on will hear of it.
                Err(_) => break,
            }
        }
        self.read_ahead(&wanted, page.end);
        Ok(Found { start: page.start.unwrap_or(wanted.from), records: page.records })
    }

    /// What it uses now.
    pub fn usage(&self) -> Usage {
        let (cache_bytes, cache_bytes_max) = self.0.cache.bytes();
        let (gets, gets_waiting) = self.0.store.count();
        Usage { cache_bytes, cache_bytes_max, ahead_bytes: self.0.ahead.held_bytes(), gets, gets_waiting }
    }

    /// What it has done.
    pub fn counters(&self) -> &Counters {
        self.0.store.counters()
    }
}

/// Records that are being put together.
struct Page {
    /// Where the first of them begins.
    start: Option<Offset>,
    /// Where the next one has to begin, or lie if it is the first.
    end: Offset,
    records: Vec<Bytes>,
}

impl Inner {
    /// Adds records of the pack that has the next one, up to the first that ends at or after `goal`.
    async fn take(&self, wanted: &Wanted, goal: Offset, page: &mut Page) -> Result<(), StoreError> {
        let step = self.find(wanted, page.end).await?;
        self.take_of(wanted, &step, goal, page).await
    }

    /// The same, of a pack that was found to have the next one.
    async fn take_of(&self, wanted: &Wanted, step: &Step, goal: Offset, page: &mut Page) -> Result<(), StoreError> {
        while page.end < goal.min(step.row.end) {
            for Fetched { block, bytes, end } in self.blocks(wanted, step, page.end..goal).await? {
                let fits = block.split(bytes).is_some_and(|records| page.add(block.start, end, goal, records));
                if !fits {
                    return Err(step.damaged(wanted, &format!("its block at {} does not fit there", block.start)));
                }
            }
        }
        Ok(())
    }
}

impl Page {
    /// Adds records of a block up to `goal`. Returns whether they begin and end where they should, and get further.
    fn add(&mut self, start: Offset, end: Option<Offset>, goal: Offset, records: Vec<Bytes>) -> bool {
        let fits = match self.start {
            Some(_) => start == self.end,
            None => start <= self.end,
        };
        let bytes = records.iter().map(|record| record.len() as u64).sum();
        let last = start.checked_add(bytes);
        if !fits || last.is_none() || end.is_some_and(|end| last != Some(end)) {
            return false;
        }
        let (from, mut at) = (self.end, start);
        for record in records {
            let start = at;
            at.0 += record.len() as u64;
            if at > from && start < goal {
                self.start.get_or_insert(start);
                self.end = at;
                self.records.push(record);
            }
        }
        self.end > from
    }
}
