//! The store as a reader asks it: when it is his turn (`share.rs`), and each GET counted. Must not repeat any.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt as _;
use ursula_common::BucketName;

use super::share::{Shares, Turn};
use crate::store::{Answer, Body, Listed, Name, Put, Store};

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
    shares: Shares,
    counters: Arc<Counters>,
}

/// The store for one who has a turn: one GET at a time, as often as need be. All clones have the same turn.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    inner: Arc<dyn Store>,
    counters: Arc<Counters>,
    _turn: Arc<Turn>,
}

impl Gate {
    pub(super) fn new(inner: Arc<dyn Store>, gets_max: usize) -> Gate {
        Gate { inner, shares: Shares::new(gets_max), counters: Arc::default() }
    }

    /// How many have a turn, and how many wait for one.
    pub(super) fn count(&self) -> (usize, usize) {
        self.shares.count()
    }

    /// Waits for a turn, for bytes that somebody wants of a bucket.
    pub(super) async fn enter(&self, bucket: &BucketName) -> Pass {
        let turn = Arc::new(self.shares.turn(bucket).await);
        Pass { inner: self.inner.clone(), counters: self.counters.clone(), _turn: turn }
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl Store for Pass {
    fn get<'a>(&'a self, name: &'a Name, range: Range<u64>) -> Answer<'a, Bytes> {
        let Pass { inner, counters, .. } = self;
        Box::pin(async move {
            Counters::add(&counters.gets, 1);
            let body = inner.get(name, range).await?;
            Counters::add(&counters.bytes, body.len() as u64);
            Ok(body)
        })
    }

    fn stream<'a>(&'a self, name: &'a Name, range: Range<u64>) -> Answer<'a, Body<'a>> {
        let Pass { inner, counters, .. } = self;
        Box::pin(async move {
            Counters::add(&counters.gets, 1);
            let body = inner.stream(name, range).await?;
            let counted = body.inspect(move |piece| {
                Counters::add(&counters.bytes, piece.as_ref().map_or(0, Bytes::len) as u64);
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
