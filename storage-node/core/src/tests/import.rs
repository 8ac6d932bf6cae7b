//! Streams of one cluster in another: as they were, all or none, and nobody sees half of them.

use bytes::Bytes;
use ursula_common::packs::PackRef;
use ursula_common::verb::{Append, EndImport, Import, ImportRun, Lifetime, Op, Producer, Reply};
use ursula_common::{Error, GroupId, Offset, StreamId};

use super::world::*;
use crate::{Answer, Images, State, StreamImage, encode_images};

const GROUP: GroupId = GroupId(1);
const DONE: Answer = Answer::Done(Ok(Reply::Done));
const MALFORMED: Answer = Answer::Done(Err(Error::Malformed));
const RUN: ImportRun = ImportRun { import: 5, attempt: 1 };

fn object(number: u64) -> PackRef {
    PackRef { first: number, last: number, maker: 9, bytes: 1000, hash: [1; 32] }
}

fn by(name: &str, body: &'static str, seq: u64) -> Append {
    Append { producer: Some(Producer { id: "p".into(), epoch: 3, seq }), ..append(name, body) }
}

/// What packs know of a group with a stream of each kind.
fn images() -> Vec<StreamImage> {
    let mut world = World::new();
    world.apply(GROUP, Op::BeginPacks, None);
    world.run(create("a-gone")).expect("created");
    world.run(Op::Delete(key("a-gone"))).expect("deleted");
    world.run(create("a-empty")).expect("created");
    world.run(create("a-long")).expect("created");
    world.run(by("a-long", "hello", 0)).expect("appended");
    world.run(by("a-long", "you", 1)).expect("appended");
    world.run(create("a-closed")).expect("created");
    world.run(Append { close: true, ..append("a-closed", "end") }).expect("closed");
    let ttl = ursula_common::verb::Create { lifetime: Lifetime::Ttl(60), ..create("a-ttl") };
    world.run(ttl).expect("created");
    let plan = world.state(GROUP).plan_pack(1 << 20, 100).expect("something waits");
    Images::decode(plan.records.into()).expect("records").streams
}

/// The same under new ids, in packs from this one on.
fn placed(pack: u64) -> Vec<StreamImage> {
    let mut images = images();
    for (number, image) in images.iter_mut().enumerate() {
        let pack = if image.cold().is_some() { pack } else { 0 };
        image.place(StreamId(100 + number as u64), pack);
    }
    images
}

fn more(images: &[StreamImage], packs: Vec<PackRef>, run: ImportRun) -> Op {
    let records = encode_images(GROUP, 2, StreamId(200), images).into();
    Op::Import(Box::new(Import { run, packs, records }))
}

fn end(streams: u64) -> Op {
    Op::EndImport(EndImport { run: RUN, streams, next_stream: StreamId(500) })
}

fn apply(world: &mut World, op: Op) -> Answer {
    let answer = world.apply(GROUP, op, None);
    let state = world.state(GROUP);
    let bytes = state.encode();
    let back = State::decode(bytes.clone().into()).expect("a snapshot");
    assert_eq!(back.encode(), bytes, "it comes back as it was");
    answer
}

/// A world whose group 1 has an import of two packs under way.
fn begun() -> World {
    let mut world = World::new();
    assert_eq!(apply(&mut world, Op::BeginImport(RUN)), Answer::Done(Ok(Reply::ImportBegun(None))));
    assert_eq!(apply(&mut world, more(&placed(2), vec![object(1), object(2)], RUN)), DONE);
    world
}

