//! Snapshots of streams: what is published and what is not, and with what they end.

use ursula_common::verb::{Ack, BucketStep, SnapshotCondition, SnapshotInfo};
mod packs;

use ursula_common::verb::{Create, ForkCut, Lifetime, Op, PublishSnapshot, RemoveSnapshot, Reply, Retention};
use ursula_common::{ContentType, Error, GroupId, Offset, StreamId};

use super::world::*;
use crate::{Answer, Effect};

const GROUP: GroupId = GroupId(1);

fn published(new: bool, at: u64) -> Result<Reply, Error> {
    Ok(Reply::SnapshotPublished { new, at: Offset(at) })
}

fn remove(name: &str, at: u64, condition: SnapshotCondition) -> Op {
    Op::RemoveSnapshot(RemoveSnapshot { key: key(name), at: Offset(at), condition })
}

fn of(digest: u8) -> SnapshotCondition {
    SnapshotCondition::Is([digest; 32])
}

fn mismatch(current: Option<u8>) -> Result<Reply, Error> {
    Err(Error::SnapshotMismatch { current: current.map(|digest| [digest; 32]) })
}

/// Where the newest snapshot is, and which upload has it.
fn newest(world: &World, name: &str) -> Option<(u64, u64)> {
    world.info(name).expect("it is there").snapshot.map(|newest| (newest.at.0, newest.upload))
}

/// The uploads that are there.
fn uploads(world: &World, name: &str) -> Vec<u64> {
    let all = world.state(home(&key(name))).all_streams().map(|(key, _)| key.name);
    let mine = all.filter(|other| other.is_companion_of(&key(name).name));
    mine.map(|name| u64::from_str_radix(&name.as_str()[name.owner().len() + 2..], 16).expect("a number")).collect()
}

#[test]
fn the_newest_is_what_readers_get() {
    let mut world = world_with("a");
    assert_eq!(newest(&world, "a"), None);
    world.run(upload("a", 7, "one.two.")).expect("uploaded");
    assert_eq!(world.run(publish("a", 8, 7, 8)), published(true, 8));
    assert_eq!(world.effects, [Effect::Closed { stream: StreamId(2) }]);
    let info = world.info("a").expect("it is there");
    let expected = SnapshotInfo { at: Offset(8), upload: 7, content_type: text(), bytes: 8, digest: [7; 32] };
    assert_eq!(info.snapshot.as_deref(), Some(&expected));
    assert_eq!(world.read("a").as_deref(), Ok("one.two.six."), "all of it is kept");
    // It lives for ever, and never changes.
    let companion = key("a").companion(7);
    let stored = world.state(GROUP).info(&companion, world.now).expect("it is there");
    assert_eq!((stored.lifetime, stored.closed, stored.tail), (Lifetime::Forever, true, Offset(8)));
    assert_eq!(world.run(append("a//0000000000000007", "x")), Err(Error::StreamClosed { tail: Offset(8) }));
    assert_eq!(world.run(Op::Delete(companion.clone())), Ok(Reply::Done));
    world.pass(10_000.0);
    world.run(Op::Expire).expect("swept");
    assert_eq!(uploads(&world, "a"), [7]);
    // A newer one takes its place.
    world.run(upload("a", 5, "all")).expect("uploaded");
    assert_eq!(world.run(publish("a", 12, 5, 3)), published(true, 12));
    let gone = stored.id;
    assert!(world.effects.contains(&Effect::Removed { stream: gone }));
    assert_eq!((newest(&world, "a"), uploads(&world, "a")), (Some((12, 5)), vec![5]));
}

