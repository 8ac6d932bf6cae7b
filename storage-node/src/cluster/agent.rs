//! Follows the cluster: connects to its nodes, hosts the groups that belong here and makes the new ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};
use ursula_common::cluster::{Cluster, GroupRecord, NodeState};
use ursula_common::{GroupId, NodeId};

use super::hosting::{Peer, ReplicaCommand};
use super::{ClusterSide, neighbours, reconciler, retire};
use crate::data_dir::Standing;

/// What could not be done is tried again after so long, and what others decide is looked at.
const TICK: Duration = Duration::from_secs(1);

/// A replica that could not be started is tried again after a second, then twice as long, up to this.
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Runs for as long as the node.
pub(super) async fn run(side: ClusterSide) {
    let mut cluster = side.hosting().cluster();
    let mut agent = Agent {
        side,
        tasks: JoinSet::new(),
        groups: BTreeMap::new(),
        nodes: BTreeMap::new(),
        refused: BTreeMap::new(),
    };
    agent.resume().await;
    loop {
        let known = cluster.borrow_and_update().clone();
        let known = match agent.heard_of(known.as_ref()).await {
            Some(news) => Some(news),
            None => known,
        };
        if let Some(known) = known {
            agent.follow(&known).await;
        }
        let goes_on = tokio::select! {
            () = sleep(TICK) => true,
            changed = cluster.changed() => changed.is_ok(),
        };
        if !goes_on {
            return;
        }
    }
}

struct Agent {
    side: ClusterSide,
    /// The tasks of `groups` and `nodes`; they end with the agent.
    tasks: JoinSet<()>,
    /// Groups that are hosted here, with their reconcilers.
    groups: BTreeMap<GroupId, AbortHandle>,
    /// Nodes whose topology is followed.
    nodes: BTreeMap<NodeId, AbortHandle>,
    /// Groups that could not be started: when they are tried again, and the pause after that.
    refused: BTreeMap<GroupId, (Instant, Duration)>,
}

impl Agent {
    /// Goes on where the last process of this directory stopped: the others may need the votes of this node
    /// before any of them can say what the cluster is.
    async fn resume(&mut self) {
        let hosting = self.side.hosting();
        if hosting.identity().cluster.is_none() {
            return;
        }
        hosting.connect(&hosting.remembered());
        let groups: BTreeSet<GroupId> = std::iter::once(GroupId::META).chain(hosting.stored()).collect();
        for group in groups {
            self.host(group).await;
        }
    }

    /// The cluster that others know, if this node cannot hear of it from its own meta group: that is damaged, or has
    /// let the node go while it was away.
    async fn heard_of(&self, known: Option<&Arc<Cluster>>) -> Option<Arc<Cluster>> {
        let hosting = self.side.hosting();
        let (me, own) = (self.side.me(), hosting.identity().cluster?);
        let meta = hosting.leads().borrow().get(&GroupId::META).copied().unwrap_or_default();
        if meta.leader.is_some() {
            return None;
        }
        let mut newest = known.cloned();
        for peer in hosting.remembered() {
            let Some(cluster) = retire::cluster_of(&self.side, peer.node).await else { continue };
            if cluster.id == own && newest.as_ref().is_none_or(|newest| newest.version < cluster.version) {
                newest = Some(Arc::new(cluster));
            }
        }
        if !hosting.hosted().contains(&GroupId::META) {
            self.side.hear(newest.clone());
            return newest;
        }
        newest.filter(|cluster| cluster.nodes.get(&me).is_some_and(|node| node.state == NodeState::Removed))
    }

    async fn follow(&mut self, cluster: &Arc<Cluster>) {
        let identity = self.side.hosting().identity();
        if identity.cluster != Some(cluster.id) {
            let own = identity.cluster.map_or("none".to_owned(), |own| own.to_string());
            error!(own, meta = %cluster.id, "the meta group here is that of another cluster: nothing is done");
            return;
        }
        if self.side.hosting().cluster().borrow().is_some()
            && let Err(error) = self.side.hosting().stand(Standing::Member).await
        {
            warn!(%error, "that this node knows its cluster could not be kept; tried again");
        }
        self.connect(cluster, identity.node).await;
        for (group, record) in &cluster.groups {
            if cluster.hosts(identity.node, *group) {
                self.host(*group).await;
                // Who only heard of the cluster does not know whether the group has begun since.
                if self.side.hosting().cluster().borrow().is_some() {
                    self.make_if_new(*group, record, identity.node).await;
                }
            }
        }
        let hosted = self.side.hosting().hosted();
        for group in hosted.into_iter().filter(|group| !cluster.hosts(identity.node, *group)) {
            self.retire(cluster, group).await;
        }
    }

