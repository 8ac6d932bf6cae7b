//! The load against an honest server that is made to lie by whoever stands between.

mod liar;

use liar::{Lying, lie_to};
use ursula_tests::Server;

use super::*;

/// Appends that must be acknowledged before a run without a violation is believed.
const APPENDS_MAX: u64 = 3000;
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Runs the load by way of somebody who lies in this way, and returns what was found first.
fn found(lying: Lying) -> Option<Lie> {
    let server = Server::tiers();
    let gateways = Arc::new(Gateways::over_tcp());
    gateways.set(vec![Some(lie_to(&server, lying))]);
    let options = LoadOptions {
        slots: 6,
        writers: 6,
        followers: 0,
        auditors: 2,
        lives: 1,
        keepers: 0,
        records_max: 40,
        ..LoadOptions::default()
    };
    let load = Load::start(options, gateways).expect("it starts");
    let shared = load.shared.clone();
    let acked = || shared.counters.acked.load(Ordering::Relaxed);
    while shared.findings.after(0).is_empty() && acked() < APPENDS_MAX {
        std::thread::sleep(LOOK_EVERY);
    }
    load.finish();
    shared.findings.after(0).first().map(|violation| violation.lie)
}

#[track_caller]
fn assert_found(lying: Lying, lies: &[Lie]) {
    let lie = found(lying);
    assert!(lie.is_some_and(|lie| lies.contains(&lie)), "{lying:?} was found as {lie:?}");
}

#[test]
fn an_honest_server_is_believed() {
    assert_eq!(found(Lying::Never), None);
}

#[test]
fn an_append_is_acknowledged_and_forgotten() {
    assert_found(Lying::Forget, &[Lie::Lost, Lie::Stale]);
}

#[test]
fn an_append_is_applied_twice() {
    // Seen by a reader, or by the writer whose record has another place than the one that was told.
    assert_found(Lying::Double, &[Lie::Twice]);
}

#[test]
fn an_append_is_applied_and_refused() {
    assert_found(Lying::Refuse, &[Lie::Twice]);
}

#[test]
fn tails_are_old() {
    assert_found(Lying::OldTails, &[Lie::Stale]);
}

#[test]
fn pages_lack_a_record() {
    assert_found(Lying::Omit, &[Lie::Lost, Lie::RolledBack]);
}

#[test]
fn pages_are_in_another_order() {
    assert_found(Lying::Swap, &[Lie::Reordered]);
}

#[test]
fn pages_end_before_they_say() {
    assert_found(Lying::Cut, &[Lie::Gap]);
}

#[test]
fn deletes_are_not_made() {
    assert_found(Lying::Keep, &[Lie::Vanished]);
}

#[test]
fn closes_are_not_made() {
    assert_found(Lying::LeaveOpen, &[Lie::AfterClose, Lie::Stale, Lie::Unexpected]);
}
