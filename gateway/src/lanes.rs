//! Every change of state on its way to the storage nodes.
//!
//! Ops are numbered in a session of their group, not of a node: one that got no answer is sent again under its
//! number, to whichever node leads by then, and is applied once. One task owns all sessions and one lane to each
//! node, and sends whatever has queued in one frame.

mod budget;
mod lane;
mod session;
mod window;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::SelectAll;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval};
use ursula_common::limits::{FRAME_OPS_MAX, SESSION_RESULTS_MAX};
use ursula_common::verb::{Op, OpResult};
use ursula_common::wire::{self, reply};
use ursula_common::{Error, GroupId, NodeId};
use ursula_proto::v1;

use crate::cluster::{View, Views};
use crate::jitter::Jitter;
use crate::metrics::Metrics;
use crate::traced;
use budget::Budget;
use lane::{Event, Events, Lane, LaneId, Room};
use session::{Session, Verdict};
use window::Pending;

/// Ops of one session that may wait; half of them may have left for a node.
const SESSION_OPS_MAX: usize = 2 * SESSION_RESULTS_MAX;
/// How often scouts and pauses are looked after, while there is anything under way.
const TICK: Duration = Duration::from_millis(10);
/// Every so many ticks deadlines are looked after.
const DEADLINE_TICKS: u32 = 5;

/// A handle to all lanes of a gateway. Cheap to clone; they end with the last handle.
#[derive(Debug, Clone)]
pub(crate) struct Lanes {
    /// Bounded by `budget`.
    queue: mpsc::UnboundedSender<(SessionKey, Pending)>,
    budget: Budget,
}

/// Ops that wait for others than their group have a session of their own: they must not hold up those that do not, which
/// are answered in the order of the log.
type SessionKey = (GroupId, Pace);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pace {
    /// Decided by the group alone.
    Prompt,
    /// May wait for other groups, or for the object store.
    Slow,
}

impl Pace {
    /// The pace of an op in a bucket that does not wait for the object store.
    pub(crate) fn of(op: &Op) -> Pace {
        match op {
            Op::Create(create) if create.fork.is_some() => Pace::Slow,
            Op::CreateBucket(..) | Op::DeleteBucket(_) => Pace::Slow,
            _ => Pace::Prompt,
        }
    }
}

impl Lanes {
    /// Sends ops to the nodes that `views` tells of, up to `bytes_max` at a time. `lost` hears when a group has no
    /// leader for a while.
    pub(crate) fn start(
        views: Views,
        bytes_max: usize,
        lost: Arc<Notify>,
        jitter: Jitter,
        metrics: Arc<Metrics>,
    ) -> Lanes {
        let (queue, ops) = mpsc::unbounded_channel();
        let budget = Budget::new(bytes_max, metrics.window_ops.clone(), metrics.window_bytes.clone());
        tokio::spawn(Task::new(views, budget.clone(), lost, jitter, metrics).run(ops));
        Lanes { queue, budget }
    }

    /// Sends an op and waits for its answer until `deadline`.
    ///
    /// # Errors
    /// What the group answered; [`Error::NotLeader`] if it is not there any more, [`Error::Overloaded`] if too much is under way, [`Error::Unavailable`] if no node
    /// can have done it by then, [`Error::OutcomeUnknown`] if one may have.
    pub(crate) async fn submit(&self, to: (GroupId, Pace), op: &Op, deadline: Instant) -> OpResult {
        let (reply, answer) = oneshot::channel();
        let encoded = wire::encode_op(op);
        let held = self.budget.take(encoded.len())?;
        let (op, since) = (encoded.into(), Instant::now());
        let traceparent = traced::parent();
        let pending = Pending { op, traceparent, since, deadline, reply, _held: held, open: 0, flight: None };
        self.queue.send((to, pending)).map_err(|_| Error::Unavailable)?;
        answer.await.unwrap_or(Err(Error::OutcomeUnknown))
    }
}

