//! Whatever was packed is read back, in few GETs, whatever the store does; and what contradicts itself is not believed.

mod damage;
mod sharing;
mod world;

use std::sync::atomic::Ordering;

use proptest::prelude::*;
use ursula_common::Offset;

use super::{Found, PACKS_MAX, Reader};
use crate::pack::PackId;
use world::{GROUP, OPTIONS, World, block_on, record};

/// All of a stream, in pages.
async fn read_all(world: &World, reader: &Reader, stream: u64, bytes_max: usize) -> Found {
    let (from, until) = world.ends(stream);
    let mut all = Found { start: from, records: Vec::new() };
    let mut at = from;
    while at < until {
        let found = reader.read(world.wanted(stream, at, until, bytes_max)).await.expect("records");
        assert_eq!(found.start, at);
        assert!(!found.records.is_empty());
        at = Offset(at.0 + found.records.iter().map(|record| record.len() as u64).sum::<u64>());
        all.records.extend(found.records);
    }
    assert_eq!(at, until);
    all
}

#[tokio::test]
async fn a_page_is_what_was_asked_for() {
    let mut world = World::new();
    world.pack(&[(1, vec![record(1, 10), record(2, 20), record(3, 30)])]).await;
    world.pack(&[(2, vec![record(9, 5)])]).await;
    world.pack(&[(1, vec![record(4, 40), record(5, 50)])]).await;
    let reader = world.reader(OPTIONS);
    let (start, end) = world.ends(1);
    let at = |bytes: u64| Offset(start.0 + bytes);
    // From, until, the most bytes; the first record and the one after the last.
    let pages = [
        (0, 150, 1000, 0, 5),
        (0, 150, 0, 0, 1),
        (0, 150, 1, 0, 1),
        (0, 150, 10, 0, 1),
        (0, 150, 11, 0, 2),
        (9, 150, 1, 0, 1),
        (10, 150, 1, 1, 2),
        (29, 150, 2, 1, 3),
        (59, 150, 1, 2, 3),
        (59, 150, 2, 2, 4),
        (60, 150, 1000, 3, 5),
        (149, 150, 1000, 4, 5),
        (0, 60, 1000, 0, 3),
        (0, 61, 1000, 0, 4),
        (0, 31, 1000, 0, 3),
        (0, 30, 1000, 0, 2),
        (60, 60, 1000, 3, 3),
        (80, 60, 1000, 3, 3),
    ];
    for (from, until, bytes_max, first, last) in pages {
        let found = reader.read(world.wanted(1, at(from), at(until), bytes_max)).await.expect("a page");
        let records = &world.records(1)[first..last];
        let starts = at(world.records(1)[..first].iter().map(|record| record.len() as u64).sum());
        let starts = if records.is_empty() { at(from) } else { starts };
        assert_eq!(found, Found { start: starts, records: records.to_vec() }, "{from}..{until}, {bytes_max}");
    }
    assert_eq!(end, at(150));
}

#[tokio::test]
async fn a_long_chain_is_found_in_few_steps() {
    let mut world = World::new();
    for number in 0..1000 {
        world.pack(&[(1, vec![record(number, 100)]), (2 + number as u64, vec![record(number, 10)])]).await;
    }
    let (start, until) = world.ends(1);
    for from in [0, 100 * 3, 100 * 333, 100 * 500, 100 * 997, 100 * 999] {
        let reader = world.reader(OPTIONS);
        let found = reader.read(world.wanted(1, Offset(start.0 + from), until, 1)).await.expect("a record");
        assert_eq!(found.records, [record(from as usize / 100, 100)]);
        let gets = reader.counters().gets.load(Ordering::Relaxed);
        assert!(gets <= 40, "{gets} GETs to find {from}");
    }
}

#[tokio::test]
async fn who_reads_on_does_not_search_again() {
    let mut world = World::new();
    for number in 0..600 {
        world.pack(&[(1, vec![record(number, 1000)])]).await;
    }
    let (start, until) = world.ends(1);
    let reader = world.reader(OPTIONS);
    let mut at = start;
    for number in 0..600 {
        let found = reader.read(world.wanted(1, at, until, 1)).await.expect("a record");
        assert_eq!(found.records, [record(number, 1000)]);
        at = Offset(at.0 + 1000);
    }
    // One to open a pack, which brings the tables of so small a one, and one for the block.
    let gets = reader.counters().gets.load(Ordering::Relaxed);
    assert!(gets <= 2 * 600, "{gets} GETs for 600 packs");
    // Looks into the cache: each pack is looked into once to find it, and once to read it.
    let hits = reader.counters().hits.load(Ordering::Relaxed);
    assert!(hits <= 5 * 600, "{hits} hits for 600 packs");
}

