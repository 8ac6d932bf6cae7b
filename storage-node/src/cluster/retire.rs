//! Whether a replica that the goal does not name may be forgotten. Only the leader can tell: until it has
//! changed the members, this replica may be what keeps a majority.

use std::time::Duration;

use tokio::time::timeout;
use ursula_common::cluster::Cluster;
use ursula_common::{Error, GroupId, NodeId};
use ursula_proto::{admin::v1 as admin, admin_client};

use super::ClusterSide;
use crate::data_dir::Forgotten;

/// A node that does not answer in this time is asked again later.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// A voter that answered its leader so long ago follows it: less than a vote for another one takes.
const FOLLOWED_MS: u64 = 1000;

/// Asks whether the replica may be forgotten while it answers nobody: else it could be taken in again after the answer was
/// given, and have acknowledged something before the answer was here. Returns with a replica that answers nobody if it may.
pub(super) async fn held(
    side: &ClusterSide,
    group: GroupId,
    may: impl Future<Output = Option<Forgotten>>,
) -> Option<Forgotten> {
    side.hosting().hold(group, true).await.ok()?;
    let forgotten = may.await;
    if forgotten.is_none() {
        // Whoever stops the core meanwhile needs no replica any more.
        let _ = side.hosting().hold(group, false).await;
    }
    forgotten
}

/// Forgets a replica that [`held`] has let go.
///
/// # Errors
/// If something of it is left; it takes part in its group again then, if it still can.
pub(super) async fn forget(side: &ClusterSide, forgotten: Forgotten) -> Result<(), Error> {
    let done = side.hosting().forget(forgotten).await;
    if done.is_err() {
        let _ = side.hosting().hold(GroupId(forgotten.group), false).await;
    }
    done
}

/// Asks the nodes where the group belongs, until one that leads it says that this node is no member; returns how far its
/// log goes.
pub(super) async fn dismissed(side: &ClusterSide, cluster: &Cluster, group: GroupId) -> Option<Forgotten> {
    let me = side.me();
    let own = side.hosting().status(group).await?;
    let record = cluster.groups.get(&group)?;
    for node in record.replicas.iter().filter(|node| **node != me) {
        let Some(answer) = ask(side, *node).await else { continue };
        if let Some(status) = answer.hosted.iter().find(|status| says_so(status, group, own.lead.term, me)) {
            return Some(forgotten(status));
        }
    }
    None
}

/// Whether the leader of a group, which a majority of its voters has answered just now, says that this node is no
/// member; returns how far its log goes. What a replica of its own could tell may be lost, so this node believes no leader
/// that may have been deposed.
pub(super) async fn let_go(side: &ClusterSide, group: GroupId) -> Option<Forgotten> {
    let own = side.hosting().status(group).await.map_or(0, |own| own.lead.term);
    for peer in side.hosting().remembered() {
        let Some(answer) = ask(side, peer.node).await else { continue };
        let says_so = |status: &&admin::GroupStatus| says_so(status, group, own, side.me());
        if let Some(status) = answer.hosted.iter().filter(says_so).find(|status| is_followed(status, peer.node)) {
            return Some(forgotten(status));
        }
    }
    None
}

fn forgotten(leader: &admin::GroupStatus) -> Forgotten {
    Forgotten { group: leader.group, term: leader.term, last: leader.last }
}

/// Whether a majority of the voters follows a leader at this moment.
fn is_followed(status: &admin::GroupStatus, leader: NodeId) -> bool {
    let answered = |node: &u64| {
        let progress = status.progress.iter().find(|progress| progress.node == *node);
        let silent = progress.and_then(|progress| progress.silent_ms);
        *node == leader.0 || silent.is_some_and(|silent| silent <= FOLLOWED_MS)
    };
    let follow = |voters: &admin::Voters| voters.nodes.iter().filter(|node| answered(node)).count();
    status.voters.iter().all(|voters| follow(voters) > voters.nodes.len() / 2)
}

/// The cluster as another node knows it.
pub(super) async fn cluster_of(side: &ClusterSide, node: NodeId) -> Option<Cluster> {
    ask(side, node).await?.known_cluster().ok().flatten()
}

/// What a node tells of itself; `None` if it does not in time.
pub(super) async fn ask(side: &ClusterSide, node: NodeId) -> Option<admin::NodeStatus> {
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