struct Task {
    views: Views,
    view: Arc<View>,
    news: watch::Receiver<Arc<View>>,
    sessions: Vec<Session>,
    by_key: BTreeMap<SessionKey, usize>,
    by_id: HashMap<u64, usize>,
    lanes: BTreeMap<NodeId, Lane>,
    events: SelectAll<Events>,
    room: Arc<Room>,
    budget: Budget,
    lost: Arc<Notify>,
    jitter: Jitter,
    metrics: Arc<Metrics>,
    ticks: u32,
}

impl Task {
    fn new(views: Views, budget: Budget, lost: Arc<Notify>, jitter: Jitter, metrics: Arc<Metrics>) -> Task {
        let mut news = views.subscribe();
        // It takes in what is known already before anything else.
        news.mark_changed();
        let view = Arc::default();
        Task {
            views,
            view,
            news,
            sessions: Vec::new(),
            by_key: BTreeMap::new(),
            by_id: HashMap::new(),
            lanes: BTreeMap::new(),
            events: SelectAll::new(),
            room: Arc::default(),
            budget,
            lost,
            jitter,
            metrics,
            ticks: 0,
        }
    }

    async fn run(mut self, mut ops: mpsc::UnboundedReceiver<(SessionKey, Pending)>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut taken = Vec::new();
        loop {
            tokio::select! {
                biased;
                _ = tick.tick(), if self.is_busy() => self.tick(Instant::now()),
                _ = self.news.changed() => self.follow_view(),
                Some((lane, event)) = self.events.next(), if !self.events.is_empty() => self.take_event(lane, event),
                () = self.room.made() => {}
                count = ops.recv_many(&mut taken, FRAME_OPS_MAX) => if count == 0 {
                    return;
                },
            }
            // Whoever woke this task did so with one op: those who are ready to run too have theirs in the same frame.
            yield_now().await;
            let room = FRAME_OPS_MAX - taken.len();
            taken.extend(std::iter::from_fn(|| ops.try_recv().ok()).take(room));
            let now = Instant::now();
            taken.drain(..).for_each(|(key, pending)| self.push(key, pending, now));
            self.flush();
        }
    }

    /// Whether there may be something to do without a message of anybody.
    fn is_busy(&self) -> bool {
        !self.budget.is_idle() || self.lanes.values().any(|lane| !lane.is_open())
    }

    fn push(&mut self, key: SessionKey, pending: Pending, now: Instant) {
        let index = *self.by_key.entry(key).or_insert_with(|| {
            let session = Session::new(key.0, self.jitter.clone());
            self.by_id.insert(session.id().0, self.sessions.len());
            self.sessions.push(session);
            self.sessions.len() - 1
        });
        let session = &mut self.sessions[index];
        if session.window.len() >= SESSION_OPS_MAX {
            // The caller may have gone.
            drop(pending.reply.send(Err(Error::Overloaded)));
            return;
        }
        session.window.push(pending);
        if session.target().is_none() {
            self.follow(index, now);
            self.sessions[index].watch(now);
        }
        self.enqueue(index);
    }

    /// Lets a session send what it has.
    fn enqueue(&mut self, index: usize) {
        let session = &mut self.sessions[index];
        let Some(node) = session.target().filter(|_| session.window.next_unsent().is_some()) else { return };
        if let Some(lane) = self.lanes.get_mut(&node) {
            lane.enqueue(index, session);
        }
    }

    fn follow(&mut self, index: usize, now: Instant) {
        if let Some(again) = self.sessions[index].follow(&self.view, now) {
            self.metrics.leaders_followed.increment(1);
            self.metrics.resent_moved.increment(again as u64);
            self.enqueue(index);
        }
    }

    fn follow_view(&mut self) {
        let now = Instant::now();
        self.view = self.news.borrow_and_update().clone();
        let changed = |(node, lane): (&NodeId, &Lane)| {
            self.view.link(*node).is_none_or(|link| !link.is(&lane.link)).then_some(*node)
        };
        for node in self.lanes.iter().filter_map(changed).collect::<Vec<_>>() {
            self.lanes.remove(&node);
            self.lose(node, now);
        }
        for (node, link) in self.view.links() {
            self.lanes.entry(node).or_insert_with(|| Lane::new(node, link.clone(), now));
        }
        self.open_lanes(now);
        for index in 0..self.sessions.len() {
            self.follow(index, now);
            if self.view.placement(self.sessions[index].group).is_none() {
                self.sessions[index].window.disband();
            }
        }
    }

