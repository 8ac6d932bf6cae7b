//! Trim and retention of streams, with forks and packs.

use ursula_common::packs::PackRef;
use ursula_common::verb::{Create, ForkCut, Lifetime, Op, Reply, Retention, Trim};
use ursula_common::{Error, GroupId, Millis, Offset, StreamId};

use super::world::*;
use crate::{Answer, Effect};

const GROUP: GroupId = GroupId(1);

fn trimmed(at: u64) -> Result<Reply, Error> {
    Ok(Reply::Trimmed(Offset(at)))
}

fn retained(name: &str, max_age: Option<u64>, max_bytes: Option<u64>) -> Create {
    Create { retention: Retention { max_age, max_bytes, snapshot: false }, ..create(name) }
}

fn earliest(world: &World, name: &str) -> u64 {
    world.info(name).expect("it is there").earliest.0
}

#[test]
fn a_stream_begins_where_it_was_trimmed() {
    let mut world = world_with("a");
    assert_eq!(world.run(trim("a", 4)), trimmed(4));
    assert_eq!(world.effects, [Effect::Trimmed { stream: StreamId(1), to: Offset(4) }]);
    assert_eq!((earliest(&world, "a"), world.read("a").as_deref()), (4, Ok("two.six.")));
    // Never back.
    for again in [4, 2, 0] {
        assert_eq!(world.run(trim("a", again)), trimmed(4));
        assert!(world.effects.is_empty());
    }
    assert_eq!(world.run(trim("a", 13)), Err(Error::OffsetInvalid));
    let other = Offset::first_of(7).0 + 4;
    assert_eq!(world.run(trim("a", other)), Err(Error::OffsetGone { earliest: Offset(4) }));
    assert_eq!(world.run(trim("a-unknown", 0)), Err(Error::StreamNotFound));
    world.run(close("a")).expect("closed");
    assert_eq!(world.run(trim("a", 12)), trimmed(12));
    assert_eq!(world.read("a").as_deref(), Ok(""));
    assert_eq!(world.info("a").map(|info| (info.tail.0, info.closed)), Ok((12, true)));
}

#[test]
fn only_the_beginning_of_a_record_is_taken_for_one() {
    let mut world = world_with("a");
    let mut ask = |to, cut: Option<(u64, u64)>| {
        let cut = cut.map(|(stream, at)| ForkCut { stream: StreamId(stream), at: Offset(at) });
        world.apply(GROUP, Op::Trim(Trim { key: key("a"), to: Offset(to), cut }), None)
    };
    let again = Answer::Done(Err(Error::Overloaded));
    // Nobody looked, or at another incarnation, or found a place that is later.
    assert_eq!(ask(6, None), again);
    assert_eq!(ask(6, Some((2, 4))), again);
    assert_eq!(ask(6, Some((1, 8))), again);
    assert_eq!(ask(6, Some((1, 4))), Answer::Done(trimmed(4)));
    assert_eq!(ask(7, Some((1, 4))), Answer::Done(trimmed(4)));
    assert_eq!(ask(12, None), Answer::Done(trimmed(12)));
}

#[test]
fn a_fork_keeps_what_it_could_read_when_it_was_made() {
    let mut world = world_with("a");
    world.run(trim("a", 4)).expect("trimmed");
    world.run(fork_at("b", "a", 8, 0)).expect("forked");
    world.run(append("b", "own")).expect("appended");
    assert_eq!(world.run(trim("a", 12)), trimmed(12));
    assert!(world.effects.is_empty(), "the fork needs it");
    assert_eq!((world.read("a").as_deref(), world.read("b").as_deref()), (Ok(""), Ok("two.own")));
    // A fork of the fork, and the fork trimmed behind where its own bytes begin.
    world.run(fork_at("a3", "b", 8, 0)).expect("forked");
    assert_eq!(world.run(trim("b", 11)), trimmed(11));
    assert!(world.effects.is_empty(), "what is before the end of what a fork needs stays whole");
    assert_eq!((world.read("b").as_deref(), world.read("a3").as_deref()), (Ok(""), Ok("two.")));
    let gone = Err(Error::OffsetGone { earliest: Offset(12) });
    assert_eq!(world.run(fork_at("b2", "a", 8, 0)), gone, "clients begin later");

    world.run(delete("b")).expect("deleted, and hidden");
    world.settle();
    assert_eq!(world.rings[&(GROUP, StreamId(1))].0, Offset(4), "hidden, it is needed still");
    world.run(delete("a3")).expect("deleted");
    world.settle();
    assert_eq!(world.rings[&(GROUP, StreamId(1))].0, Offset(12), "nobody needs it");
}

#[test]
fn a_retention_is_part_of_the_configuration() {
    let mut world = World::new();
    assert_eq!(world.run(retained("a", Some(9), Some(5))), created(true, 0));
    assert_eq!(world.run(retained("a", Some(9), Some(5))), created(false, 0));
    let exists = Err(Error::StreamExists { tail: Offset(0), closed: false });
    for other in [retained("a", Some(8), Some(5)), retained("a", Some(9), None), create("a")] {
        assert_eq!(world.run(other), exists);
    }
    let retention = |world: &World, name| world.info(name).expect("it is there").retention;
    world.run(fork("b", "a")).expect("forked");
    assert_eq!(retention(&world, "b"), retention(&world, "a"), "inherited, as lifetimes are");
    let own = Retention { max_bytes: Some(7), ..Retention::default() };
    world.run(Create { retention: own, ..fork("b2", "a") }).expect("forked");
    assert_eq!(retention(&world, "b2"), own);
    assert_eq!(world.run(fork("b2", "a")), created(false, 0), "whatever it was then");
}

