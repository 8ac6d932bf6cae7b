//! Three nodes and two gateways: what was acknowledged is there after every fault, once and in order, and writes go on
//! soon. The clusters take turns: each wants the machine for itself.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use ursula_soak::{Kind, LoadOptions, Report, RunOptions, percentile, run};
use ursula_tests::Options;

/// What a client may feel of the end of a leader.
const GAP_P50_MAX: Duration = Duration::from_secs(2);
const GAP_P99_MAX: Duration = Duration::from_secs(4);

/// Appends stop when there is less than half of it left.
const DISK_BYTES: u64 = 2 << 30;

fn options(kinds: &[Kind], faults: usize, appends: u64) -> RunOptions {
    let gateway_flags = ["--long-poll-timeout-ms", "1000"].map(str::to_owned).into();
    RunOptions {
        cluster: Options { gateway_flags, ..Options::default() },
        load: LoadOptions { slots: 60, writers: 24, followers: 20, records_max: 2000, ..LoadOptions::default() },
        kinds: kinds.to_vec(),
        fatal: false,
        appends,
        faults,
        time: Duration::from_secs(20 * 60),
        logs: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak")),
    }
}

fn good(options: RunOptions) -> Report {
    let lock = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("cluster.lock")).expect("a lock file");
    lock.lock().expect("the lock of the clusters");
    let mut told = String::new();
    let report = run(options, &mut |line| told += &format!("{line}\n")).expect("it runs");
    assert!(report.good, "{told}{}", report.text());
    report
}

#[test]
#[ignore = "needs the cluster"]
fn everything_acknowledged_is_there_after_all_processes_were_killed_at_once() {
    good(options(&[Kind::KillAll], 5, 5000));
}

#[test]
#[ignore = "needs the cluster"]
fn writes_go_on_soon_after_a_leader_was_killed() {
    let report = good(options(&[Kind::KillLeader], 50, 5000));
    let gaps = report.gaps(Kind::KillLeader);
    let (p50, p99) = (percentile(&gaps, 0.5), percentile(&gaps, 0.99));
    assert!(p50 <= GAP_P50_MAX && p99 <= GAP_P99_MAX, "median {p50:?}, p99 {p99:?}, all: {gaps:?}");
}

#[test]
#[ignore = "needs the cluster"]
fn each_kind_of_fault_once() {
    let options = options(&Kind::ALL, Kind::ALL.len(), 5000);
    // Where mounting is not allowed, kinds that need a disk of their own are left out, and others come twice.
    let disk_bytes = ursula_tests::Disk::mount(64 << 20).ok().map(|_| DISK_BYTES);
    good(RunOptions { cluster: Options { disk_bytes, ..options.cluster.clone() }, ..options });
}

#[test]
#[ignore = "needs the cluster"]
fn one_durable_process_keeps_everything() {
    let options = options(&[Kind::KillGateway, Kind::RollingRestart], 10, 5000);
    good(RunOptions { cluster: Options { nodes: 0, gateways: 1, ..options.cluster.clone() }, ..options });
}
