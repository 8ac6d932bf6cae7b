//! The cluster as its nodes tell it at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ursula_common::cluster::{Cluster, GroupRecord};
use ursula_common::{GroupId, NodeId};
use ursula_proto::admin::v1::{DescribeRequest, GroupStatus, NodeStatus, Role};
use ursula_proto::{AdminClient, admin_client, from_status};

use super::failure::Failure;

/// A node that does not answer in this time counts as down.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// The cluster, and what each of its nodes says.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) cluster: Cluster,
    /// The nodes that were not removed; those that do not answer with the reason.
    pub(crate) nodes: BTreeMap<NodeId, Result<NodeStatus, String>>,
}

/// A client for the node at an address.
pub(crate) fn client(address: &str) -> Result<AdminClient, String> {
    let channel = ursula_proto::remote(address).map_err(|_| format!("{address} is not host:port"))?;
    Ok(admin_client(channel))
}

/// What a node says of itself.
pub(crate) async fn describe(address: &str) -> Result<NodeStatus, String> {
    let mut client = client(address)?;
    match tokio::time::timeout(ANSWER_TIMEOUT, client.describe(DescribeRequest {})).await {
        Ok(Ok(status)) => Ok(status.into_inner()),
        Ok(Err(status)) => Err(from_status(&status).to_string()),
        Err(_) => Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
    }
}

impl View {
    /// Looks at the cluster that the node at `address` belongs to.
    pub(crate) async fn take(address: &str) -> Result<View, Failure> {
        let unreachable = |reason| {
            Failure::refused(format!(
                "cannot ask the node at {address} ({reason}): start it, or name another one with --address"
            ))
        };
        let asked = describe(address).await.map_err(unreachable)?;
        let damaged = asked.refused.iter().find(|refused| refused.group == GroupId::META.0);
        let mut cluster = asked.known_cluster()?.ok_or_else(|| match damaged {
            Some(damaged) => Failure::refused(format!(
                "node {} at {address} cannot tell what the cluster is: name another node with --address. Its meta {}",
                asked.node, damaged.reason
            )),
            None => Failure::refused(format!(
                "node {} at {address} belongs to no cluster yet: run `ursula cluster init`, or name a node of the \
                 cluster with --address",
                asked.node
            )),
        })?;
        // One that is alone, without a directory, tells nobody where it is.
        if let Some(alone) = cluster.nodes.get_mut(&NodeId(asked.node)).filter(|node| node.address.is_empty()) {
            alone.address = address.into();
        }
        View::of(cluster).await
    }

    /// Looks again, at the cluster as it was known last.
    pub(crate) async fn again(&self) -> Result<View, Failure> {
        View::of(self.cluster.clone()).await
    }

    async fn of(mut cluster: Cluster) -> Result<View, Failure> {
        let mut calls = tokio::task::JoinSet::new();
        for (id, node) in &cluster.nodes {
            let (id, address) = (*id, node.address.clone());
            if cluster.members().any(|member| member == id) {
                calls.spawn(async move { (id, describe(&address).await) });
            }
        }
        let mut nodes = BTreeMap::new();
        while let Some(answer) = calls.join_next().await {
            let Ok((id, answer)) = answer else { continue };
            let answer = answer.and_then(|status| {
                let same = status.node == id.0 && Some(status.incarnation) == incarnation(&cluster, id);
                if same {
                    Ok(status)
                } else {
                    Err("another node, or an emptied directory, is at its address".to_owned())
                }
            });
            nodes.insert(id, answer);
        }
        for status in nodes.values().flatten() {
            if let Some(newer) = status.known_cluster()?
                && newer.id == cluster.id
                && newer.version > cluster.version
            {
                cluster = newer;
            }
        }
        Ok(View { cluster, nodes })
    }

    /// What a node says of its replica of a group.
    pub(crate) fn replica(&self, node: NodeId, group: GroupId) -> Option<&GroupStatus> {
        let status = self.nodes.get(&node)?.as_ref().ok()?;
        status.hosted.iter().find(|hosted| hosted.group == group.0)
    }

    /// The leader of a group, and what it says of it.
    pub(crate) fn leader(&self, group: GroupId) -> Option<(NodeId, &GroupStatus)> {
        let replicas = self.nodes.keys().filter_map(|node| Some((*node, self.replica(*node, group)?)));
        replicas.filter(|(_, status)| status.role() == Role::Leader).max_by_key(|(_, status)| status.term)
    }

    /// A group without a leader of which a majority answers: it will have one in a moment.
    pub(crate) fn electing(&self) -> Option<GroupId> {
        let elects = |(group, record): (&GroupId, &GroupRecord)| {
            let up = record.replicas.iter().filter(|node| self.replica(**node, *group).is_some()).count();
            (self.leader(*group).is_none() && up > record.replicas.len() / 2).then_some(*group)
        };
        self.cluster.groups.iter().find_map(elects)
    }

    /// Why a node does not serve a group that belongs to it, if it says so.
    pub(crate) fn refusal(&self, node: NodeId, group: GroupId) -> Option<&str> {
        let status = self.nodes.get(&node)?.as_ref().ok()?;
        status.refused.iter().find(|refused| refused.group == group.0).map(|refused| refused.reason.as_str())
    }

    pub(crate) fn answers(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(Result::is_ok)
    }

    /// `Ok` if the members of a group are those that it should have; otherwise what is under way.
    pub(crate) fn in_place(&self, group: GroupId) -> Result<(), String> {
        let Some((_, leader)) = self.leader(group) else { return Err("it has no leader".to_owned()) };
        let goal = self.cluster.groups.get(&group).map(|record| record.replicas.iter().copied().collect());
        let voters = voters(leader);
        let learners: BTreeSet<NodeId> = leader.learners.iter().map(|node| NodeId(*node)).collect();
        if leader.voters.len() == 1 && goal == Some(voters) && learners == self.cluster.learners(group) {
            return Ok(());
        }
        Err(if leader.task.is_empty() { "its members change".to_owned() } else { leader.task.clone() })
    }

    /// The groups that a node leads.
    pub(crate) fn led_by(&self, node: NodeId) -> Vec<GroupId> {
        let leads = |group: &GroupId| self.leader(*group).is_some_and(|(leader, _)| leader == node);
        self.cluster.groups.keys().copied().filter(leads).collect()
    }
}

/// The voters of a group, those before and after a change together.
pub(crate) fn voters(status: &GroupStatus) -> BTreeSet<NodeId> {
    status.voters.iter().flat_map(|voters| &voters.nodes).map(|node| NodeId(*node)).collect()
}

fn incarnation(cluster: &Cluster, node: NodeId) -> Option<u64> {
    cluster.nodes.get(&node).map(|known| known.incarnation)
}
