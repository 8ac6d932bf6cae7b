//! The lane to one node that the test plays: what is sent, when, and what callers hear.

use std::collections::BTreeSet;

use bytes::Bytes;
use tokio::task::{JoinHandle, yield_now};
use ursula_common::StreamKey;
use ursula_common::limits::FRAME_BYTES_MAX;
use ursula_common::verb::{Append, Reply};

use super::*;
use crate::tests::{FakeLane, FakeNode, SentOp, quiet, topology};

mod chaos;
mod replicas;

const GROUP: GroupId = GroupId(1);
const PATIENCE: Duration = Duration::from_secs(10);

struct World {
    node: FakeNode,
    lanes: Lanes,
}

impl World {
    fn new() -> World {
        let node = FakeNode::new();
        let views = Views::new(Arc::new(ursula_proto::remote));
        views.merge(&topology(1), &node.link()).expect("a topology");
        World { node, lanes: start(views) }
    }

    /// Submits an op of about `bytes` in a task of its own.
    fn submit(&self, bytes: usize) -> JoinHandle<OpResult> {
        self.submit_until(bytes, Instant::now() + PATIENCE)
    }

    fn submit_until(&self, bytes: usize, deadline: Instant) -> JoinHandle<OpResult> {
        let lanes = self.lanes.clone();
        tokio::spawn(async move { lanes.submit((GROUP, Pace::Prompt), &append(bytes), deadline).await })
    }
}

fn start(views: Views) -> Lanes {
    Lanes::start(views, 64 << 20, Arc::default(), Jitter::new(1), crate::tests::metrics())
}

fn append(bytes: usize) -> Op {
    Op::Append(Append {
        key: StreamKey::parse("default", "stream").expect("a name"),
        content_type: None,
        body: vec![b'x'; bytes].into(),
        close: false,
        producer: None,
        stream_seq: None,
        expected_offset: None,
    })
}

/// An answer that can be told from others.
fn answer(number: u64) -> OpResult {
    Err(Error::StaleEpoch { current: number })
}

#[expect(clippy::ptr_arg, reason = "used where there are frames")]
fn seqs(frame: &Vec<SentOp>) -> Vec<u64> {
    frame.iter().map(|op| op.seq).collect()
}

/// Frames until nothing more comes.
async fn frames(lane: &mut FakeLane) -> Vec<Vec<SentOp>> {
    let mut frames = Vec::new();
    loop {
        tokio::select! {
            biased;
            frame = lane.frame() => frames.push(frame.expect("an open lane")),
            () = quiet() => return frames,
        }
    }
}

/// The sequences of every op that comes until nothing more does.
async fn sent(lane: &mut FakeLane) -> Vec<u64> {
    frames(lane).await.iter().flat_map(seqs).collect()
}

#[tokio::test(start_paused = true)]
async fn what_has_queued_goes_in_one_frame_and_answers_find_their_callers() {
    let mut world = World::new();
    let mut lane = world.node.lane(100).await;
    quiet().await;
    let callers: Vec<_> = (0..50).map(|_| world.submit(10)).collect();
    let frame = lane.frame().await.expect("a frame");
    assert_eq!(seqs(&frame), (0..50).collect::<Vec<_>>());
    for op in &frame {
        assert_eq!(op.acked, 0);
        assert_eq!((op.group, wire::decode_op(op.op.clone())), (GROUP.0, Ok(append(10))));
    }
    // In another order than they were sent.
    (0..50).rev().for_each(|seq| lane.answer(seq, answer(seq)));
    for (seq, caller) in callers.into_iter().enumerate() {
        assert_eq!(caller.await.expect("no panic"), answer(seq as u64));
    }
    let next = world.submit(10);
    let frame = lane.frame().await.expect("a frame");
    assert_eq!((seqs(&frame), frame[0].acked), (vec![50], 50));
    lane.answer(50, Ok(Reply::Done));
    assert_eq!(next.await.expect("no panic"), Ok(Reply::Done));
}

