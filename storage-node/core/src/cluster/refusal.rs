//! Why a change of the cluster is refused, as a sentence for the operator.

use std::sync::Arc;

use ursula_common::limits::{NODES_MAX, REPLICAS_MAX};
use ursula_common::{ClusterId, Error, GroupId, NodeId};

/// A rule that a change would break.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the cluster is not formed yet: run `ursula cluster init` first")]
    NotFormed,
    #[error(
        "this is cluster {0}, formed long ago: it cannot be formed again; add nodes with `ursula cluster add-node`"
    )]
    Formed(ClusterId),
    #[error(
        "this group has served {groups} groups without a cluster record: form the cluster with as many, or start empty"
    )]
    InUse { groups: u32 },
    #[error("the cluster has changed meanwhile, it is at version {version}: look at its status and try again")]
    Moved { version: u64 },
    #[error("a cluster needs at least one node")]
    NoNodes,
    #[error("a cluster can have had at most {NODES_MAX} nodes")]
    TooManyNodes,
    #[error("node ids begin at 1")]
    NodeZero,
    #[error("{0:?} is not an address: give host:port, as the other nodes and the gateways reach it")]
    Address(Arc<str>),
    #[error("node {0} is in the cluster already, with another address or data directory: choose another id")]
    NodeExists(NodeId),
    #[error("node {0} was removed: ids are never used again, choose another one")]
    IdUsed(NodeId),
    #[error("node {other} has the address {address} already")]
    AddressTaken { address: Arc<str>, other: NodeId },
    #[error("the data directory is that of node {other}: start the new node with an empty one")]
    DirectoryTaken { other: NodeId },
    #[error("there is no node {0}")]
    NoNode(NodeId),
    #[error("node {0} was removed, for ever: start a node with an empty directory and another id")]
    Removed(NodeId),
    #[error("node {node} still has {groups} groups: place them elsewhere first, as `ursula cluster remove-node` does")]
    StillPlaced { node: NodeId, groups: usize },
    #[error("node {0} is the last active one: no node would be left to lead")]
    LastActive(NodeId),
    #[error("groups are numbered from 0, the meta group, and there is at least one more")]
    GroupNumbers,
    #[error("the slots must lead to groups that hold streams")]
    Slots,
    #[error("there is no group {0}")]
    NoGroup(GroupId),
    #[error("group {0} has not elected its first leader yet: wait until it has")]
    NotBegun(GroupId),
    #[error("group {group} would have {replicas} replicas: 1 to {REPLICAS_MAX} are possible")]
    ReplicaCount { group: GroupId, replicas: usize },
    #[error("group {group} would have two replicas on node {node}")]
    TwiceOnNode { group: GroupId, node: NodeId },
    #[error("node {node} is draining: it gets no more replicas, and should get one of group {group}")]
    Draining { group: GroupId, node: NodeId },
    #[error("group {group} has {now} replicas and would keep {then}: add a node first")]
    FewerReplicas { group: GroupId, now: usize, then: usize },
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::ClusterRefused { reason: refusal.to_string().into() }
    }
}
