//! Creates streams as fast as possible: the rate, and the memory that an idle stream costs the server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::Error;
use crate::args::CreateArgs;
use crate::procfs::Sample;
use crate::report::{Latencies, Report};
use crate::target::Target;

const CONTENT_TYPE: &str = "application/octet-stream";

/// Runs the bench.
pub(crate) async fn run(args: CreateArgs) -> Result<Report, Error> {
    let target = Target::prepare(&args.server).await?;
    let pids = &args.server.server_pid;
    let before = Sample::take(pids)?;
    let begin = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let latencies = Arc::new(Mutex::new(Latencies::new()));
    let mut tasks = JoinSet::new();
    for _ in 0..args.connections {
        let (target, next, latencies) = (target.clone(), next.clone(), latencies.clone());
        tasks.spawn(async move {
            let mut connection = target.connection();
            let mut failed = 0_u64;
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= args.streams {
                    return failed;
                }
                let start = Instant::now();
                let created = connection.exchange(&target.put(index, CONTENT_TYPE)).await;
                failed += u64::from(!created.is_ok_and(|head| head.status < 300));
                latencies.lock().unwrap_or_else(PoisonError::into_inner).record(start.elapsed());
            }
        });
    }
    let failed: u64 = tasks.join_all().await.into_iter().sum();
    let elapsed = begin.elapsed();
    let after = Sample::take(pids)?;
    sleep(args.settle).await;
    let settled = Sample::take(pids)?;

    let created = args.streams as u64 - failed;
    let mut report = Report::new();
    report.good = failed == 0;
    report.number("creates_per_s", created as f64 / elapsed.as_secs_f64());
    report.count("created", created);
    report.count("failed", failed);
    report.latencies(&latencies.lock().unwrap_or_else(PoisonError::into_inner));
    if let (Some(before), Some(settled)) = (before.server, settled.server) {
        let grown = settled.rss_bytes as f64 - before.rss_bytes as f64;
        report.number("server_rss_bytes_per_stream", grown / created.max(1) as f64);
    }
    report.usage("create", created, &before, &after);
    Ok(report)
}