#[test]
fn an_older_one_is_refused_and_the_same_again_changes_nothing() {
    let mut world = world_with("a");
    for (number, body) in [(1, "x"), (2, "y"), (3, "z"), (4, "x")] {
        world.run(upload("a", number, body)).expect("uploaded");
    }
    assert_eq!(world.run(publish("a", 8, 1, 1)), published(true, 8));
    assert_eq!(world.run(publish("a", 4, 2, 1)), Err(Error::SnapshotStale { newest: Offset(8) }));
    assert_eq!(world.run(publish("a", 8, 2, 1)), Err(Error::SnapshotDiffers));
    // The answer was lost, and the client sends all of it again.
    let again = PublishSnapshot { digest: [1; 32], ..publish("a", 8, 4, 1) };
    assert_eq!(world.run(again), published(false, 8));
    assert_eq!((newest(&world, "a"), uploads(&world, "a")), (Some((8, 1)), vec![1, 2, 3]), "it is not needed twice");
    assert_eq!(world.run(publish("a", 8, 1, 1)), published(false, 8));
    assert_eq!(uploads(&world, "a"), [1, 2, 3]);
    assert_eq!(world.run(publish("a", 12, 1, 1)), Err(Error::Malformed), "an upload is published once");
    // Whoever knows what is there may replace it.
    let replace = |condition| PublishSnapshot { condition, ..publish("a", 8, 2, 1) };
    assert_eq!(world.run(replace(of(2))), mismatch(Some(1)));
    assert_eq!(world.run(replace(SnapshotCondition::Absent)), mismatch(Some(1)));
    assert_eq!(world.run(replace(of(1))), published(true, 8));
    assert_eq!((newest(&world, "a"), uploads(&world, "a")), (Some((8, 2)), vec![2, 3]));
    let next = |condition| PublishSnapshot { condition, ..publish("a", 12, 3, 1) };
    assert_eq!(world.run(next(of(2))), mismatch(None), "there is none at this offset");
    assert_eq!(world.run(next(SnapshotCondition::Absent)), published(true, 12));
}

#[test]
fn a_snapshot_has_whole_records_of_what_is_there() {
    let mut world = world_with("a");
    world.run(upload("a", 1, "x")).expect("uploaded");
    let mut ask = |at, cut: Option<(u64, u64)>| {
        let cut = cut.map(|(stream, at)| ForkCut { stream: StreamId(stream), at: Offset(at) });
        let publish = PublishSnapshot { cut, ..publish("a", at, 9, 1) };
        world.apply(GROUP, Op::PublishSnapshot(publish), None)
    };
    let refused = |error| Answer::Done(Err(error));
    // That the upload is not there is said last.
    let good = refused(Error::SnapshotIncomplete);
    assert_eq!((ask(0, None), ask(12, None), ask(4, Some((1, 4)))), (good.clone(), good.clone(), good.clone()));
    assert_eq!(ask(5, Some((1, 4))), refused(Error::OffsetInvalid));
    assert_eq!(ask(13, Some((1, 12))), refused(Error::OffsetInvalid));
    assert_eq!((ask(4, None), ask(4, Some((2, 4)))), (refused(Error::Overloaded), refused(Error::Overloaded)));
    let other = Offset::first_of(7).0 + 4;
    assert_eq!(ask(other, None), refused(Error::OffsetGone { earliest: Offset(0) }));
    world.run(trim("a", 4)).expect("trimmed");
    assert_eq!(world.run(publish("a", 0, 1, 1)), Err(Error::OffsetGone { earliest: Offset(4) }));
    assert_eq!(world.run(publish("a", 4, 1, 1)), published(true, 4));
    assert_eq!(world.run(publish("a-unknown", 0, 1, 1)), Err(Error::StreamNotFound));
    world.run(close("a")).expect("closed");
    world.run(upload("a", 2, "")).expect("uploaded");
    assert_eq!(world.run(publish("a", 12, 2, 0)), published(true, 12), "also of a closed stream, and also nothing");
}

/// Its offsets are under a number of their own.
#[test]
fn the_beginning_of_any_stream_is_that_of_a_numbered_one() {
    let mut world = world_with("a");
    world.run(delete("a")).expect("deleted");
    world.run(Create { numbered: true, ..create("a") }).expect("created");
    let first = world.info("a").expect("it is there").tail;
    assert!(first > Offset::ZERO);
    world.run(Create { numbered: true, ..upload("a", 1, "x") }).expect("uploaded");
    assert_eq!(world.run(publish("a", 0, 1, 1)), published(true, first.0));
    assert_eq!(world.run(remove("a", 0, SnapshotCondition::Any)), Ok(Reply::Done));
}

#[test]
fn what_did_not_arrive_whole_is_not_published() {
    let mut world = world_with("a");
    assert_eq!(world.run(publish("a", 8, 1, 1)), Err(Error::SnapshotIncomplete));
    world.run(upload("a", 1, "xy")).expect("uploaded");
    for bytes in [1, 3] {
        assert_eq!(world.run(publish("a", 8, 1, bytes)), Err(Error::SnapshotIncomplete));
    }
    assert_eq!(newest(&world, "a"), None);
    world.run(append("a//0000000000000001", "z")).expect("appended");
    world.pass(900.0);
    assert_eq!(world.run(publish("a", 8, 1, 3)), Err(Error::SnapshotIncomplete), "nobody published it in time");
    assert_eq!(uploads(&world, "a"), [0; 0]);
}

