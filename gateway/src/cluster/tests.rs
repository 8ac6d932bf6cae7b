//! Which node an op goes to, and what happens while none leads its group.

use bytes::Bytes;
use tokio::task::JoinHandle;
use ursula_common::error::Outcome;
use ursula_common::verb::{Append, Create, Lifetime, ReadFrom, Reply, Retention};
use ursula_common::wire;

use super::*;
use crate::tests::{FakeLane, FakeNode, OFFLOADED, SentOp, quiet, topology};

mod replicas;

const TIMEOUT: Duration = Duration::from_secs(2);

struct World {
    node: FakeNode,
    cluster: Cluster,
}

impl World {
    fn new(node: FakeNode) -> World {
        let cluster = Cluster::reach(
            vec![node.seed()],
            Arc::new(ursula_proto::remote),
            1,
            TIMEOUT,
            usize::MAX,
            crate::tests::metrics(),
        );
        World { node, cluster }
    }

    fn submit(&self, op: Op) -> JoinHandle<OpResult> {
        let cluster = self.cluster.clone();
        tokio::spawn(async move { cluster.submit(&op).await })
    }
}

fn key() -> StreamKey {
    StreamKey::parse("default", "stream").expect("a name")
}

fn bucket() -> BucketName {
    BucketName::parse("bucket").expect("a name")
}

fn delete() -> Op {
    Op::Delete(key())
}

async fn op(lane: &mut FakeLane) -> SentOp {
    let frame = lane.frame().await.expect("a frame");
    let [op] = frame.as_slice() else { panic!("{} ops", frame.len()) };
    op.clone()
}

#[tokio::test(start_paused = true)]
async fn ops_go_to_the_group_of_their_stream_and_buckets_to_the_meta_group() {
    let mut world = World::new(FakeNode::new());
    let mut lane = world.node.lane(10).await;
    let create = Op::Create(Create {
        key: key(),
        content_type: None,
        lifetime: Lifetime::Forever,
        closed: false,
        body: Bytes::new(),
        fork: None,
        numbered: true,
        retention: Retention::default(),
    });
    let append = Op::Append(Append {
        key: key(),
        content_type: None,
        body: Bytes::from_static(b"x"),
        close: false,
        producer: None,
        stream_seq: None,
        expected_offset: None,
    });
    let (make, remove) = (Op::CreateBucket(bucket(), Ack::Quorum), Op::DeleteBucket(bucket()));
    for (wanted, group) in [(create, 1), (append, 1), (delete(), 1), (make, 0), (remove, 0)] {
        let answer = world.submit(wanted.clone());
        let sent = op(&mut lane).await;
        assert_eq!((sent.group, wire::decode_op(sent.op)), (group, Ok(wanted)));
        lane.answer(sent.seq, Ok(Reply::Done));
        assert_eq!(answer.await.expect("no panic"), Ok(Reply::Done));
    }
}

/// As soon as that is known: it is asked for beside the first of them.
#[tokio::test(start_paused = true)]
async fn ops_that_wait_for_the_object_store_hold_up_no_others() {
    let mut world = World::new(FakeNode::new());
    let mut lane = world.node.lane(10).await;
    let mut sessions = Vec::new();
    for bucket in [OFFLOADED, OFFLOADED, "default", OFFLOADED] {
        let answer = world.submit(Op::Delete(StreamKey::parse(bucket, "stream").expect("a name")));
        let sent = op(&mut lane).await;
        lane.answer_op(&sent, Ok(Reply::Done));
        assert_eq!(answer.await.expect("no panic"), Ok(Reply::Done));
        sessions.push(sent.session);
        quiet().await;
    }
    assert_eq!((sessions[0], sessions[1]), (sessions[2], sessions[3]));
    assert_ne!(sessions[1], sessions[2]);
}

#[tokio::test(start_paused = true)]
async fn an_op_is_sent_again_while_its_group_has_no_leader() {
    let mut world = World::new(FakeNode::new());
    let mut lane = world.node.lane(10).await;
    let answer = world.submit(delete());
    for _ in 0..3 {
        let sent = op(&mut lane).await;
        assert_eq!(sent.seq, 0, "the same op");
        lane.answer(0, Err(Error::NOT_HERE));
    }
    let sent = op(&mut lane).await;
    lane.answer(sent.seq, Ok(Reply::Done));
    assert_eq!(answer.await.expect("no panic"), Ok(Reply::Done));

    // Without a leader for all of its time, it was not applied.
    let started = Instant::now();
    let answer = world.submit(delete());
    let mut tries = 0;
    while !answer.is_finished() {
        tokio::select! {
            biased;
            frame = lane.frame() => {
                frame.expect("a frame").iter().for_each(|op| lane.answer(op.seq, Err(Error::NOT_HERE)));
                tries += 1;
            }
            () = quiet() => {}
        }
    }
    let error = answer.await.expect("no panic").expect_err("no leader");
    assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
    assert!((TIMEOUT..TIMEOUT + Duration::from_millis(100)).contains(&started.elapsed()), "{:?}", started.elapsed());
    assert!((10..=110).contains(&tries), "{tries} tries in {TIMEOUT:?}");
}

