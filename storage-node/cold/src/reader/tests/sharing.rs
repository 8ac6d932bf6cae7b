//! What many readers share: GETs, memory, and what is read ahead.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::{JoinSet, yield_now};
use ursula_common::{BucketName, Offset};

use super::super::ahead::{Ahead, RUN_IDLE};
use super::super::{Reader, ReaderOptions, Usage, Wanted};
use super::world::{OPTIONS, World, record};
use crate::store::fault::Fault;

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
    // Of one bucket, half.
    let reader = world.reader(ReaderOptions { gets_max: 6, ..OPTIONS });
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
async fn nobody_waits_in_the_queue_of_another_bucket() {
    let mut world = World::new();
    for pack in 0..4 {
        world.pack(&[(pack, vec![record(1, 10)]), (9, vec![record(pack as usize, 10)])]).await;
    }
    let reader = world.reader(ReaderOptions { gets_max: 4, ..OPTIONS });
    world.store.permits.forget_permits(usize::MAX);
    let read = |bucket: &str, stream: u64| {
        let (from, until) = world.ends(stream);
        let bucket = BucketName::parse(bucket).expect("a name");
        let (reader, wanted) = (reader.clone(), Wanted { bucket, ..world.wanted(stream, from, until, 1) });
        tokio::spawn(async move { reader.read(wanted).await })
    };
    // Two that are under way, and a thousand that wait, all of them for other packs.
    let crowd: Vec<_> = (0..1002).map(|number| read("crowd", [0, 1, 2][number.min(2)])).collect();
    settle().await;
    assert_eq!((world.store.gets.load(Ordering::Relaxed), reader.usage().gets), (2, 2));
    // The same pack that they wait for.
    let other = read("other", 2);
    settle().await;
    assert_eq!(world.store.gets.load(Ordering::Relaxed), 3);
    world.store.permits.add_permits(10_000);
    other.await.expect("done").expect("a record");
    for found in crowd {
        found.await.expect("done").expect("a record");
    }
    assert_eq!((reader.usage().gets, reader.usage().gets_waiting), (0, 0));
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
    // A quarter of it is used before the next quarter comes.
    for number in 3..6 {
        read(number).await;
        assert_eq!(misses(), 7 + 16 + 3);
    }
    read(6).await;
    assert_eq!(misses(), 7 + 16 + 4 + 3);
    for number in 7..90 {
        read(number).await;
    }
    assert_eq!(misses(), 90 + 3, "nothing twice, and nothing past the end");
}

/// Reads on, one block at a time.
async fn read_on(world: &World, reader: &Reader, blocks: Range<u64>) {
    let (from, until) = world.ends(1);
    for number in blocks {
        let at = Offset(from.0 + number * (64 << 10));
        let found = reader.read(world.wanted(1, at, until, 1)).await.expect("a record");
        assert_eq!(found.records, [record(number as usize, 64 << 10)]);
        settle().await;
    }
}

#[tokio::test]
async fn what_is_read_ahead_stays_until_it_is_asked_for() {
    let mut world = blocks(200).await;
    world.pack(&[(2, (0..200).map(|number| record(number, 64 << 10)).collect())]).await;
    let (cache_bytes, ahead_bytes) = (6 << 20, 2 << 20);
    let reader = world.reader(ReaderOptions { cache_bytes, ahead_bytes, ..OPTIONS });
    let (from, until) = world.ends(2);
    let mut all_of_another = 0;
    for number in 0..200 {
        read_on(&world, &reader, number..number + 1).await;
        // More than fits, and nobody reads on there.
        if number % 10 == 5 {
            let before = reader.counters().bytes.load(Ordering::Relaxed);
            for at in (0..200).step_by(2) {
                let at = Offset(from.0 + at * (64 << 10));
                reader.read(world.wanted(2, at, until, 1)).await.expect("a record");
            }
            all_of_another += reader.counters().bytes.load(Ordering::Relaxed) - before;
        }
        let usage = reader.usage();
        assert!(usage.ahead_bytes <= ahead_bytes as u64, "{usage:?}");
        assert!(usage.cache_bytes <= cache_bytes as u64, "{usage:?}");
    }
    let bytes = reader.counters().bytes.load(Ordering::Relaxed) - all_of_another;
    // What the other stream drove out twenty times is the end of the pack.
    assert!(bytes < 200 * ((64 << 10) + 3) + (1 << 20), "{bytes} bytes for 12.5 MiB");
    assert_eq!(reader.usage().ahead_bytes, 0, "nothing is kept for one who has come to the end");
}

