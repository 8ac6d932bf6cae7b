//! What a leader may take for proof that nobody else leads.

use std::time::Duration;

use openraft::raft::ReadPolicy;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use super::super::{Error, RESTART_SILENCE};
use super::world::{Mode, World, command, with_voters};

fn others(leader: u64) -> [u64; 2] {
    let mut others = [1, 2, 3].into_iter().filter(|node| *node != leader);
    [others.next().expect("one"), others.next().expect("two")]
}

async fn elected(world: &World, among: [u64; 2]) -> u64 {
    loop {
        match among.into_iter().find(|node| world.replica(*node).leads()) {
            Some(node) => return node,
            None => sleep(Duration::from_millis(1)).await,
        }
    }
}

/// A process that was stopped for a while finds answers in its sockets when it goes on: they prove what was
/// true when it asked, and meanwhile another may lead. Here the wires stand still instead of the process.
#[tokio::test(start_paused = true)]
async fn answers_that_were_held_up_prove_nothing() {
    with_voters(3, 1, async |world| {
        let old = world.leader().await;
        world.append(1).await;
        let [first, second] = others(old);
        let wires = [&world.wires[&(old, first)], &world.wires[&(old, second)]];
        let replica = world.replica(old).clone();
        // An entry reaches both, but their answers are held up.
        wires.iter().for_each(|wire| wire.set(Mode::Hold));
        let proposer = replica.clone();
        let proposal = spawn_local(async move { proposer.propose(vec![command(2)]).await });
        sleep(Duration::from_millis(20)).await;
        world.set(old, Mode::Freeze);
        let new = elected(world, [first, second]).await;
        world.replica(new).propose(vec![command(3)]).await.expect("committed by two of three");
        // The first answer lets it send the news of the commit to the second, whose old answer comes then.
        for wire in wires {
            wire.set(Mode::Mute);
            sleep(Duration::from_millis(1)).await;
        }
        proposal.await.expect("it ended").expect("it was stored by all before");
        assert!(replica.leads(), "it does not know better");
        // What openraft makes of it; when this fails, `lease.rs` can go.
        replica.read_index(ReadPolicy::LeaseRead).await.expect("the defect that Acks are for");
        assert_eq!(world.journal(old), [1, 2], "it lacks what was acknowledged");
        assert!(matches!(replica.confirm_leadership().await, Err(Error::NotLeader { .. })));
    })
    .await;
}

/// A follower forgets in a restart what it promised its leader. If it voted at once, another could be elected
/// while the leader still trusts its lease.
#[tokio::test(start_paused = true)]
async fn after_a_restart_nobody_votes_at_once() {
    with_voters(3, 1, async |world| {
        let leader = world.leader().await;
        world.append(1).await;
        let [first, second] = others(leader);
        world.set(leader, Mode::Cut);
        for follower in [first, second] {
            let dead = world.kill(follower).await;
            world.restart(dead).await;
        }
        world.set(leader, Mode::Cut);
        let restarted = Instant::now();
        let candidate = world.replica(first);
        while !candidate.leads() {
            candidate.raft.trigger().elect(true).await.expect("it runs");
            sleep(Duration::from_millis(10)).await;
        }
        let waited = restarted.elapsed();
        assert!(waited >= RESTART_SILENCE, "elected {waited:?} after the restart");
        assert!(matches!(world.replica(leader).confirm_leadership().await, Err(Error::NotLeader { .. })));
    })
    .await;
}
