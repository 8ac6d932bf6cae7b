//! Whose damage it is: as few groups as can be proved, and never fewer.

use super::*;

const H: GroupId = GroupId(2);
const OTHER: GroupId = GroupId(3);

/// Two groups with one writer, in two segments, and another group with another.
fn written() -> (FaultIo, Vec<Location>) {
    let io = FaultIo::new(1 << 30);
    let (log, _) = open(&io, 1).unwrap();
    let ends = [log.writer(0), log.writer(1)];
    let [(mut a, mut a_end), (mut b, mut b_end)] = ends;
    let mut places = Vec::new();
    for index in 0..14 {
        a.put(H, Fact::Vote, &[index as u8]);
        places.push(a.append(G, index, &[index as u8; 1000]));
        b.append(OTHER, index, b"other");
        a_end.write(a.take().unwrap()).unwrap();
        b_end.write(b.take().unwrap()).unwrap();
    }
    places.push(a.append(H, 0, b"h"));
    a_end.write(a.take().unwrap()).unwrap();
    assert!(a.mark() && b.mark());
    a_end.write(a.take().unwrap()).unwrap();
    b_end.write(b.take().unwrap()).unwrap();
    drop((log, a, a_end, b, b_end));
    io.kill();
    (io, places)
}

fn flip(io: &FaultIo, segment: SegmentId, at: u32) {
    io.flip(&Path::new(DIR).join(segment::file_name(segment)), u64::from(at) * 8);
}

fn damaged(found: &Recovered) -> Vec<GroupId> {
    found.groups.iter().filter(|(_, group)| group.damage.is_some()).map(|(id, _)| *id).collect()
}

#[test]
fn a_payload_is_damage_of_its_group() {
    let (io, places) = written();
    flip(&io, places[3].segment, places[3].at);
    for salt in [2, 3] {
        let (_, found) = open(&io, salt).unwrap();
        let damage = Damage { segment: places[3].segment, at: places[3].at - 40, group: Some(G) };
        assert_eq!(found.damage, [damage]);
        assert_eq!(damaged(&found), [G]);
        assert_eq!(found.groups[&G].damage, Some(damage));
    }
}

#[test]
fn a_header_is_damage_of_all_groups_of_its_writer() {
    let (io, places) = written();
    // In the segment that is written now: nothing restates what was lost.
    let last = places[13];
    flip(&io, last.segment, last.at - 20);
    let (_, found) = open(&io, 2).unwrap();
    assert_eq!(found.damage, [Damage { segment: last.segment, at: last.at - 40, group: None }]);
    assert_eq!(damaged(&found), [G, H]);
    assert_eq!(found.groups[&OTHER].entries.len(), 14);
}

#[test]
fn a_group_that_is_restated_is_not_damaged_by_what_was_lost_before() {
    let (io, places) = written();
    let first = places[2];
    assert_ne!(first.segment, places[13].segment);
    flip(&io, first.segment, first.at - 20);
    let (log, found) = open(&io, 2).unwrap();
    // H had no entries when the next segment restated it. G had, and which of them are meant is not certain.
    assert_eq!(damaged(&found), [G]);
    assert_eq!(payloads(&log, &found.groups[&H]), [(0, "h".into())]);
    assert_eq!(found.groups[&H].vote, Some(vec![13].into()));
}

#[test]
fn what_nobody_needs_is_listed_only() {
    let (io, places) = written();
    let (log, _) = open(&io, 2).unwrap();
    let (mut appender, mut writer) = log.writer(0);
    appender.put(G, Fact::Purged { index: 5 }, b"");
    writer.write(appender.take().unwrap()).unwrap();
    drop((log, appender, writer));
    flip(&io, places[3].segment, places[3].at);
    let (log, found) = open(&io, 3).unwrap();
    assert_eq!(damaged(&found), []);
    assert_eq!(found.damage.len(), 1);
    assert_eq!(payloads(&log, &found.groups[&G]).len(), 8);
    assert!(matches!(log.read(places[3]), Err(ReadError::Damaged { .. })));
}

#[test]
fn a_group_of_which_everything_is_lost_is_at_least_a_damaged_place() {
    let (io, places) = written();
    let only = places[14];
    flip(&io, only.segment, only.at - 20);
    let (_, found) = open(&io, 2).unwrap();
    assert_eq!(found.damage.len(), 1);
    assert_eq!(damaged(&found), [G, H]);
}

