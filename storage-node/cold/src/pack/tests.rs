//! What is packed is found again, whatever it is; what is damaged is never believed.

use bytes::Bytes;
use proptest::prelude::*;
use ursula_common::{ClusterId, GroupId, Millis, Offset, StreamId};

use super::format::{PAGE_ROWS, TRAILER_BYTES};
use super::{BLOCK_BYTES, Builder, Head, Link, Pack, PackId, Packed, hash};
use crate::store::{MemoryStore, Name, Put, Store, StoreError};

fn id(first: u64, last: u64) -> PackId {
    PackId { group: GroupId(3), first, last, maker: 0xfeed }
}

fn head(id: PackId) -> Head {
    let single = |pack| PackId { group: GroupId(3), first: pack, last: pack, maker: 0xbead };
    let prev = Some(Link { id: single(6), hash: [7; 32] });
    let merged = (id.first < id.last).then(|| Link { id: single(id.last), hash: [9; 32] });
    let cluster = ClusterId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
    Head { cluster, id, made: Millis(1000), as_of: 258, prev, merged }
}

type Streams = Vec<(StreamId, Offset, Vec<Bytes>)>;

fn pack(id: PackId, streams: &Streams, records: &[u8]) -> Packed {
    let mut builder = Builder::new(head(id));
    for (stream, start, records) in streams {
        builder.add(*stream, *start, Some(stream.0 + 1), records);
    }
    builder.finish(records)
}

async fn stored(body: &Bytes) -> MemoryStore {
    let store = MemoryStore::default();
    assert_eq!(store.put(&id(7, 7).name(), body.clone()).await.expect("stored"), Put::Stored);
    store
}

/// All records of a stream from `from` on, and the offset of the first one.
async fn read(
    store: &dyn Store,
    pack: &Pack,
    stream: StreamId,
    from: Offset,
) -> Result<(Offset, Vec<Bytes>), StoreError> {
    let row = pack.row(store, stream).await?.expect("the stream is there");
    let (mut start, mut at, mut found) = (None, from, Vec::new());
    loop {
        let blocks = pack.blocks(store, &row, at).await?;
        if blocks.is_empty() {
            assert_eq!(at, row.end);
            return Ok((start.expect("a block"), found));
        }
        for block in blocks {
            start.get_or_insert(block.start);
            at = block.start;
            for record in pack.block(store, &block).await? {
                at = Offset(at.0 + record.len() as u64);
                found.push(record);
            }
        }
    }
}

fn record(number: usize, bytes: usize) -> Bytes {
    (0..bytes).map(|at| (number * 31 + at) as u8).collect::<Vec<u8>>().into()
}

/// A few streams of all sorts: tiny records, many blocks, one record that is larger than a block.
fn streams() -> Streams {
    let tiny = (0..300).map(|number| record(number, 1 + number % 3)).collect();
    let many = (0..PAGE_ROWS * 2 + 50).map(|number| record(number, BLOCK_BYTES + number)).collect();
    let large = vec![record(1, 5), record(2, BLOCK_BYTES * 3), record(3, 7)];
    vec![(StreamId(2), Offset(0), tiny), (StreamId(5), Offset(77), many), (StreamId(9), Offset(1 << 40), large)]
}

#[tokio::test]
async fn what_was_packed_is_found() {
    let streams = streams();
    let packed = pack(id(7, 7), &streams, b"what the streams are");
    let store = stored(&packed.body).await;
    let opened = Pack::open(&store, id(7, 7)).await.expect("the pack");
    assert_eq!(*opened.head(), head(id(7, 7)));
    assert_eq!((opened.streams(), opened.bytes()), (3, packed.body.len() as u64));
    assert_eq!(hash(&packed.body), packed.hash);
    assert_eq!(opened.records(&store).await.expect("the records"), "what the streams are");
    for (stream, start, records) in &streams {
        let row = opened.row(&store, *stream).await.expect("a row").expect("the stream is there");
        assert!(packed.rows.contains(&row));
        assert_eq!(row.prev, Some(stream.0 + 1));
        assert_eq!(read(&store, &opened, *stream, *start).await.expect("bytes"), (*start, records.clone()));
        // From any record on, what comes is the rest, from no later than there.
        for number in [0, records.len() / 3, records.len() / 2, records.len() - 1] {
            let at = start.0 + records[..number].iter().map(|record| record.len() as u64).sum::<u64>();
            let inside = Offset(at + records[number].len() as u64 / 2);
            let (first, found) = read(&store, &opened, *stream, inside).await.expect("bytes");
            assert!(first.0 <= at && records.ends_with(&found));
            assert!(inside.0 - first.0 < (BLOCK_BYTES * 4) as u64, "not from the beginning");
        }
    }
    for absent in [0, 1, 3, 10, u64::MAX] {
        assert_eq!(opened.row(&store, StreamId(absent)).await.expect("an answer"), None);
    }
}

#[tokio::test]
async fn an_empty_pack_is_a_pack() {
    let packed = Builder::new(head(id(7, 7))).finish(&[]);
    let store = stored(&packed.body).await;
    let opened = Pack::open(&store, id(7, 7)).await.expect("the pack");
    assert_eq!((opened.streams(), opened.pages()), (0, 0));
    assert_eq!(opened.records(&store).await.expect("the records"), "");
    assert_eq!(opened.row(&store, StreamId(1)).await.expect("an answer"), None);
}

