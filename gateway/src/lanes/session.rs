//! What one group has to do, and which node is asked to do it.
//!
//! The ops go to the node that is believed to lead. When it has refused, is gone or is silent, one op alone, the
//! scout, is sent to the other replicas in turn until one does it or tells who leads: so a group without a leader
//! costs little, and its ops are on their way again as soon as there is one. Decides only; the lanes send.

use std::time::Duration;

use tokio::time::Instant;
use ursula_common::verb::OpResult;
use ursula_common::{Error, GroupId, NodeId, SessionId, error::Retry};
use ursula_proto::v1;

use super::lane::LaneId;
use super::window::Window;
use crate::cluster::{Placement, View};
use crate::jitter::Jitter;

/// A node that has not answered an op for so long is silent.
const SILENCE: Duration = Duration::from_millis(500);
/// A group whose leader was looked for in vain for so long is lost.
const LOST: Duration = Duration::from_secs(1);
/// How long a scout is waited for.
const SCOUT_PATIENCE: Duration = Duration::from_millis(300);
/// Pause between two scouts, and before an op is sent again to a node that could not do it. While a node is only
/// silent the pause doubles with each scout, up to the longest.
const PAUSE: std::ops::Range<Duration> = Duration::from_millis(20)..Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// So often ops may follow hints at once; then each takes a pause, until one of them is done.
const HOPS_MAX: u32 = 3;

/// See the module.
pub(super) struct Session {
    pub(super) group: GroupId,
    id: SessionId,
    pub(super) window: Window,
    /// The lane in whose queue it stands.
    pub(super) queued: Option<NodeId>,
    /// Where ops go; nowhere while nobody is believed to lead.
    target: Option<NodeId>,
    /// The term in which the target was believed to lead.
    term: u64,
    /// Who is not believed to lead any more, and the term in which it did.
    refuted: Option<(NodeId, u64)>,
    /// Changes of the target since the last op that was done.
    hops: u32,
    /// Nothing is sent before.
    calm_until: Option<Instant>,
    last_answer: Option<Instant>,
    search: Option<Search>,
    jitter: Jitter,
}

/// Scouts are sent.
#[derive(Debug, Clone, Copy)]
struct Search {
    since: Instant,
    next_at: Instant,
    /// Who has the last scout: the oldest op of that time.
    out: Option<(LaneId, u64)>,
    /// Replicas that were asked.
    asked: usize,
}

/// What an answer means for its op.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was done, or never will be: the caller hears of it.
    Final(OpResult),
    /// The node did not do it, and does not lead.
    NotLed,
    /// The node did not do it: the caller hears of it unless another try may have been done.
    NotDone(Error),
    /// Nobody knows: it is sent again.
    Lost,
}

impl Verdict {
    pub(super) fn of(result: OpResult) -> Verdict {
        match result {
            Err(Error::NotLeader { .. }) => Verdict::NotLed,
            Err(Error::OutcomeUnknown) => Verdict::Lost,
            Err(error) if error.retry() == Retry::Later => Verdict::NotDone(error),
            result => Verdict::Final(result),
        }
    }
}

impl Search {
    fn new(now: Instant) -> Search {
        Search { since: now, next_at: now, out: None, asked: 0 }
    }
}

impl Session {
    pub(super) fn new(group: GroupId, jitter: Jitter) -> Session {
        Session {
            group,
            id: SessionId(jitter.next()),
            window: Window::default(),
            queued: None,
            target: None,
            term: 0,
            refuted: None,
            hops: 0,
            calm_until: None,
            last_answer: None,
            search: None,
            jitter,
        }
    }

    pub(super) fn id(&self) -> SessionId {
        self.id
    }

    pub(super) fn target(&self) -> Option<NodeId> {
        self.target
    }

    /// Whether ops may leave for the node now.
    pub(super) fn sends_to(&self, node: NodeId, now: Instant) -> bool {
        self.target == Some(node) && self.calm_until.is_none_or(|until| until <= now)
    }

    pub(super) fn frame(&self, ops: Vec<v1::SequencedOp>) -> v1::SessionOps {
        v1::SessionOps { group: self.group.0, session: self.id.0, acked: self.window.first(), ops }
    }

    /// Follows what is known of the leader. Returns how many ops are to be sent again if there is a new target.
    pub(super) fn follow(&mut self, view: &View, now: Instant) -> Option<usize> {
        let &Placement { leader: Some(leader), term, .. } = view.placement(self.group)? else { return None };
        if self.target == Some(leader) {
            self.term = self.term.max(term);
            return None;
        }
        let newer = self.target.is_none() || term > self.term;
        if !newer || self.refuted == Some((leader, term)) || self.calm_until.is_some_and(|until| until > now) {
            return None;
        }
        Some(self.settle(leader, term, now))
    }

    fn settle(&mut self, node: NodeId, term: u64, now: Instant) -> usize {
        (self.target, self.term, self.refuted, self.search) = (Some(node), term, None, None);
        self.last_answer = None;
        self.hops += 1;
        if self.hops > HOPS_MAX {
            self.rest(now);
        }
        self.window.land_all()
    }

