//! Writes one long stream, then reads it from its start page by page, as a client that was away would.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Error;
use crate::args::CatchupArgs;
use crate::procfs::Sample;
use crate::report::{Latencies, MIB, Report};
use crate::target::Target;

const CONTENT_TYPE: &str = "application/octet-stream";
const BUFFER_BYTES: usize = 256 * 1024;

/// What one reader got.
#[derive(Default)]
pub(crate) struct Reading {
    pub(crate) bytes: u64,
    pages: Vec<Duration>,
}

/// Runs the bench.
pub(crate) async fn run(args: CatchupArgs) -> Result<Report, Error> {
    let target = Target::prepare(&args.server).await?;
    target.create_streams(1, CONTENT_TYPE).await?;
    let writing = Instant::now();
    write(&target, args.bytes_total, args.append_bytes).await?;
    let written = writing.elapsed();

    let pids = &args.server.server_pid;
    let before = Sample::take(pids)?;
    let reading = Instant::now();
    let mut readers = JoinSet::new();
    for _ in 0..args.readers {
        let target = target.clone();
        readers.spawn(async move { read(&target, 0).await });
    }
    let readings = readers.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let elapsed = reading.elapsed();
    let after = Sample::take(pids)?;

    let mut pages = Latencies::new();
    readings.iter().flat_map(|reading| &reading.pages).for_each(|page| pages.record(*page));
    let total: u64 = readings.iter().map(|reading| reading.bytes).sum();
    let mut report = Report::new();
    report.good = readings.iter().all(|reading| reading.bytes == args.bytes_total as u64);
    report.number("write_mib_per_s", args.bytes_total as f64 / MIB / written.as_secs_f64());
    report.number("read_mib_per_s", total as f64 / MIB / elapsed.as_secs_f64());
    report.count("bytes_read", total);
    report.count("bytes_expected", args.bytes_total as u64 * args.readers as u64);
    report.count("pages", readings.iter().map(|reading| reading.pages.len() as u64).sum());
    report.latencies(&pages);
    report.usage("mib", total >> 20, &before, &after);
    Ok(report)
}

async fn write(target: &Target, bytes_total: usize, append_bytes: usize) -> Result<(), Error> {
    let mut connection = target.connection();
    let body = vec![b'x'; append_bytes];
    let request = target.post(0, CONTENT_TYPE, &body);
    let rest = &body[..bytes_total % append_bytes];
    let last = target.post(0, CONTENT_TYPE, rest);
    let whole = std::iter::repeat_n(&request, bytes_total / append_bytes);
    for request in whole.chain((!rest.is_empty()).then_some(&last)) {
        let head = connection.exchange(request).await?;
        if head.status >= 300 {
            return Err(Error::Status(head.status));
        }
    }
    Ok(())
}

/// Reads a whole stream.
pub(crate) async fn read(target: &Target, stream: usize) -> Result<Reading, Error> {
    let mut connection = target.connection_with(BUFFER_BYTES);
    let mut reading = Reading::default();
    let mut offset = "-1".to_owned();
    loop {
        let start = Instant::now();
        let mut bytes = 0;
        let request = target.get(stream, &format!("?offset={offset}"));
        let head = connection.fetch(&request, |piece| bytes += piece.len() as u64).await?;
        if head.status != 200 {
            return Err(Error::Status(head.status));
        }
        reading.pages.push(start.elapsed());
        reading.bytes += bytes;
        match head.next_offset {
            Some(next) if !head.up_to_date && next != offset => offset = next,
            _ => return Ok(reading),
        }
    }
}
