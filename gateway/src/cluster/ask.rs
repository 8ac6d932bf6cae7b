//! Questions that change nothing: put to the leader, and to other replicas when it is gone, silent or deposed.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use ursula_common::{Error, GroupId, NodeId};

use super::view::{View, Views};
use crate::jitter::Jitter;
use crate::link::{Link, RangeRequest, ReadRange};
use crate::metrics::Metrics;

/// A node that is silent for so long gets company: the same is asked of another one.
const HEDGE_AFTER: Duration = Duration::from_millis(500);
/// Nodes that are asked at the same time.
const ASKED_MAX: usize = 2;
/// Pause before a question is put again when nobody could answer it. Twice as long each time that nobody could even be
/// reached, up to some times: thousands of readers must not keep knocking.
const PAUSE: std::ops::Range<Duration> = Duration::from_millis(20)..Duration::from_millis(50);
const PAUSE_DOUBLINGS_MAX: u32 = 3;

/// One node, asked. It is to answer only if it leads, or with what it has.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) node: NodeId,
    pub(crate) link: Link,
    /// It is not known to lead.
    stands_in: bool,
    /// Who is believed to lead instead.
    leader: Option<Link>,
}

impl Asked {
    /// Reads at a leader, or what a replica has that stands in for one. Such a replica has to know which stream is meant:
    /// if the question does not say so, a leader may, even one that cannot read its own bytes.
    pub(super) async fn read(self, mut request: RangeRequest) -> Result<ReadRange, Error> {
        request.applied_is_enough &= self.stands_in;
        let answer = self.link.read(request.clone()).await;
        let is_refused = request.applied_is_enough && matches!(answer, Err(Error::NotLeader { .. }));
        let Some(leader) = self.leader.filter(|_| is_refused && request.target.inherited.is_none()) else {
            return answer;
        };
        match timeout(HEDGE_AFTER, leader.describe(request.target.clone(), false)).await {
            Ok(Ok(info)) => {
                request.target.inherited = Some(info.id);
                self.link.read(request).await
            }
            _ => answer,
        }
    }
}

/// One question about a group.
pub(super) struct Question<'a, T> {
    pub(super) views: &'a Views,
    pub(super) group: GroupId,
    pub(super) deadline: Instant,
    pub(super) jitter: &'a Jitter,
    pub(super) metrics: &'a Metrics,
    pub(super) put: &'a (dyn Fn(Asked) -> BoxFuture<'a, Result<T, Error>> + Sync),
}

impl<T> Question<'_, T> {
    /// The first answer that is one.
    ///
    /// # Errors
    /// What a leader answered, [`Error::HistoryDamaged`] if nobody has what the store has lost, or [`Error::Unavailable`] if nobody could be asked in time.
    pub(super) async fn answer(&self) -> Result<T, Error> {
        timeout_at(self.deadline, self.ask()).await.unwrap_or(Err(Error::Unavailable))
    }

    async fn ask(&self) -> Result<T, Error> {
        let mut round = Round::default();
        let mut running = FuturesUnordered::new();
        let mut next_at = Instant::now();
        loop {
            tokio::select! {
                biased;
                Some((node, answer)) = running.next(), if !running.is_empty() => {
                    round.running.retain(|other| *other != node);
                    next_at = match answer {
                        Err(Error::NotLeader { leader, term }) => {
                            self.metrics.reads_not_leader.increment(1);
                            self.views.hear(self.group, node, leader, term);
                            round.unreached = 0;
                            round.refused(node);
                            Instant::now()
                        }
                        Err(Error::Unavailable) => {
                            self.metrics.reads_unreachable.increment(1);
                            round.refused(node);
                            Instant::now()
                        }
                        // Another replica may still have what the store has not.
                        Err(damaged @ Error::HistoryDamaged { .. }) => {
                            round.unreached = 0;
                            round.damaged = Some(damaged);
                            round.refused(node);
                            Instant::now()
                        }
                        answer => return answer,
                    };
                }
                () = sleep_until(next_at), if running.len() < ASKED_MAX => {
                    let now = Instant::now();
                    let view = self.views.get();
                    let Some(asked) = round.next(&view, self.group)? else {
                        if let Some(damaged) = round.damaged.take_if(|_| running.is_empty()) {
                            return Err(damaged);
                        }
                        // Everybody was asked, or is being asked.
                        let pause = self.jitter.within(&PAUSE) * (1 << round.unreached.min(PAUSE_DOUBLINGS_MAX));
                        round.begin_again();
                        next_at = now + if running.is_empty() { pause } else { HEDGE_AFTER };
                        continue;
                    };
                    if !running.is_empty() {
                        self.metrics.reads_hedged.increment(1);
                    }
                    next_at = now + HEDGE_AFTER;
                    let node = asked.node;
                    let answer = (self.put)(asked);
                    running.push(async move { (node, answer.await) });
                }
            }
        }
    }
}

/// Who was asked since everybody was.
#[derive(Debug, Default)]
struct Round {
    running: Vec<NodeId>,
    refused: Vec<NodeId>,
    /// What somebody said who could not read what is damaged.
    damaged: Option<Error>,
    /// How often everybody was.
    count: usize,
    /// How often since somebody was reached.
    unreached: u32,
}

impl Round {
    fn refused(&mut self, node: NodeId) {
        self.refused.push(node);
    }

    fn begin_again(&mut self) {
        self.refused.clear();
        self.count += 1;
        self.unreached += 1;
    }

    /// The next node to ask: the leader, or whoever has not refused.
    fn next(&mut self, view: &View, group: GroupId) -> Result<Option<Asked>, Error> {
        let placement = view.placement(group).ok_or(Error::Unavailable)?;
        let order = placement.in_order(self.count).into_iter();
        let mut left = order.filter(|node| !self.running.contains(node) && !self.refused.contains(node));
        let found = left.find_map(|node| Some((node, view.link(node)?.clone())));
        Ok(found.map(|(node, link)| {
            self.running.push(node);
            let leader = placement.leader.filter(|leader| *leader != node);
            let leader = leader.and_then(|leader| view.link(leader).cloned());
            Asked { node, link, stands_in: placement.leader != Some(node), leader }
        }))
    }
}