    fn rest(&mut self, now: Instant) {
        self.calm_until = Some(now + self.pause());
    }

    /// The node does not lead, or cannot be reached. Returns how many ops are to be sent again.
    pub(super) fn refute(&mut self, node: NodeId, now: Instant) -> usize {
        if self.target != Some(node) {
            return 0;
        }
        self.refuted = Some((node, self.term));
        self.target = None;
        self.search = Some(Search::new(now));
        self.window.land_all()
    }

    /// The node can be reached, and may be asked like any other.
    pub(super) fn forgive(&mut self, node: NodeId) {
        self.refuted.take_if(|(refuted, _)| *refuted == node);
    }

    /// Takes note of the answer of a connection to one of the ops.
    pub(super) fn judge(&mut self, lane: LaneId, seq: u64, verdict: Verdict, now: Instant) -> Judgement {
        let pause = self.pause();
        let scout = self.search.as_mut().filter(|search| search.out == Some((lane, seq)));
        let scouted = scout.is_some();
        if let Some(search) = scout {
            search.out = None;
            if self.target.is_none() {
                search.next_at = search.next_at.min(now + pause);
            }
        }
        let Some(pending) = self.window.get_mut(seq) else { return Judgement::default() };
        let expected = pending.flight.is_some_and(|flight| flight.lane == lane);
        if matches!(verdict, Verdict::NotLed | Verdict::NotDone(_)) {
            pending.open = pending.open.saturating_sub(1);
        }
        let certain = pending.open == 0;
        match verdict {
            Verdict::Final(result) => {
                self.window.finish(seq, result);
                (self.hops, self.calm_until) = (0, None);
                if expected {
                    (self.last_answer, self.search) = (Some(now), None);
                }
                Judgement { leads: scouted, ..Judgement::default() }
            }
            Verdict::NotLed => Judgement { refuted: expected, ..Judgement::default() },
            Verdict::NotDone(error) if expected && certain => {
                self.window.finish(seq, Err(error));
                self.last_answer = Some(now);
                Judgement::default()
            }
            Verdict::NotDone(_) | Verdict::Lost => self.again(seq, expected, now),
        }
    }

    fn again(&mut self, seq: u64, expected: bool, now: Instant) -> Judgement {
        if expected {
            self.window.land(seq);
            self.last_answer = Some(now);
            self.rest(now);
        }
        Judgement { again: expected, ..Judgement::default() }
    }

    /// A scout found the leader. Returns how many ops are to be sent again.
    pub(super) fn found(&mut self, node: NodeId, term: u64, now: Instant) -> usize {
        self.hops = 0;
        self.settle(node, term, now)
    }

    /// Begins to look for the leader if nobody is believed to lead, or whoever is does not answer.
    pub(super) fn watch(&mut self, now: Instant) {
        let Some(oldest) = self.window.oldest() else {
            self.search = None;
            return;
        };
        if self.search.is_some() {
            return;
        }
        let asked_at = oldest.flight.map_or(oldest.since, |flight| flight.since);
        let silent_since = self.last_answer.map_or(asked_at, |answer| answer.max(asked_at));
        if self.target.is_none() || now >= silent_since + SILENCE {
            self.search = Some(Search::new(now));
        }
    }

    /// Whether the leader has been looked for in vain for so long that there may be news that did not come here.
    pub(super) fn is_lost(&self, now: Instant) -> bool {
        self.target.is_none() && self.search.is_some_and(|search| now >= search.since + LOST)
    }

    /// The next replica to send a scout to, when it is time.
    pub(super) fn next_scout(&mut self, view: &View, now: Instant) -> Option<NodeId> {
        let pause = self.pause();
        let search = self.search.as_mut().filter(|search| search.next_at <= now)?;
        let replicas = &view.placement(self.group)?.replicas;
        let replica = *replicas.get(search.asked % replicas.len().max(1))?;
        search.asked += 1;
        search.out = None;
        if self.target == Some(replica) {
            return None;
        }
        let factor = if self.target.is_some() { 1 << (search.asked / replicas.len()).min(6) } else { 1 };
        search.next_at = now + (factor * pause).min(PAUSE_MAX);
        Some(replica)
    }

    /// The scout has left.
    pub(super) fn scouted(&mut self, lane: LaneId, now: Instant) {
        let seq = self.window.first();
        if let Some(search) = &mut self.search {
            search.out = Some((lane, seq));
            search.next_at = search.next_at.max(now + SCOUT_PATIENCE);
        }
    }

    fn pause(&self) -> Duration {
        self.jitter.within(&PAUSE)
    }

    /// Whether a pause is over since this was asked last.
    pub(super) fn is_calm_again(&mut self, now: Instant) -> bool {
        self.calm_until.take_if(|until| *until <= now).is_some()
    }
}

/// What follows from an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Judgement {
    /// The node that answered is not the leader that it was taken for.
    pub(super) refuted: bool,
    /// The node that answered leads, which was not known.
    pub(super) leads: bool,
    /// The op is to be sent again.
    pub(super) again: bool,
}
