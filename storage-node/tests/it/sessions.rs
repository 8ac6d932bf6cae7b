//! Ops that are sent again: an op has one effect and one answer, whatever lane it comes over.

use ursula_common::limits::SESSION_RESULTS_MAX;
use ursula_common::verb::{Ack, Op, Reply};
use ursula_common::{BucketName, Error, GroupId, Offset};

use super::world::{BINARY, World, append, appended, close, create, created, eventually, fork, key};

const SESSION: u64 = 42;

#[tokio::test]
async fn an_append_sent_again_over_a_new_lane_is_applied_once() {
    let mut world = World::start().await;
    let key = key("twice");
    let group = world.group_of(&key);
    world.create(&key, BINARY).await;
    let mut first = world.lane(SESSION).await;
    let tail = appended(first.ask(5, group, &append(&key, BINARY, "once")).await).tail;
    drop(first);

    let mut second = world.lane(SESSION).await;
    assert_eq!(appended(second.ask(5, group, &append(&key, BINARY, "once")).await).tail, tail);
    assert_eq!(world.content(&key, 0).await, b"once");
    // The answer is the first one, not what the op would be answered now.
    appended(second.ask(6, group, &close(&key, "")).await);
    assert_eq!(appended(second.ask(5, group, &append(&key, BINARY, "once")).await).tail, tail);
    // Another session means another op.
    let closed = Err(Error::StreamClosed { tail: Offset(4) });
    assert_eq!(world.lane(SESSION + 1).await.ask(5, group, &append(&key, BINARY, "once")).await, closed);
}

#[tokio::test]
async fn a_lane_that_was_cut_has_carried_its_ops_out() {
    let mut world = World::start().await;
    let key = key("cut");
    let group = world.group_of(&key);
    world.create(&key, BINARY).await;
    let ops: Vec<(u64, GroupId, Op)> =
        (0..200).map(|seq| (seq, group, append(&key, BINARY, format!("<{seq}>")))).collect();
    let first = world.lane(SESSION).await;
    first.send(&ops).await;
    drop(first);
    let mut second = world.lane(SESSION).await;
    second.send(&ops).await;
    let mut tails = Vec::new();
    for _ in 0..ops.len() {
        let (seq, result) = second.answer().await.expect("an answer");
        tails.push((seq, appended(result).tail));
    }
    tails.sort_unstable();
    let whole: String = (0..200).map(|seq| format!("<{seq}>")).collect();
    assert_eq!(world.content(&key, 0).await, whole.as_bytes());
    assert!(tails.iter().map(|(seq, _)| *seq).eq(0..200), "one answer for each");
    assert!(tails.is_sorted_by_key(|(_, tail)| *tail), "ops of a lane are applied in their order");
}

#[tokio::test]
async fn a_create_and_a_delete_sent_again_get_their_first_answers() {
    let world = World::start().await;
    let key = key("made");
    let group = world.group_of(&key);
    let mut lane = world.lane(SESSION).await;
    assert!(created(lane.ask(0, group, &create(&key, BINARY)).await).new);
    assert_eq!(lane.ask(1, group, &Op::Delete(key.clone())).await, Ok(Reply::Done));
    let mut again = world.lane(SESSION).await;
    assert!(created(again.ask(0, group, &create(&key, BINARY)).await).new);
    assert_eq!(again.ask(1, group, &Op::Delete(key.clone())).await, Ok(Reply::Done));
    assert_eq!(world.describe(&key).await, Err(Error::StreamNotFound), "the create was not done again");
}

#[tokio::test]
async fn a_fork_sent_again_while_its_source_is_asked_is_one_fork() {
    let mut world = World::start().await;
    let source = world.key_in(1, "source");
    world.create(&source, BINARY).await;
    world.append(&source, BINARY, "inherited").await;
    let forked = world.key_in(2, "fork");
    let op = fork(&forked, &source, Some(0), 4);
    let group = world.group_of(&forked);

    // Two in one frame come into one entry, so the second finds the first waiting for its source.
    let (mut first, mut second) = (world.lane(SESSION).await, world.lane(SESSION).await);
    first.send(&[(0, group, op.clone()), (0, group, op.clone())]).await;
    let other = second.ask(0, group, &op).await;
    let answers = [first.answer().await, first.answer().await, Ok((0, other))].map(|answer| answer.expect("an answer"));
    for (seq, result) in answers {
        assert_eq!((seq, created(result.clone()).new, created(result).tail), (0, true, Offset(4)));
    }
    assert!(!created(second.ask(1, group, &op).await).new, "a new op finds the fork");
    assert_eq!(world.content(&forked, 0).await, b"inhe");

    // One reference was taken, so one delete lets the source go.
    world.delete(&source).await;
    assert_eq!(world.describe(&source).await, Err(Error::StreamGone));
    world.delete(&forked).await;
    eventually("the source goes", async || world.describe(&source).await == Err(Error::StreamNotFound)).await;
}

