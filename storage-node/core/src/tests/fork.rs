//! Forks: where they begin, what they inherit, who keeps whom alive, and messages that come late.

use ursula_common::limits::FORK_DEPTH_MAX;
use ursula_common::verb::{
    Ack, AcquireFork, Append, Create, ForkCut, ForkPoint, ForkRef, Lifetime, Op, Reply, Retention,
};
use ursula_common::{ContentType, Error, GroupId, Offset, StreamId};

use super::world::*;
use crate::{Answer, Command, Destination, Effect, State};

/// A world with the stream `a` that holds `0123456789`.
fn world() -> World {
    let mut world = World::new();
    assert_eq!(world.run(Create { body: "0123456789".into(), ..create("a") }), created(true, 10));
    world
}

fn streams(world: &World) -> [usize; 2] {
    [1, 2].map(|group| world.state(GroupId(group)).stats().streams)
}

/// Starts a fork and stops before anything is delivered.
fn start(world: &mut World, create: Create) -> (Answer, Flight) {
    let answer = world.apply(home(&create.key), Op::Create(create), None);
    assert!(matches!(answer, Answer::Pending(_)), "{answer:?}");
    (answer, world.flights.remove(0))
}

#[test]
fn a_fork_continues_where_the_source_was() {
    for name in ["a-fork", "b-fork"] {
        let mut world = world();
        assert_eq!(world.run(Create { body: "+mine".into(), ..fork(name, "a") }), created(true, 15));
        world.run(append("a", "later")).expect("appended");
        world.run(append(name, "!")).expect("appended");
        assert_eq!(world.read(name).as_deref(), Ok("0123456789+mine!"));
        assert_eq!(world.read("a").as_deref(), Ok("0123456789later"));
        let link = world.info(name).expect("it is there").fork.expect("it is a fork");
        assert_eq!((link.at, link.anchor, link.sub_offset, link.depth), (Offset(10), Offset(10), 0, 1));
    }
}

#[test]
fn a_fork_begins_at_an_offset_and_past_it() {
    let mut world = world();
    assert_eq!(world.run(fork_at("b1", "a", 4, 0)), created(true, 4));
    assert_eq!(world.run(fork_at("b2", "a", 4, 3)), created(true, 7));
    assert_eq!(world.run(fork_at("b3", "a", 10, 0)), created(true, 10));
    assert_eq!(world.run(fork_at("b4", "a", 0, 0)), created(true, 0));
    assert_eq!(world.read("b2").as_deref(), Ok("0123456"));
    assert_eq!(world.read("b4").as_deref(), Ok(""));
    let link = world.info("b2").expect("it is there").fork.expect("it is a fork");
    assert_eq!((link.at, link.anchor, link.sub_offset), (Offset(7), Offset(4), 3));
}

#[test]
fn what_a_source_refuses() {
    let mut world = world();
    let json = Create { content_type: Some(ContentType::parse("application/json")), ..fork("b", "a") };
    let cases = [
        (fork("b", "a-unknown"), Error::ForkSourceNotFound),
        (fork("b", "nobucket:a"), Error::ForkSourceNotFound),
        (fork_at("b", "a", 11, 0), Error::ForkOffsetInvalid { tail: Offset(10) }),
        (fork_at("b", "a", 8, 3), Error::ForkSubOffsetInvalid),
        (json, Error::ForkContentTypeMismatch { expected: text() }),
    ];
    for (create, error) in cases {
        assert_eq!(world.run(create), Err(error));
        world.settle();
        assert_eq!(world.info("b"), Err(Error::StreamNotFound));
        // A refused fork leaves nothing behind: neither here nor on the source.
        assert_eq!(world.groups.iter().map(|group| group.outbox().count()).sum::<usize>(), 0);
    }
    world.run(delete("a")).expect("deleted");
    assert_eq!(streams(&world), [0, 0]);
}

