//! Reading, and what is shown to people.

use crc32c::crc32c;
use ursula_common::{Offset, StreamId};

use super::*;
use crate::dump::{Line, dump};

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
fn a_complete_segment_shows_what_its_index_is_made_of() {
    let io = FaultIo::new(1 << 30);
    let (log, _) = open(&io, 1).unwrap();
    let (mut appender, mut writer) = log.writer(0);
    let mut appended = Vec::new();
    while log.segments().len() < 2 {
        let index = appended.len() as u64 / 2;
        let at = appender.append(G, index, b"bytes");
        appended.push(Content::Entry { group: G, index, at });
        let (stream, offset) = (StreamId(4), Offset(index * 1000));
        let at = appender.slice(G, stream, offset, &[1; 1000]);
        appended.push(Content::Slice { group: G, stream, offset, at });
        writer.write(appender.take().unwrap()).unwrap();
    }
    let of = |content: &Content| match content {
        Content::Entry { at, .. } | Content::Slice { at, .. } => at.segment,
        Content::Damaged { .. } => panic!("{content:?}"),
    };
    let mut contents = Vec::new();
    log.contents(SegmentId(1), &mut |content| contents.push(content)).unwrap();
    appended.retain(|content| of(content) == SegmentId(1));
    assert_eq!(contents, appended);
    assert!(matches!(log.contents(SegmentId(2), &mut |_| {}), Err(ReadError::Gone(_))));
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
    io.plant(&Path::new(DIR).join("0000000000000001-0.index"), &[1; 4096]);

    let mut lines = Vec::new();
    dump(&io, Path::new(DIR), &mut |line: &Line| lines.push(line.to_string())).unwrap();
    let expected = "\
0000000000000001-0.index: WRONG: damaged
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
0000000000000002.log: WRONG: not a segment of a log of this server
0000000000000003.log: WRONG: a segment that was cut off within its header
lock: no business of the log
spare-0000000000000004: waits to become a segment";
    let expected: Vec<_> = expected.lines().filter(|line| !line.starts_with("lock")).collect();
    assert_eq!(lines, expected);
}
