//! Snapshots once packs have begun: what a restore would need waits for them.

use ursula_common::packs::PackRef;

use super::*;
use crate::{PackPlan, State};

const DONE: Answer = Answer::Done(Ok(Reply::Done));

/// A stream of three records that is kept from its snapshot on, in packs.
fn begun() -> World {
    let mut world = World::new();
    let retention = Retention { snapshot: true, ..Retention::default() };
    world.run(Create { retention, ..create("a") }).expect("created");
    for body in ["one.", "two.", "six."] {
        world.run(append("a", body)).expect("appended");
    }
    world.run(Op::BeginPacks).expect("begun");
    pack(&mut world, 100);
    world
}

fn plan(world: &World, streams: usize) -> PackPlan {
    world.state(GROUP).plan_pack(1 << 20, streams).expect("something waits")
}

fn commit(world: &mut World, plan: &PackPlan) {
    let pack = PackRef { first: plan.pack, last: plan.pack, maker: 1, bytes: 1, hash: [0; 32] };
    let ends: Vec<_> = plan.streams.iter().map(|planned| planned.end).collect();
    assert_eq!(world.apply(GROUP, Op::CommitPack(Box::new(plan.commit(pack, &ends))), None), DONE);
}

/// Packs so many of the streams that wait, and names them.
fn pack(world: &mut World, streams: usize) -> Vec<String> {
    let plan = plan(world, streams);
    commit(world, &plan);
    plan.streams.iter().map(|planned| planned.key.name.to_string()).collect()
}

fn published_at(world: &mut World, at: u64, number: u64) {
    world.run(upload("a", number, "x")).expect("uploaded");
    assert_eq!(world.run(publish("a", at, number, 1)), published(true, at));
}

fn earliest(world: &World) -> u64 {
    world.info("a").expect("it is there").earliest.0
}

fn due(world: &World) -> bool {
    world.state(GROUP).packing().expect("begun").due
}

#[test]
fn a_stream_begins_at_its_snapshot_once_packs_have_all_of_it() {
    let mut world = begun();
    published_at(&mut world, 4, 1);
    assert_eq!((newest(&world, "a"), earliest(&world)), (Some((4, 1)), 0), "readers have it at once");
    assert_eq!(pack(&mut world, 1), ["a//0000000000000001"]);
    assert_eq!(earliest(&world), 0, "no record of the stream names it");
    assert_eq!(pack(&mut world, 1), ["a"]);
    assert_eq!(world.effects, [Effect::Trimmed { stream: StreamId(1), to: Offset(4) }]);
    assert_eq!(earliest(&world), 4);
    // Packs hear of that as well.
    assert_eq!(pack(&mut world, 1), ["a"]);
    assert!(!due(&world));
}

/// A stream that waited before its upload did is recorded before it.
#[test]
fn a_record_alone_is_not_enough() {
    let mut world = begun();
    world.run(append("a", "last")).expect("appended");
    published_at(&mut world, 4, 1);
    assert_eq!(pack(&mut world, 1), ["a"]);
    assert_eq!((earliest(&world), due(&world)), (0, true));
    assert_eq!(pack(&mut world, 1), ["a//0000000000000001"]);
    assert_eq!(earliest(&world), 4);
}

#[test]
fn the_one_before_stays_until_packs_have_the_newer_one() {
    let mut world = begun();
    published_at(&mut world, 4, 1);
    while due(&world) {
        pack(&mut world, 100);
    }
    // The upload is in packs before it is published, and again after that.
    world.run(upload("a", 2, "x")).expect("uploaded");
    assert_eq!(pack(&mut world, 100), ["a//0000000000000002"]);
    world.run(publish("a", 8, 2, 1)).expect("published");
    assert_eq!((newest(&world, "a"), uploads(&world, "a")), (Some((8, 2)), vec![1, 2]));
    assert_eq!(pack(&mut world, 1), ["a//0000000000000002"]);
    assert_eq!((uploads(&world, "a"), earliest(&world)), (vec![1, 2], 4));
    let late = plan(&world, 1);
    world.run(append("a", "more")).expect("appended");
    commit(&mut world, &late);
    assert_eq!((uploads(&world, "a"), earliest(&world)), (vec![2], 8), "it changed meanwhile, but packs have the name");
    assert_eq!(world.effects.len(), 2, "{:?}", world.effects);
    while due(&world) {
        pack(&mut world, 100);
    }
}

