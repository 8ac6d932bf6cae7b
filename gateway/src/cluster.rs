//! The storage nodes behind this gateway: changes go through lanes, questions to whoever can answer them.

mod ask;
mod follow;
mod view;
mod waiting;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use ursula_common::verb::{Ack, Op, OpResult, StreamInfo};
use ursula_common::{BucketName, Error, GroupId, NodeId, Offset, StreamId, StreamKey, StreamName};
use ursula_proto::{NodeChannel, TargetRef, v1};

use crate::jitter::Jitter;
use crate::lanes::{Lanes, Pace};
use crate::link::{Link, RangeRequest, ReadRange};
use crate::metrics::Metrics;
use ask::{Asked, Question};
use follow::Follower;
pub use view::Connect;
pub(crate) use view::{Placement, View, Views};
use waiting::Acks;

/// A node that is asked for the topology.
pub struct Seed {
    /// Its address.
    pub name: String,
    /// The way to it.
    pub channel: NodeChannel,
}

/// The storage nodes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Inner>);

struct Inner {
    views: Views,
    lanes: Lanes,
    acks: Mutex<Acks>,
    followed: Arc<AtomicBool>,
    /// Whether every group had a leader at some moment.
    complete: AtomicBool,
    follower: JoinHandle<()>,
    op_timeout: Duration,
    jitter: Jitter,
    metrics: Arc<Metrics>,
}

/// A tail that is open.
pub(crate) struct Tail {
    pub(crate) events: tonic::Streaming<v1::TailEvent>,
    pub(crate) place: TailPlace,
}

/// Who serves a tail.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TailPlace {
    group: GroupId,
    pub(crate) node: NodeId,
    /// Who was believed to lead when it was opened, and in which term.
    led: (Option<NodeId>, u64),
}

impl TailPlace {
    /// Whether somebody else serves it than whoever was believed to lead.
    pub(crate) fn stands_in(&self) -> bool {
        self.led.0 != Some(self.node)
    }
}

impl Cluster {
    /// Follows the topology that the seeds and the nodes tell, for as long as the gateway lives. Ops may take
    /// `op_timeout` and `op_bytes_max` together; `connect` makes the ways to nodes that are not seeds, and all
    /// randomness comes from `seed`.
    pub(crate) fn reach(
        seeds: Vec<Seed>,
        connect: Arc<Connect>,
        seed: u64,
        op_timeout: Duration,
        op_bytes_max: usize,
        metrics: Arc<Metrics>,
    ) -> Cluster {
        let (views, jitter) = (Views::new(connect), Jitter::new(seed));
        let (followed, lost) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let seeds = seeds.into_iter().map(|seed| Link::new(seed.name, seed.channel)).collect();
        let follower = Follower { seeds, views: views.clone(), followed: followed.clone(), lost: lost.clone() };
        let follower = tokio::spawn(follower.run());
        let lanes = Lanes::start(views.clone(), op_bytes_max, lost, jitter.clone(), metrics.clone());
        let acks = Mutex::new(Acks::new());
        let complete = AtomicBool::new(false);
        Cluster(Arc::new(Inner { views, lanes, acks, followed, complete, follower, op_timeout, jitter, metrics }))
    }

    /// Whether a topology is known, every group in it had a leader once, and a node is there that would tell of a change.
    ///
    /// A group that loses its leader later makes no gateway unready: all of them would be at once, and nobody would serve the
    /// others.
    pub(crate) fn is_ready(&self) -> bool {
        let view = self.0.views.get();
        if view.is_known() && view.leaderless() == 0 {
            self.0.complete.store(true, Ordering::Relaxed);
        }
        self.0.followed.load(Ordering::Relaxed) && view.is_known() && self.0.complete.load(Ordering::Relaxed)
    }

    /// Tells metrics how many groups there are, and how many of them nobody leads.
    pub(crate) fn report(&self) {
        let view = self.0.views.get();
        self.0.metrics.groups.set(view.groups().count() as f64);
        self.0.metrics.groups_leaderless.set(view.leaderless() as f64);
    }

    /// Carries out an op on a stream or a bucket.
    ///
    /// # Errors
    /// What the group answered, or why it could not be asked within the time for an op.
    pub(crate) async fn submit(&self, op: &Op) -> OpResult {
        let deadline = self.deadline();
        let key = op.stream_key();
        let pace = if key.is_some_and(|key| self.waits(&key.bucket)) { Pace::Slow } else { Pace::of(op) };
        loop {
            let view = self.view(deadline).await?;
            let group = key.map_or(Some(GroupId::META), |key| view.group_of(key));
            let group = group.filter(|group| view.placement(*group).is_some()).ok_or(Error::Unavailable)?;
            match self.0.lanes.submit((group, pace), op, deadline).await {
                // The topology has changed.
                Err(Error::NotLeader { .. }) if Instant::now() < deadline => {}
                result => return result,
            }
        }
    }

    pub(crate) async fn describe(&self, key: &StreamKey) -> Result<StreamInfo, Error> {
        self.visit(key, false).await
    }

    /// Describes a stream; counts as an access if `touch`.
    pub(crate) async fn visit(&self, key: &StreamKey, touch: bool) -> Result<StreamInfo, Error> {
        let target = self.locate(key, None).await?;
        self.ask(target.group, |asked| {
            let target = target.clone();
            async move { asked.link.describe(target, touch).await }
        })
        .await
    }

