//! The cluster as the meta group records it: its nodes, and where each group belongs. Plain data; the
//! rules for its changes are in `stream-core`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::placement::SlotTable;
use crate::{GroupId, NodeId};

/// A cluster, for all time. Drawn at random when it is formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for ClusterId {
    type Err = String;

    fn from_str(text: &str) -> Result<ClusterId, String> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| digits);
        number.map(ClusterId).ok_or_else(|| "a cluster id has 32 hexadecimal digits".to_owned())
    }
}

/// What a node is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// It holds replicas, and leads groups.
    Active,
    /// It keeps its replicas, but gets no more and leads nothing.
    Draining,
    /// It was taken out for ever.
    Removed,
}

impl NodeState {
    /// The name for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            NodeState::Active => "active",
            NodeState::Draining => "draining",
            NodeState::Removed => "removed",
        }
    }
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// `host:port` of its gRPC listener; empty only for the one node of a cluster within a process.
    pub address: Arc<str>,
    /// The number of its data directory: another one means that the directory is not the same.
    pub incarnation: u64,
    /// What it is there for.
    pub state: NodeState,
}

/// A node to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNode {
    /// Its identity.
    pub id: NodeId,
    /// See [`NodeRecord::address`].
    pub address: Arc<str>,
    /// See [`NodeRecord::incarnation`].
    pub incarnation: u64,
}

/// Where a group belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRecord {
    /// The nodes that should have a voting replica; the first should lead.
    pub replicas: Vec<NodeId>,
    /// Whether its replicas have ever elected a leader. Until then, the first of them makes the group,
    /// and none of them may change.
    pub begun: bool,
}

/// Goal placement: the replicas of each group, the first to lead.
pub type Placement = BTreeMap<GroupId, Vec<NodeId>>;

/// Everything that the meta group knows about the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Which cluster this is.
    pub id: ClusterId,
    /// Counts the changes, from 1.
    pub version: u64,
    /// All nodes, with those that were removed: an id is never used again.
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    /// Slot to group.
    pub slots: SlotTable,
    /// All groups, the meta group too.
    pub groups: BTreeMap<GroupId, GroupRecord>,
}

impl Cluster {
    /// How many groups hold streams.
    pub fn data_groups(&self) -> u32 {
        u32::try_from(self.groups.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// The nodes that were not removed.
    pub fn members(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().filter(|(_, node)| node.state != NodeState::Removed).map(|(id, _)| *id)
    }

    /// The nodes that may lead, and get replicas.
    pub fn active(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().filter(|(_, node)| node.state == NodeState::Active).map(|(id, _)| *id)
    }

    /// The nodes that follow a group without a vote: of the meta group, so that every node knows the cluster.
    pub fn learners(&self, group: GroupId) -> BTreeSet<NodeId> {
        if group != GroupId::META {
            return BTreeSet::new();
        }
        self.members().filter(|node| !self.has_replica(*node, group)).collect()
    }

    /// Whether a node should have a voting replica of a group.
    pub fn has_replica(&self, node: NodeId, group: GroupId) -> bool {
        self.groups.get(&group).is_some_and(|record| record.replicas.contains(&node))
    }

    /// Whether a node should have a replica of a group, with a vote or without.
    pub fn hosts(&self, node: NodeId, group: GroupId) -> bool {
        self.has_replica(node, group)
            || group == GroupId::META && self.nodes.get(&node).is_some_and(|known| known.state != NodeState::Removed)
    }

    /// The groups that a node should have a voting replica of.
    pub fn groups_of(&self, node: NodeId) -> impl Iterator<Item = GroupId> {
        self.groups.iter().filter(move |(_, record)| record.replicas.contains(&node)).map(|(group, _)| *group)
    }

    /// The goal placement of all groups.
    pub fn placement(&self) -> Placement {
        self.groups.iter().map(|(group, record)| (*group, record.replicas.clone())).collect()
    }
}

/// A change of the cluster (meta group).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterOp {
    /// The version that the change was planned for: with another one it is refused.
    pub version: Option<u64>,
    /// What to change. A change that has been made already succeeds and changes nothing.
    pub change: ClusterChange,
}

/// See [`ClusterOp`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterChange {
    /// Makes the cluster. Once only.
    Form(Form),
    /// Adds a node without replicas.
    AddNode(NewNode),
    /// Changes what a node is there for.
    SetNodeState {
        /// The node.
        node: NodeId,
        /// What it shall be there for.
        state: NodeState,
    },
    /// Changes where a node is reached.
    SetNodeAddress {
        /// The node.
        node: NodeId,
        /// See [`NodeRecord::address`].
        address: Arc<str>,
    },
    /// Changes where groups belong; those that are not named stay.
    Place(Placement),
    /// Notes that groups have elected a leader for the first time. Proposed by nodes that lead.
    Begin(BTreeSet<GroupId>),
}

/// Makes a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// Its id.
    pub cluster: ClusterId,
    /// Its nodes.
    pub nodes: Vec<NewNode>,
    /// Slot to group.
    pub slots: SlotTable,
    /// Where the groups belong: groups 0 (the meta group, which runs already) to the last one, without a gap.
    pub placement: Placement,
}

#[cfg(test)]
mod tests;
