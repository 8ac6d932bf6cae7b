//! One group on its core: ops queue here, are proposed in batches, and are answered.
//!
//! While one proposal is in flight the next ops wait, and go together as one entry: the busier the
//! group, the larger the batch, with no timer anywhere.

pub(crate) mod compactor;
pub(crate) mod courier;
mod cut;
mod held;
pub(crate) mod packer;
pub(crate) mod state;
mod stored;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};
use ursula_common::traces::Span;
use ursula_common::verb::{Op, OpResult};
use ursula_common::{Clock, Error, GroupId, SagaId, SessionId, StreamKey};
use ursula_stream_core::{Answer, Command, Origin, Proposed};

use crate::cold::Cold;
use crate::data_dir::DataDir;
use crate::metrics::Metrics;
use crate::raft::Replica;
use held::{Held, Subject};
use state::GroupState;

/// Ops of one group that may wait for their proposal.
const QUEUE_OPS_MAX: usize = 16 << 10;
/// Bytes of bodies of one group that may wait for their proposal.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Most ops in one entry.
const BATCH_OPS_MAX: usize = 1024;
/// An entry is closed when its bodies reach so many bytes.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// An op on its way into a group.
#[derive(Debug)]
pub(crate) struct Proposal {
    pub(crate) group: GroupId,
    pub(crate) origin: Option<Origin>,
    pub(crate) op: Op,
    /// The op as it came, if it came encoded.
    pub(crate) encoded: Option<Bytes>,
    pub(crate) reply: ReplyTo,
}

/// Who waits for the answer to an op.
#[derive(Debug)]
pub(crate) enum ReplyTo {
    /// A lane; answers say to which of its ops. Bounded by the credit of the lane.
    Lane(mpsc::UnboundedSender<(LaneOp, OpResult)>, LaneOp),
    /// One task.
    Task(oneshot::Sender<OpResult>),
    /// Nobody.
    Nobody,
    /// Somebody who is told within a trace.
    Traced(Box<(Span, ReplyTo)>),
}

/// Names an op of a lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneOp {
    pub(crate) session: SessionId,
    pub(crate) seq: u64,
    /// Its size, which its answer gives back to the credit of the lane.
    pub(crate) bytes: usize,
}

impl ReplyTo {
    /// Answers; whoever waited may have gone.
    pub(crate) fn send(self, result: OpResult) {
        match self {
            ReplyTo::Lane(lane, op) => drop(lane.send((op, result))),
            ReplyTo::Task(task) => drop(task.send(result)),
            ReplyTo::Nobody => {}
            ReplyTo::Traced(traced) => {
                let (mut span, to) = *traced;
                if let Err(error) = &result {
                    span.note("error.type", error.code());
                }
                // It ends before whoever waits can go on.
                drop(span);
                to.send(result);
            }
        }
    }

    /// Whether nobody waits any more.
    fn is_abandoned(&self) -> bool {
        match self {
            ReplyTo::Lane(lane, _) => lane.is_closed(),
            ReplyTo::Task(task) => task.is_closed(),
            ReplyTo::Nobody => true,
            ReplyTo::Traced(traced) => traced.1.is_abandoned(),
        }
    }
}

/// Who waits for the end of a saga, and what its answer speaks of.
type Waiter = (ReplyTo, Option<Subject>);

/// One group on its core.
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) state: Rc<RefCell<GroupState>>,
    pub(crate) replica: Replica<GroupState>,
    queue: RefCell<Queue>,
    queued: Notify,
    closed: Cell<bool>,
    expiring: Cell<bool>,
    /// Ops whose answer comes when their saga is finished.
    waiting: RefCell<BTreeMap<SagaId, Vec<Waiter>>>,
    /// Answers that wait for packs.
    held: RefCell<Vec<Held>>,
    /// There is one more of them.
    pack_wanted: Notify,
    /// The term in which the last pack was planned. It is committed in no other: see `packer.rs`.
    pack_term: Cell<Option<u64>>,
    /// Where its log lies, if it does.
    dir: Option<DataDir>,
    /// Where its history lies, if it leaves the node.
    cold: Option<Cold>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Queue {
    proposals: VecDeque<Proposal>,
    bytes: usize,
}

