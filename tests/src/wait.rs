//! Waiting for conditions of other processes. The only file here that reads the clock.
#![expect(clippy::disallowed_methods, reason = "other processes live in real time")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// How long anything may take that should happen at once. Only a failing test waits for so long.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Waits until `look` returns something.
///
/// # Panics
/// If it does not within [`PATIENCE`]; the message says `what` was waited for.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let watch = Stopwatch::start();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(watch.elapsed() < PATIENCE, "in vain waited for: {what}");
        sleep(LOOK_EVERY);
    }
}

/// Measures how long something takes.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Watches whether the machine stands still, as virtual and overloaded ones do now and then: tests of others that
/// count in real time say nothing then.
#[derive(Debug)]
pub struct StallWatch(Arc<AtomicU64>);

impl StallWatch {
    /// Watches from now on, until this is dropped.
    ///
    /// # Panics
    /// If there is no thread to be had.
    pub fn start() -> StallWatch {
        let longest_ms = Arc::new(AtomicU64::new(0));
        let watched = Arc::downgrade(&longest_ms);
        let watch = move || {
            while let Some(longest_ms) = watched.upgrade() {
                let pause = Stopwatch::start();
                sleep(LOOK_EVERY);
                let late = pause.elapsed().saturating_sub(LOOK_EVERY);
                longest_ms.fetch_max(u64::try_from(late.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        };
        thread::Builder::new().name("stalls".to_owned()).spawn(watch).expect("a thread");
        StallWatch(longest_ms)
    }

    /// The longest time for which a thread that wanted to go on did not.
    pub fn longest(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}
