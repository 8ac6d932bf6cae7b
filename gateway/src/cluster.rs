//! The storage nodes behind this gateway: who leads which group, and how to reach it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{info, warn};
use ursula_common::placement::SlotTable;
use ursula_common::verb::{Op, OpResult, StreamInfo};
use ursula_common::{BucketName, Error, GroupId, NodeId, Offset, StreamId, StreamKey, StreamName};
use ursula_proto::{NodeChannel, TargetRef, v1};

use crate::link::{Link, RangeRequest, ReadRange};
use crate::metrics::Metrics;

/// A node that is asked for the topology.
pub struct Seed {
    /// Its address, for logs.
    pub name: String,
    /// The way to it.
    pub channel: NodeChannel,
}

/// Pause before the next node is asked for the topology.
const WATCH_PAUSE: Duration = Duration::from_millis(200);
/// Pause before an op is sent again that a node refused because it does not lead the group.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The storage nodes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cluster {
    topology: watch::Receiver<Option<Arc<Topology>>>,
    /// Whether a node tells of changes of the topology at this moment.
    followed: Arc<AtomicBool>,
    op_timeout: Duration,
}

/// One version of the map from slots to groups to nodes.
struct Topology {
    slots: SlotTable,
    leaders: BTreeMap<GroupId, Link>,
}

impl Cluster {
    /// Follows the topology that the seeds tell, for as long as the gateway lives.
    pub(crate) fn follow(seeds: Vec<Seed>, op_timeout: Duration, metrics: Arc<Metrics>) -> Cluster {
        let (found, topology) = watch::channel(None);
        let followed = Arc::new(AtomicBool::new(false));
        tokio::spawn(follow(seeds, found, followed.clone(), metrics));
        Cluster { topology, followed, op_timeout }
    }

    /// Whether a topology is known, and a node there that would tell of a change.
    pub(crate) fn is_ready(&self) -> bool {
        self.followed.load(Ordering::Relaxed) && self.topology.borrow().is_some()
    }

    /// Carries out an op on a stream or a bucket.
    ///
    /// # Errors
    /// What the group answered, or why it could not be asked within the time for an op.
    pub(crate) async fn submit(&self, op: &Op) -> OpResult {
        let deadline = Instant::now() + self.op_timeout;
        loop {
            let topology = self.topology(deadline).await?;
            let group = match op {
                Op::Create(create) => topology.slots.group_of(&create.key),
                Op::Append(append) => topology.slots.group_of(&append.key),
                Op::Delete(key) => topology.slots.group_of(key),
                _ => GroupId::META,
            };
            match topology.leader(group)?.lane.submit(group, op, deadline).await {
                Err(Error::NotLeader { .. }) if Instant::now() < deadline => sleep(RETRY_PAUSE).await,
                result => return result,
            }
        }
    }

    pub(crate) async fn describe(&self, key: &StreamKey) -> Result<StreamInfo, Error> {
        let (link, target) = self.locate(key, None).await?;
        self.in_time(link.describe(target)).await
    }

    /// Reads what one group has; `request` is completed with the place of the stream.
    pub(crate) async fn read(
        &self,
        key: &StreamKey,
        inherited: Option<StreamId>,
        request: impl FnOnce(TargetRef) -> RangeRequest,
    ) -> Result<(GroupId, ReadRange), Error> {
        let (link, target) = self.locate(key, inherited).await?;
        let group = target.group;
        Ok((group, self.in_time(link.read(request(target))).await?))
    }

    /// Follows one incarnation of a stream.
    pub(crate) async fn tail(
        &self,
        key: &StreamKey,
        stream: StreamId,
        from: Offset,
    ) -> Result<tonic::Streaming<v1::TailEvent>, Error> {
        let (link, target) = self.locate(key, None).await?;
        self.in_time(link.tail(target, stream, from)).await
    }

