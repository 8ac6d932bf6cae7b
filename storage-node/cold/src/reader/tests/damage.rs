//! Stores on bad days, and packs that contradict themselves, each other, or the state.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use ursula_common::{ClusterId, Offset, StreamId};

use super::super::{Found, ReadError};
use super::world::{CLUSTER, OPTIONS, World, record};
use crate::pack::Builder;
use crate::store::fault::Fault;
use crate::store::{Store as _, StoreError};

/// Stream 1 in packs 1 to 3, ten records of ten bytes in each.
async fn three_packs() -> World {
    let mut world = World::new();
    for pack in 0..3 {
        world.pack(&[(1, (0..10).map(|number| record(pack * 10 + number, 10)).collect())]).await;
    }
    world
}

async fn read(world: &World, from: u64) -> Result<Found, ReadError> {
    let (start, until) = world.ends(1);
    world.reader(OPTIONS).read(world.wanted(1, Offset(start.0 + from), until, 10)).await
}

#[tokio::test]
async fn every_fault_is_passed_on_and_none_is_remembered() {
    let world = three_packs().await;
    let (from, until) = world.ends(1);
    let wanted = || world.wanted(1, from, until, 10);
    let calm = world.reader(OPTIONS);
    calm.read(wanted()).await.expect("records");
    let gets = calm.counters().gets.load(Ordering::Relaxed) as usize;
    for fault in [Fault::Refused, Fault::Unanswered, Fault::Denied, Fault::NoPlace] {
        for number in 0..gets {
            let reader = world.reader(OPTIONS);
            world.faults.plan((0..number).map(|_| None).chain([Some(fault)]));
            let ReadError { error, until } = reader.read(wanted()).await.expect_err("the fault");
            assert_eq!(until, None, "it may pass");
            let fits = match fault {
                Fault::Denied => matches!(error, StoreError::Denied(_)),
                Fault::NoPlace => matches!(error, StoreError::NoPlace(_)),
                _ => error.is_transient(),
            };
            assert!(fits && world.faults.is_calm(), "{fault:?} at {number}: {error:?}");
            let found = reader.read(wanted()).await.expect("records");
            assert_eq!(found.records, world.records(1)[..1]);
        }
    }
    // One bit that is wrong on its way costs one GET more.
    for number in 0..gets {
        let reader = world.reader(OPTIONS);
        world.faults.plan((0..number).map(|_| None).chain([Some(Fault::Flipped)]));
        assert_eq!(reader.read(wanted()).await.expect("records").records, world.records(1)[..1], "at {number}");
        assert!(world.faults.is_calm());
        let counts = reader.counters();
        assert!(counts.gets.load(Ordering::Relaxed) as usize <= gets + 1);
        // The end of a pack has bytes that are not needed.
        assert!(counts.damaged.load(Ordering::Relaxed) <= 1);
    }
}

#[tokio::test]
async fn what_stays_damaged_is_named_and_what_is_before_it_is_read() {
    let mut world = World::new();
    let records: Vec<Bytes> = (0..5).map(|number| record(number, 64 << 10)).collect();
    world.pack(&[(1, records.clone())]).await;
    let id = world.id(1);
    let bytes = world.store.size(&id.name()).await.expect("a length");
    let mut body = world.store.get(&id.name(), 0..bytes).await.expect("the object").to_vec();
    // In the fourth block.
    body[16 + 3 * ((64 << 10) + 3) + 100] ^= 1;
    world.remove(id).await;
    world.store.put(&id.name(), body.into()).await.expect("stored");

    let reader = world.reader(OPTIONS);
    let (from, until) = world.ends(1);
    let found = reader.read(world.wanted(1, from, until, 1 << 20)).await.expect("what is sound");
    assert_eq!(found, Found { start: from, records: records[..3].to_vec() });
    let at = Offset(from.0 + 3 * (64 << 10));
    let end = Offset(at.0 + (64 << 10));
    let inside = reader.read(world.wanted(1, Offset(at.0 + 9), until, 1 << 20)).await.expect_err("damaged");
    assert_eq!(inside.until, Some(end));
    let error = reader.read(world.wanted(1, at, until, 1 << 20)).await.expect_err("damaged").to_string();
    let says = format!("object {id} is damaged: of stream 1: its bytes from {at} to {end} are not what was stored");
    assert_eq!(error, says);
    let found = reader.read(world.wanted(1, end, until, 1 << 20)).await.expect("what comes after it");
    assert_eq!(found, Found { start: end, records: records[4..].to_vec() });
    assert!(reader.counters().damaged.load(Ordering::Relaxed) >= 2);
}

/// The sentence for packs of which one is replaced by one with this row.
async fn sentence(pack: u64, from: u64, cluster: ClusterId, rows: &[(u64, u64, Option<u64>, usize)]) -> String {
    let mut world = three_packs().await;
    let mut builder = Builder::new(world.head(cluster, pack, pack));
    let first = world.ends(1).0;
    for (stream, start, prev, bytes) in rows {
        builder.add(StreamId(*stream), Offset(first.0 + start), *prev, &[record(1, *bytes)]);
    }
    let object = world.put(builder, pack, pack).await;
    world.replace(pack, object);
    let ReadError { error, .. } = read(&world, from).await.expect_err("a contradiction");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    let text = error.to_string();
    text.split_once("is damaged: ").expect("a reason").1.replace(&first.to_string()[..25], "")
}

