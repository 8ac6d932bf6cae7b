//! What waits for a pack, what a plan takes of it, and what a commit lets go.

use ursula_common::cluster::{ClusterChange, ClusterOp, Form, NewNode};
use ursula_common::packs::{ColdEnd, PackRef};
use ursula_common::placement::SlotTable;
use ursula_common::verb::{
    Ack, AcquireFork, BucketStep, CommitPack, Create, ForkRef, Lifetime, Op, PackedStream, Reply,
};
use ursula_common::{ClusterId, Error, GroupId, NodeId, Offset, StreamId};

use super::world::*;
use crate::{Answer, PackPlan, Packing, State, StoredRange};

const GROUP: GroupId = GroupId(1);
const DONE: Answer = Answer::Done(Ok(Reply::Done));
const REFUSED: Answer = Answer::Done(Err(Error::Malformed));

/// A world with streams `a1` and `a2` of 5 and 3 bytes, in which packs have begun.
fn begun() -> World {
    let mut world = World::new();
    for (name, body) in [("a1", "hello"), ("a2", "you")] {
        world.run(create(name)).expect("created");
        world.run(append(name, body)).expect("appended");
    }
    assert_eq!(world.apply(GROUP, Op::BeginPacks, None), DONE);
    world
}

fn plan(world: &World) -> PackPlan {
    world.state(GROUP).plan_pack(1 << 20, 100).expect("something waits")
}

fn object(number: u64) -> PackRef {
    PackRef { first: number, last: number, maker: 9, bytes: 1000, hash: [1; 32] }
}

/// The commit of all that was planned.
fn commit(plan: &PackPlan) -> CommitPack {
    let ends: Vec<_> = plan.streams.iter().map(|planned| planned.end).collect();
    plan.commit(object(plan.pack), &ends)
}

fn apply(world: &mut World, commit: CommitPack) -> Answer {
    world.apply(GROUP, Op::CommitPack(Box::new(commit)), None)
}

fn pack(world: &mut World) -> PackPlan {
    let plan = plan(world);
    assert_eq!(apply(world, commit(&plan)), DONE);
    plan
}

fn packing(world: &World) -> Packing {
    world.state(GROUP).packing().expect("packs have begun")
}

/// Name, first and last offset of what was planned.
fn planned(plan: &PackPlan) -> Vec<(&str, u64, u64)> {
    plan.streams.iter().map(|planned| (planned.key.name.as_str(), planned.start.0, planned.end.0)).collect()
}

/// The streams that have a record.
fn recorded(plan: &PackPlan) -> Vec<String> {
    let state = State::decode(plan.records.clone().into()).expect("a snapshot");
    state.all_streams().map(|(key, _)| key.name.to_string()).collect()
}

fn cold(world: &World, name: &str) -> Option<(u64, u64)> {
    world.info(name).expect("it is there").cold.map(|ColdEnd { end, pack }| (end.0, pack))
}

#[test]
fn nothing_is_kept_before_packs_have_begun() {
    let mut world = World::new();
    world.run(create("a1")).expect("created");
    let state = world.state(GROUP);
    assert_eq!((state.packing(), state.catalogue(), state.plan_pack(1 << 20, 100)), (None, None, None));
    let nothing = CommitPack { pack: object(1), as_of: 0, streams: vec![] };
    assert_eq!(apply(&mut world, nothing), REFUSED);
    assert_eq!(cold(&world, "a1"), None);
}

