//! The soak test against servers in memory: silent where all is well, and not where a server forgets.

use std::time::Duration;

use ursula_soak::{Kind, LoadOptions, RunOptions, run};
use ursula_tests::Options;

fn options(nodes: u32, kinds: &[Kind]) -> RunOptions {
    let gateway_flags = ["--long-poll-timeout-ms", "500"].map(str::to_owned).into();
    RunOptions {
        cluster: Options { nodes, gateways: nodes.max(1), durable: false, gateway_flags, ..Options::default() },
        load: LoadOptions {
            slots: 20,
            writers: 8,
            followers: 8,
            auditors: 1,
            lives: 2,
            // Streams end and begin while the test runs.
            records_max: 50,
            ..LoadOptions::default()
        },
        kinds: kinds.to_vec(),
        fatal: false,
        appends: 500,
        faults: kinds.len(),
        time: Duration::from_secs(120),
        logs: None,
    }
}

#[test]
fn nothing_is_wrong_with_one_process() {
    let mut told = String::new();
    let report = run(options(0, &[]), &mut |line| told += &format!("{line}\n")).expect("it runs");
    assert!(report.good, "{told}{}", report.text());
    assert!(report.json()["counts"]["streams_read_whole"].as_u64() > Some(20), "streams have their end too");
}

#[test]
fn nothing_is_wrong_with_two_tiers_that_are_hurt() {
    let kinds = [Kind::PartitionOut, Kind::CutGateway, Kind::ResetConnections, Kind::FreezeNode];
    let mut told = String::new();
    let report = run(options(1, &kinds), &mut |line| told += &format!("{line}\n")).expect("it runs");
    assert!(report.good, "{told}{}", report.text());
    for kind in kinds {
        assert_eq!(report.gaps(kind).len(), 1, "{}", kind.name());
    }
}

#[test]
fn a_server_that_forgets_is_found_out() {
    let kinds = [Kind::KillNode];
    let report = run(RunOptions { fatal: true, ..options(1, &kinds) }, &mut |_| ()).expect("it runs");
    assert!(!report.good, "it was in memory: {}", report.text());
    assert!(report.json()["violations"]["vanished"].as_u64() > Some(0), "{}", report.text());
}
