//! Waiting for conditions of other processes. The only file here that reads the clock.
#![expect(clippy::disallowed_methods, reason = "other processes live in real time")]

use std::thread::sleep;
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
