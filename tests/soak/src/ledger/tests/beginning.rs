//! Streams that lose their beginning, and their snapshots.

use super::*;

impl World {
    /// A trim to the place after so many records is sent and acknowledged.
    fn trim(&mut self, records: usize) -> Result<(), Violation> {
        let to = self.ledger.boundary(records);
        let since = self.ledger.trim_sent(to);
        self.ledger.trimmed(since, to, to)
    }

    /// A page with all from the place after so many records on.
    fn page_from(&mut self, records: usize) -> Result<(), Violation> {
        let (from, since) = (self.ledger.boundary(records), self.ledger.since());
        let payload = payload(self.format(), &self.log[records..]);
        let page = Page { from, payload: &payload, next: self.tail(), up_to_date: true, closed: false };
        self.ledger.page(since, page)
    }

    fn begins(&mut self, records: usize) -> Result<(), Violation> {
        let at = self.ledger.boundary(records);
        self.ledger.begins(self.ledger.since(), at)
    }
}

#[test]
fn what_was_trimmed_is_not_missed() {
    let mut world = World::filled();
    let old = world.ledger.since();
    world.trim(2).expect("honest");
    world.page_from(2).expect("honest");
    world.begins(2).expect("honest");
    world.ledger.gone(old, 0, world.ledger.boundary(2)).expect("honest");
    world.ledger.begins(old, 0).expect("a reader that began before that need not be told");
    assert_eq!(world.ledger.finish(world.ledger.boundary(2), world.tail()), Ok(()));
    assert_lie(world.finish(), Lie::Lost);
}

#[test]
fn a_trim_that_is_not_made_is_found() {
    let mut world = World::filled();
    world.trim(2).expect("honest");
    assert_lie(world.begins(1), Lie::Returned);
    let (to, since) = (world.ledger.boundary(3), world.ledger.trim_sent(world.ledger.boundary(3)));
    assert_lie(world.ledger.trimmed(since, to, world.ledger.boundary(2)), Lie::Returned);
}

#[test]
fn what_nobody_trimmed_is_missed() {
    let mut world = World::filled();
    assert_lie(world.begins(1), Lie::Lost);
    let (since, to) = (world.ledger.trim_sent(world.ledger.boundary(2)), world.ledger.boundary(2));
    world.begins(2).expect("it may have been made");
    assert_lie(world.ledger.trimmed(since, to, world.ledger.boundary(3)), Lie::Lost);
    assert_lie(world.ledger.begins(since, to - 1), Lie::Gap);
    assert_lie(world.ledger.gone(since, to, to), Lie::Lost);
}

#[test]
fn a_retention_lets_go_what_it_says() {
    let limits = Limits { bytes: Some(500), ..Limits::default() };
    let mut world = World { ledger: Ledger::new(TAG, Text).with_limits(limits), log: Vec::new() };
    for seq in 0..40 {
        world.append(A, seq).expect("honest");
    }
    let over = world.ledger.records_until(world.tail() - 500);
    world.begins(over).expect("honest");
    assert_lie(world.begins(over + 1), Lie::Lost);
    let late = world.ledger.since();
    assert!(late.earliest > 0);
    assert_lie(world.ledger.begins(late, 0), Lie::Returned);
    let limits = Limits { seconds: Some(1), ..Limits::default() };
    let mut world = World { ledger: Ledger::new(TAG, Text).with_limits(limits), log: Vec::new() };
    world.append(A, 0).expect("honest");
    world.begins(1).expect("clocks leap");
    world.begins(0).expect("and come back");
}

#[test]
fn a_fork_begins_where_its_source_did() {
    let mut world = World::filled();
    world.trim(1).expect("honest");
    let mut fork = Ledger::fork(&world.ledger, Tag { stream: 6, incarnation: 0 }, world.ledger.boundary(3));
    world.trim(3).expect("honest");
    let since = fork.since();
    fork.begins(since, world.ledger.boundary(1)).expect("honest");
    assert_lie(fork.begins(since, world.ledger.boundary(2)), Lie::Lost);
    assert_lie(fork.begins(since, 0), Lie::Returned);
}

