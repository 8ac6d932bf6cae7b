//! How much memory a server has while much more passes through it than it may keep in memory.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Error;
use crate::args::MemoryArgs;
use crate::catchup;
use crate::fill::Fill;
use crate::own::OwnServer;
use crate::procfs::{Sample, peak_rss_bytes};
use crate::report::{MIB, Report};

/// How often memory is looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
/// Figures on the way.
const PARTS: usize = 10;

/// Runs the bench.
pub(crate) async fn run(args: MemoryArgs) -> Result<Report, Error> {
    let mut server = OwnServer::prepare(&args.server)?;
    server.start().await?;
    let pids = [server.pid()];
    let empty = Sample::take(&pids)?;
    let target = server.target(&args.server.root);
    let fill = Fill::new(args.fill, target.clone());
    fill.create().await?;
    let before = Sample::take(&pids)?;

    let read = Arc::new(AtomicU64::new(0));
    let mut readers = JoinSet::new();
    for _ in 0..args.readers {
        let (target, read, fill) = (target.clone(), read.clone(), fill.clone());
        readers.spawn(async move {
            loop {
                let stream = fill.now(RandomState::new().build_hasher().finish() as usize % args.fill.streams);
                // One that is deleted meanwhile cannot be read.
                let bytes = catchup::read(&target, stream).await.map_or(0, |reading| reading.bytes);
                read.fetch_add(bytes, Ordering::Relaxed);
            }
        });
    }
    let writing = tokio::spawn({
        let fill = fill.clone();
        async move { fill.run().await }
    });
    let mut on_the_way = Vec::new();
    let (mut samples, mut highest) = (0, 0);
    while !writing.is_finished() {
        sleep(SAMPLE_INTERVAL).await;
        let rss = Sample::take(&pids)?.server.map_or(0, |server| server.rss_bytes);
        (samples, highest) = (samples + 1, highest.max(rss));
        if fill.done.load(Ordering::Relaxed) as usize * PARTS >= fill.appends() * (on_the_way.len() + 1) {
            on_the_way.push(rss);
        }
    }
    let took = writing.await.map_err(std::io::Error::other)??;
    readers.shutdown().await;
    let after = Sample::take(&pids)?;
    let peak = peak_rss_bytes(server.pid())?;
    let bound = (args.budget + args.fill.streams * args.stream_budget) as u64;

    let mut report = Report::new();
    let passed = fill.appends() as f64 * args.fill.bytes as f64;
    report.number("passed_mib", passed / MIB);
    report.number("mib_per_s", passed / MIB / took.as_secs_f64());
    report.number("read_mib", read.load(Ordering::Relaxed) as f64 / MIB);
    report.count("refused", fill.refused.load(Ordering::Relaxed));
    report.number("dir_mib", server.dir_bytes()? as f64 / MIB);
    report.number("empty_rss_mib", empty.server.map_or(0, |server| server.rss_bytes) as f64 / MIB);
    for (part, rss) in on_the_way.iter().enumerate() {
        report.number(&format!("rss_mib_at_{}_percent", (part + 1) * 100 / PARTS), *rss as f64 / MIB);
    }
    report.count("samples", samples);
    report.number("highest_rss_mib", highest as f64 / MIB);
    report.number("peak_rss_mib", peak as f64 / MIB);
    report.number("bound_mib", bound as f64 / MIB);
    report.usage("append", fill.done.load(Ordering::Relaxed), &before, &after);
    report.good = peak.max(highest) <= bound;
    Ok(report)
}
