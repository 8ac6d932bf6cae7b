//! Honest histories are accepted, and every planted lie is found and called by its name.

use super::*;
use crate::record::Format::{Binary, Json, Text};

const TAG: Tag = Tag { stream: 5, incarnation: 2 };
const A: u16 = 1;
const B: u16 = 2;

/// A server that is as honest as the test wants it to be, and the judge of what it says.
struct World {
    ledger: Ledger,
    log: Vec<Record>,
}

fn world() -> World {
    World { ledger: Ledger::new(TAG, Text), log: Vec::new() }
}

fn record(writer: u16, seq: u32) -> Record {
    Record { tag: TAG, writer, seq }
}

impl World {
    fn format(&self) -> Format {
        self.ledger.format()
    }

    fn tail(&self) -> u64 {
        self.log.iter().map(|record| record.stored_bytes(self.format())).sum()
    }

    /// Sent, stored, and acknowledged.
    fn append(&mut self, writer: u16, seq: u32) -> Result<(), Violation> {
        let since = self.ledger.sent(writer, seq);
        self.log.push(record(writer, seq));
        self.ledger.acked(since, record(writer, seq), self.tail(), None)
    }

    /// Three records of A and one of B.
    fn filled() -> World {
        let mut world = world();
        for (writer, seq) in [(A, 0), (B, 0), (A, 1), (A, 2)] {
            world.append(writer, seq).expect("honest");
        }
        world
    }

    /// The same, and all of it was read.
    fn read() -> World {
        let mut world = World::filled();
        world.page().expect("honest");
        world
    }

    /// A page with all that the server has.
    fn page(&mut self) -> Result<(), Violation> {
        self.page_since(self.ledger.since())
    }

    fn page_since(&mut self, since: Since) -> Result<(), Violation> {
        let payload = payload(self.format(), &self.log);
        let page = Page { from: 0, payload: &payload, next: self.tail(), up_to_date: true, closed: false };
        self.ledger.page(since, page)
    }

    fn finish(&mut self) -> Result<(), Violation> {
        self.ledger.finish(0, self.tail())
    }
}

fn payload(format: Format, records: &[Record]) -> Vec<u8> {
    let bodies: Vec<Vec<u8>> = records.iter().map(|record| record.body(format)).collect();
    match format {
        Json => [b"[", &bodies.join(&b","[..])[..], b"]"].concat(),
        Text | Binary => bodies.concat(),
    }
}

/// Restored from the beginning on, up to `tail`.
fn restored(tail: u64, closed: bool) -> Restored {
    Restored { begin: 0, tail, closed }
}

#[track_caller]
fn assert_lie(result: Result<(), Violation>, lie: Lie) {
    let violation = result.expect_err("a lie");
    assert_eq!(violation.lie, lie, "{violation}");
}

#[test]
fn an_honest_history_is_accepted_in_every_format() {
    for format in [Text, Json, Binary] {
        let mut world = World { ledger: Ledger::new(TAG, format), log: Vec::new() };
        for seq in 0..50 {
            world.append(A, seq).expect("honest");
            world.append(B, seq).expect("honest");
            world.page().expect("honest");
        }
        assert_eq!(world.finish(), Ok(()), "{format:?}");
        assert_eq!(world.ledger.records(), 100);
    }
}

#[test]
fn readers_may_be_ahead_of_acknowledgements_and_behind() {
    let mut world = World::filled();
    let old = world.ledger.since();
    let since = world.ledger.sent(B, 1);
    world.log.push(record(B, 1));
    world.page().expect("seen before it is acknowledged");
    world.log.pop();
    world.page_since(old).expect("a read that began before that need not show it");
    world.log.push(record(B, 1));
    let tail = world.tail();
    world.ledger.acked(since, record(B, 1), tail, None).expect("acknowledged later");
    assert_eq!(world.finish(), Ok(()));
}

