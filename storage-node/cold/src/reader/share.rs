//! Who may ask the store next: so many at a time, and of one bucket half as many. Among buckets that wait, the one that has
//! the fewest under way comes first, so none of them starves, however many reads of another one wait. Must not know what is
//! asked.
//!
//! A bucket that has nothing under way and does not wait is not known here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use ursula_common::BucketName;

/// What buckets share. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Shares(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    bucket_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    under_way: usize,
    /// Counts those who came to wait.
    tickets: u64,
    buckets: BTreeMap<BucketName, Bucket>,
}

#[derive(Debug, Default)]
struct Bucket {
    under_way: usize,
    /// In the order in which they came, with their tickets.
    waiting: VecDeque<(u64, oneshot::Sender<Turn>)>,
}

/// One that is under way; others may go on when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    shares: Shares,
    bucket: BucketName,
}

impl Shares {
    /// So many at a time, at least two.
    pub(super) fn new(max: usize) -> Shares {
        let max = max.max(2);
        Shares(Arc::new(Inner { max, bucket_max: max / 2, state: Mutex::default() }))
    }

    /// How many are under way, and how many wait.
    pub(super) fn count(&self) -> (usize, usize) {
        let state = self.state();
        (state.under_way, state.buckets.values().map(|bucket| bucket.waiting.len()).sum())
    }

    /// Waits for a turn. Whoever gives up loses nothing.
    pub(super) async fn turn(&self, bucket: &BucketName) -> Turn {
        let waiting = {
            let mut state = self.state();
            let own = state.buckets.get(bucket);
            // Nobody who could go on waits, so there is nobody to be overtaken.
            if state.under_way < self.0.max && own.is_none_or(|own| own.under_way < self.0.bucket_max) {
                state.begin(bucket);
                return Turn { shares: self.clone(), bucket: bucket.clone() };
            }
            let (turn, waiting) = oneshot::channel();
            let ticket = state.tickets;
            state.tickets += 1;
            state.buckets.entry(bucket.clone()).or_default().waiting.push_back((ticket, turn));
            waiting
        };
        waiting.await.expect("invariant: who waits is told, and is forgotten only when he has gone")
    }

    /// Ends one, and lets the next one begin.
    fn end(&self, bucket: &BucketName) {
        let next = {
            let mut state = self.state();
            state.end(bucket);
            state.next(self.0.bucket_max)
        };
        if let Some((bucket, turn)) = next {
            // If he has gone in this very moment, this comes back as one that ends.
            drop(turn.send(Turn { shares: self.clone(), bucket }));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begin(&mut self, bucket: &BucketName) {
        self.under_way += 1;
        self.buckets.entry(bucket.clone()).or_default().under_way += 1;
    }

    fn end(&mut self, bucket: &BucketName) {
        self.under_way -= 1;
        let known = self.buckets.get_mut(bucket).expect("invariant: a bucket with something under way is known");
        known.under_way -= 1;
    }

    /// Begins the one that comes next, if there is any.
    fn next(&mut self, bucket_max: usize) -> Option<(BucketName, oneshot::Sender<Turn>)> {
        self.buckets.retain(|_, bucket| {
            while bucket.waiting.front().is_some_and(|(_, turn)| turn.is_closed()) {
                bucket.waiting.pop_front();
            }
            bucket.under_way > 0 || !bucket.waiting.is_empty()
        });
        let waiting = self.buckets.iter().filter(|(_, bucket)| bucket.under_way < bucket_max);
        let first = waiting.filter_map(|(name, bucket)| Some((bucket.under_way, bucket.waiting.front()?.0, name)));
        let name = first.min()?.2.clone();
        let (_, turn) = self.buckets.get_mut(&name)?.waiting.pop_front()?;
        self.begin(&name);
        Some((name, turn))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.shares.end(&self.bucket);
    }
}

#[cfg(test)]
mod tests;