#[tokio::test]
async fn many_streams_have_many_pages() {
    let streams: Streams = (0..PAGE_ROWS as u64 * 3 + 1)
        .map(|number| (StreamId(number * 2), Offset(number), vec![record(number as usize, 9)]))
        .collect();
    let packed = pack(id(7, 7), &streams, &[]);
    let store = stored(&packed.body).await;
    let opened = Pack::open(&store, id(7, 7)).await.expect("the pack");
    assert_eq!(opened.pages(), 4);
    for (stream, start, records) in &streams {
        assert_eq!(read(&store, &opened, *stream, *start).await.expect("bytes"), (*start, records.clone()));
        assert_eq!(opened.row(&store, StreamId(stream.0 + 1)).await.expect("an answer"), None);
    }
    let mut rows = Vec::new();
    for page in 0..opened.pages() {
        rows.extend(opened.rows(&store, page).await.expect("a page"));
    }
    assert_eq!(rows, packed.rows);
}

/// Persisted: these bytes must stay readable.
#[test]
fn the_bytes_of_a_pack() {
    let streams = vec![(StreamId(2), Offset(10), vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")])];
    let packed = pack(id(7, 9), &streams, b"rec");
    let hex: String = packed.body.iter().map(|byte| format!("{byte:02x}")).collect();
    let golden: String = include_str!("tests/pack.hex").split_whitespace().collect();
    assert_eq!(hex, golden);
}

#[tokio::test]
async fn every_bit_counts() {
    let tiny = vec![
        (StreamId(2), Offset(10), vec![record(1, 40), record(2, 3)]),
        (StreamId(4), Offset(0), vec![record(3, 9)]),
    ];
    let packed = pack(id(7, 7), &tiny, b"records");
    for bit in 0..packed.body.len() * 8 {
        let mut body = packed.body.to_vec();
        body[bit / 8] ^= 1 << (bit % 8);
        let store = stored(&body.clone().into()).await;
        let everything = async {
            let opened = Pack::open(&store, id(7, 7)).await?;
            opened.records(&store).await?;
            for (stream, start, _) in &tiny {
                read(&store, &opened, *stream, *start).await?;
            }
            Ok(())
        };
        let outcome: Result<(), StoreError> = everything.await;
        // The start is for people and for `file`; only the hash covers it.
        let is_start = bit < super::format::START_BYTES * 8;
        assert_eq!(outcome.is_ok(), is_start, "bit {bit}: {outcome:?}");
        assert_ne!(hash(&body), packed.hash);
    }
}

#[tokio::test]
async fn what_is_no_pack_is_refused_with_a_reason() {
    let packed = pack(id(7, 7), &streams(), &[]);
    let reason = async |body: Bytes, id: PackId| {
        let store = MemoryStore::default();
        store.put(&id.name(), body).await.expect("stored");
        Pack::open(&store, id).await.expect_err("no pack").to_string()
    };
    let at = packed.body.len() - TRAILER_BYTES + 8;
    let mut newer = packed.body.to_vec();
    newer[at] = 2;
    let say = |name: PackId, what: &str| format!("object {name} is damaged: {what}");
    let own = id(7, 7);
    let newer_says = "it has format 2, and this build reads format 1";
    assert_eq!(reason(newer.into(), own).await, say(own, newer_says));
    assert_eq!(reason(Bytes::from_static(b"short"), own).await, say(own, "it is too short"));
    assert_eq!(reason(vec![0; 5000].into(), own).await, say(own, "it does not end as a pack does"));
    let other = id(8, 8);
    assert_eq!(reason(packed.body.clone(), other).await, say(other, &format!("it says that it is {own}")));
    assert_eq!(reason(packed.body.slice(1..), own).await, say(own, "its parts are not as long as it says"));
}

#[test]
fn names_say_which_pack() {
    let pack = id(7, 0x1f);
    assert_eq!(pack.name().as_str(), "packs/00000003/0000000000000007-000000000000001f-000000000000feed");
    assert_eq!(PackId::parse(&pack.name()), Some(pack));
    assert!(pack.name().is_below(&PackId::folder(GroupId(3))));
    for other in ["packs/00000003/7-1f-feed", "packs/3", "other/00000003/0-0-0", "packs/00000003/0-0"] {
        assert_eq!(PackId::parse(&Name::parse(other).expect("a name")), None, "{other}");
    }
}

proptest! {
    #[test]
    fn any_streams_come_back(
        lengths in proptest::collection::btree_map(0u64..50, proptest::collection::vec(1usize..3000, 1..60), 0..20),
        records in proptest::collection::vec(any::<u8>(), 0..500),
    ) {
        let streams: Streams = lengths
            .iter()
            .map(|(stream, lengths)| {
                let records = lengths.iter().enumerate().map(|(number, bytes)| record(number, *bytes)).collect();
                (StreamId(*stream), Offset(stream * 1000), records)
            })
            .collect();
        let packed = pack(id(7, 7), &streams, &records);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let store = stored(&packed.body).await;
            let opened = Pack::open(&store, id(7, 7)).await.expect("the pack");
            assert_eq!(opened.records(&store).await.expect("the records"), records);
            for (stream, start, records) in &streams {
                assert_eq!(read(&store, &opened, *stream, *start).await.expect("bytes"), (*start, records.clone()));
            }
        });
    }
}