#[test]
fn acknowledgements_may_come_in_any_order_of_writers() {
    let mut world = world();
    let (a, b) = (world.ledger.sent(A, 0), world.ledger.sent(B, 0));
    world.log.push(record(A, 0));
    let first = world.tail();
    world.log.push(record(B, 0));
    let second = world.tail();
    world.ledger.acked(b, record(B, 0), second, None).expect("ahead of a gap");
    world.ledger.acked(a, record(A, 0), first, None).expect("fills the gap");
    world.page().expect("honest");
    assert_eq!((world.finish(), world.ledger.records()), (Ok(()), 2));
}

#[test]
fn an_unknown_outcome_may_be_there_late_or_never() {
    let mut world = World::filled();
    for seq in [3, 4] {
        world.ledger.sent(A, seq);
        world.ledger.unknown(A, seq);
    }
    world.append(A, 5).expect("honest");
    world.log.push(record(A, 3));
    world.page().expect("3 came late, 4 never");
    assert_eq!(world.finish(), Ok(()));
}

#[test]
fn what_was_sent_again_may_be_acknowledged_as_known() {
    let mut world = World::filled();
    world.ledger.sent(A, 3);
    world.log.push(record(A, 3));
    let (since, tail) = (world.ledger.sent(A, 3), world.tail());
    world.ledger.acked_again(since, record(A, 3), tail).expect("honest");
    world.page().expect("honest");
    assert_eq!(world.finish(), Ok(()));
}

#[test]
fn forks_show_their_source_up_to_the_cut() {
    let source = World::read();
    let at = source.ledger.boundary(2);
    let tag = Tag { stream: 6, incarnation: 0 };
    let mut ledger = Ledger::fork(&source.ledger, tag, at);
    let own = Record { tag, writer: A, seq: 0 };
    let since = ledger.sent(A, 0);
    ledger.acked(since, own, at + own.stored_bytes(Text), None).expect("honest");
    let records = [record(A, 0), record(B, 0), own];
    let payload = payload(Text, &records);
    let next = payload.len() as u64;
    let page = Page { from: 0, payload: &payload, next, up_to_date: true, closed: false };
    ledger.page(ledger.since(), page).expect("honest");
    assert_eq!(ledger.finish(0, next), Ok(()));

    let mut forked = Ledger::fork(&ledger, Tag { stream: 7, incarnation: 0 }, next);
    assert_eq!(forked.page(forked.since(), page), Ok(()), "a fork of a fork");
    let foreign = Page { payload: &World::read().log[2].body(Text), from: at, ..page };
    assert_lie(ledger.page(ledger.since(), foreign), Lie::Invented);
}

#[test]
fn a_closed_stream_ends() {
    let mut world = World::filled();
    world.ledger.close_sent();
    let (since, tail) = (world.ledger.since(), world.tail());
    world.ledger.closed(since, tail).expect("honest");
    let payload = payload(Text, &world.log);
    let page = Page { from: 0, payload: &payload, next: tail, up_to_date: true, closed: true };
    world.ledger.page(world.ledger.since(), page).expect("honest");
    assert_eq!(world.finish(), Ok(()));
}

// Planted lies.

#[test]
fn an_acknowledged_record_is_dropped() {
    let mut world = World::filled();
    world.log.remove(1);
    assert_lie(world.page(), Lie::Lost);
}

#[test]
fn the_last_acknowledged_record_is_dropped() {
    let mut world = World::filled();
    let since = Since::default();
    world.log.pop();
    world.page_since(since).expect("a read that began before need not show it");
    assert_lie(world.finish(), Lie::Lost);
    assert_lie(world.page(), Lie::Stale);
}

#[test]
fn a_record_is_repeated() {
    for again in 0..4 {
        let mut world = World::filled();
        world.log.insert(again + 1, world.log[again]);
        assert_lie(world.page(), Lie::Twice);
    }
}

#[test]
fn a_record_is_repeated_at_the_end_much_later() {
    let mut world = World::read();
    world.log.push(record(A, 0));
    assert_lie(world.page(), Lie::Twice);
}

#[test]
fn a_refused_record_was_applied_and_is_sent_again() {
    let mut world = World::filled();
    world.ledger.sent(A, 3);
    world.log.push(record(A, 3));
    // Refused, so the writer sends it again.
    world.append(A, 3).expect("nothing is wrong so far");
    assert_lie(world.page(), Lie::Twice);
}

