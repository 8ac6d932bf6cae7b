//! Delivers events to many SSE readers: is every event seen once and in order, how late, and at what cost?
//!
//! Writer and readers share one clock, so an event carries the time at which it was sent.

mod events;
mod reader;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::Error;
use crate::args::SseArgs;
use crate::procfs::Sample;
use crate::report::{Latencies, Report};
use crate::target::Target;

const CONTENT_TYPE: &str = "text/plain";
/// How many readers connect at the same time; more would overflow the backlog of a listener.
const CONNECTING_MAX: usize = 32;
const CONNECT_PATIENCE: Duration = Duration::from_secs(60);
/// How long events may come in after the last one was sent.
const GRACE: Duration = Duration::from_secs(10);
const WRITERS_MAX: usize = 32;

/// What writers and readers share.
struct Run {
    target: Target,
    bytes: usize,
    /// Counts time from here, in nanoseconds.
    epoch: Instant,
    connecting: Semaphore,
    connected: AtomicU64,
    /// Events that the server accepted, by stream.
    accepted: Vec<AtomicU64>,
    delivered: AtomicU64,
    /// Events that were not the next one.
    misplaced: AtomicU64,
    reconnects: AtomicU64,
    append_errors: AtomicU64,
    tally: Mutex<Tally>,
}

struct Tally {
    /// Only events sent after this moment count.
    from: Instant,
    latencies: Latencies,
    measured: u64,
}

/// Runs the bench.
pub(crate) async fn run(args: SseArgs) -> Result<Report, Error> {
    if args.bytes < reader::EVENT_BYTES_MIN {
        return Err(Error::Setup(format!("an event has at least {} bytes", reader::EVENT_BYTES_MIN)));
    }
    let target = Target::prepare(&args.server).await?;
    target.create_streams(args.streams, CONTENT_TYPE).await?;
    let run = Arc::new(Run::new(target, args.streams, args.bytes));
    let mut readers = JoinSet::new();
    for index in 0..args.readers {
        readers.spawn(reader::read(run.clone(), index % args.streams));
    }
    let all_here = timeout(CONNECT_PATIENCE, run.reached(&run.connected, args.readers as u64)).await;
    let connected = run.connected.load(Ordering::Relaxed);
    if all_here.is_err() {
        return Err(Error::Setup(format!("{connected} of {} readers are connected", args.readers)));
    }

    let begin = Instant::now();
    let from = begin + args.warmup;
    run.tally.lock().unwrap_or_else(PoisonError::into_inner).from = from;
    let mut writers = JoinSet::new();
    for index in 0..args.streams.min(WRITERS_MAX) {
        writers.spawn(run.clone().write(index, args.rate, begin, from + args.duration));
    }
    sleep_until(from).await;
    let before = Sample::take(&args.server.server_pid)?;
    let delivered_before = run.delivered.load(Ordering::Relaxed);
    writers.join_all().await;
    let expected = (0..args.readers).map(|reader| run.accepted[reader % args.streams].load(Ordering::Relaxed)).sum();
    let complete = timeout(GRACE, run.reached(&run.delivered, expected)).await.is_ok();
    let after = Sample::take(&args.server.server_pid)?;
    readers.shutdown().await;
    Ok(run.report(expected, complete, run.delivered.load(Ordering::Relaxed) - delivered_before, &before, &after))
}

impl Run {
    fn new(target: Target, streams: usize, bytes: usize) -> Run {
        let epoch = Instant::now();
        Run {
            target,
            bytes,
            epoch,
            connecting: Semaphore::new(CONNECTING_MAX),
            connected: AtomicU64::new(0),
            accepted: (0..streams).map(|_| AtomicU64::new(0)).collect(),
            delivered: AtomicU64::new(0),
            misplaced: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            append_errors: AtomicU64::new(0),
            tally: Mutex::new(Tally { from: epoch, latencies: Latencies::new(), measured: 0 }),
        }
    }

    async fn reached(&self, counter: &AtomicU64, wanted: u64) {
        while counter.load(Ordering::Relaxed) < wanted {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Appends to streams `index`, `index + WRITERS_MAX`, ... in turn, each append at its own time.
    async fn write(self: Arc<Self>, index: usize, rate: f64, begin: Instant, until: Instant) {
        let streams = self.accepted.len();
        let writers = streams.min(WRITERS_MAX);
        let mut connection = self.target.connection();
        let own: Vec<usize> = (index..streams).step_by(writers).collect();
        for turn in 0_u64.. {
            let due = begin + Duration::from_secs_f64((turn as f64 * writers as f64 + index as f64) / rate);
            if due >= until {
                return;
            }
            let now = Instant::now();
            sleep_until(due).await;
            // An append that had to wait for the one before it counts from when it was due. Otherwise from now:
            // timers are too coarse to count from.
            let sent = if now > due { due } else { Instant::now() };
            let stream = own[turn as usize % own.len()];
            let accepted = &self.accepted[stream];
            let event = reader::event(accepted.load(Ordering::Relaxed), sent - self.epoch, self.bytes);
            match connection.exchange(&self.target.post(stream, CONTENT_TYPE, &event)).await {
                Ok(head) if head.status < 300 => accepted.fetch_add(1, Ordering::Relaxed),
                _ => self.append_errors.fetch_add(1, Ordering::Relaxed),
            };
        }
    }

    fn report(
        &self,
        expected: u64,
        complete: bool,
        delivered_measured: u64,
        before: &Sample,
        after: &Sample,
    ) -> Report {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let mut report = Report::new();
        report.good = complete && load(&self.delivered) == expected && load(&self.misplaced) == 0 && tally.measured > 0;
        report.count("events_expected", expected);
        report.count("events_delivered", load(&self.delivered));
        report.count("events_misplaced", load(&self.misplaced));
        report.count("append_errors", load(&self.append_errors));
        report.count("reconnects", load(&self.reconnects));
        report.latencies(&tally.latencies);
        report.usage("event", delivered_measured, before, after);
        report
    }
}