impl Group {
    pub(crate) fn new(
        id: GroupId,
        state: Rc<RefCell<GroupState>>,
        replica: Replica<GroupState>,
        dir: Option<DataDir>,
        cold: Option<Cold>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Group {
        Group {
            id,
            state,
            replica,
            queue: RefCell::default(),
            queued: Notify::new(),
            closed: Cell::new(false),
            expiring: Cell::new(false),
            waiting: RefCell::default(),
            held: RefCell::default(),
            pack_wanted: Notify::new(),
            pack_term: Cell::new(None),
            dir,
            cold,
            clock,
            metrics,
        }
    }

    /// Queues an op for the next entry, or refuses it for load: nothing else is decided here.
    pub(crate) fn enqueue(&self, proposal: Proposal) {
        if let Err((reply, error)) = self.admit(proposal) {
            reply.send(Err(error));
        }
    }

    /// Queues an op of the group to itself, if there is room; nobody waits for its answer.
    pub(crate) fn enqueue_own(&self, op: Op) -> bool {
        self.admit(Proposal { group: self.id, origin: None, op, encoded: None, reply: ReplyTo::Nobody }).is_ok()
    }

    fn admit(&self, proposal: Proposal) -> Result<(), (ReplyTo, Error)> {
        if self.closed.get() {
            return Err((proposal.reply, Error::NOT_HERE));
        }
        if let Some(error) = self.refused_for_store(&proposal) {
            self.metrics.refused_store.increment(1);
            return Err((proposal.reply, error));
        }
        let bytes = proposal.op.body_bytes();
        let mut queue = self.queue.borrow_mut();
        if queue.proposals.len() >= QUEUE_OPS_MAX || queue.bytes + bytes > QUEUE_BYTES_MAX {
            self.metrics.refused_overloaded.increment(1);
            return Err((proposal.reply, Error::Overloaded));
        }
        if bytes > 0 && !self.state.borrow().reserve(bytes) {
            self.metrics.refused_memory.increment(1);
            return Err((proposal.reply, Error::MemoryFull));
        }
        if bytes > 0 && self.disk_is_full() {
            self.state.borrow().release(bytes);
            self.metrics.refused_disk.increment(1);
            return Err((proposal.reply, Error::DiskFull));
        }
        queue.bytes += bytes;
        queue.proposals.push_back(proposal);
        self.queued.notify_one();
        Ok(())
    }

    /// Proposes an op of the group to itself. Returns whether it took effect.
    pub(crate) async fn propose_own(&self, op: Op) -> bool {
        let (reply, answer) = oneshot::channel();
        self.enqueue(Proposal { group: self.id, origin: None, op, encoded: None, reply: ReplyTo::Task(reply) });
        matches!(answer.await, Ok(Ok(_)))
    }

    fn disk_is_full(&self) -> bool {
        self.dir.as_ref().is_some_and(DataDir::is_disk_full)
    }

    /// Proposes what is due to expire, unless that is under way.
    pub(crate) fn expire_if_due(&self) {
        let due = self.state.borrow().next_expiry().is_some_and(|at| at <= self.clock.now());
        if due && !self.expiring.get() {
            self.expiring.set(self.enqueue_own(Op::Expire));
        }
    }

    /// Renews the sliding time to live of a stream, unless that was done a moment ago.
    pub(crate) fn touch(&self, key: &StreamKey) {
        if self.state.borrow().touch_due(key, self.clock.now()) {
            self.enqueue_own(Op::Touch(key.clone()));
        }
    }

    /// Renews the time to live of streams that somebody tails: a live reader keeps a stream alive.
    pub(crate) fn touch_tailed(&self) {
        let keys = self.state.borrow().tailed_sliding();
        keys.iter().for_each(|key| self.touch(key));
    }

    /// What there is to do while another replica leads: sagas are for the leader to carry on, and whoever waited
    /// here for one asks there.
    pub(crate) fn rest(&self) {
        drop(self.state.borrow_mut().take_outgoing());
        drop(self.state.borrow_mut().take_finished());
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_values().flatten().for_each(|(reply, _)| reply.send(Err(Error::OutcomeUnknown)));
        self.forget_held(None);
    }

    /// Takes no more ops, and answers those that wait.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        let queued = std::mem::take(&mut *self.queue.borrow_mut()).proposals;
        self.state.borrow().release(body_bytes(&queued));
        queued.into_iter().for_each(|proposal| proposal.reply.send(Err(Error::NOT_HERE)));
        self.rest();
    }

