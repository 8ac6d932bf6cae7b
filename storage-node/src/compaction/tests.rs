//! Several objects become one that has what anybody needs of them.

use std::cell::Cell;

use bytes::Bytes;
use ursula_cold::pack::{Builder, Head, Link, Pack, PackId};
use ursula_cold::store::{MemoryStore, Store};
use ursula_common::packs::PackRef;
use ursula_common::{ClusterId, GroupId, Millis, Offset, StreamId};
use ursula_stream_core::encode_images;

use super::{Kept, Merge, MergeError};

const CLUSTER: ClusterId = ClusterId(7);
const GROUP: GroupId = GroupId(1);

/// What a pack has of a stream: its number, where that begins, the pack before, and the records.
type Given<'a> = (u64, u64, Option<u64>, &'a [&'a str]);

/// A store with packs that follow each other.
struct World {
    store: MemoryStore,
    packs: Vec<PackRef>,
    /// How many were merged.
    merged: Cell<u64>,
}

impl World {
    async fn new(packs: &[&[Given<'_>]]) -> World {
        let mut world = World { store: MemoryStore::default(), packs: Vec::new(), merged: Cell::new(0) };
        for (number, given) in (1..).zip(packs) {
            world.add(number, given).await;
        }
        world
    }

    async fn add(&mut self, number: u64, given: &[Given<'_>]) {
        let id = PackId { group: GROUP, first: number, last: number, maker: 100 + number };
        let prev = self.packs.last().map(link);
        let head = Head { cluster: CLUSTER, id, made: Millis(1000 * number), as_of: number, prev, merged: None };
        let mut builder = Builder::new(head);
        for (stream, start, prev, records) in given {
            let records: Vec<Bytes> = records.iter().map(|record| Bytes::copy_from_slice(record.as_bytes())).collect();
            builder.add(StreamId(*stream), Offset(*start), *prev, &records);
        }
        let packed = builder.finish(&encode_images(GROUP, 1, StreamId(100), &[]));
        let bytes = packed.body.len() as u64;
        self.store.put(&id.name(), packed.body).await.expect("stored");
        self.packs.push(PackRef { first: number, last: number, maker: id.maker, bytes, hash: packed.hash });
    }

    /// Merges all of these; streams 1 to 9 are there from these offsets on, if they are not named from 0 on.
    async fn merge(&self, run: &[PackRef], kept: &[(u64, Option<u64>)]) -> Result<PackRef, MergeError> {
        let floor = |stream: u64| kept.iter().find(|(other, _)| *other == stream).map_or(Some(0), |(_, from)| *from);
        let kept = (1..10).filter_map(|stream| Some((StreamId(stream), Offset(floor(stream)?)))).collect();
        let (first, last) = (run[0].first, run[run.len() - 1].last);
        self.merged.set(self.merged.get() + 1);
        let id = PackId { group: GROUP, first, last, maker: 500 + self.merged.get() };
        let merge = Merge { cluster: CLUSTER, id, run, kept: &Kept::new(kept) };
        let packed = merge.make(&self.store).await?;
        let bytes = packed.body.len() as u64;
        self.store.put(&id.name(), packed.body).await.expect("stored");
        Ok(PackRef { first, last, maker: id.maker, bytes, hash: packed.hash })
    }

    async fn open(&self, object: &PackRef) -> Pack {
        Pack::open_sized(&self.store, PackId::of(GROUP, object), object.bytes).await.expect("it is whole")
    }

    /// Stream, start, end, pack before and bytes of each row.
    async fn rows(&self, object: &PackRef) -> Vec<(u64, u64, u64, Option<u64>, String)> {
        let pack = self.open(object).await;
        let mut found = Vec::new();
        for row in pack.all_rows(&self.store).await.expect("rows") {
            let mut text = String::new();
            for block in pack.blocks(&self.store, &row, row.start).await.expect("places") {
                for record in pack.block(&self.store, &block).await.expect("a block") {
                    text.push_str(str::from_utf8(&record).expect("text"));
                }
            }
            found.push((row.stream.0, row.start.0, row.end.0, row.prev, text));
        }
        found
    }
}

fn link(object: &PackRef) -> Link {
    Link { id: PackId::of(GROUP, object), hash: object.hash }
}

fn row(stream: u64, start: u64, prev: Option<u64>, text: &str) -> (u64, u64, u64, Option<u64>, String) {
    (stream, start, start + text.len() as u64, prev, text.to_owned())
}

async fn three() -> World {
    let first: &[Given<'_>] = &[(1, 0, None, &["ab", "c"]), (2, 0, None, &["xyz"])];
    let second: &[Given<'_>] = &[(1, 3, Some(1), &["d"]), (3, 0, None, &["new"])];
    let third: &[Given<'_>] = &[(1, 4, Some(2), &["ef"]), (2, 3, Some(1), &["!"])];
    World::new(&[first, second, third]).await
}

#[tokio::test]
async fn bytes_of_a_stream_come_together() {
    let world = three().await;
    let merged = world.merge(&world.packs, &[]).await.expect("merged");
    let whole = [row(1, 0, None, "abcdef"), row(2, 0, None, "xyz!"), row(3, 0, None, "new")];
    assert_eq!(world.rows(&merged).await, whole);
    let later = world.merge(&world.packs[1..], &[]).await.expect("merged");
    assert_eq!(
        world.rows(&later).await,
        [row(1, 3, Some(1), "def"), row(2, 3, Some(1), "!"), row(3, 0, None, "new")],
        "a pack before the first is named, others are not"
    );
}

#[tokio::test]
async fn it_stands_for_the_last_of_them() {
    let world = three().await;
    let first = world.merge(&world.packs[..2], &[]).await.expect("merged");
    let head = *world.open(&first).await.head();
    assert_eq!((head.made, head.prev, head.merged), (Millis(2000), None, Some(link(&world.packs[1]))));
    let later = world.merge(&world.packs[1..], &[]).await.expect("merged");
    let head = *world.open(&later).await.head();
    assert_eq!((head.prev, head.merged), (Some(link(&world.packs[0])), Some(link(&world.packs[2]))));
    // Merged again, it stands for the same.
    let again = world.merge(&[first, world.packs[2]], &[]).await.expect("merged");
    let head = *world.open(&again).await.head();
    assert_eq!((head.id.first, head.id.last, head.merged), (1, 3, Some(link(&world.packs[2]))));
    let alone = world.merge(&[again], &[]).await.expect("merged");
    assert_eq!(world.open(&alone).await.head().merged, Some(link(&world.packs[2])));
}

#[tokio::test]
async fn what_nobody_needs_stays_behind() {
    let world = three().await;
    let gone = world.merge(&world.packs, &[(1, None)]).await.expect("merged");
    assert_eq!(world.rows(&gone).await, [row(2, 0, None, "xyz!"), row(3, 0, None, "new")]);
    // Whole records go, and what begins later has nothing before it.
    for (from, left) in [(1, row(1, 0, None, "abcdef")), (2, row(1, 2, None, "cdef")), (4, row(1, 4, None, "ef"))] {
        let cut = world.merge(&world.packs, &[(1, Some(from))]).await.expect("merged");
        assert_eq!(world.rows(&cut).await[0], left, "from {from}");
    }
    let nothing = world.merge(&world.packs, &[(1, None), (2, Some(4)), (3, None)]).await.expect("merged");
    assert_eq!(world.rows(&nothing).await, []);
}

#[tokio::test]
async fn how_much_is_kept_is_seen_in_the_rows() {
    let world = three().await;
    let (first, id) = (world.packs[0], PackId::of(GROUP, &world.packs[0]));
    for (kept, share) in [(vec![], (6, 0)), (vec![(1, 0), (2, 0)], (6, 6)), (vec![(1, 2), (2, 9)], (6, 1))] {
        let kept = Kept::new(kept.into_iter().map(|(stream, from)| (StreamId(stream), Offset(from))).collect());
        assert_eq!(kept.share(&world.store, id, first.bytes).await.expect("rows"), share);
    }
}

#[test]
fn of_what_is_said_twice_all_is_kept() {
    let kept = Kept::new(vec![(StreamId(2), Offset(5)), (StreamId(1), Offset(7)), (StreamId(2), Offset(0))]);
    assert_eq!([1, 2, 3].map(|stream| kept.from(StreamId(stream))), [Some(Offset(7)), Some(Offset(0)), None]);
}

#[tokio::test]
async fn a_gap_waits_until_packs_know_of_it() {
    let first: &[Given<'_>] = &[(1, 0, None, &["abc"])];
    let second: &[Given<'_>] = &[(1, 8, None, &["later"])];
    let world = World::new(&[first, second]).await;
    assert!(matches!(world.merge(&world.packs, &[]).await, Err(MergeError::NotYet)));
    let merged = world.merge(&world.packs, &[(1, Some(8))]).await.expect("packs know");
    assert_eq!(world.rows(&merged).await, [row(1, 8, None, "later")]);
}

#[tokio::test]
async fn what_is_damaged_stays_as_it_is_and_is_named() {
    let twice: &[Given<'_>] = &[(1, 2, None, &["bytes"])];
    let mut world = three().await;
    world.add(4, twice).await;
    let named = |merged: Result<PackRef, MergeError>| match merged {
        Err(MergeError::Object { maker, .. }) => maker,
        other => panic!("{other:?}"),
    };
    assert_eq!(named(world.merge(&world.packs, &[]).await), 104, "it has bytes that were there before");
    world.packs[1].hash = [0; 32];
    assert_eq!(named(world.merge(&world.packs[..3], &[]).await), 102, "it has another hash");
    world.store.delete(&PackId::of(GROUP, &world.packs[0]).name()).await.expect("deleted");
    assert_eq!(named(world.merge(&world.packs[..3], &[]).await), 101, "it is not there");
}