#[test]
fn a_pack_lets_go_what_it_has() {
    let mut world = begun();
    assert_eq!(packing(&world), Packing { streams: 2, bytes: 8, next: 1, due: true });
    let first = pack(&mut world);
    assert_eq!((first.pack, first.prev), (1, None));
    assert_eq!((planned(&first), recorded(&first)), (vec![("a1", 0, 5), ("a2", 0, 3)], vec!["a1".into(), "a2".into()]));
    assert_eq!(packing(&world), Packing { streams: 0, bytes: 0, next: 2, due: false });
    assert_eq!(world.state(GROUP).plan_pack(1 << 20, 100), None);
    assert_eq!(world.state(GROUP).catalogue().and_then(|catalogue| catalogue.newest()), Some(&object(1)));
    assert_eq!(world.state(GROUP).stored_ranges().count(), 0);
    assert_eq!(cold(&world, "a1"), Some((5, 1)));

    world.run(append("a1", "!!")).expect("appended");
    assert_eq!(packing(&world), Packing { streams: 1, bytes: 2, next: 2, due: true });
    let left: Vec<_> = world.state(GROUP).stored_ranges().collect();
    assert_eq!(left, [StoredRange { stream: StreamId(1), start: Offset(5), end: Offset(7) }]);
    let second = pack(&mut world);
    assert_eq!((second.pack, second.prev, planned(&second)), (2, Some(object(1)), vec![("a1", 5, 7)]));
    assert_eq!((second.streams[0].prev, recorded(&second)), (1, vec!["a1".into()]));
    assert_eq!((cold(&world, "a1"), cold(&world, "a2")), (Some((7, 2)), Some((3, 1))));
}

/// Whoever waits is not moved to the end of the queue by the next append.
#[test]
fn who_waits_keeps_the_turn() {
    let mut world = begun();
    let before = plan(&world);
    for _ in 0..3 {
        world.run(append("a1", "x")).expect("appended");
    }
    let after = plan(&world);
    assert_eq!(planned(&after), [("a1", 0, 8), ("a2", 0, 3)]);
    assert_eq!(after.streams[0].turn, before.streams[0].turn);
    assert_eq!(after.as_of, before.as_of + 3);
}

#[test]
fn a_record_without_bytes_is_packed_too() {
    let mut world = begun();
    pack(&mut world);
    world.run(close("a2")).expect("closed");
    let plan = pack(&mut world);
    assert_eq!((planned(&plan), recorded(&plan)), (vec![("a2", 3, 3)], vec!["a2".into()]));
    // The newest pack with bytes of it.
    assert_eq!(cold(&world, "a2"), Some((3, 1)));
    world.run(create("a3")).expect("created");
    pack(&mut world);
    assert_eq!((cold(&world, "a3"), packing(&world).due), (None, false));
}

/// A leader that was deposed has stored a pack under the same number.
#[test]
fn of_two_packs_with_one_number_the_first_counts() {
    let mut world = begun();
    let late = commit(&plan(&world));
    pack(&mut world);
    let before = world.state(GROUP).encode();
    for pack in [object(1), object(3)] {
        assert_eq!(apply(&mut world, CommitPack { pack, ..late.clone() }), REFUSED);
    }
    assert!(world.state(GROUP).encode() == before);
}

#[test]
fn what_was_not_planned_here_is_refused() {
    let mut world = begun();
    let good = commit(&plan(&world));
    let before = world.state(GROUP).encode();
    let wrong: [&dyn Fn(&mut CommitPack); 9] = [
        &|commit| commit.pack = object(2),
        &|commit| commit.pack = object(0),
        &|commit| commit.pack.last = 2,
        &|commit| commit.as_of += 1,
        &|commit| commit.as_of = commit.streams[1].turn - 1,
        &|commit| commit.streams[1].bytes += 1,
        &|commit| commit.streams[1].bytes = u64::MAX,
        &|commit| commit.streams[1].stream = StreamId(7),
        &|commit| commit.streams.push(commit.streams[0]),
    ];
    for (place, wrong) in wrong.iter().enumerate() {
        let mut commit = good.clone();
        wrong(&mut commit);
        assert_eq!(apply(&mut world, commit), REFUSED, "{place}");
    }
    assert!(world.state(GROUP).encode() == before);
    assert_eq!(apply(&mut world, good), DONE);
}

#[test]
fn what_changes_while_its_pack_is_made_waits_again() {
    let mut world = begun();
    let first = plan(&world);
    world.run(append("a1", "xy")).expect("appended");
    world.run(close("a2")).expect("closed");
    assert_eq!(apply(&mut world, commit(&first)), DONE);
    assert_eq!(packing(&world), Packing { streams: 2, bytes: 2, next: 2, due: true });
    assert_eq!((cold(&world, "a1"), cold(&world, "a2")), (Some((5, 1)), Some((3, 1))));
    let second = pack(&mut world);
    assert_eq!(planned(&second), [("a1", 5, 7), ("a2", 3, 3)]);
    assert!(!packing(&world).due);
}

