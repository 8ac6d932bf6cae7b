//! The command line: runs the phases one after the other, and tells what came of them. Must not look into the cluster but
//! from outside.

#![expect(clippy::disallowed_methods, reason = "other processes live in real time, and clients of theirs in threads")]

mod chart;
mod cost;
mod loss;
mod samples;
mod work;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};
use ursula_test_s3::{Fault, S3};
use ursula_tests::{Cluster, Options};

use samples::{Sampler, node_metrics};
use work::Work;

const MIB: u64 = 1 << 20;
const NODES: u32 = 3;
/// The longest wait for the store to have everything.
const CATCH_UP_MAX: Duration = Duration::from_secs(3600);

/// Writes more to a cluster of three nodes than these may keep, reads all of it back and compares, and draws what memory and
/// disks did meanwhile.
#[derive(Debug, Clone, Parser)]
#[command(name = "ursula-history", version)]
struct Cli {
    /// What is written, in MiB.
    #[arg(long, default_value_t = 4096)]
    total: u64,
    /// Or, what is written in so many minutes.
    #[arg(long)]
    minutes: Option<f64>,
    /// MiB a second, at most.
    #[arg(long)]
    rate: Option<f64>,
    /// Bytes of one append.
    #[arg(long, default_value_t = 65_536)]
    bytes: usize,
    /// Streams, over which appends are spread evenly.
    #[arg(long, default_value_t = 64)]
    streams: usize,
    /// Connections that write, and read later.
    #[arg(long, default_value_t = 8)]
    writers: usize,
    /// Memory of each node for recent bytes, in MiB.
    #[arg(long, default_value_t = 64)]
    ring: u64,
    /// Memory of each node for packs that are made, in MiB.
    #[arg(long, default_value_t = 32)]
    pack_memory: u64,
    /// Log that each node keeps, in MiB.
    #[arg(long, default_value_t = 1024)]
    log: u64,
    /// The store goes away for so many minutes.
    #[arg(long, default_value_t = 0.0)]
    away: f64,
    /// That long after the start, in minutes.
    #[arg(long, default_value_t = 0.5)]
    away_after: f64,
    /// A further flag of each node.
    #[arg(long, allow_hyphen_values = true)]
    node_flag: Vec<String>,
    /// Do not read what was written.
    #[arg(long)]
    no_read: bool,
    /// In the end kill everybody, remove all directories, restore into a cluster of so many nodes, and read that.
    #[arg(long, value_name = "NODES")]
    restore: Option<u32>,
    /// Groups of that one.
    #[arg(long, default_value_t = 5)]
    restore_groups: u32,
    /// Draws a chart into this file.
    #[arg(long)]
    chart: Option<PathBuf>,
    /// One object on one line in place of lines for people.
    #[arg(long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let report = run(&cli);
    let text = match cli.output.as_str() {
        "json" => format!("{report}\n"),
        _ => report.as_object().into_iter().flatten().map(|(name, value)| format!("{name:<24} {value}\n")).collect(),
    };
    let printed = std::io::stdout().write_all(text.as_bytes()).is_ok();
    let good = ["refused", "wrong"].iter().all(|count| report[*count] == 0);
    if good && printed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn say(line: &str) {
    // There is nobody left to tell if this fails.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn run(cli: &Cli) -> Value {
    let s3 = S3::start();
    let cluster = start(cli, &s3, loss::OLD, NODES);
    let sampler = Sampler::start(&cluster);
    let gateways = urls(&cluster);
    let work = Arc::new(Work::new(cli.streams, cli.bytes, cli.writers));
    say("creating streams");
    work.create(&gateways);
    until_packed(&cluster);
    let before = s3.faults().counts();
    let started = Instant::now();
    let appends = match cli.minutes {
        Some(_) => u64::MAX,
        None => cli.total * MIB / cli.bytes as u64,
    };
    let end = cli.minutes.map(|minutes| started + Duration::from_secs_f64(minutes * 60.0));
    say("writing");
    let writing = {
        let (work, gateways) = (work.clone(), gateways.clone());
        let rate = cli.rate.map(|rate| rate * MIB as f64 / cli.bytes as f64);
        thread::spawn(move || work.write(&gateways, appends, end, rate))
    };
    if cli.away > 0.0 {
        thread::sleep(Duration::from_secs_f64(cli.away_after * 60.0));
        sampler.note("away");
        say("the store goes away");
        s3.faults().plan(&[Fault::Away], 1);
        thread::sleep(Duration::from_secs_f64(cli.away * 60.0));
        s3.faults().plan(&[], 1);
        sampler.note("back");
        say("the store is back");
    }
    writing.join().expect("writers do not panic");
    let wrote = started.elapsed();
    let asked = cost::between(before, s3.faults().counts());
    sampler.note("written");
    say(&format!("{} MiB written in {:.0} s", work.written() / MIB, wrote.as_secs_f64()));
    let packed = until_packed(&cluster);
    sampler.note("packed");
    let read = Instant::now();
    let wrong = if cli.no_read { 0 } else { work.check(&gateways) };
    let read = read.elapsed();
    sampler.note("read");
    let counts = s3.faults().counts();
    let samples = sampler.stop();
    if let Some(file) = &cli.chart {
        fs::write(file, chart::draw(&samples)).expect("a file for the chart");
    }
    let lost = cli.restore.map(|nodes| {
        loss::restore(cluster, &s3, &work, |s3| {
            let groups = ["--groups".to_owned(), cli.restore_groups.to_string()];
            start(&Cli { node_flag: groups.into(), ..cli.clone() }, s3, loss::NEW, nodes)
        })
    });
    let most = |of: fn(&samples::Node) -> u64| samples.most(of) / MIB;
    let mut report = json!({
        "written_mib": work.written() / MIB,
        "write_seconds": wrote.as_secs(),
        "refused": work.refused(),
        "unknown": work.unknown(),
        "latency_max_ms": work.slowest().as_millis() as u64,
        "catch_up_seconds": packed.as_secs(),
        "read_mib": if cli.no_read { 0 } else { work.written() / MIB },
        "read_seconds": read.as_secs(),
        "wrong": wrong,
        "store_puts": counts.puts,
        "store_gets": counts.gets,
        "store_lists": counts.lists,
        "store_deletes": counts.deletes,
        "node_rss_max_mib": most(|node| node.rss),
        "node_log_max_mib": most(|node| node.log),
        "node_unpacked_max_mib": most(|node| node.unpacked),
        "node_rss_end_mib": samples.last(|node| node.rss) / MIB,
        "node_log_end_mib": samples.last(|node| node.log) / MIB,
    });
    merge(&mut report, cost::of(asked, wrote));
    lost.into_iter().for_each(|lost| merge(&mut report, lost));
    report
}

/// Adds the figures of `more`; those that are counts of what went wrong come on top.
fn merge(report: &mut Value, more: Value) {
    for (name, value) in more.as_object().into_iter().flatten() {
        let before = report[name].as_u64();
        report[name] =
            before.zip(value.as_u64()).map_or_else(|| value.clone(), |(before, more)| (before + more).into());
    }
}

/// Where the gateways serve.
fn urls(cluster: &Cluster) -> Vec<String> {
    cluster.gateways().into_iter().flatten().map(|address| format!("http://{address}")).collect()
}

fn start(cli: &Cli, s3: &S3, prefix: &str, nodes: u32) -> Cluster {
    let mut node_flags = s3.flags(prefix);
    for (flag, value) in [
        ("--ring-bytes", cli.ring * MIB),
        ("--pack-memory-bytes", cli.pack_memory * MIB),
        ("--log-bytes", cli.log * MIB),
        ("--disk-reserve-bytes", 0),
    ] {
        node_flags.extend([flag.to_owned(), value.to_string()]);
    }
    node_flags.extend(cli.node_flag.iter().cloned());
    Cluster::start(Options { nodes, node_flags, node_env: S3::env(), ..Options::default() })
}

/// Waits until the store has everything, what was said of streams without bytes included.
fn until_packed(cluster: &Cluster) -> Duration {
    let started = Instant::now();
    loop {
        let left: f64 = node_metrics(cluster).iter().map(|node| node.value("ursula_node_unpacked_streams")).sum();
        if left == 0.0 {
            return started.elapsed();
        }
        assert!(started.elapsed() < CATCH_UP_MAX, "{left} streams are not all in packs after {CATCH_UP_MAX:?}");
        say(&format!("{left} streams are not all in packs yet"));
        thread::sleep(Duration::from_secs(1));
    }
}
