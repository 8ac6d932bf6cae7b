//! Pages: where they begin when an offset lies inside a record, and where they end.

use bytes::Bytes;
use ursula_common::limits::PAGE_BYTES_MAX;
use ursula_common::verb::ReadFrom;
use ursula_common::{Error, Offset};

use super::world::{BINARY, Got, JSON, Range, TEXT, World, key};

/// The largest message of a read.
const MESSAGE_BYTES: usize = 60 << 10;

#[tokio::test]
async fn a_read_inside_a_record_begins_with_the_record_except_for_text() {
    let mut world = World::start().await;
    let cases = [
        (BINARY, ["abc", "defgh"], "defgh", 3),
        (JSON, ["12,", "[[5],"], "[[5],", 3),
        (TEXT, ["abc", "defgh"], "fgh", 5),
        ("text/plain; charset=utf-8", ["abc", "defgh"], "fgh", 5),
    ];
    for (i, (content_type, records, wanted, start)) in cases.into_iter().enumerate() {
        let key = key(&format!("inside-{i}"));
        world.create(&key, content_type).await;
        for record in records {
            world.append(&key, content_type, record).await;
        }
        let got = world.read(&key, Range::from(5)).await.expect("a page");
        assert_eq!((got.start, got.bytes(), got.next), (start, wanted.as_bytes().to_vec(), 8), "{content_type}");
        let got = world.read(&key, Range { bytes_max: 1, ..Range::from(1) }).await.expect("a page");
        let first = if start == 5 { (1, 3) } else { (0, 3) };
        assert_eq!((got.start, got.next), first, "{content_type}: the rest of one record");
        // Nothing lies past the tail, and nothing is there to wait for.
        for past in [8, 9, 1000, Offset::first_of(1).0 - 1] {
            let got = world.read(&key, Range::from(past)).await.expect("a page");
            assert_eq!((got.start, got.next, got.bytes()), (8, 8, Vec::new()), "{content_type} from {past}");
        }
    }
}

#[tokio::test]
async fn offsets_inside_inherited_records_follow_the_same_rule() {
    let mut world = World::start().await;
    for (content_type, start) in [(BINARY, 0), (TEXT, 2)] {
        let name = content_type.replace('/', "-");
        let (source, forked) = (world.key_in(1, &name), world.key_in(2, &name));
        world.create(&source, content_type).await;
        world.append(&source, content_type, "abcdef").await;
        super::world::created(world.submit(super::world::fork(&forked, &source, Some(0), 4)).await);
        let link = world.describe(&forked).await.expect("a fork").fork.expect("a link");
        let range = Range { inherited: Some(link.source_id), until: Some(link.at), ..Range::from(2) };
        let got = world.read(&source, range).await.expect("a page");
        assert_eq!((got.start, got.bytes(), got.next), (start, b"abcd"[start as usize..].to_vec(), 4));
        // Another incarnation has none of these bytes.
        let range = Range { inherited: Some(ursula_common::StreamId(link.source_id.0 + 100)), ..range };
        assert_eq!(world.read(&source, range).await.expect_err("not there"), Error::StreamNotFound);
    }
}

/// A record of `len` bytes that tells its number.
fn record(number: usize, len: usize) -> Bytes {
    let mut record = format!("<{number}>").into_bytes();
    record.resize(len, b'.');
    record.into()
}

fn assert_messages_are_bounded(got: &Got) {
    assert!(got.parts.iter().all(|part| part.len() <= MESSAGE_BYTES), "a message of a read is too large");
    let small = got.parts.windows(2).filter(|pair| pair[0].len() + pair[1].len() <= MESSAGE_BYTES).count();
    assert_eq!(small, 0, "small pieces stand together");
}

#[tokio::test]
async fn pages_end_between_records_and_are_bounded() {
    let mut world = World::start().await;
    let key = key("long");
    world.create(&key, BINARY).await;
    const LEN: usize = 70_001;
    let records: Vec<Bytes> = (0..150).map(|i| record(i, LEN)).collect();
    for record in &records {
        world.append(&key, BINARY, record.clone()).await;
    }
    let whole = records.concat();
    let mut at = 0;
    let mut pages = 0;
    while at < whole.len() {
        let got = world.read(&key, Range::from(at as u64)).await.expect("a page");
        let next = got.next as usize;
        assert!(got.bytes() == whole[at..next], "the bytes from {at} to {next}");
        assert_eq!(next % LEN, 0, "a page ends between records");
        let full = PAGE_BYTES_MAX..PAGE_BYTES_MAX + LEN;
        assert!(next == whole.len() || full.contains(&(next - at)), "a page of {}", next - at);
        assert_messages_are_bounded(&got);
        (at, pages) = (next, pages + 1);
    }
    assert_eq!(pages, whole.len().div_ceil(PAGE_BYTES_MAX));

    // A smaller page is a matter of asking, and ends between records too.
    for (bytes_max, wanted) in [(1, LEN), (LEN, LEN), (LEN + 1, 2 * LEN), (3 * LEN - 1, 3 * LEN)] {
        let range = Range { bytes_max: bytes_max as u64, ..Range::at(ReadFrom::Start) };
        assert_eq!(world.read(&key, range).await.expect("a page").next, wanted as u64, "at least {bytes_max}");
    }
    let range = Range { until: Some(Offset(LEN as u64 + 7)), ..Range::from(LEN as u64) };
    assert_eq!(world.read(&key, range).await.expect("a page").bytes(), whole[LEN..LEN + 7]);
}

#[tokio::test]
async fn a_record_larger_than_a_page_comes_whole() {
    let mut world = World::start().await;
    let key = key("large");
    world.create(&key, BINARY).await;
    let large = record(1, PAGE_BYTES_MAX + PAGE_BYTES_MAX / 2 + 3);
    world.append(&key, BINARY, "before").await;
    world.append(&key, BINARY, large.clone()).await;
    world.append(&key, BINARY, "after").await;
    let got = world.read(&key, Range::from(6)).await.expect("a page");
    assert!(got.bytes() == large, "the whole record and nothing else");
    assert_messages_are_bounded(&got);
    let got = world.read(&key, Range::from(0)).await.expect("a page");
    assert_eq!(got.next as usize, 6 + large.len(), "a page ends behind the record that fills it");
    // From inside it: the record from its start.
    let got = world.read(&key, Range { bytes_max: 1, ..Range::from(1000) }).await.expect("a page");
    assert_eq!((got.start, got.next as usize), (6, 6 + large.len()));
}

#[tokio::test]
async fn many_small_records_come_in_few_messages() {
    let mut world = World::start().await;
    let key = key("small");
    world.create(&key, BINARY).await;
    let records: Vec<Bytes> = (0..3000).map(|i| record(i, 11 + i % 300)).collect();
    let group = world.group_of(&key);
    let mut lane = world.lane(1).await;
    for (seq, record) in records.iter().enumerate() {
        lane.send(&[(seq as u64, group, super::world::append(&key, BINARY, record.clone()))]).await;
    }
    for _ in &records {
        super::world::appended(lane.answer().await.expect("an answer").1);
    }
    let got = world.read(&key, Range::from(0)).await.expect("a page");
    assert!(got.bytes() == records.concat());
    assert_messages_are_bounded(&got);
}
