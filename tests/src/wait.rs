//! Waiting for conditions of other processes. The only file here that reads the clock.
#![expect(clippy::disallowed_methods, reason = "other processes live in real time")]

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// How long anything may take that should happen at once. Only a failing test waits for so long.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Pause between two blocks that try the disk.
const WRITE_EVERY: Duration = Duration::from_millis(100);

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

/// Watches whether the machine or its disk stands still, as virtual and overloaded ones do now and then: tests of
/// others that count in real time say nothing then.
#[derive(Debug)]
pub struct StallWatch {
    thread_ms: Arc<AtomicU64>,
    disk_ms: Arc<AtomicU64>,
}

impl StallWatch {
    /// Watches from now on, until this is dropped.
    ///
    /// # Panics
    /// If there is no thread or no temporary file to be had.
    pub fn start() -> StallWatch {
        let file = tempfile::tempfile().expect("a temporary file");
        StallWatch {
            thread_ms: watch("stalls", || {
                let pause = Stopwatch::start();
                sleep(LOOK_EVERY);
                pause.elapsed().saturating_sub(LOOK_EVERY)
            }),
            disk_ms: watch("disk stalls", move || {
                sleep(WRITE_EVERY);
                let write = Stopwatch::start();
                file.write_all_at(&[0; 4096], 0).and_then(|()| file.sync_data()).expect("a block is written");
                write.elapsed()
            }),
        }
    }

    /// The longest time for which a thread that wanted to go on did not, and the longest that the disk took for a block.
    pub fn longest(&self) -> (Duration, Duration) {
        let read = |longest_ms: &AtomicU64| Duration::from_millis(longest_ms.load(Ordering::Relaxed));
        (read(&self.thread_ms), read(&self.disk_ms))
    }
}

/// The most milliseconds that a call of `look` gave, called by a thread for as long as somebody has the answer.
fn watch(name: &str, mut look: impl FnMut() -> Duration + Send + 'static) -> Arc<AtomicU64> {
    let longest_ms = Arc::new(AtomicU64::new(0));
    let watched = Arc::downgrade(&longest_ms);
    let work = move || {
        while let Some(longest_ms) = watched.upgrade() {
            longest_ms.fetch_max(u64::try_from(look().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    };
    thread::Builder::new().name(name.to_owned()).spawn(work).expect("a thread");
    longest_ms
}
