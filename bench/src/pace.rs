//! An open loop: the times at which requests are due, whatever the server does.
//!
//! Latency counted from these times includes the wait for a free connection, so a server that stalls cannot
//! hide the requests that it kept from being sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

/// The shortest sleep, and so how exactly requests are released. Timers of the runtime are too coarse, so a thread of its own sleeps.
const TICK: Duration = Duration::from_micros(200);

/// How long a free connection may take to notice the last requests.
const LAST_CALL: Duration = Duration::from_millis(5);

/// Hands out due times to any number of connections.
#[derive(Debug)]
pub(crate) struct Pace {
    begin: Instant,
    end: Instant,
    rate: f64,
    due: Semaphore,
    taken: AtomicU64,
}

impl Pace {
    /// Starts to release `rate` requests a second, from `begin` until `end`.
    pub(crate) fn start(begin: Instant, end: Instant, rate: f64) -> Arc<Pace> {
        let pace = Arc::new(Pace { begin, end, rate, due: Semaphore::new(0), taken: AtomicU64::new(0) });
        let releasing = pace.clone();
        tokio::task::spawn_blocking(move || releasing.release());
        pace
    }

    fn release(&self) {
        let mut released = 0;
        loop {
            let now = Instant::now();
            let due = self.due_at(now.min(self.end));
            self.due.add_permits(usize::try_from(due - released).unwrap_or(usize::MAX));
            released = due;
            if now >= self.end + LAST_CALL {
                return self.due.close();
            }
            std::thread::sleep(self.time_of(due).saturating_duration_since(now).max(TICK));
        }
    }

    fn due_at(&self, now: Instant) -> u64 {
        (now.saturating_duration_since(self.begin).as_secs_f64() * self.rate) as u64
    }

    fn time_of(&self, request: u64) -> Instant {
        self.begin + Duration::from_secs_f64(request as f64 / self.rate)
    }

    /// Waits for the next request; the answer is the time at which it was due. `None` after the end.
    pub(crate) async fn next(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        Some(self.time_of(self.taken.fetch_add(1, Ordering::Relaxed)))
    }

    /// The due times of the requests that no connection was free for until the end.
    pub(crate) fn left_over(&self) -> impl Iterator<Item = Instant> + '_ {
        (self.taken.load(Ordering::Relaxed)..self.due_at(self.end)).map(|request| self.time_of(request))
    }
}

#[cfg(test)]
mod tests;
