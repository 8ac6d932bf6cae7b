//! Buckets: the meta group and the others, and steps that come late.

use ursula_common::verb::{Ack, BucketStep, Create, Lifetime, Op, Reply, SagaStep};
use ursula_common::{Error, GroupId};

use super::world::*;
use crate::{Answer, Destination, State};

const THERE: [Result<Ack, Error>; 3] = [const { Ok(Ack::Quorum) }; 3];
const NOWHERE: [Result<Ack, Error>; 3] = [const { Err(Error::BucketNotFound) }; 3];

fn new() -> Op {
    Op::CreateBucket(bucket("bucket"), Ack::Quorum)
}

fn gone() -> Op {
    Op::DeleteBucket(bucket("bucket"))
}

fn known(world: &World) -> [Result<Ack, Error>; 3] {
    [0, 1, 2].map(|group| world.state(GroupId(group)).bucket(&bucket("bucket")))
}

#[test]
fn a_bucket_comes_and_goes_everywhere() {
    let mut world = World::new();
    assert_eq!(known(&world), NOWHERE);
    assert_eq!(world.run(new()), Ok(Reply::Bucket(true)));
    assert_eq!(known(&world), THERE);
    assert_eq!(world.run(new()), Ok(Reply::Bucket(false)));
    assert_eq!(world.run(create("bucket:a")), created(true, 0));
    assert_eq!(world.run(delete("bucket:a")), Ok(Reply::Done));
    assert_eq!(world.run(gone()), Ok(Reply::Done));
    assert_eq!(known(&world), NOWHERE);
    assert_eq!(world.run(gone()), Err(Error::BucketNotFound));
    assert_eq!(world.run(create("bucket:a")), Err(Error::BucketNotFound));
    assert_eq!(world.run(new()), Ok(Reply::Bucket(true)));
}

#[test]
fn the_default_bucket_stays() {
    let mut world = World::new();
    assert_eq!(world.run(Op::CreateBucket(bucket("default"), Ack::Quorum)), Ok(Reply::Bucket(false)));
    assert_eq!(world.run(Op::DeleteBucket(bucket("default"))), Err(Error::BucketProtected));
    let step = BucketStep { bucket: bucket("default"), order: 9, ack: Ack::Quorum };
    assert_eq!(world.apply(GroupId(1), Op::DropBucket(step), None), Answer::Done(Err(Error::BucketProtected)));
}

#[test]
fn a_bucket_is_busy_until_every_group_has_answered() {
    let mut world = World::new();
    assert!(matches!(world.apply(GroupId::META, new(), None), Answer::Pending(_)));
    assert_eq!(known(&world)[0], Err(Error::BucketBusy));
    for op in [new(), gone()] {
        assert_eq!(world.apply(GroupId::META, op, None), Answer::Done(Err(Error::BucketBusy)));
    }
    let [first, second] = &world.flights[..] else { panic!("one message for each group") };
    let (first, second) = (first.clone(), second.clone());
    world.flights.clear();
    world.deliver(first);
    world.settle();
    let waiting: Vec<_> = world.state(GroupId::META).outbox().map(|message| message.to).collect();
    assert_eq!(waiting, [Destination::Group(GroupId(2))]);
    assert_eq!(known(&world), [Err(Error::BucketBusy), Ok(Ack::Quorum), Err(Error::BucketNotFound)]);
    world.deliver(second);
    world.settle();
    assert_eq!(known(&world), THERE);
}

#[test]
fn a_bucket_with_streams_comes_back_everywhere() {
    for holder in ["bucket:a", "bucket:b"] {
        let mut world = World::new();
        world.run(new()).expect("created");
        world.run(create(holder)).expect("created");
        assert_eq!(world.run(gone()), Err(Error::BucketNotEmpty));
        assert_eq!(known(&world), THERE);
        assert_eq!(world.state(GroupId::META).outbox().count(), 0);
        world.run(delete(holder)).expect("deleted");
        assert_eq!(world.run(gone()), Ok(Reply::Done));
    }
}

#[test]
fn hidden_streams_count_and_expired_ones_do_not() {
    let mut world = World::new();
    world.run(new()).expect("created");
    for n in 0..3 {
        world.run(Create { lifetime: Lifetime::Ttl(1), ..create(&format!("bucket:a{n}")) }).expect("created");
    }
    world.run(Create { lifetime: Lifetime::Ttl(9), ..fork("b", "bucket:a0") }).expect("forked");
    world.pass(1.0);
    assert_eq!(world.run(gone()), Err(Error::BucketNotEmpty));
    assert_eq!(world.state(GroupId(1)).stats().streams, 1, "the others have expired");
    world.run(delete("b")).expect("deleted");
    world.settle();
    assert_eq!(world.run(gone()), Ok(Reply::Done));
}

