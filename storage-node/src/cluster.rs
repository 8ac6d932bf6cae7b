//! The cluster side of a node: it follows what the meta group says and sees to it that the node does its
//! part. Hosts the groups that belong here, makes new ones, brings the members of those it leads where they
//! should be, and tells gateways who leads what.
//!
//! Speaks to the engine through [`Hosting`] only. Decisions are pure (`step.rs`), loops carry them out.

mod agent;
mod alone;
mod hosting;
mod neighbours;
mod reconciler;
mod retire;
mod step;
mod topology;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use ursula_common::cluster::{Cluster, ClusterChange, ClusterOp};
use ursula_common::verb::OpResult;
use ursula_common::{Error, GroupId, NodeId};
use ursula_proto::admin_client;

pub(crate) use hosting::{
    Hosting, Identity, Lead, Leads, Peer, Progress, Refusals, ReplicaCommand, ReplicaStatus, Role,
};
pub(crate) use topology::watch as watch_topology;

/// The cluster side of a node. Cheap to clone; every clone is the same one.
#[derive(Clone)]
pub(crate) struct ClusterSide(Arc<Inner>);

/// The cluster side of a node that may have ended.
#[derive(Clone)]
pub(crate) struct WeakSide(Weak<Inner>);

impl WeakSide {
    /// See [`ClusterSide::leader`].
    pub(crate) fn leader(&self, group: GroupId) -> Option<NodeId> {
        ClusterSide(self.0.upgrade()?).leader(group)
    }
}

struct Inner {
    hosting: Arc<dyn Hosting>,
    /// What the other nodes tell of leaders.
    told: watch::Sender<Leads>,
    tasks: Mutex<BTreeMap<GroupId, Task>>,
    /// Nodes that groups led here do without.
    aside: Mutex<BTreeMap<GroupId, Aside>>,
    agent: Mutex<Option<AbortHandle>>,
    /// One claim at a time.
    joining: tokio::sync::Mutex<()>,
    /// The cluster as other nodes tell of it, while the meta group is not served here.
    heard: Mutex<Option<Arc<Cluster>>>,
}

/// A node is set aside for so long, unless that is said again.
const ASIDE_FOR: Duration = Duration::from_secs(15);

/// A node that a group does without. What was said to a leader of an earlier term is void: another one may have taken the
/// node in again since.
struct Aside {
    node: NodeId,
    term: u64,
    until: Instant,
}

/// What the leader of a group is about, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) text: String,
    /// Whether somebody has to help.
    pub(crate) stuck: bool,
}

impl ClusterSide {
    /// Starts to follow the meta group, if the node belongs to a cluster, or as soon as it does. Needs a runtime.
    pub(crate) fn start(hosting: Arc<dyn Hosting>) -> ClusterSide {
        let side = ClusterSide(Arc::new(Inner {
            hosting,
            told: watch::channel(Leads::new()).0,
            tasks: Mutex::default(),
            aside: Mutex::default(),
            agent: Mutex::default(),
            joining: tokio::sync::Mutex::default(),
            heard: Mutex::default(),
        }));
        let agent = tokio::spawn(agent::run(side.clone())).abort_handle();
        *side.0.agent.lock().unwrap_or_else(PoisonError::into_inner) = Some(agent);
        side
    }

    /// A handle that does not keep the node alive.
    pub(crate) fn downgrade(&self) -> WeakSide {
        WeakSide(Arc::downgrade(&self.0))
    }

    /// Ends everything that was started; replicas go on.
    pub(crate) fn stop(&self) {
        if let Some(agent) = self.0.agent.lock().unwrap_or_else(PoisonError::into_inner).take() {
            agent.abort();
        }
    }

    pub(crate) fn hosting(&self) -> &dyn Hosting {
        &*self.0.hosting
    }

    /// One claim of the node at a time.
    pub(crate) async fn joining(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.joining.lock().await
    }

    /// The cluster as far as this node knows it, or has heard of it.
    pub(crate) fn cluster(&self) -> Option<Arc<Cluster>> {
        let own = self.hosting().cluster().borrow().clone();
        own.or_else(|| self.0.heard.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn hear(&self, cluster: Option<Arc<Cluster>>) {
        *self.0.heard.lock().unwrap_or_else(PoisonError::into_inner) = cluster;
    }

    /// Who leads a group, as far as this node knows or was told.
    pub(crate) fn leader(&self, group: GroupId) -> Option<NodeId> {
        let own = self.hosting().leads().borrow().get(&group).copied();
        own.max(self.0.told.borrow().get(&group).copied())?.leader
    }

    /// What the leader of this group, if it is here, is about.
    pub(crate) fn task(&self, group: GroupId) -> Option<Task> {
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner).get(&group).cloned()
    }

    fn set_task(&self, group: GroupId, task: Option<Task>) {
        let mut tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        match task {
            Some(task) => drop(tasks.insert(group, task)),
            None => drop(tasks.remove(&group)),
        }
    }

    /// From now on a group that is led here in this term does without a node, for a while.
    pub(crate) fn set_aside(&self, group: GroupId, term: u64, node: NodeId) {
        let mut asides = self.0.aside.lock().unwrap_or_else(PoisonError::into_inner);
        asides.insert(group, Aside { node, term, until: Instant::now() + ASIDE_FOR });
    }

    /// The node that a group does without now, if it is led here in this term.
    fn aside(&self, group: GroupId, term: u64) -> Option<NodeId> {
        let mut asides = self.0.aside.lock().unwrap_or_else(PoisonError::into_inner);
        asides.retain(|_, aside| Instant::now() < aside.until);
        asides.get(&group).filter(|aside| aside.term == term).map(|aside| aside.node)
    }

    /// Forgets what is left of a replica that cannot be started, and begins anew.
    ///
    /// # Errors
    /// If the replica serves, or may still have a vote.
    pub(crate) async fn begin_anew(&self, group: GroupId) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::ClusterRefused { reason: reason.into() });
        let (me, hosting) = (self.me(), self.hosting());
        if !hosting.refused().contains_key(&group) {
            return refuse(format!("node {me} does not refuse group {group}: there is nothing to repair"));
        }
        let Some(forgotten) = retire::held(self, group, retire::let_go(self, group)).await else {
            return refuse(format!("the leader of group {group} has not let node {me} go yet: try again"));
        };
        retire::forget(self, forgotten).await?;
        hosting.host(group).await
    }

    fn me(&self) -> NodeId {
        self.hosting().identity().node
    }

    /// Proposes a change of the cluster wherever the meta group is led.
    async fn propose(&self, change: ClusterChange) -> OpResult {
        let op = ClusterOp { version: None, change };
        let leader = self.leader(GroupId::META).ok_or(Error::NOT_HERE)?;
        if leader == self.me() {
            return self.hosting().propose(op).await;
        }
        let channel = self.hosting().channel(leader).ok_or(Error::Unavailable)?;
        ursula_proto::propose(&mut admin_client(channel), op, false).await.map(|()| ursula_common::verb::Reply::Done)
    }
}

#[cfg(test)]
mod tests;