#[tokio::test]
async fn adjacent_blocks_are_one_get() {
    let mut world = World::new();
    let records: Vec<_> = (0..200).map(|number| record(number, 64 << 10)).collect();
    world.pack(&[(1, records.clone()), (2, vec![record(1, 7)])]).await;
    assert_eq!(read_all(&world, &world.reader(OPTIONS), 1, 1 << 20).await.records, records);
    let reader = world.reader(OPTIONS);
    let (from, until) = world.ends(1);
    let found = reader.read(world.wanted(1, from, until, usize::MAX)).await.expect("all");
    assert_eq!(found.records, records);
    // One for the end of the pack, and 200 blocks of 64 KiB, at most 8 MiB at a time, in two pages of places.
    let gets = reader.counters().gets.load(Ordering::Relaxed);
    assert!(gets <= 1 + 3, "{gets} GETs for 12.5 MiB");
    let bytes = reader.counters().bytes.load(Ordering::Relaxed);
    assert!(bytes < (200 * (64 << 10)) + (64 << 10), "{bytes} bytes");
    assert_eq!(found, reader.read(world.wanted(1, from, until, usize::MAX)).await.expect("all again"));
    assert_eq!(reader.counters().gets.load(Ordering::Relaxed), gets, "from the cache");
}

#[tokio::test]
async fn a_read_looks_into_so_many_packs() {
    let mut world = World::new();
    for number in 0..PACKS_MAX + 3 {
        world.pack(&[(1, vec![record(number, 10)])]).await;
    }
    let reader = world.reader(OPTIONS);
    let (from, until) = world.ends(1);
    let found = reader.read(world.wanted(1, from, until, 1 << 20)).await.expect("records");
    assert_eq!(found.records, world.records(1)[..PACKS_MAX]);
}

#[tokio::test]
async fn packs_that_were_put_together_are_read_as_they_were() {
    let mut world = World::new();
    for number in 0..40 {
        let streams: Vec<_> = (1..4).filter(|stream| number % stream == 0).collect();
        let streams: Vec<_> = streams.iter().map(|stream| (*stream as u64, vec![record(number, 100)])).collect();
        world.pack(&streams).await;
    }
    for (first, last) in [(1, 7), (8, 8), (9, 30), (35, 40)] {
        // Who has seen the old objects finds the new ones.
        let reader = world.reader(OPTIONS);
        let (from, until) = world.ends(1);
        reader.read(world.wanted(1, from, until, 300)).await.expect("records");
        world.compact(first, last).await;
        for stream in 1..4 {
            assert_eq!(read_all(&world, &reader, stream, 1000).await.records, world.records(stream), "stream {stream}");
        }
    }
}

#[tokio::test]
async fn a_pack_that_is_gone_is_named() {
    let mut world = World::new();
    world.pack(&[(1, vec![record(1, 10)])]).await;
    world.pack(&[(1, vec![record(2, 10)])]).await;
    let gone = world.id(1);
    world.remove(gone).await;
    let (from, until) = world.ends(1);
    let error = world.reader(OPTIONS).read(world.wanted(1, from, until, 100)).await.expect_err("gone");
    assert_eq!(error.to_string(), format!("object {gone} is not there"));
    assert_eq!(error.until, Some(Offset(from.0 + 10)), "where the second begins");
    let newest = world.id(2);
    world.remove(newest).await;
    let error = world.reader(OPTIONS).read(world.wanted(1, from, until, 100)).await.expect_err("gone");
    assert_eq!((error.to_string(), error.until), (format!("object {newest} is not there"), None));
    assert_eq!(PackId::parse(&gone.name()).map(|id| id.group), Some(GROUP));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// Streams by the hundreds in packs by the dozens, some of them put together, read from anywhere in pages of any size.
    #[test]
    fn any_streams_in_any_packs_are_read_back(
        seed in any::<u64>(),
        packs in 1usize..120,
        streams in 1u64..400,
        compacted in proptest::collection::vec((1u64..120, 1u64..20), 0..5),
        reads in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), 0usize..20_000), 40),
        cache_bytes in prop_oneof![Just(0usize), Just(100_000), Just(64 << 20)],
    ) {
        block_on(async {
            let mut world = World::random(seed, packs, streams).await;
            for (first, count) in compacted {
                world.compact(first, first + count).await;
            }
            let reader = world.reader(super::ReaderOptions { cache_bytes, ..OPTIONS });
            let known = world.streams();
            for (stream, from, until, bytes_max) in reads {
                let stream = known[(stream % known.len() as u64) as usize];
                let (start, end) = world.ends(stream);
                let from = start.0 + from % (end.0 - start.0);
                let until = from + 1 + until % (end.0 - from);
                let (from, until) = (Offset(from), Offset(until));
                let found = reader.read(world.wanted(stream, from, until, bytes_max)).await.expect("records");
                world.check(stream, from, until, bytes_max, &found);
            }
        });
    }
}
