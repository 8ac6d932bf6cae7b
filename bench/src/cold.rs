//! How fast a long stream is read whose bytes have left the machine, and the memory that takes, beside a plain GET of the
//! objects in which they lie.

use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Error;
use crate::args::{ColdArgs, FillArgs};
use crate::catchup;
use crate::fill::Fill;
use crate::own::OwnServer;
use crate::procfs::{Sample, forget_peak, peak_rss_bytes};
use crate::report::{MIB, Report};

/// How long the bytes of the stream may take to leave.
const GONE_PATIENCE: Duration = Duration::from_secs(600);
const GONE_PAUSE: Duration = Duration::from_millis(500);

/// Runs the bench.
pub(crate) async fn run(args: ColdArgs) -> Result<Report, Error> {
    let mut server = OwnServer::prepare(&args.server)?;
    server.start().await?;
    let target = server.target(&args.server.root);
    let fill = FillArgs { streams: 1, connections: 1, bytes: args.bytes, total: args.total, stream_bytes: None };
    let fill = Fill::new(fill, target.clone());
    fill.create().await?;
    let filled = fill.run().await?;
    let gone = until_gone(&server.fill_in(&args.gone)).await?;

    let expected = fill.stored(0).1;
    let mut report = Report::new();
    report.number("write_mib_per_s", expected as f64 / MIB / filled.as_secs_f64());
    report.number("gone_s", gone.as_secs_f64());
    let (mut plain, mut ours) = (Vec::new(), Vec::new());
    let mut added_most = 0;
    for round in 1..=args.rounds {
        let begin = Instant::now();
        let bytes = plain_get(&args.plain)?;
        plain.push(rate(bytes, begin.elapsed()));
        // One that has read nothing yet, with an empty cache.
        server.kill()?;
        server.start().await?;
        if round == 1 {
            report.number("plain_mib", bytes as f64 / MIB);
            report.number("left_in_dir_mib", server.dir_bytes()? as f64 / MIB);
        }
        let pids = [server.pid()];
        let before = Sample::take(&pids)?;
        forget_peak(server.pid())?;
        let begin = Instant::now();
        let read = catchup::read(&target, 0).await?.bytes;
        ours.push(rate(read, begin.elapsed()));
        let after = Sample::take(&pids)?;
        let rss = before.server.map_or(0, |server| server.rss_bytes);
        let added = peak_rss_bytes(server.pid())?.saturating_sub(rss);
        added_most = added_most.max(added);
        report.number(&format!("plain_{round}_mib_per_s"), plain[round - 1]);
        report.number(&format!("read_{round}_mib_per_s"), ours[round - 1]);
        report.number(&format!("read_{round}_added_mib"), added as f64 / MIB);
        if round == args.rounds {
            report.usage("mib", read >> 20, &before, &after);
        }
        report.good &= read == expected;
    }
    let ratio = median(&mut ours) / median(&mut plain);
    report.number("ratio", ratio);
    report.good &= ratio >= args.ratio && added_most <= args.memory as u64;
    Ok(report)
}

fn rate(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / MIB / took.as_secs_f64()
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Waits until a command succeeds. Returns how long it took.
async fn until_gone(command: &str) -> Result<Duration, Error> {
    let begin = Instant::now();
    while begin.elapsed() < GONE_PATIENCE {
        let mut shell = shell(command);
        if shell.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success() {
            return Ok(begin.elapsed());
        }
        sleep(GONE_PAUSE).await;
    }
    Err(Error::Setup(format!("`{command}` still fails")))
}

/// Runs the command that gets the objects; the last word that it writes is the number of their bytes.
fn plain_get(command: &str) -> Result<u64, Error> {
    let output = shell(command).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let bytes = text.split_whitespace().last().and_then(|word| word.parse().ok());
    bytes
        .filter(|_| output.status.success())
        .ok_or_else(|| Error::Setup(format!("`{command}` ended with {}", output.status)))
}

fn shell(command: &str) -> Command {
    let mut shell = Command::new("bash");
    shell.args(["-c", command]).stdin(Stdio::null());
    shell
}
