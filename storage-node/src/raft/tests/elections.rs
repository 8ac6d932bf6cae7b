//! Who leads: at the beginning, after a leader is gone, and while some cannot hear each other.

use std::time::Duration;

use crate::cluster::Lead;
use tokio::time::{Instant, sleep};
use ursula_common::NodeId;

use super::super::Error;
use super::world::{Mode, command, with_voters};

#[tokio::test(start_paused = true)]
async fn three_nodes_elect_one_and_commit() {
    with_voters(3, 1, async |world| {
        let leader = world.leader().await;
        for at in 1..=10 {
            world.append(at).await;
        }
        assert_eq!(world.agreed(&[1, 2, 3], 10).await, (1..=10).collect::<Vec<_>>());
        let status = world.replica(leader).status();
        assert_eq!(status.leader, Some(NodeId(leader)));
        assert_eq!(status.matched.len(), 3);
        for other in [1, 2, 3].into_iter().filter(|node| *node != leader) {
            let replica = world.replica(other);
            assert!(matches!(replica.propose(vec![command(11)]).await, Err(Error::NotLeader { .. })));
            assert!(matches!(replica.confirm_leadership().await, Err(Error::NotLeader { .. })));
            assert_eq!(replica.lead(), Lead { term: status.term, leader: Some(NodeId(leader)) });
        }
    })
    .await;
}

/// Measured end to end by the real processes; here the time that the timers take by themselves.
#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_replaced_within_two_seconds() {
    for nodes in [3, 5] {
        with_voters(nodes, 1, async |world| {
            let leader = world.leader().await;
            world.append(1).await;
            let began = Instant::now();
            world.kill(leader).await;
            world.append(2).await;
            let gap = began.elapsed();
            assert!(gap < Duration::from_secs(2), "{gap:?}");
            assert!(gap > Duration::from_millis(600), "a promise was broken after {gap:?}");
            let living: Vec<u64> = world.nodes.keys().copied().collect();
            assert_eq!(world.agreed(&living, 2).await, [1, 2]);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn five_nodes_do_without_two() {
    with_voters(5, 1, async |world| {
        for at in 1..=2 {
            let leader = world.leader().await;
            world.append(at).await;
            world.kill(leader).await;
        }
        world.append(3).await;
        let living: Vec<u64> = world.nodes.keys().copied().collect();
        assert_eq!(world.agreed(&living, 3).await, [1, 2, 3]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_that_was_cut_off_disturbs_nobody_when_it_comes_back() {
    with_voters(3, 1, async |world| {
        let leader = world.leader().await;
        world.append(1).await;
        let term = world.replica(leader).status().term;
        let away = [1, 2, 3].into_iter().find(|node| *node != leader).expect("a follower");
        world.set(away, Mode::Cut);
        sleep(Duration::from_secs(30)).await;
        assert_eq!(world.replica(away).status().term, term, "it only asked whether it would be elected");
        world.append(2).await;
        world.set(away, Mode::Open);
        assert_eq!(world.agreed(&[1, 2, 3], 2).await, [1, 2]);
        sleep(Duration::from_secs(5)).await;
        assert_eq!((world.leader().await, world.replica(leader).status().term), (leader, term));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_that_hears_nothing_but_is_heard_disturbs_nobody() {
    with_voters(3, 1, async |world| {
        let leader = world.leader().await;
        world.append(1).await;
        let term = world.replica(leader).status().term;
        let deaf = [1, 2, 3].into_iter().find(|node| *node != leader).expect("a follower");
        for from in [1, 2, 3].into_iter().filter(|from| *from != deaf) {
            world.wires[&(from, deaf)].set(Mode::Cut);
        }
        let before = world.ballots();
        sleep(Duration::from_secs(30)).await;
        assert!(world.ballots() > before, "it asks for votes");
        assert_eq!((world.leader().await, world.replica(leader).status().term), (leader, term));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_a_majority_neither_commits_nor_confirms() {
    with_voters(3, 1, async |world| {
        let old = world.leader().await;
        world.append(1).await;
        world.set(old, Mode::Cut);
        assert_eq!(world.replica(old).confirm_leadership().await, Ok(()), "nobody else can lead yet");
        let others: Vec<u64> = [1, 2, 3].into_iter().filter(|node| *node != old).collect();
        let new = loop {
            match others.iter().find(|node| world.replica(**node).leads()) {
                Some(node) => break *node,
                None => sleep(Duration::from_millis(1)).await,
            }
        };
        assert!(world.replica(old).leads(), "it does not know better");
        assert!(matches!(world.replica(old).confirm_leadership().await, Err(Error::NotLeader { .. })));
        assert!(
            matches!(world.replica(old).propose(vec![command(9)]).await, Err(Error::NotLeader { .. })),
            "its lease is over"
        );
        world.replica(new).propose(vec![command(2)]).await.expect("committed by two of three");
        world.set(old, Mode::Open);
        assert_eq!(world.agreed(&[1, 2, 3], 2).await, [1, 2]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_a_deposed_leader_could_not_commit_has_an_unknown_outcome() {
    with_voters(3, 1, async |world| {
        let old = world.leader().await;
        world.append(1).await;
        world.set(old, Mode::Cut);
        let replica = world.replica(old).clone();
        let lost = tokio::task::spawn_local(async move { replica.propose(vec![command(9)]).await });
        sleep(Duration::from_secs(5)).await;
        assert!(!lost.is_finished(), "it may still be committed");
        world.append(2).await;
        world.set(old, Mode::Open);
        assert_eq!(lost.await.expect("it ended"), Err(Error::OutcomeUnknown));
        assert_eq!(world.agreed(&[1, 2, 3], 2).await, [1, 2], "this time it was not");
    })
    .await;
}