#[tokio::test]
async fn a_bucket_op_sent_again_while_groups_are_asked_is_one_op() {
    let world = World::start().await;
    let bucket = BucketName::parse("twice").expect("a name");
    let (mut first, mut second) = (world.lane(SESSION).await, world.lane(SESSION).await);
    let make = Op::CreateBucket(bucket.clone(), Ack::Quorum);
    first.send(&[(0, GroupId::META, make.clone()), (0, GroupId::META, make.clone())]).await;
    assert_eq!(second.ask(0, GroupId::META, &make).await, Ok(Reply::Bucket(true)));
    for _ in 0..2 {
        assert_eq!(first.answer().await, Ok((0, Ok(Reply::Bucket(true)))));
    }
    let remove = Op::DeleteBucket(bucket);
    second.send(&[(1, GroupId::META, remove.clone()), (1, GroupId::META, remove.clone())]).await;
    for _ in 0..2 {
        assert_eq!(second.answer().await, Ok((1, Ok(Reply::Done))));
    }
    assert_eq!(first.ask(1, GroupId::META, &remove).await, Ok(Reply::Done));
    assert_eq!(first.ask(2, GroupId::META, &remove).await, Err(Error::BucketNotFound));
}

#[tokio::test]
async fn an_acknowledged_answer_is_forgotten() {
    let mut world = World::start().await;
    let key = key("acked");
    let group = world.group_of(&key);
    world.create(&key, BINARY).await;
    let mut lane = world.lane(SESSION).await;
    for seq in 0..3 {
        appended(lane.ask(seq, group, &append(&key, BINARY, "x")).await);
    }
    lane.acked = 2;
    assert_eq!(lane.ask(1, group, &append(&key, BINARY, "x")).await, Err(Error::ResultForgotten));
    assert_eq!(appended(lane.ask(2, group, &append(&key, BINARY, "x")).await).tail, Offset(3));
    // What was acknowledged once stays so.
    lane.acked = 0;
    assert_eq!(lane.ask(0, group, &append(&key, BINARY, "x")).await, Err(Error::ResultForgotten));
    assert_eq!(world.content(&key, 0).await, b"xxx", "nothing was applied again");
}

#[tokio::test]
async fn results_are_kept_for_each_group() {
    let mut world = World::start().await;
    let (one, other) = (world.key_in(1, "one"), world.key_in(2, "other"));
    world.create(&one, BINARY).await;
    world.create(&other, BINARY).await;
    let mut lane = world.lane(SESSION).await;
    appended(lane.ask(0, GroupId(1), &append(&one, BINARY, "a")).await);
    lane.acked = 1;
    appended(lane.ask(1, GroupId(2), &append(&other, BINARY, "b")).await);
    // The other group has not heard that 0 was acknowledged, and this one still knows its answer.
    lane.acked = 0;
    assert_eq!(appended(lane.ask(0, GroupId(1), &append(&one, BINARY, "a")).await).tail, Offset(1));
    assert_eq!(world.content(&one, 0).await, b"a");
}

#[tokio::test]
async fn a_session_has_a_bounded_number_of_results() {
    let mut world = World::start().await;
    let key = key("credit");
    let group = world.group_of(&key);
    world.create(&key, BINARY).await;
    let mut lane = world.lane(SESSION).await;
    let most = SESSION_RESULTS_MAX as u64;
    assert!(most <= u64::from(lane.credit_ops));
    let ops: Vec<(u64, GroupId, Op)> = (0..most).map(|seq| (seq, group, append(&key, BINARY, "x"))).collect();
    for frame in ops.chunks(1024) {
        lane.send(frame).await;
    }
    for _ in 0..most {
        appended(lane.answer().await.expect("an answer").1);
    }
    assert_eq!(lane.ask(most, group, &append(&key, BINARY, "x")).await, Err(Error::Overloaded));
    assert_eq!(world.describe(&key).await.expect("a stream").tail, Offset(most));
    // A refusal for load is not remembered: the same op may come again.
    lane.acked = 1;
    assert_eq!(appended(lane.ask(most, group, &append(&key, BINARY, "x")).await).tail, Offset(most + 1));
}
