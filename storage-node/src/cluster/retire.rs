//! Whether a replica that the goal does not name may be forgotten. Only the leader can tell: until it has
//! changed the members, this replica may be what keeps a majority.

use std::time::Duration;

use tokio::time::timeout;
use ursula_common::cluster::Cluster;
use ursula_common::{GroupId, NodeId};
use ursula_proto::{admin::v1 as admin, admin_client};

use super::ClusterSide;

/// A node that does not answer in this time is asked again later.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks the nodes where the group belongs, until one that leads it says that this node is no member.
pub(super) async fn is_dismissed(side: &ClusterSide, cluster: &Cluster, group: GroupId) -> bool {
    let me = side.me();
    let Some(own) = side.hosting().status(group).await else { return false };
    let Some(record) = cluster.groups.get(&group) else { return false };
    for node in record.replicas.iter().filter(|node| **node != me) {
        let Some(answer) = ask(side, *node).await else { continue };
        if answer.hosted.iter().any(|status| says_so(status, group, own.lead.term, me)) {
            return true;
        }
    }
    false
}

/// The cluster as another node knows it.
pub(super) async fn cluster_of(side: &ClusterSide, node: NodeId) -> Option<Cluster> {
    ask(side, node).await?.known_cluster().ok().flatten()
}

async fn ask(side: &ClusterSide, node: NodeId) -> Option<admin::NodeStatus> {
    let mut client = admin_client(side.hosting().channel(node)?);
    let answer = timeout(ANSWER_TIMEOUT, client.describe(admin::DescribeRequest {})).await;
    answer.ok()?.ok().map(tonic::Response::into_inner)
}

/// An old leader that does not know of a newer one might not know either that this node was let in again.
fn says_so(status: &admin::GroupStatus, group: GroupId, term: u64, me: NodeId) -> bool {
    let members = status.voters.iter().flat_map(|voters| &voters.nodes).chain(&status.learners);
    status.group == group.0
        && status.role() == admin::Role::Leader
        && status.term >= term
        && status.voters.len() == 1
        && !members.into_iter().any(|node| *node == me.0)
}