#[test]
fn an_unknown_record_is_applied_twice() {
    let mut world = World::filled();
    world.ledger.sent(A, 3);
    world.log.push(record(A, 3));
    world.page().expect("honest");
    world.ledger.unknown(A, 3);
    world.append(A, 4).expect("honest");
    world.log.push(record(A, 3));
    assert_lie(world.page(), Lie::Twice);
}

#[test]
fn two_acknowledged_records_are_swapped() {
    let mut world = World::filled();
    world.log.swap(0, 2);
    assert_lie(world.page(), Lie::Reordered);
}

#[test]
fn a_writer_is_acknowledged_out_of_its_order() {
    let mut world = World::filled();
    let (first, second) = (world.ledger.sent(A, 3), world.ledger.sent(A, 4));
    world.log.extend([record(A, 4), record(A, 3)]);
    let (tail, bytes) = (world.tail(), record(A, 3).stored_bytes(Text));
    world.ledger.acked(first, record(A, 3), tail, None).expect("ahead of a gap");
    assert_lie(world.ledger.acked(second, record(A, 4), tail - bytes, None), Lie::Reordered);
}

#[test]
fn a_tail_goes_back() {
    let mut world = World::read();
    let since = world.ledger.since();
    let before = world.ledger.boundary(3);
    assert_lie(world.ledger.known_tail(since, before, false), Lie::Stale);
    assert_lie(world.ledger.acked_again(since, record(A, 2), before), Lie::Stale);
}

#[test]
fn a_tail_that_was_told_goes_back() {
    let mut world = World::filled();
    let ahead = world.tail() + 100;
    world.ledger.known_tail(Since::default(), ahead, false).expect("others append too");
    assert_lie(world.page(), Lie::Stale);
}

#[test]
fn a_record_that_was_seen_is_replaced() {
    let mut world = World::filled();
    world.ledger.sent(B, 1);
    world.log.push(record(B, 1));
    world.page().expect("never acknowledged, but seen");
    world.log.pop();
    world.ledger.sent(B, 2);
    world.log.push(record(B, 2));
    assert_lie(world.page_since(Since::default()), Lie::RolledBack);
}

#[test]
fn a_record_that_was_seen_is_gone_in_the_end() {
    let mut world = World::read();
    world.log.pop();
    assert_lie(world.finish(), Lie::RolledBack);
}

#[test]
fn a_place_is_given_twice() {
    let mut world = World::filled();
    let since = world.ledger.sent(B, 1);
    let end = world.ledger.boundary(1) + record(B, 1).stored_bytes(Text);
    assert_lie(world.ledger.acked(since, record(B, 1), end, None), Lie::Lost);
    let mut world = World::read();
    let since = world.ledger.sent(B, 1);
    assert_lie(world.ledger.acked(since, record(B, 1), end, None), Lie::RolledBack);
    assert_lie(world.ledger.acked(since, record(B, 1), end + 1, None), Lie::Gap);
}

#[test]
fn places_ahead_of_a_gap_overlap() {
    let mut world = world();
    let since = world.ledger.sent(A, 0);
    world.ledger.sent(B, 0);
    world.ledger.acked(since, record(A, 0), 1000, None).expect("others append too");
    for end in [999, 1001] {
        assert_lie(world.ledger.acked(since, record(B, 0), end, None), Lie::Gap);
    }
}

#[test]
fn a_guarded_append_lands_elsewhere() {
    let mut world = World::filled();
    let expected = world.tail();
    world.append(B, 1).expect("honest");
    let since = world.ledger.sent(A, 3);
    world.log.push(record(A, 3));
    let tail = world.tail();
    assert_lie(world.ledger.acked(since, record(A, 3), tail, Some(expected)), Lie::Gap);
}

#[test]
fn offsets_leave_a_gap() {
    let mut world = World::filled();
    let payload = payload(Text, &world.log);
    let next = world.tail() + 1;
    let page = Page { from: 0, payload: &payload, next, up_to_date: true, closed: false };
    assert_lie(world.ledger.page(Since::default(), page), Lie::Gap);
    let within = world.ledger.boundary(2) + 1;
    assert_lie(world.ledger.known_tail(Since::default(), within, false), Lie::Gap);
}

