//! Sessions: the same op again, answers that are forgotten, and how much is kept.

use std::time::Duration;

use ursula_common::limits::{SESSION_IDLE, SESSION_RESULTS_MAX, SESSIONS_MAX};
use ursula_common::verb::{Ack, Op, Reply};
use ursula_common::{Error, GroupId, Offset, SessionId};

use super::world::*;
use crate::{Answer, Origin};

const ONE: GroupId = GroupId(1);

fn origin(session: u64, seq: u64, acked: u64) -> Option<Origin> {
    Some(Origin { session: SessionId(session), seq, acked })
}

/// A world with the stream `a`, and a shorthand to append one byte to it.
fn world() -> World {
    let mut world = World::new();
    world.run(create("a")).expect("created");
    world
}

fn send(world: &mut World, session: u64, seq: u64, acked: u64) -> Answer {
    world.apply(ONE, append("a", "x").op(), origin(session, seq, acked))
}

#[test]
fn the_same_op_again_gets_the_same_answer() {
    let mut world = world();
    let first = send(&mut world, 7, 0, 0);
    assert_eq!(first, Answer::Done(appended(1)));
    assert_eq!(send(&mut world, 8, 0, 0), Answer::Done(appended(2)), "another session");
    assert_eq!(send(&mut world, 7, 1, 0), Answer::Done(appended(3)));
    assert_eq!(send(&mut world, 7, 0, 0), first);
    assert!(world.effects.is_empty());
    assert_eq!(world.read("a").as_deref(), Ok("xxx"));
}

#[test]
fn errors_are_remembered_too_but_not_those_that_say_later() {
    let mut world = world();
    let missing = world.apply(ONE, append("a2", "x").op(), origin(7, 0, 0));
    assert_eq!(missing, Answer::Done(Err(Error::StreamNotFound)));
    world.run(create("a2")).expect("created");
    assert_eq!(world.apply(ONE, append("a2", "x").op(), origin(7, 0, 0)), missing);

    world.apply(GroupId::META, Op::CreateBucket(bucket("bucket"), Ack::Quorum), None);
    let again = |world: &mut World| {
        world.apply(GroupId::META, Op::CreateBucket(bucket("bucket"), Ack::Quorum), origin(7, 0, 0))
    };
    assert_eq!(again(&mut world), Answer::Done(Err(Error::BucketBusy)));
    world.settle();
    assert_eq!(again(&mut world), Answer::Done(Ok(Reply::Bucket(false))));
}

#[test]
fn ops_may_come_in_any_order() {
    let mut world = world();
    assert_eq!(send(&mut world, 7, 5, 2), Answer::Done(appended(1)));
    assert_eq!(send(&mut world, 7, 3, 2), Answer::Done(appended(2)), "older than one that came before");
    assert_eq!(send(&mut world, 7, 5, 2), Answer::Done(appended(1)));
    assert_eq!(send(&mut world, 7, 2, 0), Answer::Done(appended(3)), "the floor itself is not answered yet");
}

#[test]
fn what_is_acknowledged_is_forgotten() {
    let mut world = world();
    send(&mut world, 7, 0, 0);
    send(&mut world, 7, 1, 0);
    send(&mut world, 7, 2, 2);
    let forgotten = Answer::Done(Err(Error::ResultForgotten));
    assert_eq!(send(&mut world, 7, 0, 0), forgotten);
    assert_eq!(send(&mut world, 7, 1, 0), forgotten, "the floor never falls");
    assert_eq!(send(&mut world, 7, 2, 2), Answer::Done(appended(3)));
    assert_eq!(send(&mut world, 7, 3, 9), forgotten, "acknowledged before it was sent");
    assert_eq!(world.read("a").as_deref(), Ok("xxx"));
}

#[test]
fn a_session_has_so_many_results() {
    let mut world = world();
    for seq in 0..SESSION_RESULTS_MAX as u64 {
        // The check of all invariants would make this slow.
        let op = append("a", "x").op();
        let command = crate::Command { at: START, origin: origin(7, seq, 0), op };
        world.groups[1].apply(command, &mut Vec::new());
    }
    let full = SESSION_RESULTS_MAX as u64;
    let state = |world: &mut World, seq, acked| {
        let command = crate::Command { at: START, origin: origin(7, seq, acked), op: append("a", "x").op() };
        world.groups[1].apply(command, &mut Vec::new())
    };
    assert_eq!(state(&mut world, full, 0), Answer::Done(Err(Error::Overloaded)));
    assert_eq!(state(&mut world, 0, 0), Answer::Done(appended(1)), "known ones are answered");
    assert_eq!(state(&mut world, full, 1), Answer::Done(appended(full + 1)), "the refusal was not kept");
    world.groups[1].check();
}

