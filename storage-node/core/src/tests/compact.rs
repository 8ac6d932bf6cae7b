//! Objects in the place of others, what becomes of these, and what of streams an object must keep.

use std::collections::BTreeSet;

use bytes::Bytes;
use ursula_common::packs::PackRef;
use ursula_common::verb::{MergePacks, Op, Reply};
use ursula_common::{Error, GroupId, Offset, StreamId, StreamKey};

use super::world::*;
use crate::{Answer, State, merge_records};

const GROUP: GroupId = GroupId(1);
const DONE: Answer = Answer::Done(Ok(Reply::Done));
const REFUSED: Answer = Answer::Done(Err(Error::Malformed));

fn object(first: u64, last: u64) -> PackRef {
    PackRef { first, last, maker: 1000 * first + last, bytes: 1000, hash: [1; 32] }
}

/// Packs what waits; returns the records.
fn pack(world: &mut World) -> Bytes {
    let plan = world.state(GROUP).plan_pack(1 << 20, 100).expect("something waits");
    let ends: Vec<Offset> = plan.streams.iter().map(|planned| planned.end).collect();
    let commit = plan.commit(object(plan.pack, plan.pack), &ends);
    assert_eq!(world.apply(GROUP, Op::CommitPack(Box::new(commit)), None), DONE);
    plan.records.into()
}

/// Packs have begun, and each of these was packed alone; with the records of the packs.
fn packed(names: &[&str]) -> (World, Vec<Bytes>) {
    let mut world = World::new();
    assert_eq!(world.apply(GROUP, Op::BeginPacks, None), DONE);
    let mut records = Vec::new();
    for name in names {
        world.run(create(name)).expect("created");
        world.run(append(name, "hello")).expect("appended");
        records.push(pack(&mut world));
    }
    (world, records)
}

fn merge(world: &mut World, replaced: &[PackRef], object: PackRef) -> Answer {
    world.apply(GROUP, Op::MergePacks(Box::new(MergePacks { replaced: replaced.to_vec(), object })), None)
}

fn objects(world: &World) -> Vec<(u64, u64)> {
    let packs = world.state(GROUP).catalogue().expect("packs have begun");
    packs.iter().map(|object| (object.first, object.last)).collect()
}

fn replaced(world: &World) -> Vec<(u64, u64)> {
    world.state(GROUP).replaced().map(|known| (known.object.last, known.newest)).collect()
}

fn again(world: &World) -> State {
    State::decode(world.state(GROUP).encode().into()).expect("a snapshot")
}

#[test]
fn what_is_replaced_is_known_until_it_is_gone() {
    let (mut world, _) = packed(&["a1", "a2", "a3", "a4"]);
    let two = [object(1, 1), object(2, 2)];
    assert_eq!(merge(&mut world, &two, object(1, 2)), DONE);
    assert_eq!((objects(&world), replaced(&world)), (vec![(1, 2), (3, 3), (4, 4)], vec![(1, 4), (2, 4)]));
    assert!(world.state(GROUP).packing().expect("begun").due, "a pack follows");
    let before = world.state(GROUP).encode();
    assert_eq!(merge(&mut world, &two, object(1, 2)), REFUSED);
    assert_eq!(merge(&mut world, &[object(3, 3), object(4, 4)], object(3, 4)), REFUSED, "the newest stays");
    assert!(world.state(GROUP).encode() == before && again(&world).encode() == before);
    pack(&mut world);
    world.pass(1.0);
    assert_eq!(merge(&mut world, &[object(1, 2), object(3, 3)], object(1, 3)), DONE);
    assert_eq!(replaced(&world), [(1, 4), (2, 4), (2, 5), (3, 5)]);
    let at: Vec<_> = world.state(GROUP).replaced().map(|known| known.at.0 - START.0).collect();
    assert_eq!(at, [0, 0, 1000, 1000]);
    for _ in 0..2 {
        assert_eq!(world.apply(GROUP, Op::SweepPacks(vec![object(2, 2), object(3, 3)]), None), DONE);
        assert_eq!(replaced(&world), [(1, 4), (2, 5)]);
    }
    assert_eq!(again(&world).replaced().collect::<Vec<_>>(), world.state(GROUP).replaced().collect::<Vec<_>>());
}