#[test]
fn uploads_are_for_streams_that_are_there() {
    let mut world = world_with("a");
    assert_eq!(world.run(upload("a-unknown", 1, "x")), Err(Error::StreamNotFound));
    assert_eq!(world.run(Create { lifetime: Lifetime::Forever, ..upload("a", 1, "x") }), Err(Error::Malformed));
    let retention = Retention { max_bytes: Some(5), ..Retention::default() };
    assert_eq!(world.run(Create { retention, ..upload("a", 1, "x") }), Err(Error::Malformed));
    world.run(upload("a", 1, "x")).expect("uploaded");
    world.run(Op::Delete(key("a").companion(1))).expect("given up");
    assert_eq!(uploads(&world, "a"), [0; 0]);
    world.run(upload("a", 2, "x")).expect("uploaded");
    world.pass(900.0);
    world.run(Op::Expire).expect("swept");
    assert_eq!(uploads(&world, "a"), [0; 0], "nobody published it");
}

#[test]
fn a_snapshot_can_be_removed() {
    let mut world = world_with("a");
    assert_eq!(world.run(remove("a", 8, SnapshotCondition::Any)), Err(Error::SnapshotNotFound));
    world.run(upload("a", 1, "x")).expect("uploaded");
    world.run(publish("a", 8, 1, 1)).expect("published");
    assert_eq!(world.run(remove("a", 4, SnapshotCondition::Any)), Err(Error::SnapshotNotFound));
    assert_eq!(world.run(remove("a", 8, of(2))), mismatch(Some(1)));
    assert_eq!(world.run(remove("a", 8, SnapshotCondition::Absent)), mismatch(Some(1)));
    assert_eq!(world.run(remove("a", 8, of(1))), Ok(Reply::Done));
    assert_eq!((newest(&world, "a"), uploads(&world, "a")), (None, vec![]));
    world.run(upload("a", 2, "y")).expect("uploaded");
    assert_eq!(world.run(publish("a", 4, 2, 1)), published(true, 4), "it was forgotten");
}

#[test]
fn snapshots_end_with_their_stream() {
    // Of others, with names that stand between a stream and its uploads, and behind them, nothing ends.
    let others = ["a!", "a/b", "a0"];
    let ends: [&dyn Fn(&mut World); 2] = [&|world| drop(world.run(delete("a")).expect("deleted")), &|world| {
        world.pass(2000.0);
        world.run(Op::Expire).expect("swept");
    }];
    for end in ends {
        let mut world = World::new();
        world.run(Create { lifetime: Lifetime::Ttl(2000), ..create("a") }).expect("created");
        for name in others {
            world.run(create(name)).expect("created");
            world.run(upload(name, 1, "x")).expect("uploaded");
            world.run(publish(name, 0, 1, 1)).expect("published");
        }
        for number in [1, u64::MAX] {
            world.run(upload("a", number, "x")).expect("uploaded");
        }
        world.run(publish("a", 0, 1, 1)).expect("published");
        end(&mut world);
        assert_eq!(world.info("a"), Err(Error::StreamNotFound));
        assert_eq!(uploads(&world, "a"), [0; 0]);
        for name in others {
            assert_eq!((newest(&world, name), uploads(&world, name)), (Some((0, 1)), vec![1]), "{name}");
        }
    }
}

/// Publishing is an access.
#[test]
fn a_sliding_time_to_live_begins_anew() {
    let mut world = World::new();
    world.run(Create { lifetime: Lifetime::Ttl(60), ..create("a") }).expect("created");
    world.run(upload("a", 1, "x")).expect("uploaded");
    world.pass(40.0);
    world.run(publish("a", 0, 1, 1)).expect("published");
    world.pass(40.0);
    assert_eq!(newest(&world, "a"), Some((0, 1)));
}

#[test]
fn forks_inherit_no_snapshot_and_a_hidden_stream_has_none() {
    let mut world = world_with("a");
    world.run(upload("a", 1, "x")).expect("uploaded");
    world.run(publish("a", 8, 1, 1)).expect("published");
    world.run(fork("b", "a")).expect("forked");
    assert_eq!(newest(&world, "b"), None);
    // Of a fork too, also where it reads its source.
    world.run(upload("b", 1, "one.")).expect("uploaded");
    assert_eq!(world.run(publish("b", 4, 1, 4)), published(true, 4));
    let source = world.info("a").expect("it is there").id;
    world.run(delete("a")).expect("deleted");
    assert_eq!(uploads(&world, "a"), [0; 0]);
    let hidden = world.state(GROUP).inherited(&key("a"), source).expect("the fork needs it");
    assert_eq!((hidden.snapshot, newest(&world, "b")), (None, Some((4, 1))));
    assert_eq!(world.run(upload("a", 2, "x")), Err(Error::StreamGone));
    assert_eq!(world.run(publish("a", 8, 2, 1)), Err(Error::StreamGone));
    assert_eq!(world.read("b").as_deref(), Ok("one.two.six."));
}