#[test]
fn a_damaged_group_is_forgotten_and_comes_again() {
    let (io, places) = written();
    flip(&io, places[3].segment, places[3].at);
    let (log, found) = open(&io, 2).unwrap();
    assert_eq!(damaged(&found), [G]);
    let (mut appender, mut writer) = log.writer(1);
    appender.forget_group(G);
    writer.write(appender.take().unwrap()).unwrap();
    drop((log, appender, writer));
    let (log, found) = open(&io, 3).unwrap();
    assert_eq!(damaged(&found), []);
    assert!(!found.groups.contains_key(&G));
    let (mut appender, mut writer) = log.writer(0);
    appender.append(G, 50, b"new");
    writer.write(appender.take().unwrap()).unwrap();
    drop((log, appender, writer));
    let (log, found) = open(&io, 4).unwrap();
    assert_eq!(payloads(&log, &found.groups[&G]), [(50, "new".into())]);
}

#[test]
#[should_panic(expected = "group 1 is damaged: forget it before it is written again")]
fn a_damaged_group_is_not_written() {
    let (io, places) = written();
    flip(&io, places[3].segment, places[3].at);
    let (log, _) = open(&io, 2).unwrap();
    log.writer(0).0.put(G, Fact::Vote, b"");
}

#[test]
#[should_panic(expected = "group 1 has a writer already")]
fn a_group_has_one_writer() {
    let (log, _) = open(&FaultIo::new(1 << 30), 1).unwrap();
    let (mut one, mut two) = (log.writer(0).0, log.writer(1).0);
    one.append(G, 0, b"");
    two.append(G, 1, b"");
}

#[test]
#[should_panic(expected = "entry 5 of group 1 does not follow 1")]
fn entries_follow_each_other() {
    let (log, _) = open(&FaultIo::new(1 << 30), 1).unwrap();
    let mut appender = log.writer(0).0;
    appender.append(G, 0, b"");
    appender.append(G, 5, b"");
}

#[test]
#[should_panic(expected = "a batch of the log was left out")]
fn no_batch_is_left_out() {
    let (log, _) = open(&FaultIo::new(1 << 30), 1).unwrap();
    let (mut appender, mut writer) = log.writer(0);
    appender.append(G, 0, b"");
    writer.write(appender.take().unwrap()).unwrap();
    appender.append(G, 1, b"");
    drop(appender.take());
    appender.append(G, 2, b"");
    let _ = writer.write(appender.take().unwrap());
}

/// Nothing in the segment follows its last batch, but something newer was written only because it was on disk.
#[test]
fn the_end_of_a_complete_segment_is_not_taken_for_a_torn_one() {
    let (io, places) = written();
    let last = *places.iter().rfind(|at| at.segment == places[0].segment).unwrap();
    for (at, group, hit) in [(last.at, Some(G), vec![G]), (last.at - 20, None, vec![G])] {
        let io = io.copy();
        flip(&io, last.segment, at);
        let (_, found) = open(&io, 2).unwrap();
        assert_eq!(found.damage, [Damage { segment: last.segment, at: last.at - 40, group }]);
        assert_eq!(damaged(&found), hit);
        assert_eq!(found.torn.iter().find(|(segment, _)| *segment == last.segment), None);
    }
}

#[test]
fn a_purge_that_is_lost_is_not_a_hole_of_its_length() {
    let io = FaultIo::new(1 << 30);
    let (log, _) = open(&io, 1).unwrap();
    let (mut appender, mut writer) = log.writer(0);
    let far = 1 << 50;
    let first = appender.append(G, 0, b"zero");
    appender.put(G, Fact::Purged { index: far }, b"");
    appender.append(G, far + 1, b"far");
    writer.write(appender.take().unwrap()).unwrap();
    appender.mark();
    writer.write(appender.take().unwrap()).unwrap();
    drop((log, appender, writer));
    io.kill();
    // The purge follows the four bytes and their padding.
    flip(&io, first.segment, first.at + 8);
    let (_, found) = open(&io, 2).unwrap();
    assert_eq!(damaged(&found), [G]);
}

/// Its records and the seal are of one batch, and no later one in the segment proves that it was on disk.
#[test]
fn the_batch_that_fills_a_segment() {
    let io = FaultIo::new(1 << 30);
    let (log, _) = open(&io, 1).unwrap();
    let (mut appender, mut writer) = log.writer(0);
    let (stream, offset) = (ursula_common::StreamId(1), ursula_common::Offset(0));
    let slices: Vec<_> = (0..14).map(|_| appender.slice(G, stream, offset, &[1; 1000])).collect();
    writer.write(appender.take().unwrap()).unwrap();
    assert_eq!(log.segments().len(), 2);
    drop((log, appender, writer));
    io.kill();
    flip(&io, slices[9].segment, slices[9].at);
    let (_, found) = open(&io, 2).unwrap();
    assert_eq!(found.damage, [Damage { segment: SegmentId(1), at: slices[9].at - 40, group: Some(G) }]);
    assert_eq!(found.groups[&G].slices.len(), 14);
}