/// The pack has its record, as if it were there.
#[test]
fn of_a_stream_that_ends_while_its_pack_is_made_the_next_one_tells() {
    let mut world = begun();
    let first = plan(&world);
    world.run(delete("a1")).expect("deleted");
    assert_eq!((packing(&world).streams, packing(&world).bytes), (1, 3));
    world.run(Create { numbered: true, ..create("a1") }).expect("created");
    assert_eq!(apply(&mut world, commit(&first)), DONE);
    assert_eq!(cold(&world, "a1"), None);
    let second = pack(&mut world);
    let gone: Vec<_> = second.removed.iter().map(|gone| gone.stream).collect();
    assert_eq!((recorded(&second), gone), (vec!["a1".into()], vec![StreamId(1)]));
    assert_eq!((second.streams[0].id, packing(&world).due), (StreamId(3), false));
}

#[test]
fn packs_are_told_of_the_end_of_what_they_have() {
    let mut world = begun();
    pack(&mut world);
    world.run(create("a3")).expect("created");
    world.run(delete("a3")).expect("deleted");
    assert_eq!(packing(&world), Packing { streams: 0, bytes: 0, next: 2, due: false });
    world.run(append("a1", "more")).expect("appended");
    world.run(delete("a1")).expect("deleted");
    assert_eq!(packing(&world), Packing { streams: 1, bytes: 0, next: 2, due: true });
    let plan = pack(&mut world);
    assert_eq!((plan.streams.len(), plan.removed.len(), plan.removed[0].stream), (0, 1, StreamId(1)));
    assert!(!packing(&world).due);
}

#[test]
fn a_stream_with_more_than_the_budget_goes_in_steps() {
    let mut world = World::new();
    world.run(create("a1")).expect("created");
    for _ in 0..100 {
        world.run(append("a1", "x")).expect("appended");
    }
    world.apply(GROUP, Op::BeginPacks, None);
    world.run(append("a2", "y")).expect_err("it is not there");
    world.run(create("a2")).expect("created");
    // 44 bytes, and one more record of at most 5 if that is the last.
    let plan = |world: &World| world.state(GROUP).plan_pack_of(44, 100, 5).expect("something waits");
    let first = plan(&world);
    assert_eq!((planned(&first), first.streams[0].whole, recorded(&first)), (vec![("a1", 0, 44)], false, vec![]));
    assert_eq!(apply(&mut world, first.commit(object(1), &[Offset(48)])), DONE);
    assert_eq!(cold(&world, "a1"), Some((48, 1)));
    // Others had to wait for it, now it waits for them.
    let second = plan(&world);
    assert_eq!((planned(&second), second.streams.len()), (vec![("a2", 0, 0), ("a1", 48, 92)], 2));
    assert_eq!(apply(&mut world, second.commit(object(2), &[Offset(0), Offset(94)])), DONE);
    let third = plan(&world);
    assert_eq!((planned(&third), third.streams[0].whole, third.streams[0].prev), (vec![("a1", 94, 100)], true, 2));
    assert_eq!(recorded(&third), ["a1"]);
    assert_eq!(apply(&mut world, commit(&third)), DONE);
    assert_eq!((cold(&world, "a1"), packing(&world).due), (Some((100, 3)), false));
}

#[test]
fn an_answer_waits_for_a_pack_that_has_all_of_its_stream_as_of_then() {
    let mut world = World::new();
    world.run(create("a1")).expect("created");
    for _ in 0..10 {
        world.run(append("a1", "x")).expect("appended");
    }
    world.apply(GROUP, Op::BeginPacks, None);
    let wanted = |world: &World| world.state(GROUP).wanted(&key("a1")).expect("no pack has it");
    let told = |world: &World, plan: &PackPlan, end| world.state(GROUP).told(plan, &[Offset(end)]);
    let plan = |world: &World| world.state(GROUP).plan_pack_of(4, 100, 5).expect("something waits");
    let (early, first) = (wanted(&world), plan(&world));
    assert_eq!(apply(&mut world, first.commit(object(1), &[Offset(5)])), DONE);
    assert!(!told(&world, &first, 5).has(&early), "a part of it");
    let second = plan(&world);
    world.run(append("a1", "y")).expect("appended");
    let late = wanted(&world);
    assert_eq!(apply(&mut world, commit(&second)), DONE);
    let now = told(&world, &second, 10);
    assert!(now.has(&early) && !now.has(&late), "that came after its plan");
    let third = plan(&world);
    assert_eq!(apply(&mut world, commit(&third)), DONE);
    assert!(told(&world, &third, 11).has(&late));
}