#[test]
fn streams_are_there_as_they_were() {
    let mut world = begun();
    let count = images().len() as u64;
    assert_eq!(apply(&mut world, end(count)), DONE);
    for image in images() {
        let info = world.state(GROUP).info(image.key(), world.now).expect("it is there");
        assert!(info.id.0 >= 100 && info.tail == image.tail() && info.earliest == image.start());
        assert_eq!(info.cold.map(|cold| (cold.end, cold.pack)), image.cold().map(|cold| (cold.end, 2)));
    }
    let again = world.run(by("a-long", "you", 1));
    assert!(matches!(again, Ok(Reply::Appended(appended)) if appended.duplicate && appended.tail == Offset(8)));
    let next = world.run(by("a-long", "more", 2));
    assert!(matches!(next, Ok(Reply::Appended(appended)) if !appended.duplicate && appended.tail == Offset(12)));
    assert!(matches!(world.run(append("a-closed", "x")), Err(Error::StreamClosed { tail: Offset(3) })));
    assert_eq!(world.state(GROUP).packing().map(|packing| packing.next), Some(3), "its packs go on");
    world.run(ursula_common::verb::Create { numbered: true, ..create("a-new") }).expect("created");
    let new = world.state(GROUP).info(&key("a-new"), world.now).expect("it is there");
    assert!(new.id.0 >= 500 && new.tail.first() > Offset::ZERO, "nobody has an offset of it from before");
}

#[test]
fn a_sliding_time_to_live_begins_anew() {
    let mut world = World::new();
    world.pass(1000.0);
    assert!(matches!(apply(&mut world, Op::BeginImport(RUN)), Answer::Done(Ok(Reply::ImportBegun(None)))));
    let placed = placed(1);
    assert_eq!(apply(&mut world, more(&placed, vec![object(1)], RUN)), DONE);
    assert_eq!(apply(&mut world, end(placed.len() as u64)), DONE);
    world.pass(59.0);
    assert!(world.state(GROUP).info(&key("a-ttl"), world.now).is_ok());
    world.pass(2.0);
    assert_eq!(world.state(GROUP).info(&key("a-ttl"), world.now), Err(Error::StreamNotFound));
}

#[test]
fn nobody_is_served_meanwhile() {
    let mut world = begun();
    assert_eq!(world.run(create("a-new")), Err(Error::Restoring));
    assert_eq!(world.run(append("a-long", "x")), Err(Error::Restoring));
    assert_eq!(world.run(Op::Delete(key("a-long"))), Err(Error::Restoring));
    assert_eq!(apply(&mut world, Op::Expire), Answer::Done(Err(Error::Restoring)));
    let state = world.state(GROUP);
    assert_eq!(state.info(&key("a-long"), world.now), Err(Error::Restoring));
    assert_eq!(state.inherited(&key("a-long"), StreamId(100)), Err(Error::Restoring));
    let bucket = key("a-long").bucket;
    assert_eq!(state.list(&bucket, "", "", 10, world.now), Err(Error::Restoring));
    assert_eq!(state.plan_pack(1 << 20, 100), None, "nor is a pack made of half of it");
    assert_eq!(state.catalogue().map(|packs| packs.next()), Some(1), "packs count from the end on");
}

#[test]
fn the_same_again_changes_nothing() {
    let mut world = begun();
    let before = world.state(GROUP).encode();
    assert_eq!(apply(&mut world, more(&placed(2), vec![object(1), object(2)], RUN)), DONE);
    assert_eq!(world.state(GROUP).encode(), before);
    let count = images().len() as u64;
    assert_eq!(apply(&mut world, end(count)), DONE);
    let before = world.state(GROUP).encode();
    for op in [end(count), Op::BeginImport(RUN), Op::BeginImport(ImportRun { attempt: 2, ..RUN })] {
        assert_eq!(apply(&mut world, op), DONE);
        assert_eq!(world.state(GROUP).encode(), before);
    }
}

#[test]
fn another_attempt_begins_anew_and_ends_the_one_before() {
    let mut world = begun();
    let second = ImportRun { attempt: 2, ..RUN };
    assert_eq!(apply(&mut world, Op::BeginImport(second)), Answer::Done(Ok(Reply::ImportBegun(None))));
    assert_eq!(world.state(GROUP).stats().streams, 0);
    let refused = |answer| matches!(answer, Answer::Done(Err(Error::ClusterRefused { .. })));
    assert!(refused(apply(&mut world, more(&placed(2), vec![object(1), object(2)], RUN))));
    assert!(refused(apply(&mut world, end(0))));
    assert_eq!(apply(&mut world, more(&placed(1), vec![object(1)], second)), DONE);
    let end = EndImport { run: second, streams: images().len() as u64, next_stream: StreamId(500) };
    assert_eq!(apply(&mut world, Op::EndImport(end)), DONE);
    assert!(refused(apply(&mut world, Op::BeginImport(ImportRun { import: 6, attempt: 3 }))), "it has streams now");
}