    fn take_event(&mut self, id: LaneId, event: Event) {
        let Some(lane) = self.lanes.get_mut(&id.node).filter(|lane| lane.is(id)) else { return };
        let now = Instant::now();
        match event {
            Event::Opened => {
                lane.opened();
                for index in 0..self.sessions.len() {
                    self.sessions[index].forgive(id.node);
                    self.follow(index, now);
                }
            }
            Event::Answers(batch) => {
                lane.settle(&batch);
                batch.sessions.into_iter().for_each(|replies| self.take_replies(id, replies, now));
            }
            Event::Lost => {
                lane.close(now);
                self.lose(id.node, now);
            }
        }
    }

    fn take_replies(&mut self, lane: LaneId, replies: v1::SessionReplies, now: Instant) {
        // An answer to a session that is not ours is nobody's.
        let Some(&index) = self.by_id.get(&replies.session) else { return };
        let group = self.sessions[index].group;
        for v1::SequencedReply { seq, outcome } in replies.replies {
            let decoded = reply::decode(&outcome);
            if let Ok(Err(Error::NotLeader { leader, term })) = decoded {
                self.views.hear(group, lane.node, leader, term);
            }
            // An answer that is not understood now will not be understood when it comes again.
            let verdict = decoded.map_or(Verdict::Final(Err(Error::OutcomeUnknown)), Verdict::of);
            let judgement = self.sessions[index].judge(lane, seq, verdict, now);
            self.metrics.resent_undone.increment(u64::from(judgement.again));
            if judgement.refuted {
                self.view = self.views.get();
                self.metrics.resent_not_leader.increment(self.sessions[index].refute(lane.node, now) as u64);
                self.follow(index, now);
            }
            if judgement.leads {
                let term = self.views.confirm(group, lane.node);
                self.view = self.views.get();
                self.metrics.resent_moved.increment(self.sessions[index].found(lane.node, term, now) as u64);
            }
        }
        self.enqueue(index);
    }

    /// The ops that went to the node are sent again, there or to another one.
    fn lose(&mut self, node: NodeId, now: Instant) {
        for index in 0..self.sessions.len() {
            self.metrics.resent_lane_lost.increment(self.sessions[index].refute(node, now) as u64);
            self.follow(index, now);
        }
    }

    fn tick(&mut self, now: Instant) {
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks.is_multiple_of(DEADLINE_TICKS) {
            self.sessions.iter_mut().for_each(|session| session.window.expire(now));
            self.budget.report();
        }
        let silent = self.lanes.iter().filter(|(_, lane)| lane.is_refused_by_silence(now)).map(|(node, _)| *node);
        for node in silent.collect::<Vec<_>>() {
            self.lanes.entry(node).and_modify(|lane| lane.close(now));
            self.lose(node, now);
        }
        self.open_lanes(now);
        for index in 0..self.sessions.len() {
            self.look_after(index, now);
        }
    }

    /// Opens every lane that is lost, when it is time.
    fn open_lanes(&mut self, now: Instant) {
        let opening = self.lanes.values_mut().filter_map(|lane| lane.open(now, &self.room));
        self.events.extend(opening);
    }

    fn look_after(&mut self, index: usize, now: Instant) {
        let session = &mut self.sessions[index];
        if session.window.len() == 0 && session.target().is_some() {
            return;
        }
        session.watch(now);
        if session.is_lost(now) {
            self.lost.notify_one();
        }
        if session.is_calm_again(now) {
            self.follow(index, now);
        }
        if let Some(node) = self.sessions[index].next_scout(&self.view, now)
            && let Some(lane) = self.lanes.get_mut(&node)
            && let Some(id) = lane.send_scout(&mut self.sessions[index], &self.room)
        {
            self.metrics.scouts.increment(1);
            self.sessions[index].scouted(id, now);
        }
        self.enqueue(index);
    }

    fn flush(&mut self) {
        let now = Instant::now();
        for lane in self.lanes.values_mut() {
            for ops in lane.flush(&mut self.sessions, &self.room, now) {
                self.metrics.frame_ops.record(ops as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests;