    /// Ops that wait for their proposal.
    pub(crate) fn queue_len(&self) -> usize {
        self.queue.borrow().proposals.len()
    }

    /// Proposes whatever has queued, batch after batch, for as long as the group runs; calls `applied`
    /// after each.
    pub(crate) async fn run(&self, applied: impl Fn()) {
        loop {
            while self.queue_len() == 0 {
                self.queued.notified().await;
            }
            self.replica.log_idle().await;
            let batch = self.take_batch();
            // The group may have been closed meanwhile.
            if !batch.is_empty() {
                self.propose(batch).await;
                applied();
            }
        }
    }

    fn take_batch(&self) -> Vec<Proposal> {
        let mut queue = self.queue.borrow_mut();
        let mut bytes = 0;
        let take = queue.proposals.iter().take(BATCH_OPS_MAX).take_while(|proposal| {
            let fits = bytes < BATCH_BYTES_MAX;
            bytes += proposal.op.body_bytes();
            fits
        });
        let take = take.count();
        let batch: Vec<Proposal> = queue.proposals.drain(..take).collect();
        queue.bytes -= body_bytes(&batch);
        batch
    }

    async fn propose(&self, batch: Vec<Proposal>) {
        let reserved = body_bytes(&batch);
        let at = self.clock.now();
        let mut replies = Vec::with_capacity(batch.len());
        let mut commands = Vec::with_capacity(batch.len());
        for Proposal { origin, op, encoded, reply, .. } in batch {
            if op == Op::Expire {
                self.expiring.set(false);
            }
            if matches!(op, Op::CommitPack(_)) && self.pack_term.get() != self.replica.led_term() {
                reply.send(Err(Error::NOT_HERE));
                continue;
            }
            replies.push((reply, self.subject(&op)));
            commands.push(Proposed { command: Command { at, origin, op }, encoded });
        }
        if commands.is_empty() {
            return;
        }
        self.metrics.batch_ops.record(commands.len() as f64);
        match self.replica.commit(commands).await {
            Ok(answers) => {
                let answered = replies.into_iter().zip(answers);
                answered.for_each(|((reply, subject), answer)| self.answer(reply, subject, answer));
            }
            Err(error) => replies.into_iter().for_each(|(reply, _)| reply.send(Err(error.clone()))),
        }
        self.state.borrow().release(reserved);
        let finished = self.state.borrow_mut().take_finished();
        for (saga, result) in finished {
            let waiting = self.waiting.borrow_mut().remove(&saga);
            let waiting = waiting.into_iter().flatten();
            waiting.for_each(|(reply, subject)| self.tell(reply, result.clone(), subject));
        }
    }

    fn answer(&self, reply: ReplyTo, subject: Option<Subject>, answer: Answer) {
        match answer {
            Answer::Done(result) => self.tell(reply, result, subject),
            Answer::Pending(saga) => self.waiting.borrow_mut().entry(saga).or_default().push((reply, subject)),
        }
    }
}

fn body_bytes<'a>(batch: impl IntoIterator<Item = &'a Proposal>) -> usize {
    batch.into_iter().map(|proposal| proposal.op.body_bytes()).sum()
}

#[cfg(test)]
mod tests;
