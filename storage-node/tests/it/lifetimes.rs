//! Streams that end by themselves, under a clock that the test moves.

use std::sync::Arc;
use std::time::Duration;

use ursula_common::clock::ManualClock;
use ursula_common::verb::{Create, Lifetime, Op, ReadFrom};
use ursula_common::{Clock, Error, Millis, StreamKey};

use super::world::{BINARY, GROUPS, Range, World, append, appended, create, created, eventually, fork};

const TTL: Duration = Duration::from_secs(100);
const MOST: Duration = Duration::from_secs(60);

async fn world() -> (World, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(Millis(1_000_000)));
    let world = World::with_clock(clock.clone()).await;
    // The cluster is formed, and knows of each group that it has begun: from now on there are the ops of the test alone.
    eventually("groups that have begun", async || ops(&world) == f64::from(1 + GROUPS)).await;
    (world, clock)
}

fn with_lifetime(key: &StreamKey, lifetime: Lifetime) -> Op {
    let Op::Create(create) = create(key, BINARY) else { unreachable!() };
    Op::Create(Create { lifetime, ..create })
}

async fn sliding(world: &mut World, group: u32, name: &str) -> StreamKey {
    let key = world.key_in(group, name);
    created(world.submit(with_lifetime(&key, Lifetime::Ttl(TTL.as_secs()))).await);
    key
}

/// Ops that came into the log of any group.
fn ops(world: &World) -> f64 {
    world.metric("ursula_node_batch_ops_sum")
}

#[tokio::test]
async fn a_stream_that_nobody_uses_expires() {
    let (mut world, clock) = world().await;
    let key = sliding(&mut world, 1, "idle").await;
    world.append(&key, BINARY, "bytes").await;
    clock.advance(TTL - Duration::from_millis(1));
    assert_eq!(world.describe(&key).await.expect("a stream").lifetime, Lifetime::Ttl(TTL.as_secs()));
    clock.advance(Duration::from_millis(1));
    assert_eq!(world.describe(&key).await, Err(Error::StreamNotFound), "from the moment on, not from a sweep");
    assert_eq!(world.read(&key, Range::from(0)).await.expect_err("expired"), Error::StreamNotFound);
    assert_eq!(world.submit(append(&key, BINARY, "late")).await, Err(Error::StreamNotFound));
    assert!(world.create(&key, BINARY).await.new, "its name is free");
}

#[tokio::test]
async fn the_sweep_gives_back_what_expired_streams_held() {
    let (mut world, clock) = world().await;
    let (empty, now) = (world.metric("ursula_node_ring_used_bytes"), clock.now());
    for group in 1..=4 {
        let key = sliding(&mut world, group, "sliding").await;
        world.append(&key, BINARY, vec![0; 5000]).await;
        let key = world.key_in(group, "absolute");
        let until = Lifetime::ExpiresAt { text: "later".into(), at: now.after(TTL) };
        created(world.submit(with_lifetime(&key, until)).await);
        world.append(&key, BINARY, vec![0; 5000]).await;
        world.append(&key, BINARY, "an append does not put off a fixed end").await;
    }
    eventually("streams are counted", async || world.metric("ursula_node_streams") == 8.0).await;
    assert!(world.metric("ursula_node_ring_used_bytes") >= empty + 8.0 * 5000.0);
    clock.advance(TTL);
    eventually("streams are gone", async || world.metric("ursula_node_streams") == 0.0).await;
    assert_eq!(world.metric("ursula_node_ring_used_bytes"), empty);
}

#[tokio::test]
async fn appends_and_reads_renew_a_sliding_time_to_live() {
    let (mut world, clock) = world().await;
    let key = sliding(&mut world, 1, "used").await;
    // Three times longer than it would live unused.
    for _ in 0..3 {
        clock.advance(MOST);
        appended(world.submit(append(&key, BINARY, "x")).await);
        clock.advance(MOST);
        let before = ops(&world);
        let read = Range { touch: true, ..Range::at(ReadFrom::Start) };
        world.read(&key, read).await.expect("a page");
        eventually("the access is noted", async || ops(&world) > before).await;
    }
    clock.advance(TTL);
    assert_eq!(world.describe(&key).await, Err(Error::StreamNotFound));
}