#[test]
fn bytes_go_when_more_come() {
    let mut world = World::new();
    world.run(Create { body: "1234".into(), ..retained("a", None, Some(8)) }).expect("created");
    for (body, left) in [("56", "123456"), ("7", "1234567"), ("8", "12345678"), ("9", "123456789")] {
        world.run(append("a", body)).expect("appended");
        assert_eq!(world.read("a").as_deref(), Ok(left), "whole records, and never less than asked");
    }
    world.run(append("a", "0ab")).expect("appended");
    assert_eq!((earliest(&world, "a"), world.read("a").as_deref()), (4, Ok("567890ab")));
    assert_eq!(world.state(GROUP).next_expiry(), None, "bytes need no clock");
}

#[test]
fn what_is_too_old_is_gone_before_the_sweep_comes() {
    let mut world = World::new();
    world.run(retained("a", Some(32), None)).expect("created");
    assert_eq!(world.state(GROUP).next_expiry(), None, "an empty stream has nothing that gets old");
    world.run(append("a", "old.")).expect("appended");
    world.pass(10.0);
    world.run(append("a", "new")).expect("appended");
    assert_eq!(world.state(GROUP).next_expiry(), Some(Millis(START.0 + 32_000)));
    world.pass(21.999);
    assert_eq!(earliest(&world, "a"), 0);
    world.pass(0.001);
    assert_eq!(earliest(&world, "a"), 4, "for readers");
    assert_eq!(world.run(fork_at("b", "a", 0, 0)), Err(Error::OffsetGone { earliest: Offset(4) }), "and for commands");
    world.pass(5.0);
    world.run(Op::Expire).expect("swept");
    assert_eq!(world.state(GROUP).next_expiry(), Some(Millis(START.0 + 42_000)));
    world.pass(5.0);
    world.run(Op::Expire).expect("swept");
    assert_eq!(world.effects, [Effect::Trimmed { stream: StreamId(1), to: Offset(7) }]);
    assert_eq!((earliest(&world, "a"), world.state(GROUP).next_expiry()), (7, None), "an idle stream costs no look");
    world.run(append("a", "x")).expect("appended");
    assert_eq!(world.state(GROUP).next_expiry(), Some(Millis(world.now.0 + 32_000)));
}

/// A time to live and an age share one place in the index.
#[test]
fn whatever_is_due_first_counts() {
    let mut world = World::new();
    let both = Create { lifetime: Lifetime::Ttl(100), ..retained("a", Some(10), None) };
    world.run(both).expect("created");
    assert_eq!(world.state(GROUP).next_expiry(), Some(Millis(START.0 + 100_000)));
    world.run(append("a", "x")).expect("appended");
    assert_eq!(world.state(GROUP).next_expiry(), Some(Millis(START.0 + 10_000)));
    world.pass(10.0);
    world.run(Op::Expire).expect("swept");
    assert_eq!(world.state(GROUP).next_expiry(), Some(Millis(START.0 + 100_000)));
    world.pass(90.0);
    world.run(Op::Expire).expect("swept");
    assert_eq!(world.info("a"), Err(Error::StreamNotFound));
}

#[test]
fn packs_leave_out_what_nobody_needs() {
    let mut world = world_with("a");
    world.run(Op::BeginPacks).expect("begun");
    let commit = |world: &mut World| {
        let plan = world.state(GROUP).plan_pack(1 << 20, 100).expect("something waits");
        let pack = PackRef { first: plan.pack, last: plan.pack, maker: 1, bytes: 1, hash: [0; 32] };
        let ends: Vec<_> = plan.streams.iter().map(|planned| planned.end).collect();
        world.run(Op::CommitPack(Box::new(plan.commit(pack, &ends)))).expect("committed");
        (plan.streams[0].start.0, plan.streams[0].skipped, plan.streams[0].prev)
    };
    let bytes = |world: &World| world.state(GROUP).packing().expect("begun").bytes;
    assert_eq!(commit(&mut world), (0, 0, 0));
    world.run(append("a", "more")).expect("appended");
    world.run(append("a", "last")).expect("appended");
    assert_eq!(bytes(&world), 8);
    // Beyond what packs have: 4 bytes never get into one.
    world.run(trim("a", 16)).expect("trimmed");
    assert_eq!(bytes(&world), 4);
    assert_eq!(world.state(GROUP).unpacked().collect::<Vec<_>>(), [(StreamId(1), Offset(16))]);
    assert_eq!(world.state(GROUP).stored_ranges().next().map(|range| range.start), Some(Offset(16)));
    assert_eq!(commit(&mut world), (16, 4, 0), "nothing before it is looked for");
    // All of it: packs hear of that, and have no bytes.
    world.run(append("a", "x")).expect("appended");
    world.run(trim("a", 21)).expect("trimmed");
    assert_eq!((bytes(&world), commit(&mut world)), (0, (21, 1, 0)));
    assert_eq!(world.info("a").map(|info| info.cold), Ok(None));
    assert!(!world.state(GROUP).packing().expect("begun").due);
}