#[test]
fn a_plan_has_bounds_and_makes_progress() {
    let mut world = begun();
    world.run(create("a3")).expect("created");
    let streams = |bytes_max, streams_max| {
        world.state(GROUP).plan_pack(bytes_max, streams_max).map_or(0, |plan| plan.streams.len())
    };
    assert_eq!((streams(1 << 20, 2), streams(1 << 20, usize::MAX)), (2, 3));
    // The first has 5 bytes; records count for nothing.
    assert_eq!((streams(0, 100), streams(5, 100), streams(6, 100), streams(u64::MAX, 100)), (1, 1, 2, 3));
    assert_eq!(streams(9, 100), 3);
    assert!(world.state(GROUP).plan_pack(0, 100).expect("something waits").streams[0].whole);
}

/// A fork has its own bytes alone, and its source those that it inherits, also after its end.
#[test]
fn forks_and_their_sources_are_packed() {
    let mut world = begun();
    pack(&mut world);
    world.run(fork("a3", "a1")).expect("forked");
    world.run(append("a3", "own")).expect("appended");
    assert_eq!((packing(&world).streams, packing(&world).bytes), (2, 3));
    world.run(delete("a1")).expect("deleted");
    let second = pack(&mut world);
    assert_eq!(planned(&second), [("a1", 5, 5), ("a3", 5, 8)]);
    let source = world.state(GROUP).inherited(&key("a1"), StreamId(1)).expect("it is kept");
    assert_eq!((source.cold, cold(&world, "a3")), (Some(ColdEnd { end: Offset(5), pack: 1 }), Some((8, 2))));
    assert!(!packing(&world).due);
    // Its end takes the source with it, once the reference is back.
    world.run(delete("a3")).expect("deleted");
    world.settle();
    let third = pack(&mut world);
    let gone: Vec<_> = third.removed.iter().map(|gone| gone.stream).collect();
    assert_eq!((third.streams.len(), gone), (0, vec![StreamId(3), StreamId(1)]));
    assert!(!packing(&world).due);
}

#[test]
fn a_reference_that_is_taken_or_given_back_is_a_change() {
    let mut world = begun();
    let fork_ref = ForkRef { source: key("a1"), fork: key("b1"), fork_id: StreamId(4) };
    let acquire =
        AcquireFork { fork_ref: fork_ref.clone(), offset: None, sub_offset: 0, content_type: None, cut: None };
    for op in [Op::AcquireFork(acquire), Op::ReleaseFork(fork_ref)] {
        while packing(&world).due {
            pack(&mut world);
        }
        world.apply(GROUP, op.clone(), None);
        assert_eq!(planned(&plan(&world)), [("a1", 5, 5)]);
        let plan = pack(&mut world);
        world.apply(GROUP, op, None);
        assert!(!packing(&world).due && plan.removed.is_empty(), "a second time it changes nothing");
    }
}

#[test]
fn what_is_of_no_single_stream_waits_too() {
    let mut world = begun();
    let step = |order| BucketStep { bucket: bucket("other"), order, ack: Ack::Quorum };
    for op in [Op::InstallBucket(step(1)), Op::DropBucket(step(2))] {
        pack(&mut world);
        assert!(!packing(&world).due);
        world.apply(GROUP, op, None);
        assert_eq!(packing(&world), Packing { streams: 0, due: true, ..packing(&world) });
        let plan = plan(&world);
        let records = State::decode(plan.records.into()).expect("a snapshot");
        assert_eq!(
            (records.bucket(&bucket("other")), plan.streams.len()),
            (world.state(GROUP).bucket(&bucket("other")), 0)
        );
    }
    let late = plan(&world);
    world.apply(GROUP, Op::InstallBucket(step(3)), None);
    assert_eq!(apply(&mut world, commit(&late)), DONE);
    assert!(packing(&world).due, "it changed after the pack was planned");
}

