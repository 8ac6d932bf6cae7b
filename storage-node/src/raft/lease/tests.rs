//! When a majority is certain, and since when.

use std::time::Duration;

use openraft::vote::RaftLeaderId;

use super::*;

fn leader(term: u64) -> LeaderIdOf<TypeConfig> {
    LeaderIdOf::<TypeConfig>::new(term, 1)
}

fn voters(nodes: &[u64]) -> BTreeSet<u64> {
    nodes.iter().copied().collect()
}

#[tokio::test(start_paused = true)]
async fn a_majority_counts_from_the_latest_that_completes_it() {
    let acks = Acks::default();
    let at = |ms| Instant::now() + Duration::from_millis(ms);
    let start = Instant::now();
    let five = [voters(&[1, 2, 3, 4, 5])];
    assert_eq!(acks.since(1, leader(1), &five), None);
    acks.note(2, leader(1), at(10));
    assert_eq!(acks.since(1, leader(1), &five), None, "two of five");
    acks.note(3, leader(1), at(30));
    tokio::time::advance(Duration::from_millis(100)).await;
    let since = |since: Option<Instant>| since.map(|at| (at - start).as_millis());
    assert_eq!(since(acks.since(1, leader(1), &five)), Some(10));
    acks.note(4, leader(1), start + Duration::from_millis(20));
    assert_eq!(since(acks.since(1, leader(1), &five)), Some(20), "1, 3 and 4");
    acks.note(2, leader(1), start + Duration::from_millis(5));
    assert_eq!(since(acks.since(1, leader(1), &five)), Some(20), "an older answer that was late");
}

#[tokio::test(start_paused = true)]
async fn answers_to_another_leadership_do_not_count() {
    let acks = Acks::default();
    let three = [voters(&[1, 2, 3])];
    acks.note(2, leader(1), Instant::now());
    acks.note(3, leader(1), Instant::now());
    assert!(acks.since(1, leader(1), &three).is_some());
    assert_eq!(acks.since(1, leader(2), &three), None);
    acks.note(2, leader(2), Instant::now());
    assert!(acks.since(1, leader(2), &three).is_some());
}

#[tokio::test(start_paused = true)]
async fn while_voters_change_both_majorities_are_needed() {
    let acks = Acks::default();
    let joint = [voters(&[1, 2, 3]), voters(&[3, 4, 5])];
    acks.note(2, leader(1), Instant::now());
    acks.note(4, leader(1), Instant::now());
    assert_eq!(acks.since(1, leader(1), &joint), None, "one of 3, 4 and 5: the leader is none of them");
    acks.note(5, leader(1), Instant::now());
    assert!(acks.since(1, leader(1), &joint).is_some());
    assert_eq!(acks.since(1, leader(1), &[voters(&[1])]), Some(Instant::now()), "alone");
}
