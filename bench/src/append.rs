//! Appends to many streams: throughput, latency, errors, and what they cost the server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::Error;
use crate::args::AppendArgs;
use crate::client::Connection;
use crate::pace::Pace;
use crate::procfs::Sample;
use crate::report::{Latencies, Report};
use crate::target::Target;

const CONTENT_TYPE: &str = "application/octet-stream";
/// How long answers may come in after the end.
const GRACE: Duration = Duration::from_secs(30);
/// After an error, so that a server that is down is not asked in a tight loop.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// What all connections share.
struct Load {
    /// One append for each stream, ready to send.
    requests: Vec<Vec<u8>>,
    connections: usize,
    pace: Option<Arc<Pace>>,
    /// Measured from here...
    from: Instant,
    /// ...until here.
    until: Instant,
    tally: Mutex<Tally>,
}

struct Tally {
    latencies: Latencies,
    done: u64,
    errors: BTreeMap<String, u64>,
}

/// Runs the bench.
pub(crate) async fn run(args: AppendArgs) -> Result<Report, Error> {
    let target = Target::prepare(&args.server).await?;
    target.create_streams(args.streams, CONTENT_TYPE).await?;
    let body = vec![b'x'; args.bytes];
    let begin = Instant::now();
    let from = begin + args.warmup;
    let until = from + args.duration;
    let load = Arc::new(Load {
        requests: (0..args.streams).map(|index| target.post(index, CONTENT_TYPE, &body)).collect(),
        connections: args.connections,
        pace: args.rate.map(|rate| Pace::start(begin, until, rate)),
        from,
        until,
        tally: Mutex::new(Tally { latencies: Latencies::new(), done: 0, errors: BTreeMap::new() }),
    });
    let mut workers = JoinSet::new();
    for index in 0..args.connections {
        workers.spawn(load.clone().work(index, target.connection()));
    }

    let pids = &args.server.server_pid;
    sleep_until(from).await;
    let before = Sample::take(pids)?;
    sleep_until(until).await;
    let after = Sample::take(pids)?;
    let all_answered = timeout_at(until + GRACE, async { while workers.join_next().await.is_some() {} }).await.is_ok();

    let mut tally = load.tally.lock().unwrap_or_else(PoisonError::into_inner);
    let unsent = load.count_unsent(&mut tally);
    let mut report = Report::new();
    report.good = tally.done > 0 && all_answered;
    report.number("appends_per_s", tally.done as f64 / args.duration.as_secs_f64());
    report.count("appends", tally.done);
    report.latencies(&tally.latencies);
    report.counts("errors", tally.errors.iter());
    if args.rate.is_some() {
        report.count("unsent", unsent);
    }
    report.usage("append", tally.done, &before, &after);
    Ok(report)
}

impl Load {
    /// One connection: appends to every stream in turn, out of step with the other connections.
    async fn work(self: Arc<Self>, index: usize, mut connection: Connection) {
        let mut turn = index;
        while let Some(start) = self.next_start().await {
            let outcome = connection.exchange(&self.requests[turn % self.requests.len()]).await;
            let end = Instant::now();
            turn += self.connections;
            let error = match outcome {
                Ok(head) if head.status < 300 => None,
                Ok(head) => Some(head.status.to_string()),
                Err(_) => Some("connection".to_owned()),
            };
            let failed = error.is_some();
            self.record(start, end, error);
            if failed {
                sleep(ERROR_PAUSE).await;
            }
        }
    }

    /// The time that the next append counts from; `None` after the end.
    async fn next_start(&self) -> Option<Instant> {
        match &self.pace {
            Some(pace) => pace.next().await,
            None => Some(Instant::now()).filter(|now| *now < self.until),
        }
    }

    fn record(&self, start: Instant, end: Instant, error: Option<String>) {
        let measured = self.from..self.until;
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(error) if measured.contains(&start) => *tally.errors.entry(error).or_default() += 1,
            Some(_) => {}
            None => {
                tally.done += u64::from(measured.contains(&end));
                if measured.contains(&start) {
                    tally.latencies.record(end - start);
                }
            }
        }
    }

    /// Appends that were due and never sent waited at least until the end.
    fn count_unsent(&self, tally: &mut Tally) -> u64 {
        let mut unsent = 0;
        for due in self.pace.iter().flat_map(|pace| pace.left_over()).filter(|due| *due >= self.from) {
            tally.latencies.record(self.until - due);
            unsent += 1;
        }
        unsent
    }
}