#[test]
fn the_leader_of_the_source_must_have_looked_at_the_bytes() {
    let mut world = world();
    let source_id = world.info("a").expect("it is there").id;
    let mut ask = |offset: Option<u64>, sub_offset, cut: Option<(StreamId, u64)>| {
        let fork_ref = ForkRef { source: key("a"), fork: key("b"), fork_id: StreamId(offset.unwrap_or(99) + 100) };
        let cut = cut.map(|(stream, at)| ForkCut { stream, at: Offset(at) });
        let op = AcquireFork { fork_ref, offset: offset.map(Offset), sub_offset, content_type: None, cut };
        world.apply(GroupId(1), Op::AcquireFork(op), None)
    };
    let refused = |error| Answer::Done(Err(error));
    assert_eq!(ask(Some(4), 1, None), refused(Error::ForkSubOffsetInvalid));
    assert_eq!(ask(None, 1, Some((source_id, 10))), refused(Error::ForkSubOffsetInvalid));
    // Another incarnation, or more bytes than there are: look again.
    assert_eq!(ask(Some(4), 1, Some((StreamId(77), 5))), refused(Error::Overloaded));
    assert_eq!(ask(Some(4), 1, Some((source_id, 11))), refused(Error::Overloaded));
    assert_eq!(ask(Some(4), 1, Some((source_id, 3))), refused(Error::Malformed));
    let point = ForkPoint {
        source_id,
        anchor: Offset(4),
        at: Offset(6),
        content_type: text(),
        lifetime: Lifetime::Forever,
        retention: Retention::default(),
        earliest: Offset::ZERO,
        depth: 1,
    };
    let granted = Answer::Done(Ok(Reply::ForkAcquired(point)));
    assert_eq!(ask(Some(4), 1, Some((source_id, 6))), granted);
    // Asked again, it is the same, whatever the question is now.
    assert_eq!(ask(Some(4), 0, None), granted);
}

#[test]
fn a_fork_inherits_type_and_lifetime_unless_it_names_its_own() {
    let mut world = World::new();
    let json = ContentType::parse("application/json");
    let source = Create { content_type: Some(json.clone()), lifetime: Lifetime::Ttl(60), ..create("a") };
    world.run(source).expect("created");
    world.run(fork("b1", "a")).expect("forked");
    let typed = ContentType::parse("Application/JSON; x=1");
    let own = Create { content_type: Some(typed.clone()), lifetime: Lifetime::Ttl(7), ..fork("b2", "a") };
    world.run(own).expect("forked");
    let info = |name| world.info(name).map(|info| (info.content_type, info.lifetime));
    assert_eq!(info("b1"), Ok((json, Lifetime::Ttl(60))));
    assert_eq!(info("b2"), Ok((typed, Lifetime::Ttl(7))));
}

#[test]
fn a_fork_starts_open_and_without_producers_and_stream_seq() {
    let mut world = world();
    let op = Append { producer: by("p", 5, 0), stream_seq: Some("z".into()), close: true, ..append("a", "x") };
    world.run(op).expect("closed");
    assert_eq!(world.run(fork("b", "a")), created(true, 11));
    assert_eq!(world.run(Append { producer: by("p", 0, 0), ..append("b", "y") }), produced(12, 0, 0));
    assert_eq!(world.run(Append { stream_seq: Some("a".into()), ..append("b", "y") }), appended(13));
}

#[test]
fn the_same_fork_again() {
    let mut world = world();
    assert_eq!(world.run(fork_at("b", "a", 4, 2)), created(true, 6));
    assert_eq!(world.run(fork_at("b", "a", 4, 2)), created(false, 6));
    let exists = Err(Error::StreamExists { tail: Offset(6), closed: false });
    assert_eq!(world.run(fork_at("b", "a", 6, 0)), exists, "the same place by another anchor");
    assert_eq!(world.run(fork_at("b", "a", 4, 1)), exists);
    assert_eq!(world.run(fork("b", "a")), exists, "a sub-offset that is not asked for is 0");
    assert_eq!(world.run(fork("b", "a2")), exists);
    assert_eq!(world.run(create("b")), exists);
    assert_eq!(world.run(fork("b2", "a")), created(true, 10));
    world.run(append("a", "x")).expect("appended");
    assert_eq!(world.run(fork("b2", "a")), created(false, 10), "an offset counts only if it is named");
    let same = Create { content_type: Some(text()), lifetime: Lifetime::Forever, ..fork("b2", "a") };
    assert_eq!(world.run(same), created(false, 10));
    assert_eq!(
        world.run(Create { lifetime: Lifetime::Ttl(5), ..fork("b2", "a") }),
        Err(Error::StreamExists { tail: Offset(10), closed: false })
    );
}