#[test]
fn buckets_do_not_show_uploads_and_are_not_kept_by_them() {
    let mut world = World::new();
    world.run(Op::CreateBucket(bucket("bucket-1"), Ack::Quorum)).expect("created");
    for name in ["bucket-1:a1", "bucket-1:a2"] {
        world.run(Create { lifetime: Lifetime::Ttl(60), ..create(name) }).expect("created");
        for number in [1, 2] {
            world.run(upload(name, number, "x")).expect("uploaded");
        }
        world.run(publish(name, 0, 1, 1)).expect("published");
    }
    let listed = |world: &World, prefix: &str, after: &str| -> Vec<String> {
        let listed = world.state(GROUP).list(&bucket("bucket-1"), prefix, after, 10, world.now).expect("a bucket");
        listed.into_iter().map(|(name, _)| name.to_string()).collect()
    };
    assert_eq!((listed(&world, "", ""), listed(&world, "a1", "")), (vec!["a1".into(), "a2".into()], vec!["a1".into()]));
    assert_eq!((listed(&world, "a1/", ""), listed(&world, "", "a1")), (vec![], vec!["a2".to_owned()]));
    let drop = |world: &mut World, order| {
        let step = BucketStep { bucket: bucket("bucket-1"), order, ack: Ack::Quorum };
        world.apply(GROUP, Op::DropBucket(step), None)
    };
    assert_eq!(drop(&mut world, 100), Answer::Done(Err(Error::BucketNotEmpty)));
    // Streams that are due go, with all that is theirs, in one command.
    world.pass(60.0);
    assert_eq!(drop(&mut world, 100), Answer::Done(Ok(Reply::Done)));
    assert_eq!(world.state(GROUP).stats().streams, 0);
}

#[test]
fn a_stream_can_be_kept_from_its_snapshot_on() {
    let mut world = World::new();
    let retention = Retention { snapshot: true, ..Retention::default() };
    let kept = Create { retention, ..create("a") };
    world.run(kept.clone()).expect("created");
    assert_eq!(world.run(create("a")), Err(Error::StreamExists { tail: Offset(0), closed: false }));
    for body in ["one.", "two.", "six."] {
        world.run(append("a", body)).expect("appended");
    }
    assert_eq!(world.read("a").as_deref(), Ok("one.two.six."), "without a snapshot all is kept");
    world.run(upload("a", 1, "x")).expect("uploaded");
    world.run(publish("a", 4, 1, 1)).expect("published");
    assert!(world.effects.contains(&Effect::Trimmed { stream: StreamId(1), to: Offset(4) }));
    assert_eq!(world.read("a").as_deref(), Ok("two.six."));
    // Forks keep what they need, unseen by readers of the source, and keep themselves alike.
    world.run(fork("b", "a")).expect("forked");
    world.run(upload("a", 2, "y")).expect("uploaded");
    world.run(publish("a", 12, 2, 1)).expect("published");
    assert_eq!((world.read("a").as_deref(), world.read("b").as_deref()), (Ok(""), Ok("two.six.")));
    world.run(upload("b", 1, "z")).expect("uploaded");
    world.run(publish("b", 8, 1, 1)).expect("published");
    assert_eq!(world.read("b").as_deref(), Ok("six."));
    // What was removed does not come back.
    world.run(remove("a", 12, SnapshotCondition::Any)).expect("removed");
    assert_eq!(world.info("a").map(|info| info.earliest), Ok(Offset(12)));
}

/// The type is that of the snapshot, not of the upload.
#[test]
fn a_snapshot_has_a_type_of_its_own() {
    let mut world = world_with("a");
    world.run(upload("a", 1, "x")).expect("uploaded");
    let content_type = ContentType::parse("application/json; v=2");
    world.run(PublishSnapshot { content_type: content_type.clone(), ..publish("a", 12, 1, 1) }).expect("published");
    let newest = world.info("a").expect("it is there").snapshot.expect("it was published");
    assert_eq!(newest.content_type.as_str(), content_type.as_str());
}