#[tokio::test(start_paused = true)]
async fn other_refusals_are_the_callers_to_judge() {
    let mut world = World::new(FakeNode::new());
    let mut lane = world.node.lane(10).await;
    for (seq, error) in [Error::Overloaded, Error::MemoryFull, Error::OutcomeUnknown].into_iter().enumerate() {
        let answer = world.submit(delete());
        assert_eq!(op(&mut lane).await.seq, seq as u64);
        lane.answer(seq as u64, Err(error.clone()));
        assert_eq!(answer.await.expect("no panic"), Err(error));
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_topology_nothing_leaves() {
    let world = World::new(FakeNode::unannounced());
    assert!(!world.cluster.is_ready());
    let started = Instant::now();
    assert_eq!(world.submit(delete()).await.expect("no panic"), Err(Error::Unavailable));
    assert_eq!(started.elapsed().as_secs(), TIMEOUT.as_secs());
    assert_eq!(world.cluster.describe(&key()).await, Err(Error::Unavailable));
    // It comes while somebody waits.
    let stored = world.node.store("stream", "text/plain");
    let describe = tokio::spawn({
        let cluster = world.cluster.clone();
        async move { cluster.describe(&key()).await }
    });
    quiet().await;
    world.node.announce(topology(1));
    assert_eq!(describe.await.expect("no panic"), stored.info().try_into());
    assert!(world.cluster.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_topology_that_makes_no_sense_is_not_followed() {
    let world = World::new(FakeNode::unannounced());
    world.node.store("stream", "text/plain");
    let few_slots = v1::Topology { slots: vec![1; 7], ..topology(1) };
    let nobody =
        v1::Topology { groups: vec![v1::Group { id: 1, replicas: vec![], leader: None, term: 0 }], ..topology(2) };
    let stranger =
        v1::Topology { groups: vec![v1::Group { id: 1, replicas: vec![99], leader: None, term: 0 }], ..topology(3) };
    for senseless in [few_slots, nobody, stranger] {
        world.node.announce(senseless);
        quiet().await;
        assert!(!world.cluster.is_ready());
    }
    let mut leaderless = topology(4);
    leaderless.groups[1].leader = None;
    world.node.announce(leaderless);
    quiet().await;
    assert!(!world.cluster.is_ready(), "nobody leads");
    world.node.announce(topology(5));
    quiet().await;
    assert!(world.cluster.is_ready());
    world.cluster.describe(&key()).await.expect("a stream");
    // Nor does it take the place of one that did.
    world.node.announce(v1::Topology { slots: vec![], ..topology(6) });
    quiet().await;
    world.cluster.describe(&key()).await.expect("a stream");
    // A group that nobody leads is not there, for ops and reads alike.
    world.node.announce(v1::Topology {
        groups: vec![v1::Group { id: 0, replicas: vec![7], leader: None, term: 0 }],
        ..topology(7)
    });
    quiet().await;
    assert_eq!(world.cluster.describe(&key()).await, Err(Error::Unavailable));
    assert_eq!(world.submit(delete()).await.expect("no panic"), Err(Error::Unavailable));
    assert!(world.cluster.is_ready(), "others would not do better");
}

#[tokio::test(start_paused = true)]
async fn a_question_without_an_answer_ends_in_the_time_for_an_op() {
    let world = World::new(FakeNode::new());
    let stored = world.node.store("stream", "text/plain");
    stored.append(b"bytes");
    let key = key();
    let read = || {
        world.cluster.read(&key, None, |target| RangeRequest {
            target,
            from: ReadFrom::Start,
            until: None,
            bytes_max: 100,
            touch: false,
            applied_is_enough: false,
        })
    };
    let id = StreamId(stored.info().id);
    read().await.expect("a range");
    stored.fall_silent(true);
    let started = Instant::now();
    let asked = async {
        tokio::join!(world.cluster.describe(&key), read(), world.cluster.tail(&key, id, Offset(0), false, None))
    };
    let (info, range, tail) = tokio::time::timeout(2 * TIMEOUT, asked).await.expect("in time");
    assert_eq!(info, Err(Error::Unavailable));
    assert_eq!(range.map(drop), Err(Error::Unavailable));
    assert_eq!(tail.map(drop), Err(Error::Unavailable));
    assert_eq!(started.elapsed().as_secs(), TIMEOUT.as_secs());
    stored.fall_silent(false);
    read().await.expect("a range");
}
