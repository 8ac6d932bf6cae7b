//! Three nodes and two gateways: what was acknowledged is there after every fault, once and in order. The clusters take
//! turns: each wants the machine for itself.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use ursula_soak::{Kind, LoadOptions, RunOptions, run};
use ursula_tests::Options;

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

fn good(options: RunOptions) {
    let lock = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("cluster.lock")).expect("a lock file");
    lock.lock().expect("the lock of the clusters");
    let mut told = String::new();
    let report = run(options, &mut |line| told += &format!("{line}\n")).expect("it runs");
    assert!(report.good, "{told}{}", report.text());
}

#[test]
fn everything_acknowledged_is_there_after_all_processes_were_killed_at_once() {
    good(options(&[Kind::KillAll], 5, 5000));
}

#[test]
fn everything_acknowledged_is_there_after_leaders_were_killed() {
    good(options(&[Kind::KillLeader], 10, 5000));
}

#[test]
fn each_kind_of_fault_once() {
    let options = options(&Kind::ALL, Kind::ALL.len(), 5000);
    // Where mounting is not allowed, kinds that need a disk of their own are left out, and others come twice.
    let disk_bytes = ursula_tests::Disk::mount(64 << 20).ok().map(|_| DISK_BYTES);
    good(RunOptions { cluster: Options { disk_bytes, ..options.cluster.clone() }, ..options });
}

#[test]
fn one_durable_process_keeps_everything() {
    let options = options(&[Kind::KillGateway, Kind::RollingRestart], 10, 5000);
    good(RunOptions { cluster: Options { nodes: 0, gateways: 1, ..options.cluster.clone() }, ..options });
}