#[tokio::test(start_paused = true)]
async fn unanswered_ops_of_a_lost_lane_are_sent_again_as_they_were() {
    let mut world = World::new();
    let mut first = world.node.lane(100).await;
    let callers: Vec<_> = (0..4).map(|i| world.submit(i)).collect();
    let sent = frames(&mut first).await.remove(0);
    first.answer(1, answer(1));
    quiet().await;
    drop(first);
    // Others come while there is no lane.
    let late = world.submit(9);
    let mut second = world.node.lane(100).await;
    let again = frames(&mut second).await;
    let ops: Vec<_> = again.into_iter().flatten().collect();
    assert!(ops.iter().all(|op| op.acked == 0), "op 0 has no answer");
    assert_eq!(ops[..3], [sent[0].clone(), sent[2].clone(), sent[3].clone()], "the same bytes in the same session");
    assert_eq!((ops.len(), ops[3].seq), (4, 4));

    // Lost again, with an error this time, and before anything was answered.
    second.fail(Error::Unavailable);
    let mut third = world.node.lane(100).await;
    let again: Vec<_> = frames(&mut third).await.into_iter().flatten().collect();
    assert_eq!(again, ops);
    for seq in [0, 2, 3, 4] {
        third.answer(seq, answer(seq));
    }
    for (seq, caller) in callers.into_iter().chain([late]).enumerate() {
        assert_eq!(caller.await.expect("no panic"), answer(seq as u64));
    }
}

#[tokio::test(start_paused = true)]
async fn an_op_that_never_left_was_not_applied() {
    let started = Instant::now();
    let short = started + Duration::from_millis(300);
    let expected = Err(Error::Unavailable);
    let in_time =
        |what: &str| assert!(started.elapsed() < Duration::from_millis(500), "{what} kept its caller waiting");

    // The node does not answer the call at all.
    let mut world = World::new();
    let call = world.node.lane_call().await;
    assert_eq!(world.submit_until(1, short).await.expect("no panic"), expected);
    in_time("a silent node");
    drop((call, world));

    // It refuses every lane.
    let mut world = World::new();
    let op = world.submit_until(1, Instant::now() + Duration::from_millis(300));
    let started = Instant::now();
    while !op.is_finished() {
        tokio::select! {
            call = world.node.lane_call() => call.refuse(),
            () = quiet() => {}
        }
    }
    assert_eq!(op.await.expect("no panic"), expected);
    assert!(started.elapsed() < Duration::from_millis(500));

    // It takes the lane and grants nothing.
    let mut world = World::new();
    let mut lane = world.node.lane_call().await.accept();
    quiet().await;
    let op = world.submit_until(1, Instant::now() + Duration::from_millis(300));
    let waited = tokio::time::timeout(Duration::from_millis(500), op).await;
    assert_eq!(waited.expect("an answer in time").expect("no panic"), expected);
    lane.grant(10);
    assert_eq!(sent(&mut lane).await, [0; 0], "an op that was given up does not leave any more");
}