    /// Reads what one group has; `request` is completed with the place of the stream. A replica may stand in for a
    /// leader that cannot be asked, unless the question is about the tail.
    pub(crate) async fn read(
        &self,
        key: &StreamKey,
        inherited: Option<StreamId>,
        request: impl FnOnce(TargetRef) -> RangeRequest,
    ) -> Result<(GroupId, ReadRange), Error> {
        let target = self.locate(key, inherited).await?;
        let group = target.group;
        let request = request(target);
        let range = self.ask(group, |asked| asked.read(request.clone()));
        Ok((group, range.await?))
    }

    /// Follows one incarnation of a stream, at its leader or, if that is `not_at` or cannot be reached, at another
    /// replica: what it has applied was acknowledged, or soon will be. With `tell_up_to_date` a leader says at once
    /// if there is nothing.
    pub(crate) async fn tail(
        &self,
        key: &StreamKey,
        stream: StreamId,
        from: Offset,
        tell_up_to_date: bool,
        not_at: Option<NodeId>,
    ) -> Result<Tail, Error> {
        let target = self.locate(key, None).await?;
        let group = target.group;
        let led = self.led(group);
        let skipped = AtomicBool::new(false);
        let open = |asked: Asked| {
            let target = target.clone();
            // Unless there is nobody else.
            let skip = not_at == Some(asked.node) && !skipped.swap(true, Ordering::Relaxed);
            async move {
                let opened = if skip {
                    Err(Error::Unavailable)
                } else {
                    asked.link.tail(target, stream, from, tell_up_to_date).await
                };
                opened.map(|events| (asked.node, events))
            }
        };
        let (node, events) = self.ask(group, open).await?;
        Ok(Tail { events, place: TailPlace { group, node, led } })
    }

    /// Returns when somebody else is believed to lead the group of a tail than when it was opened.
    pub(crate) async fn moved(&self, tail: &TailPlace) {
        let mut news = self.0.views.subscribe();
        let moved = |view: &Arc<View>| {
            let led = view.placement(tail.group).map(|placement| (placement.leader, placement.term));
            led.is_some_and(|led| led != tail.led && led.0.is_some_and(|leader| leader != tail.node))
        };
        if news.wait_for(moved).await.is_err() {
            std::future::pending().await
        }
    }

    /// Takes in that a node says not to lead a group.
    pub(crate) fn hear(&self, tail: &TailPlace, leader: Option<NodeId>, term: u64) {
        self.0.views.hear(tail.group, tail.node, leader, term);
    }

    /// Names in a bucket, merged from all groups, and whether there are more.
    pub(crate) async fn list(
        &self,
        bucket: &BucketName,
        prefix: &str,
        after: &str,
        limit: u32,
    ) -> Result<(Vec<StreamName>, bool), Error> {
        self.describe_bucket(bucket).await?;
        let view = self.view(self.deadline()).await?;
        let groups = view.groups().filter(|group| *group != GroupId::META);
        let page = move |group, asked: Asked| async move { asked.link.list(group, bucket, prefix, after, limit).await };
        let pages = groups.map(|group| self.ask(group, move |asked| page(group, asked)));
        let pages = futures_util::future::try_join_all(pages).await?;
        // A full page of a group may hide names that come before the last one of another group.
        let limit = limit as usize;
        let more = pages.iter().any(|page| page.len() >= limit);
        let mut names: Vec<StreamName> = pages.into_iter().flatten().collect();
        names.sort_unstable();
        let more = more || names.len() > limit;
        names.truncate(limit);
        Ok((names, more))
    }

    pub(crate) async fn describe_bucket(&self, bucket: &BucketName) -> Result<Ack, Error> {
        self.view(self.deadline()).await?;
        self.ask(GroupId::META, |asked| async move { asked.link.describe_bucket(bucket).await }).await
    }

    async fn ask<'a, T, F>(&'a self, group: GroupId, put: impl Fn(Asked) -> F + Sync + 'a) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>> + Send + 'a,
    {
        let Inner { views, jitter, metrics, .. } = &*self.0;
        let put = |asked| put(asked).boxed();
        Question { views, group, deadline: self.deadline(), jitter, metrics, put: &put }.answer().await
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.0.op_timeout
    }

    fn led(&self, group: GroupId) -> (Option<NodeId>, u64) {
        self.0.views.get().placement(group).map_or((None, 0), |placement| (placement.leader, placement.term))
    }

    async fn locate(&self, key: &StreamKey, inherited: Option<StreamId>) -> Result<TargetRef, Error> {
        let group = self.view(self.deadline()).await?.group_of(key).ok_or(Error::Unavailable)?;
        Ok(TargetRef { group, key: key.clone(), inherited })
    }

    /// What is known of the cluster; waits for the first topology.
    async fn view(&self, deadline: Instant) -> Result<Arc<View>, Error> {
        let view = self.0.views.get();
        if view.is_known() {
            return Ok(view);
        }
        let mut news = self.0.views.subscribe();
        let known = timeout_at(deadline, news.wait_for(|view| view.is_known())).await;
        known.ok().and_then(Result::ok).map(|view| view.clone()).ok_or(Error::Unavailable)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

#[cfg(test)]
mod tests;