#[test]
fn a_restore_keeps_trims_if_it_must() {
    let restored =
        |world: &World, records| Restored { begin: world.ledger.boundary(records), tail: world.tail(), closed: false };
    let trimmed = || {
        let mut world = World::filled();
        world.trim(2).expect("honest");
        world
    };
    let mut world = trimmed();
    world.ledger.roll_back(0, false, restored(&world, 0)).expect("packs did not know of it");
    let mut world = trimmed();
    assert_lie(world.ledger.roll_back(0, true, restored(&world, 0)), Lie::Returned);
    assert_lie(world.ledger.roll_back(0, false, restored(&world, 3)), Lie::Lost);
    world.ledger.roll_back(0, true, restored(&world, 2)).expect("honest");
}

#[test]
fn nothing_is_lost_that_was_offloaded() {
    let mut world = World::filled();
    let (tail, last) = (world.tail(), world.ledger.boundary(3));
    let mut less = World::filled();
    less.ledger.roll_back(0, false, restored(last, false)).expect("packs did not have it");
    assert_lie(world.ledger.roll_back(0, true, restored(last, false)), Lie::Lost);
    world.ledger.sent(B, 1);
    world.log.push(record(B, 1));
    world.page().expect("seen, and not acknowledged");
    world.ledger.roll_back(0, true, restored(tail, false)).expect("that was not promised");
    world.ledger.close_sent();
    world.ledger.closed(world.ledger.since(), tail).expect("honest");
    assert_lie(world.ledger.roll_back(0, true, restored(tail, false)), Lie::Lost);
}

/// Shows the snapshot with this number, or none.
fn show(ledger: &mut Ledger, since: Since, shot: Option<Shot>) -> Result<(), Violation> {
    let body = shot.map(|shot| (shot.at, shot.content(TAG)));
    ledger.shown_shot(since, body.as_ref().map(|(at, body)| (*at, &body[..])))
}

#[test]
fn the_newest_snapshot_is_shown() {
    let mut ledger = World::filled().ledger;
    let [one, two] = [0, 1].map(|number| Shot { at: ledger.boundary(number + 1), number: number as u32 });
    let since = ledger.shot_sent(Some(one));
    show(&mut ledger, since, None).expect("it need not be there yet");
    show(&mut ledger, since, Some(one)).expect("it may");
    let since = ledger.since();
    assert_lie(show(&mut ledger, since, None), Lie::Stale);
    ledger.shot_done();
    ledger.shot_sent(Some(two));
    ledger.shot_done();
    show(&mut ledger, since, Some(one)).expect("it was when that began");
    let since = ledger.since();
    assert_lie(show(&mut ledger, since, Some(one)), Lie::Stale);
    assert_lie(ledger.told_shot(since, Some(one.at)), Lie::Stale);
    assert_lie(ledger.shown_shot(since, Some((two.at, &b"else"[..]))), Lie::Damaged);
    assert_lie(show(&mut ledger, since, Some(Shot { at: 1, number: 7 })), Lie::Invented);
    show(&mut ledger, since, Some(two)).expect("honest");
    ledger.trim_sent(ledger.boundary(3));
    show(&mut ledger, since, None).expect("nobody can read on from it");
    ledger.shot_sent(None);
    ledger.shot_done();
    let since = ledger.since();
    assert_lie(show(&mut ledger, since, Some(two)), Lie::Stale);
}

#[test]
fn a_stream_that_begins_at_its_snapshot_has_one() {
    let limits = Limits { snapshot: true, ..Limits::default() };
    let mut world = World { ledger: Ledger::new(TAG, Text).with_limits(limits), log: Vec::new() };
    world.append(A, 0).expect("honest");
    let at = world.tail();
    assert_lie(world.begins(1), Lie::Lost);
    world.ledger.shot_sent(Some(Shot { at, number: 0 }));
    world.begins(1).expect("it was published");
    assert_lie(world.ledger.begins_at_shot(at, None), Lie::Lost);
    world.ledger.begins_at_shot(at, Some(at)).expect("honest");
    world.ledger.begins_at_shot(0, None).expect("honest");
}
