//! Wires that lose, repeat and shuffle: everything that was acknowledged is there once and in order.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::super::Error;
use super::world::{Mode, command, with_voters};

async fn survives(mode: Mode) {
    with_voters(3, 1, async |world| {
        world.set_all(mode);
        let mut acknowledged = Vec::new();
        for at in 1..=30 {
            let leader = world.leader().await;
            match timeout(Duration::from_secs(20), world.replica(leader).propose(vec![command(at)])).await {
                Ok(Ok(_)) => acknowledged.push(at),
                Ok(Err(Error::NotLeader { .. } | Error::OutcomeUnknown)) | Err(_) => {}
                Ok(Err(other)) => panic!("{other}"),
            }
        }
        world.set_all(Mode::Open);
        sleep(Duration::from_secs(3)).await;
        world.append(1000).await;
        let mut journal = world.agreed(&[1, 2, 3], 1000).await;
        // The last one may have been proposed twice: there are no sessions here.
        journal.dedup();
        assert!(journal.windows(2).all(|pair| pair[0] < pair[1]), "{mode:?}: {journal:?}");
        journal.retain(|at| acknowledged.contains(at));
        assert_eq!(journal, acknowledged, "{mode:?}");
        assert!(acknowledged.len() > 10, "{mode:?}: {}", acknowledged.len());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn lost_frames() {
    survives(Mode::Lose).await;
}

#[tokio::test(start_paused = true)]
async fn repeated_frames() {
    survives(Mode::Repeat).await;
}

#[tokio::test(start_paused = true)]
async fn shuffled_answers() {
    survives(Mode::Shuffle).await;
}

#[tokio::test(start_paused = true)]
async fn wires_that_are_cut_again_and_again() {
    with_voters(5, 1, async |world| {
        for at in 1..=30 {
            world.append(at).await;
            let victim = at % 5 + 1;
            world.set(victim, Mode::Cut);
            sleep(Duration::from_millis(137 * (at % 7))).await;
            world.set(victim, Mode::Open);
        }
        let mut journal = world.agreed(&[1, 2, 3, 4, 5], 30).await;
        // One whose outcome was unknown was proposed again: it may be there twice, in this test without sessions.
        journal.dedup();
        assert_eq!(journal, (1..=30).collect::<Vec<_>>());
    })
    .await;
}
