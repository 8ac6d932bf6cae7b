//! Messages to another group, which the test plays: each is sent until its answer is applied.

use std::cell::RefCell;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, LocalSet, yield_now};
use tokio::time::timeout;
use ursula_common::clock::SystemClock;
use ursula_common::verb::{Create, ForkFrom, Lifetime, OpResult, Retention};
use ursula_common::{Error, GroupId, Millis, NodeId, StreamKey};

use super::*;
use crate::core::{Request, RequestKind};
use crate::group::state::GroupState;
use crate::group::{Proposal, ReplyTo};
use crate::hot::Hot;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::raft::{Replica, Storage};

const GROUP: GroupId = GroupId(1);

struct World {
    group: Rc<Group>,
    courier: Rc<Courier>,
    /// What every other group is asked.
    others: mpsc::Receiver<Request>,
}

async fn with_group(test: impl AsyncFnOnce(World)) {
    let run = async {
        let metrics = Metrics::new(1).expect("metrics");
        let hot = Rc::new(RefCell::new(Hot::new(usize::MAX)));
        let state = Rc::new(RefCell::new(GroupState::in_memory(GROUP, 1, hot, Millis(0))));
        let peers = Peers::new(NodeId(1), 0, None, metrics.clone());
        let replica = Replica::start(GROUP, state.clone(), Storage::Memory, peers).await.expect("a replica");
        replica.initialize([NodeId(1)]).await.expect("a group");
        replica.wait_for_leadership().await.expect("a leader");
        let group = Rc::new(Group::new(GROUP, state, replica, None, None, Arc::new(SystemClock), metrics));
        let (mailbox, others) = mpsc::channel(8);
        let courier = Courier::new(group.clone(), Directory::new(1, vec![mailbox]));
        test(World { group, courier, others }).await;
    };
    LocalSet::new().run_until(run).await;
}

impl World {
    fn serve(&self) -> JoinHandle<()> {
        let (group, courier) = (self.group.clone(), self.courier.clone());
        spawn_local(async move { group.run(|| courier.send_new()).await })
    }

    fn enqueue(&self, op: Op) -> oneshot::Receiver<OpResult> {
        let (reply, answer) = oneshot::channel();
        self.group.enqueue(Proposal { group: GROUP, origin: None, op, encoded: None, reply: ReplyTo::Task(reply) });
        answer
    }

    /// The next message to another group.
    async fn message(&mut self) -> Proposal {
        let request = timeout(Duration::from_secs(10), self.others.recv()).await.expect("a message in time");
        let Some(Request { kind: RequestKind::Propose(mut proposals), .. }) = request else { panic!("no message") };
        assert_eq!(proposals.len(), 1);
        proposals.remove(0)
    }

    /// Whether nothing is sent, however often the courier looks.
    async fn is_silent(&mut self) -> bool {
        self.courier.send_again();
        for _ in 0..10 {
            yield_now().await;
        }
        self.others.try_recv().is_err()
    }
}

fn key(name: &str) -> StreamKey {
    StreamKey::parse("default", name).expect("a name")
}

fn fork() -> Op {
    Op::Create(Create {
        key: key("fork"),
        content_type: None,
        lifetime: Lifetime::Forever,
        closed: false,
        body: Default::default(),
        fork: Some(ForkFrom { source: key("source"), offset: None, sub_offset: 0 }),
        numbered: true,
        retention: Retention::default(),
    })
}

#[tokio::test]
async fn a_message_is_sent_once_at_a_time_and_again_while_the_other_group_cannot_take_it() {
    with_group(async |mut world| {
        world.serve();
        let answer = world.enqueue(fork());
        let first = world.message().await;
        assert!(matches!(&first.op, Op::AcquireFork(acquire) if acquire.fork_ref.source == key("source")));
        assert!(world.is_silent().await, "it is under way");
        let op = first.op.clone();
        first.reply.send(Err(Error::NOT_HERE));
        for refusal in [Error::Overloaded, Error::OutcomeUnknown, Error::Unavailable] {
            let again = world.message().await;
            assert_eq!(again.op, op, "the same message");
            again.reply.send(Err(refusal));
        }
        world.message().await.reply.send(Err(Error::ForkSourceNotFound));
        assert_eq!(answer.await, Ok(Err(Error::ForkSourceNotFound)));
    })
    .await;
}

#[tokio::test]
async fn a_message_whose_answer_was_lost_is_sent_again() {
    with_group(async |mut world| {
        let served = world.serve();
        let mut answer = world.enqueue(fork());
        let first = world.message().await;
        // The answer finds a full queue.
        served.abort();
        while world.group.enqueue_own(Op::Delete(key("nothing"))) {}
        first.reply.send(Err(Error::ForkSourceNotFound));
        for _ in 0..10 {
            yield_now().await;
        }
        assert!(answer.try_recv().is_err());
        world.serve();
        while world.group.queue_len() > 0 {
            yield_now().await;
        }
        world.courier.send_again();
        world.message().await.reply.send(Err(Error::ForkSourceNotFound));
        assert_eq!(answer.await, Ok(Err(Error::ForkSourceNotFound)));
        assert!(world.courier.under_way.borrow().len() <= 1, "what was answered is forgotten");
    })
    .await;
}