#[tokio::test]
async fn all_who_read_on_share_the_room() {
    let mut world = World::new();
    let streams: Vec<u64> = (1..=20).collect();
    let records = || (0..64).map(|number| record(number, 64 << 10)).collect();
    world.pack(&streams.iter().map(|stream| (*stream, records())).collect::<Vec<_>>()).await;
    let (cache_bytes, ahead_bytes) = (6 << 20, 1 << 20);
    let reader = world.reader(ReaderOptions { cache_bytes, ahead_bytes, gets_max: 64 });
    let mut most = 0;
    for number in 0..64 {
        for stream in &streams {
            let (from, until) = world.ends(*stream);
            let at = Offset(from.0 + number * (64 << 10));
            let found = reader.read(world.wanted(*stream, at, until, 1)).await.expect("a record");
            assert_eq!(found.records, [record(number as usize, 64 << 10)]);
            settle().await;
            let usage = reader.usage();
            most = most.max(usage.ahead_bytes);
            assert!(usage.cache_bytes <= cache_bytes as u64, "{usage:?}");
        }
    }
    // For two of them, and for nobody more than that.
    assert!((1 << 20..=2 << 20).contains(&most), "{most} bytes ahead");
    assert_eq!(reader.usage().ahead_bytes, 0);
}

/// One of them would take more room than was set aside.
#[tokio::test]
async fn long_records_are_not_held() {
    let mut world = World::new();
    let records: Vec<_> = (0..40).map(|number| record(number, 1_900_000)).collect();
    world.pack(&[(1, records.clone())]).await;
    let (cache_bytes, ahead_bytes) = (6 << 20, 2 << 20);
    let reader = world.reader(ReaderOptions { cache_bytes, ahead_bytes, ..OPTIONS });
    let (mut at, until) = world.ends(1);
    for record in records {
        let found = reader.read(world.wanted(1, at, until, 1)).await.expect("a record");
        at.0 += record.len() as u64;
        assert_eq!(found.records, [record]);
        settle().await;
        let usage = reader.usage();
        assert!(usage.cache_bytes <= cache_bytes as u64, "{usage:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_come_back_gives_his_room_to_others() {
    let mut world = blocks(90).await;
    world.pack(&[(2, vec![record(1, 10), record(2, 10)])]).await;
    let reader = world.reader(ReaderOptions { ahead_bytes: 1 << 20, ..OPTIONS });
    read_on(&world, &reader, 0..3).await;
    assert_eq!(reader.usage().ahead_bytes, 1 << 20);
    tokio::time::advance(RUN_IDLE).await;
    let (from, until) = world.ends(2);
    reader.read(world.wanted(2, from, until, 1)).await.expect("a record of another stream");
    assert_eq!(reader.usage().ahead_bytes, 0);
    read_on(&world, &reader, 3..90).await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_costs_what_had_not_come() {
    let whole = 90 * ((64 << 10) + 3);
    // The block in its midst is fetched once more, which may work or not.
    for faults in [vec![Fault::BreaksOff], vec![Fault::BreaksOff, Fault::Refused]] {
        let world = blocks(90).await;
        let reader = world.reader(ReaderOptions { ahead_bytes: 1 << 20, ..OPTIONS });
        read_on(&world, &reader, 0..2).await;
        // The block that is asked for, and then those that are read ahead.
        world.faults.plan([None].into_iter().chain(faults.into_iter().map(Some)));
        read_on(&world, &reader, 2..90).await;
        assert!(world.faults.is_calm());
        let bytes = reader.counters().bytes.load(Ordering::Relaxed);
        assert!(bytes < whole + (64 << 10) + (64 << 10), "{bytes} bytes, for {whole} and the end of the pack");
        assert_eq!(reader.usage(), Usage { cache_bytes: reader.usage().cache_bytes, ..world.reader(OPTIONS).usage() });
    }
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
    let task = note(43).expect("the other one").wanted;
    assert_eq!((task.from.0 - from.0, task.until.0 - task.from.0), (44 * (64 << 10), 1 << 20));
}