#[test]
fn a_source_with_forks_is_hidden_until_the_last_one_goes() {
    let mut world = world();
    world.run(fork("b1", "a")).expect("forked");
    world.run(fork("b2", "a")).expect("forked");
    let id = world.info("a").expect("it is there").id;
    assert_eq!(world.run(delete("a")), Ok(Reply::Done));
    assert_eq!(world.effects, [Effect::Detached { stream: id }]);
    assert_eq!(world.info("a"), Err(Error::StreamGone));
    assert_eq!(world.run(append("a", "x")), Err(Error::StreamGone));
    assert_eq!(world.run(touch("a")), Err(Error::StreamGone));
    assert_eq!(world.run(delete("a")), Err(Error::StreamGone));
    assert_eq!(world.run(create("a")), Err(Error::StreamExists { tail: Offset(10), closed: false }));
    assert_eq!(world.run(fork("b3", "a")), Err(Error::ForkSourceGone));
    assert_eq!(world.read("b1").as_deref(), Ok("0123456789"));
    assert!(world.state(GroupId(1)).inherited(&key("a"), id).is_ok());
    assert!(world.state(GroupId(1)).inherited(&key("a"), StreamId(id.0 + 1)).is_err());
    world.run(delete("b1")).expect("deleted");
    world.settle();
    assert_eq!(world.info("a"), Err(Error::StreamGone));
    world.run(delete("b2")).expect("deleted");
    world.settle();
    assert_eq!(world.info("a"), Err(Error::StreamNotFound));
    assert_eq!(world.run(create("a")), created(true, 0));
}

#[test]
fn a_chain_falls_from_its_end() {
    let mut world = world();
    for (name, source, body) in [("b1", "a", "/b1"), ("a2", "b1", "/a2"), ("b3", "a2", "/b3")] {
        world.run(Create { body: body.into(), ..fork(name, source) }).expect("forked");
    }
    assert_eq!(world.read("b3").as_deref(), Ok("0123456789/b1/a2/b3"));
    assert_eq!(world.info("b3").map(|info| info.fork.expect("it is a fork").depth), Ok(3));
    // A fork may begin within what its source has itself inherited.
    world.run(fork_at("a4", "b3", 3, 0)).expect("forked");
    assert_eq!(world.read("a4").as_deref(), Ok("012"));
    for name in ["a", "b1", "a2", "a4"] {
        world.run(delete(name)).expect("deleted");
        world.settle();
    }
    assert_eq!(world.read("b3").as_deref(), Ok("0123456789/b1/a2/b3"));
    assert_eq!(streams(&world), [2, 2]);
    world.run(delete("b3")).expect("deleted");
    world.settle();
    assert_eq!(streams(&world), [0, 0]);
    assert!(world.rings.is_empty());
}

#[test]
fn expired_forks_let_go_and_expired_sources_stay_for_their_forks() {
    let mut world = World::new();
    let source = Create { lifetime: Lifetime::Ttl(10), body: "x".into(), ..create("a") };
    world.run(source.clone()).expect("created");
    world.run(Create { lifetime: Lifetime::Ttl(30), ..fork("b", "a") }).expect("forked");
    world.pass(9.0);
    // Forking is no access.
    world.run(Create { lifetime: Lifetime::Ttl(1), ..fork("b2", "a") }).expect("forked");
    world.pass(1.0);
    assert_eq!(world.info("a"), Err(Error::StreamGone));
    assert_eq!(world.run(fork("b3", "a")), Err(Error::ForkSourceNotFound));
    assert_eq!(world.run(append("a", "x")), Err(Error::StreamGone));
    assert_eq!(world.run(source), Err(Error::StreamExists { tail: Offset(1), closed: false }));
    assert_eq!(world.read("b").as_deref(), Ok("x"));
    world.pass(20.0);
    world.apply(GroupId(2), Op::Expire, None);
    world.settle();
    assert_eq!(streams(&world), [0, 0]);
    assert_eq!(world.run(create("a")), created(true, 0));
    world.run(Create { lifetime: Lifetime::Ttl(1), ..create("a9") }).expect("created");
    world.pass(1.0);
    assert_eq!(world.run(fork("b", "a9")), Err(Error::ForkSourceNotFound));
}

#[test]
fn chains_have_a_limit() {
    let mut world = world();
    let name = |depth: u32| if depth == 0 { "a".to_owned() } else { format!("b{depth}") };
    for depth in 1..=FORK_DEPTH_MAX {
        world.run(fork(&name(depth), &name(depth - 1))).expect("forked");
    }
    assert_eq!(world.run(fork("b-last", &name(FORK_DEPTH_MAX))), Err(Error::TooManyForks));
}

#[test]
fn two_creators_of_one_fork() {
    let mut world = world();
    let (_, first) = start(&mut world, Create { body: "!".into(), ..fork("b", "a") });
    let (_, second) = start(&mut world, Create { body: "?".into(), ..fork("b", "a") });
    let (_, third) = start(&mut world, fork_at("b", "a", 2, 0));
    world.flights = vec![second, first, third];
    world.settle();
    let mut outcomes: Vec<_> = world.finished.values().cloned().collect();
    let exists = Err(Error::StreamExists { tail: Offset(11), closed: false });
    assert_eq!(outcomes.pop(), Some(exists));
    assert_eq!(outcomes, [created(false, 11), created(true, 11)]);
    assert_eq!(world.read("b").as_deref(), Ok("0123456789?"));
    // Only the one that exists holds a reference.
    world.run(delete("a")).expect("deleted");
    world.run(delete("b")).expect("deleted");
    world.settle();
    assert_eq!(streams(&world), [0, 0]);
}