#[test]
fn many_expired_streams_take_more_than_one_command() {
    let mut world = World::new();
    world.run(new()).expect("created");
    for n in 0..=crate::expire::EXPIRE_STREAMS_MAX {
        world.run(Create { lifetime: Lifetime::Ttl(1), ..create(&format!("bucket:a{n}")) }).expect("created");
    }
    world.pass(1.0);
    assert!(matches!(world.apply(GroupId::META, gone(), None), Answer::Pending(_)));
    world.settle();
    let outbox: Vec<_> = world.state(GroupId::META).outbox().collect();
    assert_eq!(outbox.len(), 1, "group 1 asks for patience");
    world.flights = outbox.into_iter().map(|message| Flight::Request { from: GroupId::META, message }).collect();
    world.settle();
    assert_eq!(known(&world), NOWHERE);
}

#[test]
fn steps_that_were_held_up_change_nothing() {
    let mut world = World::new();
    world.apply(GroupId::META, new(), None);
    let installs = world.flights.clone();
    world.settle();
    world.apply(GroupId::META, gone(), None);
    let drops = world.flights.clone();
    world.settle();
    for flight in installs.clone() {
        world.deliver(flight);
    }
    assert_eq!(known(&world), NOWHERE, "an old install after the drop");
    world.run(new()).expect("created");
    for flight in drops.into_iter().chain(installs) {
        world.deliver(flight);
    }
    world.settle();
    assert_eq!(known(&world), THERE, "an old drop after the next install");
}

#[test]
fn a_held_up_drop_does_not_undo_a_restore() {
    let mut world = World::new();
    world.run(new()).expect("created");
    world.run(create("bucket:a")).expect("created");
    world.apply(GroupId::META, gone(), None);
    let drops = world.flights.clone();
    world.settle();
    assert_eq!(known(&world), THERE);
    world.run(delete("bucket:a")).expect("deleted");
    for flight in drops {
        world.deliver(flight);
    }
    world.settle();
    assert_eq!(known(&world), THERE);
}

#[test]
fn an_answer_that_does_not_fit_is_not_counted() {
    let mut world = World::new();
    let Answer::Pending(saga) = world.apply(GroupId::META, new(), None) else { panic!("it waits") };
    world.flights.clear();
    let numbers: Vec<_> = world.state(GroupId::META).outbox().map(|message| message.message).collect();
    let mut say = |message, outcome| {
        world.apply(GroupId::META, Op::SagaStep(SagaStep { saga, message, outcome }), None);
        world.state(GroupId::META).outbox().count()
    };
    assert_eq!(say(numbers[0] + 1, Ok(Reply::Done)), 2);
    assert_eq!(say(u32::MAX, Ok(Reply::Done)), 2);
    assert_eq!(say(numbers[0], Err(Error::Malformed)), 2, "a bucket is nowhere or everywhere");
    assert_eq!(say(numbers[0], Ok(Reply::Done)), 1);
    assert_eq!(say(numbers[0], Ok(Reply::Done)), 1);
    assert_eq!(say(numbers[1], Ok(Reply::Done)), 0);
    assert_eq!(known(&world)[0], Ok(Ack::Quorum));
}

#[test]
fn every_op_has_its_group() {
    let mut meta = State::new(GroupId::META, 1);
    let mut data = State::new(GroupId(1), 1);
    let apply = |state: &mut State, op| state.apply(crate::Command { at: START, origin: None, op }, &mut Vec::new());
    let malformed = Answer::Done(Err(Error::Malformed));
    for op in [new(), gone()] {
        assert_eq!(apply(&mut data, op), malformed);
    }
    let step = BucketStep { bucket: bucket("bucket"), order: 1, ack: Ack::Quorum };
    let wrong = [create("a").op(), append("a", "x").op(), delete("a"), touch("a"), Op::InstallBucket(step)];
    for op in wrong {
        assert_eq!(apply(&mut meta, op), malformed);
    }
}

#[test]
fn a_bucket_whose_ops_wait_for_packs_lets_them_begin_and_keeps_that() {
    let mut world = World::new();
    let ours = |ack| Op::CreateBucket(bucket("bucket"), ack);
    assert_eq!(world.run(ours(Ack::Offloaded)), Err(Error::StoreAway), "the store has not answered yet");
    assert_eq!(known(&world), NOWHERE);
    world.apply(GroupId::META, Op::BeginPacks, None);
    assert_eq!(world.run(ours(Ack::Offloaded)), Ok(Reply::Bucket(true)));
    assert_eq!(world.run(ours(Ack::Offloaded)), Ok(Reply::Bucket(false)));
    assert_eq!(world.run(ours(Ack::Quorum)), Err(Error::BucketExists));
    assert_eq!(world.run(Op::CreateBucket(bucket("default"), Ack::Offloaded)), Err(Error::BucketExists));
    let everywhere: [Result<Ack, Error>; 3] = [const { Ok(Ack::Offloaded) }; 3];
    assert_eq!(known(&world), everywhere);
    assert!([1, 2].iter().all(|group| world.state(GroupId(*group)).packing().is_some()));

    // Some groups have dropped it before another one refused.
    world.run(create("bucket:b")).expect("created");
    assert_eq!(world.run(gone()), Err(Error::BucketNotEmpty));
    assert_eq!(known(&world), everywhere);
    // A step that was held up changes nothing.
    let late = BucketStep { bucket: bucket("bucket"), order: 0, ack: Ack::Quorum };
    world.apply(GroupId(1), Op::InstallBucket(late), None);
    assert_eq!(known(&world), everywhere);
}
