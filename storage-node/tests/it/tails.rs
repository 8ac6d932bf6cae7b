//! Tails: what a reader gets from behind and at the tail, and how a tail ends.

use bytes::Bytes;
use ursula_common::verb::Op;
use ursula_common::{Error, Offset, StreamId, StreamKey};

use super::world::{BINARY, Tail, World, append, appended, close, created, eventually, fork, key};

async fn stream(world: &mut World, name: &str) -> StreamKey {
    let key = key(name);
    world.create(&key, BINARY).await;
    key
}

async fn waiting(world: &World, readers: f64) {
    eventually("readers wait", async || world.metric("ursula_node_waiting_tails") == readers).await;
}

/// Takes events until there are `len` bytes; they must follow each other from `from` on.
async fn take(tail: &mut Tail, from: u64, len: usize) -> Vec<u8> {
    let mut taken = Vec::new();
    while taken.len() < len {
        let event = tail.event().await;
        assert_eq!(event.start, from + taken.len() as u64, "no gap and no repeat");
        assert!(!event.closed);
        taken.extend_from_slice(&event.data);
    }
    assert_eq!(taken.len(), len);
    taken
}

#[tokio::test]
async fn a_reader_at_the_tail_gets_what_comes() {
    let mut world = World::start().await;
    let key = stream(&mut world, "live").await;
    world.append(&key, BINARY, "before").await;
    let mut tail = world.tail(&key, 6).await;
    for record in ["one", "two", "three"] {
        let from = world.append(&key, BINARY, record).await.tail.0 - record.len() as u64;
        let event = tail.event().await;
        assert_eq!((event.start, &event.data[..], event.closed), (from, record.as_bytes(), false));
        assert!(event.up_to_date);
    }
}

#[tokio::test]
async fn a_reader_from_behind_catches_up_and_goes_on() {
    let mut world = World::start().await;
    let key = stream(&mut world, "behind").await;
    const LEN: usize = 40_000;
    let records: Vec<Bytes> = (0..30u8).map(|i| Bytes::from(vec![i; LEN])).collect();
    for record in &records {
        world.append(&key, BINARY, record.clone()).await;
    }
    let whole = records.concat();
    let mut tail = world.tail(&key, 3 * LEN as u64).await;
    let mut at = 3 * LEN;
    while at < whole.len() {
        let event = tail.event().await;
        assert_eq!(event.start as usize, at);
        assert!(event.data == whole[at..at + event.data.len()]);
        at += event.data.len();
        assert_eq!(at % LEN, 0, "events end between records");
        assert!(event.data.len() < (256 << 10) + LEN, "events are bounded");
        assert_eq!(event.up_to_date, at == whole.len());
    }
    world.append(&key, BINARY, "more").await;
    let event = tail.event().await;
    assert_eq!((event.start as usize, &event.data[..]), (whole.len(), &b"more"[..]));
}

#[tokio::test]
async fn closing_ends_a_tail_with_its_last_bytes_or_without() {
    let mut world = World::start().await;
    for (name, last) in [("with", "last words"), ("without", "")] {
        let key = stream(&mut world, name).await;
        let (mut waiter, mut late) = (world.tail(&key, 0).await, world.tail(&key, 0).await);
        let waits = tokio::spawn(async move { (waiter.event().await, waiter.next().await) });
        waiting(&world, 1.0).await;
        appended(world.submit(close(&key, last)).await);
        let (event, end) = waits.await.expect("no panic");
        assert_eq!((&event.data[..], event.closed, event.up_to_date), (last.as_bytes(), true, true));
        assert_eq!(end, Ok(None), "nothing comes after the end");
        // A reader that asks only now hears the same, at the end and before it.
        assert_eq!(late.event().await, event);
        let mut at_end = world.tail(&key, last.len() as u64).await;
        let event = at_end.event().await;
        assert_eq!((&event.data[..], event.closed), (&b""[..], true));
        assert_eq!(at_end.next().await, Ok(None));
    }
}

#[tokio::test]
async fn a_reader_behind_is_told_of_the_close_at_the_end_only() {
    let mut world = World::start().await;
    let key = stream(&mut world, "closed").await;
    for i in 0..20u8 {
        world.append(&key, BINARY, vec![i; 50_000]).await;
    }
    appended(world.submit(close(&key, "")).await);
    let mut tail = world.tail(&key, 0).await;
    let mut taken = 0;
    while let Some(event) = tail.next().await.expect("no error") {
        taken += event.data.len();
        assert_eq!(event.closed, taken == 20 * 50_000);
    }
    assert_eq!(taken, 20 * 50_000);
}

#[tokio::test]
async fn deleting_ends_a_tail() {
    let mut world = World::start().await;
    let key = stream(&mut world, "deleted").await;
    let mut tail = world.tail(&key, 0).await;
    let ended = tokio::spawn(async move { (tail.error().await, tail.next().await) });
    waiting(&world, 1.0).await;
    world.delete(&key).await;
    assert_eq!(ended.await.expect("no panic"), (Error::StreamNotFound, Ok(None)));

    let key = stream(&mut world, "detached").await;
    let mut tail = world.tail(&key, 0).await;
    let forked = super::world::key("its-fork");
    created(world.submit(fork(&forked, &key, None, 0)).await);
    let ended = tokio::spawn(async move { tail.error().await });
    waiting(&world, 1.0).await;
    world.delete(&key).await;
    assert_eq!(ended.await.expect("no panic"), Error::StreamGone);
}