#[tokio::test]
async fn packs_that_contradict_are_not_believed() {
    let own = CLUSTER;
    let cases = [
        (sentence(3, 250, ClusterId(7), &[(1, 200, Some(2), 100)]).await, "cluster 00000000000000000000000000000007"),
        (sentence(3, 250, own, &[(2, 200, Some(2), 100)]).await, "newest bytes"),
        (sentence(3, 250, own, &[(1, 200, Some(2), 50)]).await, "newest bytes"),
        (sentence(3, 150, own, &[(1, 200, Some(3), 100)]).await, "names pack 3 before it"),
        (sentence(3, 150, own, &[(1, 200, Some(9), 100)]).await, "names pack 9 before it"),
        (sentence(3, 150, own, &[(1, 200, Some(1), 100)]).await, "should have bytes up to"),
        (sentence(3, 150, own, &[(1, 200, None, 100)]).await, "nothing comes before"),
        (sentence(2, 105, own, &[(1, 110, Some(1), 90)]).await, "should have bytes up to"),
        (sentence(2, 150, own, &[(2, 100, Some(1), 100)]).await, "should have bytes up to"),
        (sentence(2, 150, own, &[(1, 100, Some(1), 120)]).await, "should have bytes up to"),
    ];
    for (number, (says, expected)) in cases.iter().enumerate() {
        assert!(says.contains(expected), "{number}: {says}");
    }
}

/// The error of reading packs of which one, with two blocks of one stream, was changed by whoever can make checksums.
async fn forged(change: impl Fn(&mut [u8], &mut [u8])) -> String {
    let mut world = World::new();
    world.pack(&[(1, vec![record(1, 64 << 10), record(2, 100)])]).await;
    let id = world.id(1);
    let bytes = world.store.size(&id.name()).await.expect("a length");
    let mut body = world.store.get(&id.name(), 0..bytes).await.expect("the object").to_vec();
    // From the end: trailer, one page in the list, a row and two places with their checksums.
    let rows_at = body.len() - 256 - 8 - (40 + 4);
    let (places, rows) = body[rows_at - (48 + 4)..rows_at + 44].split_at_mut(48 + 4);
    change(&mut places[..48], &mut rows[..40]);
    for page in [places, rows] {
        let (entries, crc) = page.split_last_chunk_mut::<4>().expect("a checksum");
        *crc = crc32c::crc32c(entries).to_le_bytes();
    }
    world.remove(id).await;
    world.store.put(&id.name(), body.into()).await.expect("stored");

    // To the end, however far a page gets.
    let reader = world.reader(OPTIONS);
    let (mut at, until) = world.ends(1);
    loop {
        match reader.read(world.wanted(1, at, until, 1 << 20)).await {
            Err(error) => return error.to_string(),
            Ok(found) => {
                assert!(found.start == at && !found.records.is_empty(), "it gets on");
                at = Offset(at.0 + found.records.iter().map(|record| record.len() as u64).sum::<u64>());
                assert!(at <= until, "not beyond the end");
                assert!(at < until, "what is forged is noticed");
            }
        }
    }
}

fn put32(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

fn move64(bytes: &mut [u8], at: usize, by: i64) {
    let number: &mut [u8; 8] = (&mut bytes[at..at + 8]).try_into().expect("eight bytes");
    *number = u64::from_le_bytes(*number).wrapping_add_signed(by).to_le_bytes();
}

#[tokio::test]
async fn packs_that_contradict_themselves_are_not_believed() {
    let cases = [
        (forged(|places, _| move64(places, 0, 1)).await, "no block has"),
        (forged(|places, _| move64(places, 24, 1)).await, "does not fit there"),
        (forged(|places, _| move64(places, 24, -1)).await, "does not fit there"),
        // A block without records, of no bytes: nobody gets past it.
        (
            forged(|places, _| [12, 16, 20].map(|at| put32(places, at, 0)).iter().for_each(drop)).await,
            "does not fit there",
        ),
        (forged(|places, _| put32(places, 16, 2)).await, "does not fit there"),
        (forged(|places, _| put32(places, 16, u32::MAX)).await, "does not fit there"),
        (forged(|places, _| put32(places, 12, u32::MAX)).await, "the places of its blocks contradict it"),
        (forged(|places, _| put32(places, 8, u32::MAX)).await, "the places of its blocks contradict it"),
        (forged(|_, rows| put32(rows, 32, u32::MAX)).await, "its rows contradict each other"),
        (forged(|_, rows| put32(rows, 36, u32::MAX)).await, "its rows contradict each other"),
        (forged(|_, rows| put32(rows, 36, 0)).await, "its rows contradict each other"),
        (forged(|_, rows| put32(rows, 36, 1)).await, "does not fit there"),
        (forged(|_, rows| move64(rows, 16, 1)).await, "does not fit there"),
        (forged(|_, rows| move64(rows, 16, -1)).await, "does not fit there"),
        (forged(|_, rows| move64(rows, 8, 1)).await, "nothing comes before"),
        // A chain that leads to itself.
        (
            forged(|_, rows| {
                move64(rows, 8, 1);
                move64(rows, 24, 1);
            })
            .await,
            "names pack 1 before it",
        ),
    ];
    for (number, (says, expected)) in cases.iter().enumerate() {
        assert!(says.contains(expected), "{number}: {says}");
    }
}
