//! How long writers waited for acknowledgements: what clients feel of a fault.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The pauses between acknowledgements, of each writer and of all together.
#[derive(Debug)]
pub(crate) struct Acks {
    start: Instant,
    writers: Vec<Mutex<Track>>,
    all: Mutex<Track>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Track {
    last: Duration,
    /// The longest pause that ended after the mark.
    worst: Duration,
    resting: bool,
}

/// What clients felt since a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The longest pause of any writer.
    pub(crate) worst: Duration,
    /// The longest time without any acknowledgement at all.
    pub(crate) all: Duration,
}

impl Acks {
    pub(crate) fn new(writers: usize) -> Acks {
        Acks { start: Instant::now(), writers: (0..writers).map(|_| Mutex::default()).collect(), all: Mutex::default() }
    }

    /// The time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// A writer has an acknowledgement.
    pub(crate) fn ack(&self, writer: usize) {
        let now = self.now();
        lock(&self.all).ack(now);
        lock(&self.writers[writer]).ack(now);
    }

    /// A writer writes no more.
    pub(crate) fn rest(&self, writer: usize) {
        lock(&self.writers[writer]).resting = true;
    }

    /// Pauses that end from now on count.
    pub(crate) fn mark(&self) {
        for track in self.writers.iter().chain([&self.all]) {
            lock(track).worst = Duration::ZERO;
        }
    }

    /// Whether every writer has had an acknowledgement after `moment`.
    pub(crate) fn all_since(&self, moment: Duration) -> bool {
        self.writers.iter().map(lock).all(|track| track.resting || track.last > moment)
    }

    /// The longest pauses since the mark, also those that go on.
    pub(crate) fn gap(&self) -> Gap {
        let now = self.now();
        let worst = |track: &Mutex<Track>| lock(track).worst_until(now);
        Gap { worst: self.writers.iter().map(worst).max().unwrap_or_default(), all: worst(&self.all) }
    }
}

impl Track {
    fn ack(&mut self, now: Duration) {
        self.worst = self.worst.max(now.saturating_sub(self.last));
        self.last = self.last.max(now);
    }

    fn worst_until(&self, now: Duration) -> Duration {
        if self.resting { self.worst } else { self.worst.max(now.saturating_sub(self.last)) }
    }
}

fn lock(track: &Mutex<Track>) -> MutexGuard<'_, Track> {
    track.lock().unwrap_or_else(PoisonError::into_inner)
}
