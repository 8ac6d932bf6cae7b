//! What many readers share: GETs, memory, and what is read ahead.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::{JoinSet, yield_now};
use ursula_common::Offset;

use super::super::ahead::Ahead;
use super::super::{Reader, ReaderOptions};
use super::world::{OPTIONS, World, record};

/// One stream in one pack, of so many blocks.
async fn blocks(count: usize) -> World {
    let mut world = World::new();
    world.pack(&[(1, (0..count).map(|number| record(number, 64 << 10)).collect())]).await;
    world
}

/// Lets all tasks come as far as they can.
async fn settle() {
    for _ in 0..1000 {
        yield_now().await;
    }
}

#[tokio::test]
async fn who_misses_together_fetches_once() {
    let world = blocks(3).await;
    let reader = world.reader(OPTIONS);
    let (from, until) = world.ends(1);
    world.store.permits.forget_permits(usize::MAX);
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let (reader, wanted) = (reader.clone(), world.wanted(1, from, until, 1));
        tasks.spawn(async move { reader.read(wanted).await });
    }
    settle().await;
    assert_eq!(world.store.gets.load(Ordering::Relaxed), 1, "all wait for the end of the pack");
    assert_eq!(reader.usage().gets, 1);
    world.store.permits.add_permits(1);
    settle().await;
    assert_eq!(world.store.gets.load(Ordering::Relaxed), 2, "all wait for the block");
    world.store.permits.add_permits(1);
    for found in tasks.join_all().await {
        assert_eq!(found.expect("a record").records, [record(0, 64 << 10)]);
    }
    assert_eq!(world.store.gets.load(Ordering::Relaxed), 2);
    assert_eq!(reader.usage().gets, 0);
}

#[tokio::test]
async fn who_gives_up_leaves_the_fetch_to_those_who_wait() {
    let world = blocks(1).await;
    let reader = world.reader(OPTIONS);
    let (from, until) = world.ends(1);
    world.store.permits.forget_permits(usize::MAX);
    let start = |reader: &Reader| {
        let (reader, wanted) = (reader.clone(), world.wanted(1, from, until, 1));
        tokio::spawn(async move { reader.read(wanted).await })
    };
    let first = start(&reader);
    settle().await;
    let second = start(&reader);
    settle().await;
    first.abort();
    drop(first.await);
    world.store.permits.add_permits(2);
    assert_eq!(second.await.expect("done").expect("a record").records.len(), 1);
}

#[tokio::test]
async fn no_more_gets_than_allowed() {
    let world = Arc::new(World::random(7, 60, 40).await);
    let reader = world.reader(ReaderOptions { gets_max: 3, ..OPTIONS });
    let mut tasks = JoinSet::new();
    world.store.permits.forget_permits(usize::MAX);
    for stream in world.streams() {
        let (from, until) = world.ends(stream);
        let (reader, wanted) = (reader.clone(), world.wanted(stream, from, until, 1 << 20));
        tasks.spawn(async move { reader.read(wanted).await.map(|_| ()) });
    }
    settle().await;
    assert_eq!((world.store.gets.load(Ordering::Relaxed), reader.usage().gets), (3, 3));
    world.store.permits.add_permits(10_000);
    for read in tasks.join_all().await {
        read.expect("records");
    }
    assert_eq!(world.store.most.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn the_cache_keeps_its_bound() {
    let world = blocks(400).await;
    let cache_bytes = 3 << 20;
    let reader = world.reader(ReaderOptions { cache_bytes, ahead_bytes: 1 << 20, ..OPTIONS });
    let (mut at, until) = world.ends(1);
    while at < until {
        let found = reader.read(world.wanted(1, at, until, 200_000)).await.expect("records");
        at = Offset(at.0 + found.records.iter().map(|record| record.len() as u64).sum::<u64>());
        let usage = reader.usage();
        assert!(usage.cache_bytes <= cache_bytes as u64, "{usage:?}");
        assert_eq!(usage.cache_bytes_max, cache_bytes as u64);
        settle().await;
    }
    assert!(reader.usage().cache_bytes > (1 << 20), "and it is used");
    // What was read ahead was still there when it was asked for.
    let bytes = reader.counters().bytes.load(Ordering::Relaxed);
    assert!(bytes < 400 * (64 << 10) + (256 << 10), "{bytes} bytes for 25 MiB");
}

#[tokio::test]
async fn who_reads_on_is_read_ahead_for() {
    let world = blocks(90).await;
    let reader = world.reader(ReaderOptions { ahead_bytes: 1 << 20, ..OPTIONS });
    let (from, until) = world.ends(1);
    let block = |number: u64| Offset(from.0 + number * (64 << 10));
    let misses = || reader.counters().misses.load(Ordering::Relaxed);
    let read = async |number: u64| {
        let found = reader.read(world.wanted(1, block(number), until, 1)).await.expect("a record");
        assert_eq!(found.records, [record(number as usize, 64 << 10)]);
        settle().await;
    };
    // Here and there: only what was asked for, the end of the pack and the page of its places besides.
    for number in [50, 40, 30, 60] {
        read(number).await;
    }
    assert_eq!(misses(), 4 + 3);
    // The second read that goes on is the sign.
    read(0).await;
    read(1).await;
    assert_eq!(misses(), 6 + 3);
    let gets = world.store.gets.load(Ordering::Relaxed);
    read(2).await;
    assert_eq!(misses(), 7 + 16 + 3);
    assert_eq!(world.store.gets.load(Ordering::Relaxed), gets + 2, "all of it in one piece");
    // Half of it is used before the next half comes.
    for number in 3..10 {
        read(number).await;
        assert_eq!(misses(), 7 + 16 + 3);
    }
    read(10).await;
    assert_eq!(misses(), 7 + 16 + 8 + 3);
    for number in 11..90 {
        read(number).await;
    }
    assert_eq!(misses(), 90 + 3, "nothing twice, and nothing past the end");
}

#[tokio::test]
async fn what_is_read_ahead_leaves_gets_for_others() {
    let world = blocks(90).await;
    let ahead = Ahead::new(&ReaderOptions { gets_max: 2, ahead_bytes: 1 << 20, ..OPTIONS });
    let (from, until) = world.ends(1);
    let note = |number: u64| {
        let [at, end] = [number, number + 1].map(|number| Offset(from.0 + number * (64 << 10)));
        ahead.note(&world.wanted(1, at, until, 1), end)
    };
    for number in [0, 1, 40, 41] {
        assert!(note(number).is_none());
    }
    let one = note(2).expect("the first that reads on");
    assert!(note(42).is_none(), "one of two GETs is for others");
    drop(one);
    let (task, _permit) = note(43).expect("the other one");
    assert_eq!((task.from.0 - from.0, task.until.0 - task.from.0), (44 * (64 << 10), 1 << 20));
}