#[test]
fn the_session_that_was_silent_for_longest_makes_room() {
    let mut world = world();
    for session in 0..SESSIONS_MAX as u64 {
        world.pass(0.001);
        let command = crate::Command { at: world.now, origin: origin(session, 0, 0), op: append("a", "x").op() };
        world.groups[1].apply(command, &mut Vec::new());
    }
    world.pass(0.001);
    send(&mut world, 0, 1, 0);
    let tail = SESSIONS_MAX as u64 + 1;
    assert_eq!(send(&mut world, 1 << 40, 0, 0), Answer::Done(appended(tail + 1)));
    assert_eq!(world.state(ONE).stats().sessions, SESSIONS_MAX);
    assert_eq!(send(&mut world, 0, 0, 0), Answer::Done(appended(1)), "it has spoken since");
    assert_eq!(send(&mut world, 1, 0, 0), Answer::Done(appended(tail + 2)), "it was forgotten");
}

#[test]
fn a_silent_session_is_forgotten() {
    let mut world = world();
    send(&mut world, 7, 0, 0);
    world.now = world.now.after(Duration::from_secs(5));
    send(&mut world, 8, 0, 0);
    assert_eq!(world.state(ONE).next_expiry(), Some(START.after(SESSION_IDLE)));
    while world.now < START.after(SESSION_IDLE) {
        assert_eq!(world.state(ONE).stats().sessions, 2);
        world.now = world.now.after(Duration::from_secs(5));
        world.apply(ONE, Op::Expire, None);
    }
    assert_eq!(world.state(ONE).stats().sessions, 1);
    assert_eq!(world.state(ONE).next_expiry(), Some(START.after(SESSION_IDLE + Duration::from_secs(5))));
    assert_eq!(send(&mut world, 8, 0, 0), Answer::Done(appended(2)));
    assert_eq!(send(&mut world, 7, 0, 0), Answer::Done(appended(3)));
}

#[test]
fn a_clock_that_leaps_makes_no_session_forgotten() {
    let mut world = world();
    let first = send(&mut world, 7, 0, 0);
    for leap in [SESSION_IDLE; 40].into_iter().chain([Duration::from_secs(24 * 3600); 40]) {
        world.now = world.now.after(leap);
        world.apply(ONE, Op::Expire, None);
        assert_eq!(world.state(ONE).stats().sessions, 1);
        assert!(world.state(ONE).next_expiry().is_some_and(|at| at > world.now), "it would be asked for in a loop");
    }
    assert_eq!(send(&mut world, 7, 0, 0), first);
    for _ in 0..100 {
        world.now = world.now.after(SESSION_IDLE);
        world.apply(ONE, Op::Expire, None);
    }
    assert_eq!(world.state(ONE).stats().sessions, 0, "silent for long, whatever the clock says");
}

#[test]
fn a_saga_leaves_its_outcome_with_the_session() {
    let mut world = world();
    let ask = |world: &mut World| world.apply(GroupId(2), fork("b", "a").op(), origin(7, 0, 0));
    let pending = ask(&mut world);
    assert!(matches!(pending, Answer::Pending(_)));
    assert_eq!(ask(&mut world), pending);
    assert_eq!(world.flights.len(), 1, "asked once");
    world.settle();
    assert_eq!(ask(&mut world), Answer::Done(created(true, 0)));
    let missing = world.apply(GroupId(2), fork("b2", "a2").op(), origin(7, 1, 0));
    assert!(matches!(missing, Answer::Pending(_)));
    world.settle();
    let answer = world.apply(GroupId(2), fork("b2", "a2").op(), origin(7, 1, 0));
    assert_eq!(answer, Answer::Done(Err(Error::ForkSourceNotFound)));
    let late = world.apply(GroupId(2), append("b", "x").op(), origin(7, 2, 2));
    assert_eq!(late, Answer::Done(appended(1)));
    assert_eq!(world.info("b").map(|info| info.tail), Ok(Offset(1)));
}
