//! Makes changes: proposes to whoever leads the meta group, and waits until the nodes have done their part.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use ursula_common::cluster::{ClusterChange, ClusterOp, Placement};
use ursula_common::placement::plan::plan;
use ursula_common::{ClusterId, Error, GroupId, NodeId};
use ursula_proto::admin::v1::{JoinRequest, NodeStatus, Peer};
use ursula_proto::{cluster_id_bytes, from_status};

use super::failure::Failure;
use super::output::Output;
use super::view::{View, client};

/// Pause before the nodes are asked again.
const PAUSE: Duration = Duration::from_millis(300);
/// How long groups may be without a leader before a command that needs one is refused.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Carries out one command.
pub(crate) struct Worker<'a> {
    pub(crate) output: &'a Output,
    pub(crate) dry_run: bool,
    deadline: Instant,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(output: &'a Output, dry_run: bool, time: Duration) -> Worker<'a> {
        Worker { output, dry_run, deadline: Instant::now() + time }
    }

    /// Pauses, or gives up.
    pub(crate) async fn pause(&self, waits_for: &str) -> Result<(), Failure> {
        if Instant::now() >= self.deadline {
            return Err(Failure::late(format!(
                "not done in time: {waits_for}. It goes on by itself where it can; look at `ursula cluster status`, \
                 and run the same command again to wait on"
            )));
        }
        sleep(PAUSE).await;
        Ok(())
    }

    /// Looks at the cluster that the node at `address` belongs to, when no group is about to elect its leader.
    pub(crate) async fn look(&self, address: &str) -> Result<View, Failure> {
        let mut view = View::take(address).await?;
        let late = self.deadline.min(Instant::now() + ELECTION_TIMEOUT);
        while let Some(group) = view.electing().filter(|_| Instant::now() < late) {
            self.output.progress(&format!("group {group} elects its leader"));
            sleep(PAUSE).await;
            view = view.again().await?;
        }
        Ok(view)
    }

    /// Makes a node a member, without a part in anything yet.
    pub(crate) async fn join(
        &self,
        address: &str,
        node: &NodeStatus,
        cluster: ClusterId,
        voters: &[Peer],
        initialize: bool,
    ) -> Result<(), Failure> {
        let request = JoinRequest {
            cluster: cluster_id_bytes(cluster),
            node: node.node,
            incarnation: node.incarnation,
            voters: voters.to_vec(),
            initialize,
        };
        loop {
            let mut client = client(address).map_err(Failure::refused)?;
            match client.join(request.clone()).await.map_err(|status| from_status(&status)) {
                Ok(_) => return Ok(()),
                Err(Error::Unavailable) => {
                    self.output.progress(&format!("node {} at {address} does not answer: tried again", node.node));
                    self.pause(&format!("node {} at {address} does not answer", node.node)).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Changes the cluster; a change that was made already is fine. Returns the cluster after it.
    pub(crate) async fn propose(&self, view: View, change: ClusterChange) -> Result<View, Failure> {
        self.propose_op(view, ClusterOp { version: None, change }).await
    }

    /// Places all groups on `nodes`.
    pub(crate) async fn place(&self, view: View, nodes: &BTreeSet<NodeId>) -> Result<View, Failure> {
        let placement = moves(&view, nodes);
        if placement.is_empty() {
            return Ok(view);
        }
        let version = Some(view.cluster.version);
        self.propose_op(view, ClusterOp { version, change: ClusterChange::Place(placement) }).await
    }

    async fn propose_op(&self, mut view: View, op: ClusterOp) -> Result<View, Failure> {
        loop {
            match propose_once(&view, op.clone()).await {
                // The leader has applied it, and its cluster is the newest.
                Ok(()) => return view.again().await,
                Err(Error::NotLeader { .. } | Error::Unavailable | Error::OutcomeUnknown | Error::Overloaded) => {
                    self.output.progress("waiting for a leader of the meta group");
                    self.pause("the meta group has no leader that answers").await?;
                    view = view.again().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until something holds, and says meanwhile what does not.
    pub(crate) async fn until(
        &self,
        mut view: View,
        holds: impl Fn(&View) -> Result<(), String>,
    ) -> Result<View, Failure> {
        loop {
            match holds(&view) {
                Ok(()) => return Ok(view),
                Err(missing) => {
                    self.output.progress(&missing);
                    self.pause(&missing).await?;
                }
            }
            view = view.again().await?;
        }
    }
}

async fn propose_once(view: &View, op: ClusterOp) -> Result<(), Error> {
    let (leader, _) = view.leader(GroupId::META).ok_or(Error::Unavailable)?;
    let address = view.cluster.nodes.get(&leader).map(|node| node.address.clone()).unwrap_or_default();
    let mut client = client(&address).map_err(|_| Error::Unavailable)?;
    ursula_proto::propose(&mut client, op, false).await
}

/// The groups that have to move for a placement on `nodes`.
pub(crate) fn moves(view: &View, nodes: &BTreeSet<NodeId>) -> Placement {
    let now = view.cluster.placement();
    plan(nodes, &now).into_iter().filter(|(group, replicas)| now.get(group) != Some(replicas)).collect()
}

/// `Ok` if every group has the members that it should have.
pub(crate) fn all_in_place(view: &View) -> Result<(), String> {
    let groups = || view.cluster.groups.keys();
    let missing: Vec<(GroupId, String)> =
        groups().filter_map(|group| Some((*group, view.in_place(*group).err()?))).collect();
    let Some((group, what)) = missing.first() else { return Ok(()) };
    let done = groups().count() - missing.len();
    Err(format!("{done} of {} groups are in place; group {group}: {what}", groups().count()))
}
