//! The queue of a group: what goes together as one entry, what is refused for load, and the sweep.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::{LocalSet, spawn_local};
use ursula_common::clock::ManualClock;
use ursula_common::packs::PackRef;
use ursula_common::verb::{Ack, Append, BucketStep, CommitPack, Create, Lifetime, Reply, Retention};
use ursula_common::{BucketName, ContentType, Millis, NodeId};

use super::*;
use crate::hot::Hot;
use crate::peers::Peers;
use crate::raft::Storage;

const GROUP: GroupId = GroupId(1);

struct World {
    group: Rc<Group>,
    clock: Arc<ManualClock>,
}

/// Runs `test` with a group whose queue is not served before the test says so.
async fn with_group(ring_bytes: usize, test: impl AsyncFnOnce(World)) {
    let run = async {
        let metrics = Metrics::new(1).expect("metrics");
        let hot = Rc::new(RefCell::new(Hot::new(ring_bytes)));
        let state = Rc::new(RefCell::new(GroupState::in_memory(GROUP, 1, hot, Millis(0))));
        let peers = Peers::new(NodeId(1), 0, None, metrics.clone());
        let replica = Replica::start(GROUP, state.clone(), Storage::Memory, peers).await.expect("a replica");
        replica.initialize([NodeId(1)]).await.expect("a group");
        replica.wait_for_leadership().await.expect("a leader");
        let clock = Arc::new(ManualClock::at(Millis(1000)));
        let group = Rc::new(Group::new(GROUP, state, replica, None, None, clock.clone(), metrics));
        test(World { group, clock }).await;
    };
    LocalSet::new().run_until(run).await;
}

impl World {
    fn serve(&self) {
        let group = self.group.clone();
        spawn_local(async move { group.run(|| ()).await });
    }

    fn enqueue(&self, op: Op) -> oneshot::Receiver<OpResult> {
        let (reply, answer) = oneshot::channel();
        self.group.enqueue(Proposal { group: GROUP, origin: None, op, encoded: None, reply: ReplyTo::Task(reply) });
        answer
    }

    /// Sizes of the batches that the queue is divided into.
    fn batches(&self) -> Vec<usize> {
        let sizes = std::iter::from_fn(|| Some(self.group.take_batch().len()));
        sizes.take_while(|size| *size > 0).collect()
    }
}

fn key() -> StreamKey {
    StreamKey::parse("default", "stream").expect("a name")
}

fn create(lifetime: Lifetime) -> Op {
    let (content_type, body) = (Some(ContentType::default()), Bytes::new());
    Op::Create(Create {
        key: key(),
        content_type,
        lifetime,
        closed: false,
        body,
        fork: None,
        numbered: true,
        retention: Retention::default(),
    })
}

fn append(body: Bytes) -> Op {
    Op::Append(Append {
        key: key(),
        content_type: Some(ContentType::default()),
        body,
        close: false,
        producer: None,
        stream_seq: None,
        expected_offset: None,
    })
}

/// Otherwise nobody could tell which of several packs with one number counts, once only the store is left.
#[tokio::test]
async fn a_pack_is_committed_in_the_term_of_its_plan_or_not_at_all() {
    with_group(usize::MAX, async |world| {
        world.serve();
        let pack = PackRef { first: 1, last: 1, maker: 1, bytes: 1, hash: [0; 32] };
        let commit = Op::CommitPack(Box::new(CommitPack { pack, as_of: 1, streams: Vec::new() }));
        assert_eq!(world.enqueue(Op::BeginPacks).await, Ok(Ok(Reply::Done)));
        let term = world.group.replica.led_term().expect("it leads");
        for other in [None, Some(term - 1)] {
            world.group.pack_term.set(other);
            assert_eq!(world.enqueue(commit.clone()).await, Ok(Err(Error::NOT_HERE)));
        }
        world.group.pack_term.set(Some(term));
        assert_eq!(world.enqueue(commit).await, Ok(Ok(Reply::Done)));
    })
    .await;
}

/// Whoever waited asks the next leader, which knows what packs have.
#[tokio::test]
async fn what_waits_for_packs_is_unknown_once_its_leader_leads_no_more() {
    with_group(usize::MAX, async |world| {
        world.serve();
        let bucket = BucketName::parse("safe").expect("a name");
        let step = BucketStep { bucket: bucket.clone(), order: 9, ack: Ack::Offloaded };
        for op in [Op::BeginPacks, Op::InstallBucket(step), create(Lifetime::Forever)] {
            assert!(matches!(world.enqueue(op).await, Ok(Ok(_))));
        }
        let gone = Op::Delete(StreamKey { bucket, name: key().name });
        let (reply, answer) = oneshot::channel();
        world.group.tell(ReplyTo::Task(reply), Err(Error::StreamNotFound), world.group.subject(&gone));
        world.group.forget_held(world.group.replica.led_term());
        assert_eq!(world.group.held_len(), 1, "it leads, and no pack has what was before");
        world.group.rest();
        assert_eq!((answer.await, world.group.held_len()), (Ok(Err(Error::OutcomeUnknown)), 0));
    })
    .await;
}