    /// Names in a bucket, merged from all groups, and whether there are more.
    pub(crate) async fn list(
        &self,
        bucket: &BucketName,
        prefix: &str,
        after: &str,
        limit: u32,
    ) -> Result<(Vec<StreamName>, bool), Error> {
        let topology = self.topology(self.deadline()).await?;
        self.in_time(topology.leader(GroupId::META)?.describe_bucket(bucket)).await?;
        let groups = topology.leaders.iter().filter(|(group, _)| **group != GroupId::META);
        let pages = groups.map(|(group, link)| link.list(*group, bucket, prefix, after, limit));
        let pages = self.in_time(futures_util::future::try_join_all(pages)).await?;
        // A full page of a group may hide names that come before the last one of another group.
        let limit = limit as usize;
        let more = pages.iter().any(|page| page.len() >= limit);
        let mut names: Vec<StreamName> = pages.into_iter().flatten().collect();
        names.sort_unstable();
        let more = more || names.len() > limit;
        names.truncate(limit);
        Ok((names, more))
    }

    pub(crate) async fn describe_bucket(&self, bucket: &BucketName) -> Result<(), Error> {
        let topology = self.topology(self.deadline()).await?;
        self.in_time(topology.leader(GroupId::META)?.describe_bucket(bucket)).await
    }

    /// A node that does not answer a question in the time for an op might as well not be there.
    async fn in_time<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        timeout(self.op_timeout, answer).await.unwrap_or(Err(Error::Unavailable))
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.op_timeout
    }

    async fn locate(&self, key: &StreamKey, inherited: Option<StreamId>) -> Result<(Link, TargetRef), Error> {
        let topology = self.topology(self.deadline()).await?;
        let group = topology.slots.group_of(key);
        Ok((topology.leader(group)?.clone(), TargetRef { group, key: key.clone(), inherited }))
    }

    /// The topology; waits for the first one.
    async fn topology(&self, deadline: Instant) -> Result<Arc<Topology>, Error> {
        if let Some(topology) = &*self.topology.borrow() {
            return Ok(topology.clone());
        }
        let mut receiver = self.topology.clone();
        let known = timeout_at(deadline, receiver.wait_for(Option::is_some)).await;
        known.ok().and_then(Result::ok).and_then(|topology| topology.clone()).ok_or(Error::Unavailable)
    }
}

impl Topology {
    fn leader(&self, group: GroupId) -> Result<&Link, Error> {
        self.leaders.get(&group).ok_or(Error::Unavailable)
    }
}

async fn follow(
    seeds: Vec<Seed>,
    found: watch::Sender<Option<Arc<Topology>>>,
    followed: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
) {
    let seeds: Vec<(String, Link)> =
        seeds.into_iter().map(|seed| (seed.name, Link::new(seed.channel, metrics.clone()))).collect();
    let mut links = BTreeMap::new();
    let mut version = 0;
    for (name, seed) in seeds.iter().cycle() {
        if let Ok(mut news) = seed.watch_topology(version).await {
            followed.store(true, Ordering::Relaxed);
            while let Ok(Some(message)) = news.message().await {
                version = message.version;
                match topology(&message, seed, &mut links, &metrics) {
                    Ok(topology) => {
                        info!(node = name, version, groups = topology.leaders.len(), "topology");
                        found.send_replace(Some(Arc::new(topology)));
                    }
                    Err(error) => warn!(node = name, %error, "a topology was not understood"),
                }
            }
            followed.store(false, Ordering::Relaxed);
        }
        if found.is_closed() {
            return;
        }
        sleep(WATCH_PAUSE).await;
    }
}

/// Puts a topology together; links to nodes that are known already are kept.
fn topology(
    message: &v1::Topology,
    seed: &Link,
    links: &mut BTreeMap<NodeId, Link>,
    metrics: &Arc<Metrics>,
) -> Result<Topology, Error> {
    for node in &message.nodes {
        let id = NodeId(node.id);
        if node.address.is_empty() {
            links.insert(id, seed.clone());
        } else if let Entry::Vacant(vacant) = links.entry(id) {
            let channel = ursula_proto::remote(&node.address).map_err(|_| Error::Malformed)?;
            vacant.insert(Link::new(channel, metrics.clone()));
        }
    }
    let leader = |group: &v1::Group| {
        let link = group.leader.as_ref().or(group.replicas.first()).and_then(|id| links.get(&NodeId(*id)))?;
        Some((GroupId(group.id), link.clone()))
    };
    let leaders = message.groups.iter().map(leader).collect::<Option<_>>().ok_or(Error::Malformed)?;
    Ok(Topology { slots: ursula_proto::slot_table(message)?, leaders })
}

#[cfg(test)]
mod tests;