#[tokio::test(start_paused = true)]
async fn an_op_that_waits_for_credit_past_its_deadline_does_not_leave() {
    let mut world = World::new();
    let mut lane = world.node.lane(1).await;
    quiet().await;
    let first = world.submit_until(1, Instant::now() + Duration::from_secs(5));
    assert_eq!(sent(&mut lane).await, [0]);
    let second = world.submit_until(1, Instant::now() + Duration::from_millis(300));
    let waited = tokio::time::timeout(Duration::from_millis(500), second).await;
    assert_eq!(waited.expect("an answer in time").expect("no panic"), Err(Error::Unavailable));
    lane.answer(0, Ok(Reply::Done));
    assert_eq!(first.await.expect("no panic"), Ok(Reply::Done));
    assert_eq!(sent(&mut lane).await, [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_op_that_left_without_an_answer_is_unknown() {
    let mut world = World::new();
    let mut lane = world.node.lane(10).await;
    let started = Instant::now();
    let silent = world.submit_until(1, started + Duration::from_millis(300));
    assert_eq!(sent(&mut lane).await, [0]);
    assert_eq!(silent.await.expect("no panic"), Err(Error::OutcomeUnknown));
    assert!(started.elapsed() < Duration::from_millis(500));
    // Its late answer is nobody's, and the next op is told that it will not come again.
    lane.answer(0, answer(0));
    let next = world.submit(1);
    let frame = lane.frame().await.expect("a frame");
    assert_eq!((seqs(&frame), frame[0].acked), (vec![1], 1));
    lane.answer(1, answer(1));
    assert_eq!(next.await.expect("no panic"), answer(1));

    // The same if the lane is lost, and nobody opens another one.
    let lost = world.submit_until(1, Instant::now() + Duration::from_millis(300));
    assert_eq!(sent(&mut lane).await, [2]);
    drop(lane);
    let call = world.node.lane_call().await;
    assert_eq!(lost.await.expect("no panic"), Err(Error::OutcomeUnknown));
    let mut lane = call.accept();
    lane.grant(10);
    assert_eq!(sent(&mut lane).await, [0; 0], "an op that was given up is not sent again");
}

#[tokio::test(start_paused = true)]
async fn no_more_ops_are_unanswered_than_the_node_grants() {
    const CREDIT: u32 = 7;
    let mut world = World::new();
    // Most of them are there before the lane is.
    let callers: Vec<_> = (0..100).map(|_| world.submit(1)).collect();
    quiet().await;
    let mut lane = world.node.lane_call().await.accept();
    assert_eq!(sent(&mut lane).await, [0; 0], "nothing is granted yet");
    lane.grant(CREDIT);
    let mut unanswered = BTreeSet::new();
    let mut seen = 0;
    while seen < 100 {
        for seq in sent(&mut lane).await {
            assert_eq!(seq, seen, "in order, each once");
            seen += 1;
            unanswered.insert(seq);
        }
        assert!((1..=CREDIT as usize).contains(&unanswered.len()), "{} are unanswered", unanswered.len());
        // The newest first, as groups are not done in the order of ops; now and then the lane is lost.
        for seq in [unanswered.pop_last(), unanswered.pop_first()].into_iter().flatten() {
            lane.answer(seq, answer(seq));
        }
        if seen % 3 == 0 {
            quiet().await;
            drop(lane);
            lane = world.node.lane_call().await.accept();
            assert_eq!(sent(&mut lane).await, [0; 0], "what the last lane was granted is not this one's");
            lane.grant(CREDIT);
            let again = sent(&mut lane).await;
            let fresh: Vec<u64> = again.iter().copied().filter(|seq| *seq >= seen).collect();
            assert!(again.iter().filter(|seq| **seq < seen).eq(&unanswered), "what was unanswered, and only that");
            seen += fresh.len() as u64;
            unanswered.extend(fresh);
            assert!(unanswered.len() <= CREDIT as usize, "{} are unanswered", unanswered.len());
        }
    }
    unanswered.into_iter().for_each(|seq| lane.answer(seq, answer(seq)));
    for (seq, caller) in callers.into_iter().enumerate() {
        assert_eq!(caller.await.expect("no panic"), answer(seq as u64));
    }
}

fn assert_frames_are_bounded(frames: &[Vec<SentOp>]) {
    for frame in frames {
        let bytes: usize = frame.iter().map(|op| op.op.len()).sum();
        assert!(frame.len() <= FRAME_OPS_MAX, "{} ops in a frame", frame.len());
        assert!(bytes <= FRAME_BYTES_MAX || frame.len() == 1, "{bytes} bytes in a frame");
    }
}

#[tokio::test(start_paused = true)]
async fn frames_are_bounded_in_ops_and_bytes() {
    let mut world = World::new();
    let mut lane = world.node.lane(8192).await;
    quiet().await;
    let mut callers: Vec<_> = (0..FRAME_OPS_MAX * 2 + 10).map(|_| world.submit(1)).collect();
    let small = frames(&mut lane).await;
    assert_frames_are_bounded(&small);
    assert!(small.iter().flat_map(seqs).eq(0..callers.len() as u64));
    assert!(small.len() <= 4, "{} frames", small.len());

    // 400 KiB go two by two, and one that is larger than a frame goes alone.
    let sizes = [1, 400 << 10, 400 << 10, 400 << 10, 1, 3 * FRAME_BYTES_MAX, 1, FRAME_BYTES_MAX - 40, 1];
    let first = callers.len() as u64;
    callers.extend(sizes.map(|bytes| world.submit(bytes)));
    let large = frames(&mut lane).await;
    assert_frames_are_bounded(&large);
    let sizes: Vec<usize> = large.iter().map(|frame| frame.len()).collect();
    assert_eq!(sizes, [3, 2, 1, 1, 1, 1], "as few as can be");
    assert!(large.iter().flat_map(seqs).eq(first..callers.len() as u64));

    // All of them again over a new lane.
    drop(lane);
    let mut lane = world.node.lane(8192).await;
    let again = frames(&mut lane).await;
    assert_frames_are_bounded(&again);
    assert!(again.iter().flat_map(seqs).eq(0..callers.len() as u64));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_at_once() {
    let mut world = World::new();
    let call = world.node.lane_call().await;
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut callers = Vec::new();
    // A few at a time, so that the lane takes in what it will.
    for i in 0..20_000 {
        callers.push(world.submit_until(1, deadline));
        if i % 100 == 0 {
            yield_now().await;
        }
    }
    quiet().await;
    let refused = callers.iter().filter(|caller| caller.is_finished()).count();
    assert_eq!(refused, 20_000 - SESSION_OPS_MAX);
    let mut errors = BTreeSet::new();
    for caller in callers {
        errors.insert(caller.await.expect("no panic").expect_err("no node").code());
    }
    assert_eq!(errors, BTreeSet::from([Error::Overloaded.code(), Error::Unavailable.code()]));
    assert!(Instant::now() < deadline + Duration::from_millis(300), "nobody waits for long past the deadline");
    // There is room again.
    drop(call);
    let mut lane = world.node.lane(10).await;
    let caller = world.submit(1);
    let seq = sent(&mut lane).await[0];
    lane.answer(seq, Ok(Reply::Done));
    assert_eq!(caller.await.expect("no panic"), Ok(Reply::Done));
}

#[tokio::test(start_paused = true)]
async fn answers_that_make_no_sense_harm_nobody_else() {
    let mut world = World::new();
    let mut lane = world.node.lane(10).await;
    let callers: Vec<_> = (0..3).map(|_| world.submit(1)).collect();
    assert_eq!(sent(&mut lane).await, [0, 1, 2]);
    lane.answer(99, answer(99));
    lane.answer(u64::MAX, answer(99));
    lane.answer(1, answer(1));
    lane.answer(1, answer(2));
    lane.answer_encoded(2, Bytes::from_static(b"\xFF\xFF"));
    lane.answer(0, answer(0));
    lane.answer(0, answer(99));
    let expected = [answer(0), answer(1), Err(Error::OutcomeUnknown)];
    for (caller, expected) in callers.into_iter().zip(expected) {
        assert_eq!(caller.await.expect("no panic"), expected);
    }
    let next = world.submit(1);
    assert_eq!(sent(&mut lane).await, [3]);
    lane.answer(2, answer(99));
    lane.answer_encoded(3, Bytes::new());
    assert_eq!(next.await.expect("no panic"), Err(Error::OutcomeUnknown), "an answer without content");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_leaves_nothing_behind() {
    let mut world = World::new();
    let mut lane = world.node.lane(2).await;
    let callers = [world.submit(1), world.submit(1)];
    assert_eq!(sent(&mut lane).await, [0, 1]);
    callers.iter().for_each(|caller| caller.abort());
    quiet().await;
    let next = world.submit(1);
    // The node may still carry them out, so they count until they are answered.
    assert_eq!(sent(&mut lane).await, [0; 0]);
    lane.answer(0, answer(0));
    lane.answer(1, answer(1));
    assert_eq!(sent(&mut lane).await, [2]);
    lane.answer(2, answer(2));
    assert_eq!(next.await.expect("no panic"), answer(2));
}

#[tokio::test(start_paused = true)]
async fn the_lane_ends_with_its_last_handle() {
    let mut world = World::new();
    let first = world.submit(1);
    let mut open = world.node.lane(10).await;
    assert_eq!(sent(&mut open).await, [0]);
    open.answer(0, answer(0));
    assert_eq!(first.await.expect("no panic"), answer(0));
    let World { node: _node, lanes } = world;
    let other = lanes.clone();
    drop(lanes);
    quiet().await;
    let op =
        tokio::spawn(async move { other.submit((GROUP, Pace::Prompt), &append(1), Instant::now() + PATIENCE).await });
    assert_eq!(sent(&mut open).await, [1]);
    open.answer(1, answer(1));
    assert_eq!(op.await.expect("no panic"), answer(1));
    assert_eq!(open.frame().await, None);
}