#[tokio::test]
async fn a_tail_is_of_one_incarnation() {
    let mut world = World::start().await;
    let key = stream(&mut world, "again").await;
    let old = world.describe(&key).await.expect("a stream").id;
    let mut waiter = world.tail(&key, 0).await;
    let ended = tokio::spawn(async move { waiter.error().await });
    waiting(&world, 1.0).await;
    // In one frame, so that they may come in one entry.
    let group = world.group_of(&key);
    let mut lane = world.lane(1).await;
    let ops = [Op::Delete(key.clone()), super::world::create(&key, BINARY), append(&key, BINARY, "other bytes")];
    lane.send(&[(0, group, ops[0].clone()), (1, group, ops[1].clone()), (2, group, ops[2].clone())]).await;
    for _ in 0..3 {
        lane.answer().await.expect("an answer").1.expect("done");
    }
    assert_eq!(ended.await.expect("no panic"), Error::StreamNotFound);
    assert_eq!(world.tail_of(&key, old, 0).await.error().await, Error::StreamNotFound);
    let first = world.describe(&key).await.expect("a stream").earliest;
    assert_eq!(world.tail(&key, first.0).await.event().await.data, "other bytes");
}

#[tokio::test]
async fn a_tail_begins_at_an_offset_of_the_streams_own() {
    let mut world = World::start().await;
    let key = stream(&mut world, "source").await;
    world.append(&key, BINARY, "inherited").await;
    assert_eq!(world.tail(&key, 10).await.error().await, Error::OffsetInvalid);
    let forked = super::world::key("fork");
    created(world.submit(fork(&forked, &key, Some(0), 5)).await);
    assert_eq!(world.tail(&forked, 4).await.error().await, Error::OffsetInvalid);
    let mut tail = world.tail(&forked, 5).await;
    world.append(&forked, BINARY, "own").await;
    assert_eq!(take(&mut tail, 5, 3).await, b"own");
    let unknown = super::world::key("unknown");
    assert_eq!(world.tail_of(&unknown, StreamId(1), 0).await.error().await, Error::StreamNotFound);
}

#[tokio::test]
async fn two_readers_get_the_same() {
    let mut world = World::start().await;
    let key = stream(&mut world, "shared").await;
    let group = world.group_of(&key);
    let whole: String = (0..500).map(|i| format!("<{i}>")).collect();
    let readers: Vec<_> = [world.tail(&key, 0).await, world.tail(&key, 0).await]
        .into_iter()
        .map(|mut tail| {
            let len = whole.len();
            tokio::spawn(async move { take(&mut tail, 0, len).await })
        })
        .collect();
    waiting(&world, 2.0).await;
    let mut lane = world.lane(1).await;
    for i in 0..500 {
        lane.send(&[(i, group, append(&key, BINARY, format!("<{i}>")))]).await;
    }
    for _ in 0..500 {
        appended(lane.answer().await.expect("an answer").1);
    }
    for reader in readers {
        assert_eq!(reader.await.expect("no panic"), whole.as_bytes());
    }
}

#[tokio::test]
async fn whoever_hears_of_an_append_can_read_it() {
    let mut world = World::start().await;
    let key = stream(&mut world, "read-your-writes").await;
    let mut tail = world.tail(&key, 0).await;
    for i in 0..100u64 {
        assert_eq!(world.append(&key, BINARY, "ab").await.tail, Offset(2 * i + 2));
        assert_eq!(world.content(&key, 2 * i).await, b"ab");
        assert_eq!(take(&mut tail, 2 * i, 2).await, b"ab");
        assert_eq!(world.describe(&key).await.expect("a stream").tail, Offset(2 * i + 2));
    }
}

#[tokio::test]
async fn tails_whose_reader_has_gone_are_forgotten() {
    let mut world = World::start().await;
    let keys = [world.key_in(1, "left"), world.key_in(2, "left")];
    let mut readers = Vec::new();
    for i in 0..20 {
        let key = &keys[i % 2];
        world.submit(super::world::create(key, BINARY)).await.expect("a stream");
        let mut tail = world.tail(key, 0).await;
        readers.push(tokio::spawn(async move { drop(tail.next().await) }));
    }
    waiting(&world, 20.0).await;
    assert_eq!(world.metric("ursula_node_tails"), 20.0);
    let left = readers.split_off(5);
    left.iter().for_each(|reader| reader.abort());
    waiting(&world, 5.0).await;
    assert_eq!(world.metric("ursula_node_tails"), 5.0);
    readers.iter().for_each(|reader| reader.abort());
    waiting(&world, 0.0).await;
    assert_eq!(world.metric("ursula_node_tails"), 0.0);
    // The streams are as alive as before.
    world.append(&keys[0], BINARY, "x").await;
    assert_eq!(world.tail(&keys[0], 0).await.event().await.data, "x");
}
