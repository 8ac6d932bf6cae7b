//! The encoding of changes of the cluster, and of the cluster itself.

use prost::{Message, Oneof};

use crate::cluster::{self, ClusterId, GroupRecord, NodeRecord, NodeState, Placement};
use crate::limits::ADDRESS_BYTES_MAX;
use crate::placement::SlotTable;
use crate::{Error, GroupId, NodeId};

/// See [`cluster::ClusterOp`].
#[derive(Clone, PartialEq, Message)]
pub struct ClusterOp {
    /// Planned for this version.
    #[prost(uint64, optional, tag = "1")]
    pub version: Option<u64>,
    /// Never absent in a valid op.
    #[prost(oneof = "Change", tags = "2, 3, 4, 5, 6, 7")]
    pub change: Option<Change>,
}

#[allow(missing_docs)]
#[derive(Clone, PartialEq, Oneof)]
pub enum Change {
    #[prost(message, tag = "2")]
    Form(Form),
    #[prost(message, tag = "3")]
    AddNode(Node),
    #[prost(message, tag = "4")]
    SetNodeState(Node),
    #[prost(message, tag = "5")]
    SetNodeAddress(Node),
    #[prost(message, tag = "6")]
    Place(Groups),
    #[prost(message, tag = "7")]
    Begin(Groups),
}

/// See [`cluster::Form`].
#[derive(Clone, PartialEq, Message)]
pub struct Form {
    /// 16 bytes, big endian.
    #[prost(bytes = "vec", tag = "1")]
    pub cluster: Vec<u8>,
    /// The nodes.
    #[prost(message, repeated, tag = "2")]
    pub nodes: Vec<Node>,
    /// The group of each slot.
    #[prost(uint32, repeated, tag = "3")]
    pub slots: Vec<u32>,
    /// The groups.
    #[prost(message, repeated, tag = "4")]
    pub groups: Vec<Group>,
}

/// A node, or what changes of it.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// Its id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// `host:port`.
    #[prost(string, tag = "2")]
    pub address: String,
    /// The number of its data directory.
    #[prost(fixed64, tag = "3")]
    pub incarnation: u64,
    /// 0 active, 1 draining, 2 removed.
    #[prost(uint32, tag = "4")]
    pub state: u32,
}

/// Some groups.
#[derive(Clone, PartialEq, Message)]
pub struct Groups {
    /// The groups.
    #[prost(message, repeated, tag = "1")]
    pub groups: Vec<Group>,
}

/// A group.
#[derive(Clone, PartialEq, Message)]
pub struct Group {
    /// Its id.
    #[prost(uint32, tag = "1")]
    pub id: u32,
    /// Nodes; the first should lead.
    #[prost(uint64, repeated, tag = "2")]
    pub replicas: Vec<u64>,
    /// It has elected a leader.
    #[prost(bool, tag = "3")]
    pub begun: bool,
}

/// See [`cluster::Cluster`].
#[derive(Clone, PartialEq, Message)]
pub struct Cluster {
    /// 16 bytes, big endian.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// Counts changes.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// All nodes.
    #[prost(message, repeated, tag = "3")]
    pub nodes: Vec<Node>,
    /// The group of each slot.
    #[prost(uint32, repeated, tag = "4")]
    pub slots: Vec<u32>,
    /// All groups.
    #[prost(message, repeated, tag = "5")]
    pub groups: Vec<Group>,
}

impl From<cluster::ClusterOp> for ClusterOp {
    fn from(op: cluster::ClusterOp) -> ClusterOp {
        let just = |id: NodeId| Node { id: id.0, ..Node::default() };
        let change = match op.change {
            cluster::ClusterChange::Form(form) => Change::Form(Form {
                cluster: form.cluster.0.to_be_bytes().to_vec(),
                nodes: form.nodes.into_iter().map(new_node_out).collect(),
                slots: slots_out(&form.slots),
                groups: placement_out(form.placement),
            }),
            cluster::ClusterChange::AddNode(node) => Change::AddNode(new_node_out(node)),
            cluster::ClusterChange::SetNodeState { node, state } => {
                Change::SetNodeState(Node { state: state_out(state), ..just(node) })
            }
            cluster::ClusterChange::SetNodeAddress { node, address } => {
                Change::SetNodeAddress(Node { address: address.to_string(), ..just(node) })
            }
            cluster::ClusterChange::Place(groups) => Change::Place(Groups { groups: placement_out(groups) }),
            cluster::ClusterChange::Begin(groups) => {
                let group = |group: GroupId| Group { id: group.0, begun: true, ..Group::default() };
                Change::Begin(Groups { groups: groups.into_iter().map(group).collect() })
            }
        };
        ClusterOp { version: op.version, change: Some(change) }
    }
}

impl TryFrom<ClusterOp> for cluster::ClusterOp {
    type Error = Error;