#[tokio::test]
async fn a_look_is_not_an_access_unless_it_says_so() {
    let (mut world, clock) = world().await;
    let key = sliding(&mut world, 1, "looked-at").await;
    clock.advance(MOST);
    world.describe(&key).await.expect("a stream");
    world.read(&key, Range::from(0)).await.expect("a page");
    clock.advance(TTL - MOST);
    assert_eq!(world.describe(&key).await, Err(Error::StreamNotFound));
}

#[tokio::test]
async fn a_reader_that_waits_keeps_its_stream_alive() {
    let (mut world, clock) = world().await;
    let tailed = sliding(&mut world, 1, "tailed").await;
    let mut tail = world.tail(&tailed, 0).await;
    let unread = tokio::spawn(async move { (tail.event().await, tail) });
    eventually("the reader waits", async || world.metric("ursula_node_waiting_tails") == 1.0).await;
    // The first time there is only the touch. Later a sweep comes before it, because the stream's end was
    // put off since it was noted.
    for ops_due in [1.0, 2.0, 2.0, 2.0, 2.0] {
        let before = ops(&world);
        clock.advance(MOST);
        eventually("the access is noted", async || ops(&world) >= before + ops_due).await;
        world.describe(&tailed).await.expect("it lives on");
    }
    world.append(&tailed, BINARY, "at last").await;
    let (event, tail) = unread.await.expect("no panic");
    assert_eq!(event.data, "at last");
    drop(tail);
    eventually("the reader has gone", async || world.metric("ursula_node_waiting_tails") == 0.0).await;
    clock.advance(TTL);
    assert_eq!(world.describe(&tailed).await, Err(Error::StreamNotFound));
}

#[tokio::test]
async fn a_tail_ends_when_its_stream_expires_and_another_takes_the_name() {
    let (mut world, clock) = world().await;
    let key = world.key_in(1, "fixed");
    let until = Lifetime::ExpiresAt { text: "later".into(), at: clock.now().after(TTL) };
    created(world.submit(with_lifetime(&key, until)).await);
    let mut tail = world.tail(&key, 0).await;
    let ended = tokio::spawn(async move { tail.error().await });
    eventually("the reader waits", async || world.metric("ursula_node_waiting_tails") == 1.0).await;
    clock.advance(TTL);
    // No need to wait for the sweep: the name is free.
    assert!(world.create(&key, BINARY).await.new);
    world.append(&key, BINARY, "not for the old reader").await;
    assert_eq!(ended.await.expect("no panic"), Error::StreamNotFound);
}

#[tokio::test]
async fn a_fork_outlives_a_source_that_expires() {
    let (mut world, clock) = world().await;
    let source = sliding(&mut world, 1, "source").await;
    world.append(&source, BINARY, "inherited").await;
    let forked = world.key_in(2, "fork");
    let Op::Create(plain) = fork(&forked, &source, None, 0) else { unreachable!() };
    let long = Lifetime::Ttl(10 * TTL.as_secs());
    created(world.submit(Op::Create(Create { lifetime: long, ..plain })).await);
    clock.advance(TTL);
    assert_eq!(world.describe(&source).await, Err(Error::StreamGone));
    eventually("the sweep comes by", async || {
        let other = world.key_in(3, "other");
        world.submit(fork(&other, &source, None, 0)).await == Err(Error::ForkSourceNotFound)
    })
    .await;
    assert_eq!(world.content(&forked, 0).await, b"inherited");
    clock.advance(10 * TTL);
    assert_eq!(world.describe(&forked).await, Err(Error::StreamNotFound));
    eventually("the source goes", async || world.describe(&source).await == Err(Error::StreamNotFound)).await;
}
