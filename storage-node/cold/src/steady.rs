//! A store in front of another one, for everybody: calls have a deadline, what failed for a moment is tried again, and a store
//! that is out of reach is left alone. The only place that repeats calls. Must not change what a call means.
//!
//! Time is tokio's and chance comes from a seed, so that a simulated run is always the same.

mod breaker;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::store::{Answer, Body, Listed, Name, Put, Store, StoreError};
use breaker::Breaker;

pub use breaker::Health;

/// How patient to be.
#[derive(Debug, Clone, Copy)]
pub struct SteadyOptions {
    /// For one try of a call, besides what its bytes take.
    pub try_timeout: Duration,
    /// For all tries of a call and the pauses between them, besides what its bytes take.
    pub deadline: Duration,
    /// What the bytes of a call take: a connection slower than this counts as broken.
    pub bytes_per_second_min: u64,
    /// The most tries of a call.
    pub tries_max: u32,
    /// The longest first pause of a call between tries; each next one may be twice as long. A pause is drawn between
    /// nothing and that.
    pub pause: Duration,
    /// Failed tries in a row, of all calls, after which the store is left alone.
    pub failures_max: u32,
    /// How long it is left alone at first; twice as long after each probe that fails.
    pub rest: Duration,
    /// The longest that it is left alone.
    pub rest_max: Duration,
}

impl Default for SteadyOptions {
    fn default() -> SteadyOptions {
        SteadyOptions {
            try_timeout: Duration::from_secs(10),
            deadline: Duration::from_secs(30),
            bytes_per_second_min: 1 << 20,
            tries_max: 4,
            pause: Duration::from_millis(100),
            failures_max: 8,
            rest: Duration::from_secs(1),
            rest_max: Duration::from_secs(30),
        }
    }
}

/// Calls of one kind since the process began, as the store's bill counts them: each try is one.
#[derive(Debug, Default)]
pub struct Calls {
    /// Tries.
    pub tries: AtomicU64,
    /// Tries that failed, other than by [`StoreError::NotFound`].
    pub errors: AtomicU64,
    /// Bytes of objects that were sent or came.
    pub bytes: AtomicU64,
}

/// All calls since the process began.
#[derive(Debug, Default)]
pub struct Counters {
    /// PUT.
    pub puts: Calls,
    /// GET.
    pub gets: Calls,
    /// HEAD.
    pub sizes: Calls,
    /// DELETE.
    pub deletes: Calls,
    /// LIST.
    pub lists: Calls,
}

/// A store that is asked with patience. [`Put::Exists`] may mean that an earlier try of the same call has stored the object:
/// names that nobody else uses tell the two apart.
#[derive(Debug)]
pub struct Steady {
    inner: Arc<dyn Store>,
    options: SteadyOptions,
    breaker: Breaker,
    random: Mutex<StdRng>,
    counters: Counters,
}

impl Steady {
    /// A store in front of `inner`; pauses are drawn from the seed.
    pub fn new(inner: Arc<dyn Store>, options: SteadyOptions, seed: u64) -> Steady {
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        Steady { inner, options, breaker: Breaker::new(&options), random, counters: Counters::default() }
    }

    /// How the store is, now and whenever that changes.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.breaker.health()
    }

    /// What was asked of it.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Tries until it works, fails for good, or takes too long. `bytes` travel with the call.
    async fn call<'a, T>(
        &'a self,
        calls: &Calls,
        bytes: u64,
        attempt: impl Fn() -> Answer<'a, T> + Send,
    ) -> Result<T, StoreError> {
        let SteadyOptions { try_timeout, tries_max, pause, .. } = self.options;
        let transfer = self.transfer(bytes);
        let deadline = Instant::now() + self.options.deadline + transfer;
        let (mut tries, mut pause_max) = (0, pause);
        loop {
            let turn = self.breaker.enter()?;
            tries += 1;
            calls.tries.fetch_add(1, Ordering::Relaxed);
            let try_deadline = deadline.min(Instant::now() + try_timeout + transfer);
            let answer =
                timeout_at(try_deadline, attempt()).await.unwrap_or_else(|_| Err(late(try_timeout + transfer)));
            let goes_on = turn.settle(answer.as_ref().err());
            let error = match answer {
                Ok(answer) => {
                    calls.bytes.fetch_add(bytes, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error @ StoreError::NotFound(_)) => return Err(error),
                Err(error) => error,
            };
            calls.errors.fetch_add(1, Ordering::Relaxed);
            let again = Instant::now() + self.draw(pause_max);
            if !error.is_transient() || !goes_on || tries >= tries_max || again >= deadline {
                return Err(error);
            }
            sleep(again - Instant::now()).await;
            pause_max = pause_max.saturating_mul(2);
        }
    }

    /// What so many bytes may take.
    fn transfer(&self, bytes: u64) -> Duration {
        Duration::from_secs(bytes.div_ceil(self.options.bytes_per_second_min.max(1)))
    }

    /// A pause up to `most`: all lengths alike, so that those who failed together do not come back together.
    fn draw(&self, most: Duration) -> Duration {
        most.mul_f64(self.random.lock().unwrap_or_else(PoisonError::into_inner).random())
    }
}

fn late(timeout: Duration) -> StoreError {
    StoreError::Unavailable(format!("no answer within {} s", timeout.as_secs_f64()))
}

impl Store for Steady {
    fn put<'a>(&'a self, name: &'a Name, body: Bytes) -> Answer<'a, Put> {
        let bytes = body.len() as u64;
        Box::pin(async move { self.call(&self.counters.puts, bytes, || self.inner.put(name, body.clone())).await })
    }

    fn get<'a>(&'a self, name: &'a Name, range: Range<u64>) -> Answer<'a, Bytes> {
        let bytes = range.end.saturating_sub(range.start);
        Box::pin(async move { self.call(&self.counters.gets, bytes, || self.inner.get(name, range.clone())).await })
    }

    fn stream<'a>(&'a self, name: &'a Name, range: Range<u64>) -> Answer<'a, Body<'a>> {
        let calls = &self.counters.gets;
        let timeout = self.options.try_timeout + self.transfer(range.end.saturating_sub(range.start));
        Box::pin(async move {
            let body = self.call(calls, 0, || self.inner.stream(name, range.clone())).await?;
            let deadline = Instant::now() + timeout;
            // What has begun to come is not asked for again here: whoever takes it knows what is missing.
            let timely = stream::unfold(Some(body), move |body| async move {
                let mut body = body?;
                let late = |_| Some(Err(late(timeout)));
                let piece = timeout_at(deadline, body.next()).await.unwrap_or_else(late)?;
                match &piece {
                    Ok(piece) => calls.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed),
                    Err(_) => calls.errors.fetch_add(1, Ordering::Relaxed),
                };
                let rest = piece.is_ok().then_some(body);
                Some((piece, rest))
            });
            Ok(timely.boxed())
        })
    }

    fn size<'a>(&'a self, name: &'a Name) -> Answer<'a, u64> {
        Box::pin(async move { self.call(&self.counters.sizes, 0, || self.inner.size(name)).await })
    }

    fn delete<'a>(&'a self, name: &'a Name) -> Answer<'a, ()> {
        Box::pin(async move { self.call(&self.counters.deletes, 0, || self.inner.delete(name)).await })
    }

    fn list<'a>(&'a self, folder: &'a Name, after: Option<&'a Name>) -> Answer<'a, Vec<Listed>> {
        Box::pin(async move { self.call(&self.counters.lists, 0, || self.inner.list(folder, after)).await })
    }
}