    fn try_from(op: ClusterOp) -> Result<cluster::ClusterOp, Error> {
        let change = match op.change.ok_or(Error::Malformed)? {
            Change::Form(form) => cluster::ClusterChange::Form(cluster::Form {
                cluster: id_in(&form.cluster)?,
                nodes: form.nodes.into_iter().map(new_node_in).collect::<Result<_, _>>()?,
                slots: slots_in(form.slots)?,
                placement: placement_in(form.groups)?,
            }),
            Change::AddNode(node) => cluster::ClusterChange::AddNode(new_node_in(node)?),
            Change::SetNodeState(node) => {
                cluster::ClusterChange::SetNodeState { node: NodeId(node.id), state: state_in(node.state)? }
            }
            Change::SetNodeAddress(node) => {
                cluster::ClusterChange::SetNodeAddress { node: NodeId(node.id), address: address_in(node.address)? }
            }
            Change::Place(groups) => cluster::ClusterChange::Place(placement_in(groups.groups)?),
            Change::Begin(groups) => {
                cluster::ClusterChange::Begin(groups.groups.into_iter().map(|group| GroupId(group.id)).collect())
            }
        };
        Ok(cluster::ClusterOp { version: op.version, change })
    }
}

impl From<&cluster::Cluster> for Cluster {
    fn from(cluster: &cluster::Cluster) -> Cluster {
        let node = |(id, node): (&NodeId, &NodeRecord)| Node {
            id: id.0,
            address: node.address.to_string(),
            incarnation: node.incarnation,
            state: state_out(node.state),
        };
        let group = |(id, group): (&GroupId, &GroupRecord)| Group {
            id: id.0,
            replicas: group.replicas.iter().map(|node| node.0).collect(),
            begun: group.begun,
        };
        Cluster {
            id: cluster.id.0.to_be_bytes().to_vec(),
            version: cluster.version,
            nodes: cluster.nodes.iter().map(node).collect(),
            slots: slots_out(&cluster.slots),
            groups: cluster.groups.iter().map(group).collect(),
        }
    }
}

impl TryFrom<Cluster> for cluster::Cluster {
    type Error = Error;

    fn try_from(cluster: Cluster) -> Result<cluster::Cluster, Error> {
        let node = |node: Node| {
            let (address, state) = (address_in(node.address)?, state_in(node.state)?);
            Ok::<_, Error>((NodeId(node.id), NodeRecord { address, incarnation: node.incarnation, state }))
        };
        let group = |group: Group| {
            let replicas = group.replicas.into_iter().map(NodeId).collect();
            (GroupId(group.id), GroupRecord { replicas, begun: group.begun })
        };
        Ok(cluster::Cluster {
            id: id_in(&cluster.id)?,
            version: cluster.version,
            nodes: cluster.nodes.into_iter().map(node).collect::<Result<_, _>>()?,
            slots: slots_in(cluster.slots)?,
            groups: cluster.groups.into_iter().map(group).collect(),
        })
    }
}

/// Encodes a cluster.
pub fn encode(cluster: &cluster::Cluster) -> Vec<u8> {
    Cluster::from(cluster).encode_to_vec()
}

/// Decodes a cluster.
///
/// # Errors
/// [`Error::Malformed`] for anything that [`encode`] does not write.
pub fn decode(bytes: bytes::Bytes) -> Result<cluster::Cluster, Error> {
    Cluster::decode(bytes).map_err(|_| Error::Malformed)?.try_into()
}

fn new_node_out(node: cluster::NewNode) -> Node {
    Node { id: node.id.0, address: node.address.to_string(), incarnation: node.incarnation, state: 0 }
}

fn new_node_in(node: Node) -> Result<cluster::NewNode, Error> {
    let address = address_in(node.address)?;
    Ok(cluster::NewNode { id: NodeId(node.id), address, incarnation: node.incarnation })
}

fn slots_out(slots: &SlotTable) -> Vec<u32> {
    slots.groups().iter().map(|group| group.0).collect()
}

fn slots_in(slots: Vec<u32>) -> Result<SlotTable, Error> {
    SlotTable::from_groups(slots.into_iter().map(GroupId).collect()).ok_or(Error::Malformed)
}

fn placement_out(placement: Placement) -> Vec<Group> {
    let group = |(id, replicas): (GroupId, Vec<NodeId>)| Group {
        id: id.0,
        replicas: replicas.into_iter().map(|node| node.0).collect(),
        begun: false,
    };
    placement.into_iter().map(group).collect()
}

fn placement_in(groups: Vec<Group>) -> Result<Placement, Error> {
    let count = groups.len();
    let group = |group: Group| (GroupId(group.id), group.replicas.into_iter().map(NodeId).collect());
    let placement: Placement = groups.into_iter().map(group).collect();
    // A group that stands there twice would lose one of its places.
    if placement.len() == count { Ok(placement) } else { Err(Error::Malformed) }
}

fn state_out(state: NodeState) -> u32 {
    match state {
        NodeState::Active => 0,
        NodeState::Draining => 1,
        NodeState::Removed => 2,
    }
}

fn state_in(state: u32) -> Result<NodeState, Error> {
    match state {
        0 => Ok(NodeState::Active),
        1 => Ok(NodeState::Draining),
        2 => Ok(NodeState::Removed),
        _ => Err(Error::Malformed),
    }
}

fn id_in(bytes: &[u8]) -> Result<ClusterId, Error> {
    bytes.try_into().map(|bytes| ClusterId(u128::from_be_bytes(bytes))).map_err(|_| Error::Malformed)
}

fn address_in(address: String) -> Result<std::sync::Arc<str>, Error> {
    if address.len() > ADDRESS_BYTES_MAX { Err(Error::Malformed) } else { Ok(address.into()) }
}
