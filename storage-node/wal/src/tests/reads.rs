//! Reading, and what is shown to people.

use crc32c::crc32c;
use ursula_common::{Offset, StreamId};

use super::*;
use crate::dump::{Line, dump};
use crate::index::{Extent, IndexError, Row};

#[test]
fn damage_is_not_read() {
    let io = FaultIo::new(1 << 30);
    let (log, _) = open(&io, 1).unwrap();
    let (mut appender, mut writer) = log.writer(0);
    let at = appender.append(G, 0, b"some payload");
    writer.write(appender.take().unwrap()).unwrap();
    let part = || log.read_part(at.segment, at.at + 5, 7, crc32c(b"payload"));
    assert_eq!(part().unwrap(), "payload");
    for wrong in [Location { at: at.at + 8, ..at }, Location { len: 11, ..at }, Location { at: 3, ..at }] {
        assert!(matches!(log.read(wrong), Err(ReadError::Damaged { .. })), "{wrong:?}");
    }
    let far = Location { at: u32::MAX - 8, len: u32::MAX, ..at };
    assert!(matches!(log.read(far), Err(ReadError::Damaged { .. })));
    assert!(matches!(log.read(Location { segment: SegmentId(9), ..at }), Err(ReadError::Gone(SegmentId(9)))));
    let path = Path::new(DIR).join("0000000000000001.log");
    for bit in 0..u64::from(at.len) * 8 {
        io.flip(&path, u64::from(at.at) * 8 + bit);
        assert!(matches!(log.read(at), Err(ReadError::Damaged { .. })));
        assert_eq!(part().is_err(), bit >= 40);
        io.flip(&path, u64::from(at.at) * 8 + bit);
    }
    assert_eq!(log.read(at).unwrap(), "some payload");
}

#[test]
fn few_files_are_open_at_a_time() {
    let mut recent = crate::read::Recent::default();
    for id in 0..5 {
        recent.keep(SegmentId(id), id, 3);
    }
    assert_eq!([0, 1, 2, 3, 4].map(|id| recent.get(SegmentId(id))), [None, None, Some(2), Some(3), Some(4)]);
    recent.get(SegmentId(2));
    recent.keep(SegmentId(5), 5, 3);
    assert_eq!([2, 3, 4, 5].map(|id| recent.get(SegmentId(id))), [Some(2), None, Some(4), Some(5)]);
    recent.close(SegmentId(4));
    assert_eq!(recent.get(SegmentId(4)), None);
}

#[test]
fn an_index_goes_with_its_segment() {
    let io = FaultIo::new(1 << 30);
    let (log, _) = open(&io, 1).unwrap();
    let (mut appender, mut writer) = log.writer(0);
    let mut index = 0;
    while log.segments().len() < 2 {
        appender.append(G, index, b"bytes");
        appender.slice(G, StreamId(4), Offset(index * 1000), &[1; 1000]);
        writer.write(appender.take().unwrap()).unwrap();
        index += 1;
    }
    let segment = SegmentId(1);
    let mut extents = Vec::new();
    let visit = &mut |content| {
        if let Content::Slice { stream: StreamId(4), offset, at, .. } = content {
            extents.push(Extent { offset, at: at.at, len: at.len, crc: crc32c(&[1; 1000]) });
        }
    };
    log.contents(segment, visit).unwrap();
    assert!(matches!(log.contents(SegmentId(2), &mut |_| {}), Err(ReadError::Gone(_))));
    assert!(matches!(log.index(segment), Err(IndexError::Missing(_))));
    let rows = [Row { group: G, stream: StreamId(4), prev: None, extents }];
    log.write_index(segment, &rows).unwrap();
    let reader = log.index(segment).unwrap();
    let row = reader.find(G, StreamId(4)).unwrap().unwrap();
    for extent in reader.extents_from(row, Offset(2500), 2).unwrap() {
        assert_eq!(log.read_part(segment, extent.at, extent.len, extent.crc).unwrap()[..], [1; 1000]);
    }
    appender.put(G, Fact::Purged { index }, b"");
    writer.write(appender.take().unwrap()).unwrap();
    assert_eq!(log.remove_before(SegmentId(2)).unwrap(), [segment]);
    assert!(matches!(log.index(segment), Err(IndexError::Missing(_))));
    assert!(io.files().iter().all(|path| path.extension().is_none_or(|name| name != "index")));
}

#[test]
fn a_dump_shows_everything() {
    let io = FaultIo::new(1 << 30);
    let (log, _) = open(&io, 1).unwrap();
    let (mut appender, mut writer) = log.writer(0);
    appender.append(G, 0, b"zero");
    writer.write(appender.take().unwrap()).unwrap();
    appender.put(G, Fact::Vote, b"v");
    appender.put(G, Fact::Purged { index: 0 }, b"");
    let slice = appender.slice(G, StreamId(7), Offset(9), b"s");
    appender.truncate_after(G, None);
    writer.write(appender.take().unwrap()).unwrap();
    appender.mark();
    writer.write(appender.take().unwrap()).unwrap();
    drop((log, appender, writer));
    io.kill();
    io.flip(&Path::new(DIR).join("0000000000000001.log"), u64::from(slice.at) * 8);
    io.plant(&Path::new(DIR).join("0000000000000002.log"), &[5; 5000]);
    io.plant(&Path::new(DIR).join("0000000000000003.log"), &[5; 50]);
    io.plant(&Path::new(DIR).join("spare-0000000000000004"), &[]);
    io.plant(&Path::new(DIR).join("0000000000000001.index"), &[1; 4096]);

    let mut lines = Vec::new();
    dump(&io, Path::new(DIR), &mut |line: &Line| lines.push(line.to_string())).unwrap();
    let expected = "\
0000000000000001.index: the index of segment 0000000000000001 is damaged in block 0
0000000000000001.log: 16384 bytes by writer 0, after 0000000000000000, identity 0000000000000007
      4096 group 1 has entries 0..0, 36 bytes, batch at 4096
      4176 group 1 entry 0, 4 bytes, batch at 4096
      4224 group 1 vote, 1 bytes, batch at 4224
      4272 group 1 entries up to 0 are purged, 0 bytes, batch at 4224
      4312 DAMAGED: group 1 slice of stream 7 at 9
      4360 group 1 entries from 0 on are void, 0 bytes, batch at 4224
      4400 mark, 168 bytes, batch at 4400
      4608 mark, 0 bytes, batch at 4400
      4648 end, not sealed
0000000000000002.log: not a segment of a log of this server
0000000000000003.log: a segment that was cut off within its header
lock: no business of the log
spare-0000000000000004: waits to become a segment";
    let expected: Vec<_> = expected.lines().filter(|line| !line.starts_with("lock")).collect();
    assert_eq!(lines, expected);
}
