//! The memory budget: appends are refused beyond it, reads go on, and deleting gives it back.

use std::sync::Arc;

use ursula_common::clock::SystemClock;
use ursula_common::verb::{Create, Op};
use ursula_common::{Error, StreamKey};

use super::world::{BINARY, CORES, Range, World, append, appended, close, create, created, eventually, fork};

const RING_BYTES: usize = CORES * (2 << 20);
/// Larger than a chunk that is shared, so that memory is what is stored and a little for each record.
static RECORD: [u8; 80_000] = [7; 80_000];

async fn small() -> World {
    World::with(RING_BYTES, Arc::new(SystemClock)).await
}

/// Appends until there is no room, and returns how many records fitted.
async fn fill(world: &mut World, key: &StreamKey) -> usize {
    for stored in 0..1000 {
        match world.submit(append(key, BINARY, &RECORD[..])).await {
            Err(Error::MemoryFull) => return stored,
            result => drop(appended(result)),
        }
    }
    panic!("memory without end");
}

#[tokio::test]
async fn appends_are_refused_beyond_the_budget_of_their_core_and_reads_go_on() {
    let mut world = small().await;
    let (full, other) = (world.key_in(1, "full"), world.key_in(2, "other"));
    world.create(&full, BINARY).await;
    world.create(&other, BINARY).await;
    let stored = fill(&mut world, &full).await;
    let share = RING_BYTES / CORES;
    // Less than one record, and what stands around each, is lost of the budget.
    assert!((share - 2 * RECORD.len() - stored * 1000..=share).contains(&(stored * RECORD.len())), "{stored} records");
    eventually("gauges follow", async || world.metric("ursula_node_ring_used_bytes") > 0.9 * share as f64).await;
    assert!(world.metric("ursula_node_ring_used_bytes") <= share as f64, "within the budget of one core");
    assert_eq!(world.metric("ursula_node_ring_budget_bytes"), RING_BYTES as f64);
    assert_eq!(world.metric("ursula_node_refused_memory_total"), 1.0);

    let got = world.read(&full, Range::from(0)).await.expect("a page");
    assert_eq!(got.bytes().len(), stored * RECORD.len());
    // What holds no bytes is not refused: names, closes, deletes.
    created(world.submit(create(&world.key_in(1, "empty"), BINARY)).await);
    let Op::Create(empty) = create(&world.key_in(1, "with-content"), BINARY) else { unreachable!() };
    let content = Op::Create(Create { body: RECORD[..].into(), ..empty });
    assert_eq!(world.submit(content).await, Err(Error::MemoryFull));
    assert!(appended(world.submit(close(&full, "")).await).closed);
    // The other core has a share of its own.
    appended(world.submit(append(&other, BINARY, &RECORD[..])).await);
}

#[tokio::test]
async fn deleting_gives_memory_back() {
    let mut world = small().await;
    let (first, second) = (world.key_in(1, "first"), world.key_in(3, "second"));
    world.create(&first, BINARY).await;
    world.create(&second, BINARY).await;
    let stored = fill(&mut world, &first).await;
    assert_eq!(world.submit(append(&second, BINARY, &RECORD[..])).await, Err(Error::MemoryFull), "the same core");
    world.delete(&first).await;
    assert_eq!(fill(&mut world, &second).await, stored, "all of it is back, for another group of the core");
}

#[tokio::test]
async fn a_fork_keeps_the_memory_of_its_source_and_gives_it_back() {
    let mut world = small().await;
    let (source, forked) = (world.key_in(1, "source"), world.key_in(2, "fork"));
    world.create(&source, BINARY).await;
    let stored = fill(&mut world, &source).await;
    created(world.submit(fork(&forked, &source, None, 0)).await);
    world.delete(&source).await;
    let next = world.key_in(1, "next");
    world.create(&next, BINARY).await;
    assert_eq!(world.submit(append(&next, BINARY, &RECORD[..])).await, Err(Error::MemoryFull));
    assert_eq!(world.content(&forked, 0).await.len(), stored * RECORD.len());
    world.delete(&forked).await;
    eventually("the source goes", async || world.describe(&source).await == Err(Error::StreamNotFound)).await;
    assert_eq!(fill(&mut world, &next).await, stored);
}

#[tokio::test]
async fn an_op_that_was_refused_for_memory_may_come_again_as_it_is() {
    let mut world = small().await;
    let (full, next) = (world.key_in(1, "full"), world.key_in(1, "next"));
    world.create(&full, BINARY).await;
    world.create(&next, BINARY).await;
    fill(&mut world, &full).await;
    let mut lane = world.lane(3).await;
    let group = world.group_of(&next);
    let op = append(&next, BINARY, &RECORD[..]);
    assert_eq!(lane.ask(0, group, &op).await, Err(Error::MemoryFull));
    world.delete(&full).await;
    appended(lane.ask(0, group, &op).await);
    assert_eq!(world.content(&next, 0).await, RECORD);
}