#[test]
fn the_meta_group_has_packs_of_its_own() {
    let mut world = World::new();
    assert_eq!(world.apply(GroupId::META, Op::BeginPacks, None), DONE);
    let due = |world: &World| world.state(GroupId::META).packing().map(|packing| packing.due);
    let placement = [0, 1, 2].map(|group| (GroupId(group), vec![NodeId(1)])).into();
    let nodes = vec![NewNode { id: NodeId(1), address: "n:1".into(), incarnation: 5 }];
    let form = Form { cluster: ClusterId(1), nodes, slots: SlotTable::spread(2), placement };
    let form = ClusterOp { version: None, change: ClusterChange::Form(form) };
    let ops = [
        Op::Cluster(Box::new(form)),
        Op::CreateBucket(bucket("other"), Ack::Quorum),
        Op::DeleteBucket(bucket("other")),
    ];
    for op in ops {
        assert_eq!(due(&world), Some(true));
        let plan = world.state(GroupId::META).plan_pack(1 << 20, 100).expect("something waits");
        assert_eq!(world.apply(GroupId::META, Op::CommitPack(Box::new(commit(&plan))), None), DONE);
        assert_eq!(due(&world), Some(false));
        world.apply(GroupId::META, op, None);
        world.settle();
    }
    assert_eq!(due(&world), Some(true));
}

/// A restore begins lifetimes anew.
#[test]
fn a_touch_is_no_change() {
    let mut world = begun();
    world.run(Create { lifetime: Lifetime::Ttl(60), ..create("a3") }).expect("created");
    pack(&mut world);
    world.pass(30.0);
    world.run(touch("a3")).expect("touched");
    assert!(!packing(&world).due);
    world.pass(60.0);
    world.apply(GROUP, Op::Expire, None);
    assert_eq!(pack(&mut world).removed.len(), 1);
}

/// What a plan says of itself is what its commit says.
#[test]
fn a_commit_has_everything_that_was_planned_by_turns() {
    let mut world = begun();
    pack(&mut world);
    for op in [append("a2", "z").op(), delete("a1"), create("a4").op()] {
        world.run(op).expect("done");
    }
    let plan = plan(&world);
    let commit = commit(&plan);
    assert!(commit.streams.is_sorted_by(|a, b| a.turn < b.turn));
    let packed: Vec<_> = commit.streams.iter().map(|PackedStream { stream, bytes, .. }| (stream.0, *bytes)).collect();
    assert_eq!(packed, [(2, 1), (1, 0), (3, 0)]);
}

/// In a bucket where somebody may wait for that, packs are told of every stream that was removed: the one that is being made
/// may have it.
#[test]
fn what_was_removed_is_told_where_somebody_waits_for_it() {
    let mut world = begun();
    let step = BucketStep { bucket: bucket("safe"), order: 9, ack: Ack::Offloaded };
    assert_eq!(world.apply(GROUP, Op::InstallBucket(step), None), DONE);
    pack(&mut world);
    for (name, waits) in [("a3", false), ("safe:a3", true)] {
        world.run(create(name)).expect("created");
        let made = plan(&world);
        world.run(delete(name)).expect("deleted");
        let wanted = world.state(GROUP).wanted(&key(name));
        assert_eq!((wanted.is_some(), packing(&world).streams), (waits, usize::from(waits)), "{name}");
        // The pack that was made meanwhile has it as if it were there.
        assert_eq!(apply(&mut world, commit(&made)), DONE);
        let ends: Vec<_> = made.streams.iter().map(|planned| planned.end).collect();
        let told = world.state(GROUP).told(&made, &ends);
        assert!(wanted.is_none_or(|wanted| !told.has(&wanted)), "{name}");
        let last = pack(&mut world);
        let told = world.state(GROUP).told(&last, &[]);
        assert!(wanted.is_none_or(|wanted| told.has(&wanted)), "{name}");
        assert_eq!(world.state(GROUP).wanted(&key(name)), None);
    }
}