#[test]
fn a_byte_is_wrong() {
    let mut world = World::filled();
    let mut payload = payload(Text, &world.log);
    payload[20] ^= 1;
    let page = Page { from: 0, payload: &payload, next: world.tail(), up_to_date: true, closed: false };
    assert_lie(world.ledger.page(Since::default(), page), Lie::Damaged);
}

#[test]
fn records_appear_that_nobody_sent_or_that_belong_elsewhere() {
    let mut world = World::filled();
    world.log.push(record(A, 3));
    assert_lie(world.page(), Lie::Invented);
    let mut world = World::filled();
    world.log.push(Record { tag: Tag { incarnation: 1, ..TAG }, ..record(A, 0) });
    assert_lie(world.page(), Lie::Invented);
}

#[test]
fn what_was_acknowledged_as_known_is_not_there() {
    let mut world = World::filled();
    let (since, tail) = (world.ledger.sent(A, 3), world.tail());
    world.ledger.acked_again(since, record(A, 3), tail).expect("nothing is wrong so far");
    world.page().expect("nothing is wrong so far");
    assert_lie(world.finish(), Lie::Lost);
}

#[test]
fn a_record_is_never_shown() {
    let mut world = World::filled();
    let payload = payload(Text, &world.log[2..]);
    let (from, next) = (world.ledger.boundary(2), world.tail());
    let page = Page { from, payload: &payload, next, up_to_date: true, closed: false };
    world.ledger.page(world.ledger.since(), page).expect("nothing is wrong so far");
    assert_lie(world.finish(), Lie::Lost);
}

#[test]
fn a_closed_stream_grows_or_opens_again() {
    let closed = || {
        let mut world = World::read();
        world.ledger.close_sent();
        let (since, tail) = (world.ledger.since(), world.tail());
        world.ledger.closed(since, tail).expect("honest");
        world
    };
    assert_lie(closed().append(B, 1), Lie::AfterClose);
    assert_lie(closed().page(), Lie::Stale);
    let mut world = closed();
    world.ledger.sent(B, 1);
    world.log.push(record(B, 1));
    assert_lie(world.page_since(Since::default()), Lie::AfterClose);
}

#[test]
fn a_close_before_the_tail_or_by_nobody() {
    let mut world = World::read();
    let (since, before) = (world.ledger.since(), world.ledger.boundary(3));
    world.ledger.close_sent();
    assert_lie(world.ledger.closed(since, before), Lie::Stale);
    let mut world = World::read();
    let (since, tail) = (world.ledger.since(), world.tail());
    assert_lie(world.ledger.known_tail(since, tail, true), Lie::Invented);
}

#[test]
fn what_was_restored_is_a_beginning_of_what_was_there() {
    let mut world = World::read();
    let packed = world.ledger.boundary(2);
    world.log.truncate(3);
    world.ledger.roll_back(packed, false, restored(world.tail(), false)).expect("honest");
    assert_eq!((world.ledger.last_of(A), world.ledger.last_of(B)), (Some(1), Some(0)));
    assert_lie(world.finish(), Lie::Lost);
    world.page().expect("honest");
    world.finish().expect("all of it was shown again");
    world.append(A, 2).expect("it was lost, and comes again");
    world.append(A, 2).expect_err("it is there now");
}

#[test]
fn a_restore_that_lies_is_found() {
    let mut world = World::read();
    let boundary = world.ledger.boundary(3);
    assert_lie(world.ledger.roll_back(world.tail(), false, restored(boundary, false)), Lie::Lost);
    assert_lie(world.ledger.roll_back(0, false, restored(boundary - 1, false)), Lie::Gap);
    assert_lie(world.ledger.roll_back(0, false, restored(boundary, true)), Lie::AfterClose);
    world.ledger.roll_back(0, false, restored(boundary, false)).expect("honest");
    world.log.remove(1);
    assert_lie(world.page(), Lie::Lost);
}

mod beginning;
