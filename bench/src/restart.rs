//! How long a server that holds much takes to serve again after it was killed.

use std::time::Duration;

use crate::Error;
use crate::args::RestartArgs;
use crate::catchup;
use crate::fill::Fill;
use crate::own::OwnServer;
use crate::procfs::{Sample, disk_read_bytes, peak_rss_bytes};
use crate::report::{MIB, Report};

/// Streams that are read whole at the end.
const STREAMS_READ: usize = 200;

/// Runs the bench.
pub(crate) async fn run(args: RestartArgs) -> Result<Report, Error> {
    let mut server = OwnServer::prepare(&args.server)?;
    server.start().await?;
    let target = server.target(&args.server.root);
    let fill = Fill::new(args.fill, target.clone());
    fill.create().await?;
    let filled = fill.run().await?;

    let mut report = Report::new();
    report.number("fill_s", filled.as_secs_f64());
    report.count("streams", args.fill.streams as u64);
    let mut slowest = Duration::ZERO;
    for round in 1..=args.rounds + 1 {
        server.kill()?;
        let cold = round > args.rounds;
        if cold {
            server.forget_files()?;
        }
        if round == 1 {
            report.number("dir_mib", server.dir_bytes()? as f64 / MIB);
        }
        let ready = server.start().await?;
        slowest = slowest.max(ready);
        let name = if cold { "cold".to_owned() } else { format!("warm_{round}") };
        report.number(&format!("{name}_ready_s"), ready.as_secs_f64());
        let cpu = Sample::take(&[server.pid()])?.server.unwrap_or_default().cpu;
        report.number(&format!("{name}_cpu_s"), (cpu.user + cpu.system).as_secs_f64());
        report.number(&format!("{name}_read_from_disk_mib"), disk_read_bytes(server.pid())? as f64 / MIB);
        report.number(&format!("{name}_peak_rss_mib"), peak_rss_bytes(server.pid())? as f64 / MIB);
    }
    let mut wrong = 0;
    for at in 0..STREAMS_READ.min(args.fill.streams) {
        let (stream, expected) = fill.stored(at * args.fill.streams / STREAMS_READ.min(args.fill.streams));
        wrong += u64::from(catchup::read(&target, stream).await?.bytes != expected);
    }
    report.count("streams_with_other_bytes", wrong);
    report.number("limit_s", args.limit.as_secs_f64());
    report.good = wrong == 0 && slowest <= args.limit;
    Ok(report)
}
