//! What an index file says is what was written, or an error.

use std::path::Path;

use ursula_common::Offset;

use super::*;
use crate::io::FaultIo;
use crate::tests::{DIR, open};
use crate::{Appender, Io, Writer};

const GROUP: GroupId = GroupId(1);
const FIRST: StreamId = StreamId(3);
const SECOND: StreamId = StreamId(9);

/// A log with two full segments that nobody needs, and a third.
fn log() -> (FaultIo, LogDir, Appender, Writer) {
    let io = FaultIo::new(u64::MAX);
    let (log, _) = open(&io, 1).expect("a log");
    let (mut appender, mut writer) = log.writer(0);
    let mut segments = std::collections::BTreeSet::new();
    let mut offset = 0;
    while segments.len() < 3 {
        segments.insert(appender.slice(GROUP, FIRST, Offset(offset), &[7; 1000]).segment);
        offset += 1000;
        writer.write(appender.take().expect("a batch")).expect("a write");
    }
    (io, log, appender, writer)
}

fn extents(offset: u64, count: u32) -> Vec<Extent> {
    let extent = |i| Extent { offset: offset + u64::from(i) * 10, at: 4096 + i * 48, len: 10, crc: i * 31 };
    (0..count).map(extent).collect()
}

fn rows() -> Vec<NewRow> {
    let prev = RowRef { segment: SegmentId(1), part: 4, row: 5 };
    vec![
        NewRow { group: GROUP, stream: FIRST, prev: None, extents: extents(100, 7) },
        NewRow { group: GROUP, stream: SECOND, prev: Some(prev), extents: extents(0, 1) },
    ]
}

#[test]
fn what_was_written_is_found() {
    let (_io, log, ..) = log();
    let segment = SegmentId(1);
    assert!(log.is_complete(segment) && !log.is_complete(SegmentId(3)) && !log.is_complete(SegmentId(77)));
    let refs = log.write_index(segment, &rows()).expect("an index");
    let first = log.index_row(refs[0], GROUP, FIRST).expect("a row").expect("there");
    assert_eq!((first.first, first.end, first.prev), (100, 170, None));
    let second = log.index_row(refs[1], GROUP, SECOND).expect("a row").expect("there");
    assert_eq!((second.first, second.end, second.prev), (0, 10, rows()[1].prev));
    let all = extents(100, 7);
    let read = |from, end, most| log.extents(refs[0], &first, from, end, most).expect("extents");
    assert_eq!(read(0, u64::MAX, 100), all);
    assert_eq!(read(119, 121, 100), all[1..3]);
    assert_eq!(read(120, 121, 100), all[2..3]);
    assert_eq!(read(100, 170, 2), all[..2]);
    assert_eq!(log.extents(refs[1], &second, 0, 1, 9).expect("extents"), extents(0, 1));
    let ends = [(GROUP, FIRST, 170), (GROUP, SECOND, 10)];
    assert_eq!(log.index_ends(segment).expect("ends"), ends);
    log.write_index(segment, &rows()[1..]).expect("another part");
    assert_eq!(log.index_ends(segment).expect("ends of both parts"), [&ends[..], &ends[1..]].concat());
    assert_eq!(log.index_ends(SegmentId(2)).expect("a segment without one"), []);
}

#[test]
fn a_row_of_another_stream_is_an_error() {
    let (_io, log, ..) = log();
    let refs = log.write_index(SegmentId(1), &rows()).expect("an index");
    assert!(log.index_row(refs[0], GROUP, SECOND).is_err());
    assert!(log.index_row(refs[0], GroupId(2), FIRST).is_err());
    assert!(log.index_row(RowRef { row: 2, ..refs[0] }, GROUP, FIRST).is_err(), "there are two rows");
}

#[test]
fn a_segment_may_be_indexed_again_and_the_first_index_stays() {
    let (_io, log, ..) = log();
    let old = log.write_index(SegmentId(1), &rows()).expect("an index");
    let new = log.write_index(SegmentId(1), &rows()[1..]).expect("an index");
    assert_ne!(old[0].part, new[0].part);
    assert!(log.index_row(old[0], GROUP, FIRST).expect("a row").is_some());
    assert!(log.index_row(new[0], GROUP, SECOND).expect("a row").is_some());
}

#[test]
fn indexes_go_with_their_segment() {
    let (io, log, mut appender, mut writer) = log();
    let gone = log.write_index(SegmentId(1), &rows()).expect("an index");
    log.write_index(SegmentId(1), &rows()).expect("another index");
    let kept = log.write_index(SegmentId(2), &rows()).expect("an index");
    assert_eq!(log.remove_before(SegmentId(2)).expect("a removal"), [SegmentId(1)]);
    assert_eq!(log.index_row(gone[0], GROUP, FIRST).expect("no error"), None);
    assert!(log.index_row(kept[0], GROUP, FIRST).expect("a row").is_some());
    let indexes =
        || io.list(Path::new(DIR)).expect("names").into_iter().filter(|name| name.ends_with(".index")).count();
    assert_eq!(indexes(), 1);
    appender.mark();
    writer.write(appender.take().expect("a mark")).expect("a write");
    drop((log, appender, writer));
    io.create(&Path::new(DIR).join(segment::index_name(SegmentId(1), 7))).expect("an orphan");
    let (log, _) = open(&io, 2).expect("the log again");
    assert_eq!(indexes(), 1, "an orphan is removed");
    assert!(log.index_row(kept[0], GROUP, FIRST).expect("a row").is_some());
}

#[test]
fn no_bit_may_be_another() {
    let (io, log, ..) = log();
    let rows = rows();
    let refs = log.write_index(SegmentId(1), &rows).expect("an index");
    let path = Path::new(DIR).join(segment::index_name(SegmentId(1), refs[0].part));
    let file = io.open(&path).expect("the file");
    let mut bytes = vec![0; file.len().expect("a length") as usize];
    file.read_at(&mut bytes, 0).expect("the bytes");
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        file.write_at(&flipped, 0).expect("a write");
        for (row, at) in rows.iter().zip(&refs) {
            // It may be found as it was, if the bit belongs to the other one.
            let read = log.index_row(*at, row.group, row.stream);
            let read = read.and_then(|found| log.extents(*at, &found.expect("there"), 0, u64::MAX, 99));
            assert!(read.is_err() || read.is_ok_and(|read| read == row.extents), "bit {bit}");
        }
    }
}

#[test]
fn the_bytes_of_an_index() {
    let file = format::encode(SegmentId(0x11), &[rows().remove(1)]);
    let hex: String = file.iter().map(|byte| format!("{byte:02x}")).collect();
    let golden = concat!(
        "757273756c696478",
        "01000000",
        "01000000",
        "1100000000000000",
        "00000000",
        "d15ab9b3",
        "0900000000000000",
        "0000000000000000",
        "0a00000000000000",
        "0100000000000000",
        "04000000",
        "05000000",
        "01000000",
        "5c000000",
        "01000000",
        "a0f6b3a6",
        "def9e918",
        "00100000",
        "0a000000",
        "00000000",
    );
    assert_eq!(hex, golden);
}