#[test]
fn a_group_that_had_streams_is_left_alone() {
    let mut world = World::new();
    world.run(create("a")).expect("created");
    world.run(Op::Delete(key("a"))).expect("deleted");
    let before = world.state(GROUP).encode();
    assert!(matches!(apply(&mut world, Op::BeginImport(RUN)), Answer::Done(Err(Error::ClusterRefused { .. }))));
    assert!(matches!(apply(&mut world, end(0)), Answer::Done(Err(Error::ClusterRefused { .. }))));
    assert_eq!(world.state(GROUP).encode(), before);
    let meta = world.apply(GroupId::META, Op::BeginImport(RUN), None);
    assert_eq!(meta, MALFORMED, "the meta group has no streams");
}

#[test]
fn what_does_not_fit_is_refused_whole() {
    let mut world = begun();
    let before = world.state(GROUP).encode();
    let mut taken = placed(2);
    taken[0].place(StreamId(102), 0);
    let beyond = placed(3);
    let mut free = placed(2);
    free.iter_mut().enumerate().for_each(|(number, image)| image.place(StreamId(300 + number as u64), 2));
    let wrong = [
        more(&taken, vec![], RUN),
        more(&beyond, vec![], RUN),
        more(&free, vec![], RUN),
        more(&[], vec![object(4)], RUN),
        Op::Import(Box::new(Import { run: RUN, packs: vec![], records: Bytes::from_static(b"noise") })),
        end(1),
    ];
    for (place, op) in wrong.into_iter().enumerate() {
        assert_eq!(apply(&mut world, op), MALFORMED, "{place}");
        assert_eq!(world.state(GROUP).encode(), before, "{place}");
    }
}

#[test]
fn packs_follow_those_that_the_group_has() {
    let mut world = World::new();
    world.apply(GROUP, Op::BeginPacks, None);
    let plan = world.state(GROUP).plan_pack(1 << 20, 100).expect("the group itself");
    assert_eq!(world.apply(GROUP, Op::CommitPack(Box::new(plan.commit(object(1), &[]))), None), DONE);
    let begun = apply(&mut world, Op::BeginImport(RUN));
    assert_eq!(begun, Answer::Done(Ok(Reply::ImportBegun(Some(object(1))))));
    assert_eq!(apply(&mut world, more(&placed(2), vec![object(2)], RUN)), DONE);
    assert_eq!(apply(&mut world, end(images().len() as u64)), DONE);
    assert_eq!(world.state(GROUP).packing().map(|packing| packing.next), Some(3));
}

#[test]
fn the_source_of_a_fork_that_was_trimmed_is_taken_in() {
    let mut world = World::new();
    world.apply(GROUP, Op::BeginPacks, None);
    world.run(create("a")).expect("created");
    world.run(append("a", "inherited")).expect("appended");
    world.run(fork("a-fork", "a")).expect("forked");
    world.run(append("a-fork", "own")).expect("appended");
    world.run(trim("a-fork", 11)).expect("trimmed");
    let plan = world.state(GROUP).plan_pack(1 << 20, 100).expect("something waits");
    let old = Images::decode(plan.records.into()).expect("records").streams;
    let mut new = old.clone();
    for (number, image) in new.iter_mut().enumerate() {
        image.place(StreamId(100 + number as u64), 1);
    }
    new[0].set_forks([(StreamId(101), &old[1])].into_iter());
    new[1].set_source(StreamId(100));
    let mut world = World::new();
    assert!(matches!(apply(&mut world, Op::BeginImport(RUN)), Answer::Done(Ok(Reply::ImportBegun(None)))));
    assert_eq!(apply(&mut world, more(&new, vec![object(1)], RUN)), DONE);
    assert_eq!(apply(&mut world, end(2)), DONE);
}
