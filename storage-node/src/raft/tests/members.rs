//! Members that come, catch up, vote, lead and go.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use ursula_common::NodeId;

use super::super::{Error, LOG_BYTES_MAX, LOG_PATIENCE};
use super::memory;
use super::world::{Mode, World, command, with_nodes, with_voters};

fn set(nodes: &[u64]) -> BTreeSet<NodeId> {
    nodes.iter().copied().map(NodeId).collect()
}

async fn caught_up(world: &World, leader: u64, node: u64) {
    loop {
        let status = world.replica(leader).status();
        match status.matched.get(&NodeId(node)) {
            Some(matched) if *matched >= status.last_log => return,
            Some(_) | None => sleep(Duration::from_millis(10)).await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_learner_catches_up_votes_and_replaces_another() {
    with_nodes(4, 1, async |world| {
        world.replica(1).initialize([1, 2, 3].map(NodeId)).await.expect("a group");
        for at in 1..=20 {
            world.append(at).await;
        }
        let leader = world.leader().await;
        let replica = world.replica(leader).clone();
        assert!(replica.change_voters(&set(&[1, 2, 3, 4]), false).await.is_err(), "a stranger gets no vote");
        replica.add_learner(NodeId(4)).await.expect("a learner");
        caught_up(world, leader, 4).await;
        assert_eq!(replica.status().learners, set(&[4]));
        let leaves = [1, 2, 3].into_iter().find(|node| *node != leader).expect("a follower");
        let stay: Vec<u64> = [1, 2, 3, 4].into_iter().filter(|node| *node != leaves).collect();
        replica.change_voters(&set(&stay), true).await.expect("changed");
        let status = replica.status();
        assert_eq!((status.voters, status.learners), (vec![set(&stay)], set(&[leaves])), "it follows on");
        replica.remove_learners(&set(&[leaves])).await.expect("dropped");
        assert!(replica.status().learners.is_empty());
        world.kill(leaves).await;
        world.append(21).await;
        assert_eq!(world.agreed(&stay, 21).await, (1..=21).collect::<Vec<_>>());
        // The new one counts: without one of the old ones it makes the majority.
        let dies = stay.iter().copied().find(|node| *node != leader && *node != 4).expect("a follower");
        world.kill(dies).await;
        world.append(22).await;
        assert_eq!(world.agreed(&[leader, 4], 22).await.len(), 22);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_learner_can_be_dropped_again() {
    with_nodes(2, 1, async |world| {
        let replica = world.replica(1).clone();
        replica.initialize([NodeId(1)]).await.expect("a group");
        world.append(1).await;
        replica.add_learner(NodeId(2)).await.expect("a learner");
        world.agreed(&[1, 2], 1).await;
        replica.remove_learners(&set(&[2])).await.expect("dropped");
        world.append(2).await;
        sleep(Duration::from_secs(5)).await;
        assert_eq!((world.journal(1), world.journal(2)), (vec![1, 2], vec![1]));
        assert!(replica.status().learners.is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_loses_its_vote_leads_until_it_hands_over() {
    with_voters(3, 1, async |world| {
        let leader = world.leader().await;
        world.append(1).await;
        let stay = [leader % 3 + 1, (leader + 1) % 3 + 1];
        let replica = world.replica(leader).clone();
        replica.change_voters(&set(&stay), true).await.expect("changed");
        replica.propose(vec![command(2)]).await.expect("committed by the two others");
        assert_eq!(replica.confirm_leadership().await, Ok(()));
        replica.transfer_leader(NodeId(stay[0])).await.expect("handed over");
        world.append(3).await;
        world.replica(stay[0]).remove_learners(&set(&[leader])).await.expect("gone");
        assert_eq!(world.agreed(&stay, 3).await, [1, 2, 3]);
        let status = world.replica(stay[0]).status();
        assert_eq!((status.voters, status.learners), (vec![set(&stay)], set(&[])));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_that_may_be_forgotten_acknowledges_nothing() {
    with_voters(3, 1, async |world| {
        world.append(1).await;
        let leader = world.leader().await;
        let [held, dies] = [leader % 3 + 1, (leader + 1) % 3 + 1];
        world.agreed(&[leader, held], 1).await;
        world.kill(dies).await;
        world.replica(held).hold(true);
        let replica = world.replica(leader).clone();
        let proposed = replica.propose(vec![command(2)]);
        tokio::pin!(proposed);
        assert!(timeout(Duration::from_secs(1), &mut proposed).await.is_err(), "it is not on a majority that stays");
        assert_eq!(world.journal(held), [1]);
        world.replica(held).hold(false);
        world.append(3).await;
        assert_eq!(world.agreed(&[leader, held], 3).await.last(), Some(&3));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn leadership_is_handed_over_where_one_wants() {
    with_voters(3, 1, async |world| {
        let mut leader = world.leader().await;
        for at in 1..=6 {
            world.append(at).await;
            let next = leader % 3 + 1;
            world.replica(leader).transfer_leader(NodeId(next)).await.expect("handed over");
            assert!(matches!(world.replica(leader).confirm_leadership().await, Err(Error::NotLeader { .. })));
            leader = next;
            assert_eq!(world.leader().await, leader);
        }
        assert_eq!(world.agreed(&[1, 2, 3], 6).await.len(), 6);
        // To one that is away: an error, and the group goes on.
        let away = leader % 3 + 1;
        world.set(away, Mode::Cut);
        let prove = world.replica(leader).prover();
        assert_eq!(prove(), Ok(()));
        let handing_over = world.replica(leader).transfer_leader(NodeId(away));
        tokio::pin!(handing_over);
        assert!(futures_util::poll!(&mut handing_over).is_pending());
        assert!(prove().is_err(), "the voters are free to elect another at once");
        assert!(handing_over.await.is_err());
        world.append(7).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_that_was_away_gets_the_log() {
    with_voters(3, 1, async |world| {
        let leader = world.leader().await;
        let away = [1, 2, 3].into_iter().find(|node| *node != leader).expect("a follower");
        world.set(away, Mode::Cut);
        for at in 1..=200 {
            world.append(at).await;
        }
        world.set(away, Mode::Open);
        assert_eq!(world.agreed(&[1, 2, 3], 200).await.len(), 200);
        assert_eq!(world.wires[&(leader, away)].snapshots.load(Ordering::Relaxed), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_that_was_away_for_long_gets_a_snapshot_and_then_the_log() {
    with_voters(3, 1, async |world| {
        let leader = world.leader().await;
        let away = [1, 2, 3].into_iter().find(|node| *node != leader).expect("a follower");
        world.append(1).await;
        world.set(away, Mode::Cut);
        const BODY_BYTES: usize = 256 << 10;
        let patience = LOG_PATIENCE * LOG_BYTES_MAX;
        let last = (2 * patience / BODY_BYTES) as u64;
        let replica = world.replica(leader).clone();
        for at in 2..=last {
            replica.propose(vec![super::command(at, BODY_BYTES)]).await.expect("committed");
            // What is being sent to the one that is away is held until the attempt has failed.
            sleep(Duration::from_millis(50)).await;
        }
        assert!(memory(&replica).bytes() <= patience * 3 / 2, "it was cut");
        world.set(away, Mode::Open);
        world.append(last + 1).await;
        let journal = world.agreed(&[1, 2, 3], last + 1).await;
        assert!(journal.iter().copied().eq(1..=last + 1), "whole and in order");
        for node in [1, 2, 3] {
            assert!(memory(world.replica(node)).bytes() <= patience * 3 / 2, "node {node} holds all");
        }
        assert!(world.wires[&(leader, away)].snapshots.load(Ordering::Relaxed) > 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_restarted_goes_on() {
    with_voters(3, 1, async |world| {
        for at in 1..=30 {
            world.append(at).await;
            if at % 10 == 0 {
                let dead = world.kill(world.leader().await).await;
                world.restart(dead).await;
            }
        }
        assert_eq!(world.agreed(&[1, 2, 3], 30).await, (1..=30).collect::<Vec<_>>());
    })
    .await;
}