#[test]
fn the_bucket_goes_while_the_source_is_asked() {
    let mut world = world();
    world.run(Op::CreateBucket(bucket("bucket"), Ack::Quorum)).expect("created");
    let (answer, request) = start(&mut world, fork("bucket:b", "a"));
    world.run(Op::DeleteBucket(bucket("bucket"))).expect("deleted");
    world.flights = vec![request];
    world.settle();
    let Answer::Pending(saga) = answer else { panic!("it waits") };
    assert_eq!(world.finished[&(GroupId(2), saga)], Err(Error::BucketNotFound));
    world.run(delete("a")).expect("deleted");
    assert_eq!(streams(&world), [0, 0]);
}

#[test]
fn repeated_messages_change_nothing() {
    let mut world = world();
    let (_, request) = start(&mut world, Create { body: "!".into(), ..fork("b", "a") });
    world.deliver(request.clone());
    world.run(append("a", "more")).expect("appended");
    world.deliver(request.clone());
    let [first, second] = &world.flights[..] else { panic!("two answers") };
    assert!(matches!((first, second), (Flight::Reply { step: a, .. }, Flight::Reply { step: b, .. }) if a == b));
    world.settle();
    assert_eq!(world.read("b").as_deref(), Ok("0123456789!"));
    world.run(delete("b")).expect("deleted");
    let release = world.flights[0].clone();
    world.settle();
    // Held up all the time: the request is refused now, so that the reference does not stay for ever.
    world.deliver(request);
    world.deliver(release);
    world.settle();
    world.run(delete("a")).expect("deleted");
    assert_eq!(streams(&world), [0, 0]);
}

#[test]
fn a_copy_of_a_refused_request_is_not_granted_later() {
    let mut world = World::new();
    let (_, request) = start(&mut world, fork("b", "a"));
    world.deliver(request.clone());
    world.run(create("a")).expect("created");
    // Granted while the refusal is on its way: the reference comes back with the failed fork's release.
    world.deliver(request.clone());
    world.settle();
    assert!(world.finished.values().eq([&Err(Error::ForkSourceNotFound)]));
    world.deliver(request);
    world.settle();
    world.run(delete("a")).expect("deleted");
    assert_eq!(streams(&world), [0, 0]);
}

#[test]
fn an_undecided_answer_leaves_the_message_in_the_outbox() {
    let mut world = world();
    let (answer, request) = start(&mut world, fork("b", "a"));
    let Answer::Pending(saga) = answer else { panic!("it waits") };
    let Flight::Request { message, .. } = request else { panic!("a request") };
    assert_eq!(message.to, Destination::Stream(key("a")));
    for error in [Error::NOT_HERE, Error::Overloaded, Error::Unavailable, Error::OutcomeUnknown] {
        let step = ursula_common::verb::SagaStep { saga, message: 0, outcome: Err(error) };
        world.deliver(Flight::Reply { to: GroupId(2), step });
        assert!(world.effects.is_empty());
        assert!(world.state(GroupId(2)).outbox().eq([message.clone()]));
    }
    world.flights = vec![Flight::Request { from: GroupId(2), message }];
    world.settle();
    assert_eq!(world.finished[&(GroupId(2), saga)], created(true, 10));
    assert_eq!(world.state(GroupId(2)).outbox().count(), 0);
}

#[test]
fn so_many_forks_may_wait() {
    let mut state = State::new(GroupId(2), 2);
    let mut ask = |name: String, body: Vec<u8>| {
        let op = Op::Create(Create { body: body.into(), ..fork(&name, "a") });
        state.apply(Command { at: START, origin: None, op }, &mut Vec::new())
    };
    let big = || vec![0; 16 << 20];
    assert!(matches!(ask("b1".into(), big()), Answer::Pending(_)));
    assert!(matches!(ask("b2".into(), big()), Answer::Pending(_)));
    assert_eq!(ask("b3".into(), vec![0]), Answer::Done(Err(Error::Overloaded)), "by bytes");
    for n in 2..4096 {
        assert!(matches!(ask(format!("b{n}"), Vec::new()), Answer::Pending(_)));
    }
    assert_eq!(ask("b".into(), Vec::new()), Answer::Done(Err(Error::Overloaded)), "by number");
}
