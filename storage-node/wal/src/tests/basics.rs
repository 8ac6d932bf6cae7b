//! What is written is there after opening again.

use ursula_common::{Offset, StreamId};

use super::*;

#[test]
fn entries_facts_and_slices_come_back() {
    let io = FaultIo::new(1 << 30);
    let (log, found) = open(&io, 1).unwrap();
    assert!(found.groups.is_empty());
    let (mut appender, mut writer) = log.writer(0);
    let at = appender.append(G, 0, b"zero");
    appender.append(G, 1, b"one");
    appender.put(G, Fact::Vote, b"me");
    let slice = appender.slice(G, StreamId(3), Offset(9), b"bytes");
    writer.write(appender.take().unwrap()).unwrap();
    assert_eq!(log.read(at).unwrap(), "zero");
    assert_eq!(log.read(slice).unwrap(), "bytes");
    appender.truncate_after(G, Some(0));
    appender.append(G, 1, b"uno");
    appender.put(G, Fact::Committed, b"c");
    writer.write(appender.take().unwrap()).unwrap();
    assert!(appender.take().is_none());
    drop((log, appender, writer));

    let (log, found) = open(&io, 2).unwrap();
    let group = &found.groups[&G];
    assert_eq!(payloads(&log, group), [(0, "zero".into()), (1, "uno".into())]);
    assert_eq!((group.vote.clone(), group.committed.clone()), (Some("me".into()), Some("c".into())));
    assert_eq!(group.slices, [Slice { stream: StreamId(3), offset: Offset(9), at: slice }]);
    assert_eq!(group.damage, None);
    assert!(found.damage.is_empty());
}

/// Who judges segments by what is in them must not judge one that something still comes into. A vote is enough to begin one.
#[test]
fn what_comes_is_where_it_was_said_to_come() {
    let (log, _) = open(&FaultIo::new(1 << 30), 1).unwrap();
    let ((mut appender, _), (mut other, _)) = (log.writer(0), log.writer(1));
    assert_eq!(appender.writes_from(), log.upcoming());
    appender.put(G, Fact::Vote, b"me");
    other.put(GroupId(2), Fact::Vote, b"you");
    for _ in 0..100 {
        let from = appender.writes_from();
        let slice = appender.slice(G, StreamId(3), Offset(9), &[1; 1000]);
        assert!(from <= slice.segment, "{slice:?} is before {from:?}");
    }
    assert!(appender.writes_from() < log.upcoming());
}

#[test]
fn segments_follow_each_other_and_go_when_nobody_needs_them() {
    let io = FaultIo::new(1 << 30);
    let (log, _) = open(&io, 1).unwrap();
    let (mut appender, mut writer) = log.writer(0);
    while log.prepare_spare().unwrap() {}
    for index in 0..100 {
        appender.append(G, index, &[index as u8; 1000]);
        if index % 3 == 0 {
            writer.write(appender.take().unwrap()).unwrap();
        }
    }
    assert!(log.segments().len() > 5);
    assert_eq!(log.remove_before(SegmentId(100)).unwrap(), []);
    appender.put(G, Fact::Purged { index: 90 }, b"90");
    writer.write(appender.take().unwrap()).unwrap();
    let removed = log.remove_before(SegmentId(100)).unwrap();
    assert!(removed.len() > 4);
    drop((log, appender, writer));

    let (log, found) = open(&io, 2).unwrap();
    let group = &found.groups[&G];
    assert_eq!(group.purged, Some((90, "90".into())));
    let all = payloads(&log, group);
    assert_eq!(all.iter().map(|(index, _)| *index).collect::<Vec<_>>(), (91..100).collect::<Vec<_>>());
    assert!(all.iter().all(|(index, payload)| payload[..] == [*index as u8; 1000]));
}