#[test]
fn nothing_is_replaced_before_packs_have_begun() {
    let mut world = World::new();
    assert_eq!(merge(&mut world, &[object(1, 1)], object(1, 1)), REFUSED);
    assert_eq!(world.apply(GROUP, Op::SweepPacks(vec![object(1, 1)]), None), REFUSED);
}

fn kept(world: &World) -> Vec<(u64, u64)> {
    let (mut all, mut after): (Vec<_>, Option<StreamKey>) = (Vec::new(), None);
    loop {
        let (page, next) = world.state(GROUP).kept(after.as_ref(), 2);
        assert!(page.len() <= 2);
        all.extend(page.iter().map(|(stream, from)| (stream.0, from.0)));
        after = next;
        if after.is_none() {
            return all;
        }
    }
}

#[test]
fn what_packs_must_keep_is_what_their_records_need() {
    let (mut world, _) = packed(&["a1", "a2", "a3", "a4", "a5"]);
    assert_eq!(kept(&world), [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]);
    world.run(trim("a2", 5)).expect("trimmed");
    assert_eq!(kept(&world)[1], (2, 0), "packs still say that it begins at 0");
    world.run(append("a2", "more")).expect("appended");
    pack(&mut world);
    assert_eq!(kept(&world)[1], (2, 5));
    assert_eq!(again(&world).encode(), world.state(GROUP).encode());
    world.run(Op::Delete(key("a3"))).expect("deleted");
    assert_eq!(kept(&world).iter().map(|(stream, _)| *stream).collect::<Vec<_>>(), [1, 2, 4, 5]);
    assert_eq!(world.state(GROUP).untold().collect::<Vec<_>>(), [StreamId(3)], "packs have its record");
    pack(&mut world);
    assert_eq!(world.state(GROUP).untold().count(), 0);
}

/// Streams and removed streams in records.
fn said(records: Vec<u8>) -> (Vec<(String, u64, u64)>, Vec<u64>) {
    let state = State::decode(records.into()).expect("records of a pack");
    let streams = state.all_streams().map(|(key, stream)| (key.name.to_string(), stream.id.0, stream.tail.0)).collect();
    (streams, state.untold().map(|stream| stream.0).collect())
}

#[test]
fn of_each_stream_the_newest_record_is_kept() {
    let (mut world, mut records) = packed(&["a1", "a2", "a3"]);
    world.run(append("a1", "!!")).expect("appended");
    world.run(Op::Delete(key("a3"))).expect("deleted");
    records.push(pack(&mut world));
    // The name is taken again.
    world.run(create("a3")).expect("created");
    records.push(pack(&mut world));
    let all = |_| true;
    let (a1, a2) = (("a1".to_owned(), 1, 7), ("a2".to_owned(), 2, 5));
    let a3 = ("a3".to_owned(), 4, world.info("a3").expect("it is there").tail.0);
    let merged = |records: &[Bytes], before| said(merge_records(records.to_vec(), all, before).expect("records"));
    assert_eq!(merged(&records, false), (vec![a1.clone(), a2.clone(), a3.clone()], vec![]));
    assert_eq!(merged(&records, true).1, [3], "an object before may have it");
    assert_eq!(merged(&records[..4], false), (vec![a1, a2], vec![]));
    assert_eq!(merged(&records[2..3], true).0[0].1, 3);
    let gone = BTreeSet::from([StreamId(2)]);
    let some = merge_records(records.clone(), |stream| !gone.contains(&stream), true).expect("records");
    assert_eq!(said(some).0.iter().map(|(_, stream, _)| *stream).collect::<Vec<_>>(), [1, 4]);
    assert_eq!(merge_records(records[4..].to_vec(), all, true).expect("records"), records[4], "of one it is the same");
    assert!(merge_records(vec![], all, true).is_err());
    assert!(merge_records(vec![records[0].clone(), Bytes::from_static(b"no")], all, true).is_err());
}