    async fn connect(&mut self, cluster: &Cluster, me: NodeId) {
        let peer = |node: NodeId| {
            let known = cluster.nodes.get(&node)?;
            Some(Peer { node, address: known.address.clone(), incarnation: known.incarnation })
        };
        // One that was removed is let go by the leaders first: until then they speak to it.
        let mut ids: BTreeSet<NodeId> = cluster.members().collect();
        ids.extend(self.still_members(cluster).await);
        ids.remove(&me);
        let others: Vec<Peer> = ids.iter().copied().filter_map(peer).collect();
        let hosting = self.side.hosting();
        hosting.connect(&others);
        if hosting.remembered() != others
            && let Err(error) = hosting.remember(others.clone()).await
        {
            warn!(%error, "the addresses of the other nodes could not be kept");
        }
        self.nodes.retain(|node, task| {
            let stays = ids.contains(node);
            if !stays {
                task.abort();
            }
            stays
        });
        for node in ids {
            let Agent { side, tasks, nodes, .. } = self;
            nodes.entry(node).or_insert_with(|| tasks.spawn(neighbours::follow(side.clone(), node)));
        }
    }

    /// Nodes that were removed from the cluster, and not yet from every group that is hosted here.
    async fn still_members(&self, cluster: &Cluster) -> BTreeSet<NodeId> {
        let removed = |node: &NodeId| !cluster.members().any(|member| member == *node);
        if !self.nodes.keys().any(removed) {
            return BTreeSet::new();
        }
        let hosting = self.side.hosting();
        let mut members = BTreeSet::new();
        for group in hosting.hosted() {
            members.extend(hosting.status(group).await.map(|status| status.members()).unwrap_or_default());
        }
        members.retain(removed);
        members
    }

    async fn host(&mut self, group: GroupId) {
        let hosting = self.side.hosting();
        if !hosting.hosted().contains(&group) {
            let refused = self.refused.get(&group).copied();
            if refused.is_some_and(|(next, _)| Instant::now() < next) {
                return;
            }
            // Why is said once, by the one that refuses.
            if hosting.host(group).await.is_err() {
                let pause = refused.map_or(TICK, |(_, pause)| REFUSED_PAUSE_MAX.min(2 * pause));
                self.refused.insert(group, (Instant::now() + pause, pause));
                return;
            }
        }
        self.refused.remove(&group);
        let Agent { side, tasks, groups, .. } = self;
        groups.entry(group).or_insert_with(|| tasks.spawn(reconciler::run(side.clone(), group)));
    }

    /// A group begins on the first of its nodes, once: nobody else makes it, and its places do not change
    /// before it has begun. So there is never a second group under its number.
    async fn make_if_new(&self, group: GroupId, record: &GroupRecord, me: NodeId) {
        let hosting = self.side.hosting();
        if record.begun || record.replicas.first() != Some(&me) {
            return;
        }
        if !hosting.status(group).await.is_some_and(|status| status.pristine) {
            return;
        }
        let voters = record.replicas.iter().copied().collect();
        match hosting.command(group, ReplicaCommand::Initialize(voters)).await {
            Ok(()) => info!(%group, "group made"),
            Err(error) => warn!(%group, %error, "a group cannot be made; tried again"),
        }
    }

    /// Lets a group go that belongs elsewhere, when its leader has let this node go.
    async fn retire(&mut self, cluster: &Cluster, group: GroupId) {
        if retire::dismissed(&self.side, cluster, group).await.is_none() {
            return;
        }
        let Some(forgotten) = retire::held(&self.side, group, retire::dismissed(&self.side, cluster, group)).await
        else {
            return;
        };
        if let Some(reconciler) = self.groups.remove(&group) {
            reconciler.abort();
        }
        self.side.set_task(group, None);
        // One without the meta group is no member. Before it goes: then it would look as if its log were missing.
        if group == GroupId::META
            && let Err(error) = self.side.hosting().stand(Standing::Removed).await
        {
            return warn!(%error, "that this node was removed could not be kept; tried again");
        }
        match retire::forget(&self.side, forgotten).await {
            Ok(()) => info!(%group, "group is elsewhere now; its replica here is forgotten"),
            Err(error) => warn!(%group, %error, "a replica cannot be forgotten; tried again"),
        }
    }
}
