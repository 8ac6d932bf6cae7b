//! The store as a reader asks it: so many GETs at a time and no more, and each of them counted. Must not repeat any.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::store::{Answer, Body, Listed, Name, Put, Store, StoreError};

/// What readers have done since the process began.
#[derive(Debug, Default)]
pub struct Counters {
    /// Parts of packs that were in the cache, or on their way there.
    pub hits: AtomicU64,
    /// Parts of packs that were fetched.
    pub misses: AtomicU64,
    /// GETs; one fetches several blocks.
    pub gets: AtomicU64,
    /// Bytes that came.
    pub bytes: AtomicU64,
    /// Parts whose checksum was wrong: one that was damaged on its way counts once, a damaged object again and again.
    pub damaged: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct Gate {
    inner: Arc<dyn Store>,
    permits: Semaphore,
    gets_max: usize,
    counters: Counters,
}

impl Gate {
    pub(super) fn new(inner: Arc<dyn Store>, gets_max: usize) -> Gate {
        let gets_max = gets_max.clamp(1, Semaphore::MAX_PERMITS);
        Gate { inner, permits: Semaphore::new(gets_max), gets_max, counters: Counters::default() }
    }

    pub(super) fn under_way(&self) -> usize {
        self.gets_max - self.permits.available_permits()
    }

    /// The permit for a GET, which is counted.
    async fn enter(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        let permit = self.permits.acquire().await.map_err(|closed| StoreError::Unavailable(closed.to_string()))?;
        Counters::add(&self.counters.gets, 1);
        Ok(permit)
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl Store for Gate {
    fn get<'a>(&'a self, name: &'a Name, range: Range<u64>) -> Answer<'a, Bytes> {
        Box::pin(async move {
            let _permit = self.enter().await?;
            let body = self.inner.get(name, range).await?;
            Counters::add(&self.counters.bytes, body.len() as u64);
            Ok(body)
        })
    }

    fn stream<'a>(&'a self, name: &'a Name, range: Range<u64>) -> Answer<'a, Body<'a>> {
        Box::pin(async move {
            let permit = self.enter().await?;
            let body = self.inner.stream(name, range).await?;
            let counted = body.inspect(move |piece| {
                // It is given back when nothing more is to come.
                let _ = &permit;
                Counters::add(&self.counters.bytes, piece.as_ref().map_or(0, Bytes::len) as u64);
            });
            Ok(counted.boxed())
        })
    }

    fn put<'a>(&'a self, name: &'a Name, body: Bytes) -> Answer<'a, Put> {
        self.inner.put(name, body)
    }

    fn size<'a>(&'a self, name: &'a Name) -> Answer<'a, u64> {
        self.inner.size(name)
    }

    fn delete<'a>(&'a self, name: &'a Name) -> Answer<'a, ()> {
        self.inner.delete(name)
    }

    fn list<'a>(&'a self, folder: &'a Name, after: Option<&'a Name>) -> Answer<'a, Vec<Listed>> {
        self.inner.list(folder, after)
    }
}