/// What the pack has was written before.
#[test]
fn a_record_that_was_planned_before_does_not_count() {
    let mut world = begun();
    published_at(&mut world, 4, 1);
    while due(&world) {
        pack(&mut world, 100);
    }
    world.run(append("a", "last")).expect("appended");
    world.run(upload("a", 2, "x")).expect("uploaded");
    let late = plan(&world, 1);
    world.run(publish("a", 8, 2, 1)).expect("published");
    commit(&mut world, &late);
    assert_eq!(pack(&mut world, 1), ["a//0000000000000002"]);
    assert_eq!((uploads(&world, "a"), earliest(&world)), (vec![1, 2], 4));
    assert_eq!(pack(&mut world, 1), ["a"]);
    assert_eq!((uploads(&world, "a"), earliest(&world)), (vec![2], 8));
}

#[test]
fn however_many_are_published_meanwhile_few_are_kept_and_packs_keep_up() {
    let mut world = begun();
    published_at(&mut world, 0, 1);
    while due(&world) {
        pack(&mut world, 100);
    }
    // A newer one for each pack, and two.
    for number in 2..20 {
        world.run(append("a", "more")).expect("appended");
        let tail = world.info("a").expect("it is there").tail.0;
        published_at(&mut world, tail, number);
        assert!(uploads(&world, "a").len() <= 3, "{:?}", uploads(&world, "a"));
        if number % 3 == 0 {
            pack(&mut world, 2);
        }
    }
    assert!(earliest(&world) > 40, "it begins at {}", earliest(&world));
    while due(&world) {
        pack(&mut world, 100);
    }
    assert_eq!((uploads(&world, "a"), earliest(&world)), (vec![19], 84));
}

#[test]
fn nothing_is_left_of_any_of_them() {
    let ends: [&dyn Fn(&mut World); 2] =
        [&|world| drop(world.run(delete("a"))), &|world| drop(world.run(remove("a", 8, SnapshotCondition::Any)))];
    for end in ends {
        let mut world = begun();
        published_at(&mut world, 4, 1);
        published_at(&mut world, 8, 2);
        assert_eq!(uploads(&world, "a"), [1, 2]);
        end(&mut world);
        assert_eq!(uploads(&world, "a"), [0; 0]);
        while due(&world) {
            pack(&mut world, 100);
        }
    }
}

/// Those that were there before packs began are in the same way as any.
#[test]
fn packs_may_begin_after_a_snapshot() {
    let mut world = World::new();
    let retention = Retention { snapshot: true, ..Retention::default() };
    world.run(Create { retention, ..create("a") }).expect("created");
    world.run(append("a", "one.")).expect("appended");
    published_at(&mut world, 4, 1);
    assert_eq!(earliest(&world), 4);
    world.run(Op::BeginPacks).expect("begun");
    world.run(append("a", "two.")).expect("appended");
    published_at(&mut world, 8, 2);
    assert_eq!((uploads(&world, "a"), earliest(&world)), (vec![1, 2], 4));
    assert_eq!(pack(&mut world, 1), ["a"]);
    assert_eq!(pack(&mut world, 1), ["a//0000000000000001"]);
    assert_eq!(uploads(&world, "a"), [1, 2]);
    while due(&world) {
        pack(&mut world, 100);
    }
    assert_eq!((uploads(&world, "a"), earliest(&world)), (vec![2], 8));
}

/// What they have of it is as true as if the pack counted already.
#[test]
fn records_name_snapshots() {
    let mut world = begun();
    published_at(&mut world, 4, 1);
    published_at(&mut world, 8, 2);
    let plan = plan(&world, 100);
    let records = State::decode(plan.records.clone().into()).expect("a snapshot");
    let named = |state: &State| -> Vec<(u64, u64)> {
        let all = state.stream(&key("a")).and_then(|stream| stream.snapshots()).expect("it has some");
        all.iter().map(|known| (known.info.upload, known.since)).collect()
    };
    assert_eq!(named(&records), [(1, 0), (2, 0)]);
    commit(&mut world, &plan);
    assert_eq!(named(world.state(GROUP)), [(2, 0)]);
}
