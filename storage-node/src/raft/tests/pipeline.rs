//! Several questions of one group are under way at a time, and many groups share the frames.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::sleep;

use super::world::{Mode, command, with_voters};

#[tokio::test(start_paused = true)]
async fn appends_do_not_wait_for_the_answers_to_those_before() {
    with_voters(3, 1, async |world| {
        let leader = world.leader().await;
        world.append(1).await;
        let others: Vec<u64> = [1, 2, 3].into_iter().filter(|node| *node != leader).collect();
        let sent = |node: u64| world.wires[&(leader, node)].appends.load(Ordering::Relaxed);
        let before: Vec<usize> = others.iter().map(|node| sent(*node)).collect();
        others.iter().for_each(|node| world.wires[&(leader, *node)].set(Mode::Hold));
        let mut proposals = Vec::new();
        for at in 2..=6 {
            let replica = world.replica(leader).clone();
            proposals.push(spawn_local(async move { replica.propose(vec![command(at)]).await }));
            sleep(Duration::from_millis(10)).await;
        }
        for (node, before) in others.iter().zip(before) {
            assert_eq!(sent(*node), before + 5, "each went out although none was answered");
        }
        assert!(proposals.iter().all(|proposal| !proposal.is_finished()));
        world.set_all(Mode::Open);
        for proposal in proposals {
            proposal.await.expect("it ended").expect("committed");
        }
        assert_eq!(world.agreed(&[1, 2, 3], 6).await, (1..=6).collect::<Vec<_>>());
    })
    .await;
}