#[tokio::test]
async fn what_has_queued_goes_as_one_entry() {
    with_group(usize::MAX, async |world| {
        let mut answers = vec![world.enqueue(create(Lifetime::Forever))];
        answers.extend((0..9).map(|_| world.enqueue(append(Bytes::from_static(b"x")))));
        assert_eq!(world.group.queue_len(), 10);
        world.serve();
        for answer in answers {
            answer.await.expect("an answer").expect("done");
        }
        let metrics = world.group.metrics.registry.render();
        assert!(metrics.contains("ursula_node_batch_ops_count 1\n"), "{metrics}");
    })
    .await;
}

#[tokio::test]
async fn an_entry_is_bounded_in_ops_and_bytes() {
    with_group(usize::MAX, async |world| {
        let small = append(Bytes::from_static(b"x"));
        let _answers: Vec<_> = (0..BATCH_OPS_MAX + 1).map(|_| world.enqueue(small.clone())).collect();
        assert_eq!(world.batches(), [BATCH_OPS_MAX, 1]);

        let third = append(Bytes::from(vec![0; BATCH_BYTES_MAX / 3 + 1]));
        let _answers: Vec<_> = (0..7).map(|_| world.enqueue(third.clone())).collect();
        assert_eq!(world.batches(), [3, 3, 1]);

        let large = append(Bytes::from(vec![0; 3 * BATCH_BYTES_MAX]));
        let _answers = [large, small].map(|op| world.enqueue(op));
        assert_eq!(world.batches(), [1, 1], "an op that is larger goes alone");
        assert_eq!((world.group.queue_len(), world.group.queue.borrow().bytes), (0, 0));
    })
    .await;
}

#[tokio::test]
async fn a_full_queue_refuses_and_takes_again_when_it_was_served() {
    with_group(usize::MAX, async |world| {
        let waiting: Vec<_> = (0..QUEUE_OPS_MAX).map(|_| world.enqueue(Op::Delete(key()))).collect();
        assert_eq!(world.enqueue(Op::Delete(key())).await, Ok(Err(Error::Overloaded)));
        world.serve();
        for answer in waiting {
            assert_eq!(answer.await, Ok(Err(Error::StreamNotFound)));
        }
        assert_eq!(world.enqueue(Op::Delete(key())).await, Ok(Err(Error::StreamNotFound)));
    })
    .await;
}

#[tokio::test]
async fn bytes_that_wait_are_bounded_by_the_queue_and_by_memory() {
    let body = Bytes::from(vec![0; QUEUE_BYTES_MAX / 8]);
    with_group(usize::MAX, async |world| {
        let _waiting: Vec<_> = (0..8).map(|_| world.enqueue(append(body.clone()))).collect();
        assert_eq!(world.enqueue(append(Bytes::from_static(b"x"))).await, Ok(Err(Error::Overloaded)));
        let _deletes = world.enqueue(Op::Delete(key()));
        assert_eq!(world.group.queue_len(), 9, "what has no bytes finds room");
    })
    .await;
    with_group(2 * body.len(), async |world| {
        let _waiting: Vec<_> = (0..2).map(|_| world.enqueue(append(body.clone()))).collect();
        assert_eq!(world.enqueue(append(body.clone())).await, Ok(Err(Error::MemoryFull)), "what waits counts");
    })
    .await;
}

#[tokio::test]
async fn the_sweep_is_proposed_once_and_again_when_it_was_refused() {
    with_group(usize::MAX, async |world| {
        let created = world.enqueue(create(Lifetime::Ttl(10)));
        world.serve();
        created.await.expect("an answer").expect("created");
        // No await from here on: nothing is served.
        world.group.expire_if_due();
        assert_eq!(world.group.queue_len(), 0, "nothing is due");
        world.clock.advance(Duration::from_secs(10));
        world.group.expire_if_due();
        world.group.expire_if_due();
        assert_eq!(world.group.queue_len(), 1);
        assert_eq!(world.group.take_batch().len(), 1);
    })
    .await;
    with_group(usize::MAX, async |world| {
        let created = world.enqueue(create(Lifetime::Ttl(10)));
        world.serve();
        created.await.expect("an answer").expect("created");
        world.clock.advance(Duration::from_secs(10));
        let _full: Vec<_> = (0..QUEUE_OPS_MAX).map(|_| world.enqueue(Op::Touch(key()))).collect();
        world.group.expire_if_due();
        while !world.group.take_batch().is_empty() {}
        world.group.expire_if_due();
        assert_eq!(world.group.queue_len(), 1, "a sweep that found no place is tried again");
    })
    .await;
}
