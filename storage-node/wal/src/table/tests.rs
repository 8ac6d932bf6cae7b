//! Which segments may go.

use super::*;

const G: GroupId = GroupId(1);
const H: GroupId = GroupId(2);

fn segment(id: u64) -> Header {
    Header { id: SegmentId(id), identity: 0, salt: 0, previous: SegmentId(id - 1), writer: 0, size: 4096 }
}

fn table(segments: u64) -> Table {
    let mut table = Table::default();
    (1..=segments).for_each(|id| table.add(segment(id), 4096, true, false));
    table
}

fn entries(last: u64) -> Note {
    Note { last: Some(last), ..Note::default() }
}

fn purged(index: u64) -> Note {
    Note { purged: Some(index), ..Note::default() }
}

fn free(table: &Table) -> Vec<u64> {
    table.segments.keys().filter(|id| table.is_free(**id)).map(|id| id.0).collect()
}

#[test]
fn segments_without_a_word_go_but_not_the_one_that_is_written() {
    assert_eq!(free(&table(3)), [1, 2]);
}

#[test]
fn live_entries_keep_a_segment_until_they_are_purged() {
    let mut table = table(4);
    table.note(SegmentId(1), G, &entries(5));
    table.note(SegmentId(2), G, &entries(9));
    table.note(SegmentId(3), G, &entries(12));
    assert_eq!(free(&table), []);
    table.note(SegmentId(4), G, &purged(4));
    assert_eq!(free(&table), []);
    table.note(SegmentId(4), G, &purged(5));
    assert_eq!(free(&table), [1]);
    table.note(SegmentId(4), G, &purged(12));
    assert_eq!(free(&table), [1, 2, 3]);
}

#[test]
fn the_newest_word_of_a_group_stays() {
    let mut table = table(4);
    table.note(SegmentId(1), G, &purged(3));
    table.note(SegmentId(2), H, &Note::default());
    assert_eq!(free(&table), [3]);
    table.note(SegmentId(3), G, &Note::default());
    assert_eq!(free(&table), [1]);
}

#[test]
fn entries_that_were_truncated_keep_nothing() {
    let mut table = table(3);
    table.note(SegmentId(1), G, &entries(4));
    table.note(SegmentId(2), G, &entries(20));
    let mut note = Note::default();
    note.truncate(5);
    table.note(SegmentId(3), G, &note);
    // Which entries a segment begins with is not remembered: the second might hold entry 4.
    assert_eq!(free(&table), []);
    table.note(SegmentId(3), G, &purged(4));
    assert_eq!(free(&table), [1, 2]);
}

#[test]
fn a_truncation_of_everything() {
    let mut table = table(2);
    table.note(SegmentId(1), G, &entries(4));
    let mut note = Note::default();
    note.truncate(0);
    table.note(SegmentId(2), G, &note);
    assert_eq!(free(&table), [1]);
}

#[test]
fn what_was_appended_before_a_truncation_of_the_same_batch_is_void_too() {
    let mut note = entries(9);
    note.truncate(5);
    assert_eq!(note.last, Some(4));
    note.truncate(0);
    assert_eq!(note.last, None);
}

#[test]
fn that_a_group_was_forgotten_is_known_as_long_as_older_segments_speak_of_it() {
    let mut table = table(4);
    table.note(SegmentId(1), G, &entries(5));
    table.note(SegmentId(1), H, &entries(1));
    table.note(SegmentId(3), G, &Note::forgotten());
    assert_eq!(free(&table), [2]);
    table.note(SegmentId(4), H, &purged(1));
    assert_eq!(free(&table), [1, 2]);
    table.remove(SegmentId(1));
    assert_eq!(free(&table), [2, 3]);
}

#[test]
fn a_group_that_comes_again_starts_anew() {
    let mut table = table(5);
    table.note(SegmentId(1), G, &Note { purged: Some(100), ..entries(105) });
    table.note(SegmentId(2), G, &Note::forgotten());
    table.note(SegmentId(3), G, &entries(7));
    table.note(SegmentId(4), G, &Note::default());
    assert_eq!(free(&table), [1, 2]);
}
