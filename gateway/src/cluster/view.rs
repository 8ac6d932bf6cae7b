//! What a gateway knows of the cluster: the nodes, the groups, and who leads them. Pure: told by others, it decides
//! what is news.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use ursula_common::placement::SlotTable;
use ursula_common::{ClusterId, Error, GroupId, NodeId, StreamKey};
use ursula_proto::{ChannelError, NodeChannel, v1};

use crate::link::Link;

/// One state of knowledge.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    version: u64,
    /// None while nobody has told.
    cluster: Option<ClusterId>,
    slots: Option<Arc<SlotTable>>,
    groups: BTreeMap<GroupId, Placement>,
    nodes: BTreeMap<NodeId, Link>,
}

/// Where a group is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Never empty.
    pub(crate) replicas: Vec<NodeId>,
    /// Who leads it, as far as is known, and the newest term of which anything is known.
    pub(crate) leader: Option<NodeId>,
    pub(crate) term: u64,
}

/// Makes the way to the node at an address (`host:port`).
pub type Connect = dyn Fn(&str) -> Result<NodeChannel, ChannelError> + Send + Sync;

/// The view that all parts of a gateway share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Views {
    current: Arc<watch::Sender<Arc<View>>>,
    connect: Arc<Connect>,
}

impl Views {
    pub(crate) fn new(connect: Arc<Connect>) -> Views {
        Views { current: Arc::new(watch::channel(Arc::default()).0), connect }
    }

    pub(crate) fn get(&self) -> Arc<View> {
        self.current.borrow().clone()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<View>> {
        self.current.subscribe()
    }

    /// Takes in what a node tells of the cluster; `asked` is the way to it.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it makes no sense.
    pub(crate) fn merge(&self, message: &v1::Topology, asked: &Link) -> Result<(), Error> {
        let merged = self.get().merged(message, asked, &*self.connect)?;
        self.current.send_replace(Arc::new(merged));
        Ok(())
    }

    /// Whatever is told next is news.
    pub(crate) fn forget_version(&self) {
        self.current.send_modify(|view| Arc::make_mut(view).version = 0);
    }

    /// Takes in that `from` says not to lead a group, and who does.
    pub(crate) fn hear(&self, group: GroupId, from: NodeId, leader: Option<NodeId>, term: u64) {
        self.change(group, |placement| placement.hear(from, leader, term));
    }

    /// Takes in that a node has just done what only the leader does. Returns the term of which that is known.
    pub(crate) fn confirm(&self, group: GroupId, node: NodeId) -> u64 {
        self.change(group, |placement| placement.leader = Some(node));
        self.get().placement(group).map_or(0, |placement| placement.term)
    }

    fn change(&self, group: GroupId, change: impl FnOnce(&mut Placement)) {
        self.current.send_if_modified(|view| {
            let Some(before) = view.groups.get(&group) else { return false };
            let mut placement = before.clone();
            change(&mut placement);
            // Whoever is not known cannot be asked: the topology will tell of it.
            placement.leader.take_if(|leader| !view.nodes.contains_key(leader));
            let changed = placement != *before;
            if changed {
                Arc::make_mut(view).groups.insert(group, placement);
            }
            changed
        });
    }
}

impl View {
    /// The newest topology that is known; 0 for none.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn is_known(&self) -> bool {
        self.slots.is_some()
    }

    /// The group of a stream.
    pub(crate) fn group_of(&self, key: &StreamKey) -> Option<GroupId> {
        self.slots.as_ref().map(|slots| slots.group_of(key))
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = GroupId> {
        self.groups.keys().copied()
    }

    /// Groups of which no leader is known.
    pub(crate) fn leaderless(&self) -> usize {
        self.groups.values().filter(|placement| placement.leader.is_none()).count()
    }

    pub(crate) fn placement(&self, group: GroupId) -> Option<&Placement> {
        self.groups.get(&group)
    }

    pub(crate) fn link(&self, node: NodeId) -> Option<&Link> {
        self.nodes.get(&node)
    }

    pub(crate) fn links(&self) -> impl Iterator<Item = (NodeId, &Link)> {
        self.nodes.iter().map(|(node, link)| (*node, link))
    }

    /// The message takes the place of what is older; of two that tell of leaders the later term is right.
    fn merged(&self, message: &v1::Topology, asked: &Link, connect: &Connect) -> Result<View, Error> {
        let slots = ursula_proto::slot_table(message)?;
        let cluster = Some(&message.cluster).filter(|id| !id.is_empty());
        let cluster = cluster.map(|id| ursula_proto::cluster_id(id)).transpose()?;
        // One node in memory is another cluster whenever it starts. Several do not forget theirs together.
        let begun_anew = cluster != self.cluster;
        if begun_anew && self.nodes.len() > 1 {
            let name = |id: Option<ClusterId>| id.map_or("none".to_owned(), |id| id.to_string());
            let reason = format!("it belongs to cluster {}, this gateway serves {}", name(cluster), name(self.cluster));
            return Err(Error::ClusterRefused { reason: reason.into() });
        }
        let ways = Ways { known: self, cluster, asked, connect };
        let told = View {
            version: message.version,
            cluster,
            nodes: message.nodes.iter().map(|node| ways.to(node)).collect::<Result<_, _>>()?,
            groups: BTreeMap::new(),
            slots: Some(Arc::new(slots)),
        };
        let groups = message.groups.iter().map(|group| told.group(group)).collect::<Result<_, _>>()?;
        let told = View { groups, ..told };
        if begun_anew {
            return Ok(told);
        }
        let (mut merged, leaders) = if told.version >= self.version { (told, self) } else { (self.clone(), &told) };
        for (group, placement) in &mut merged.groups {
            if let Some(other) = leaders.groups.get(group) {
                placement.learn(other);
            }
            placement.leader.take_if(|leader| !merged.nodes.contains_key(leader));
        }
        Ok(merged)
    }

    fn group(&self, group: &v1::Group) -> Result<(GroupId, Placement), Error> {
        let known = |id: &u64| Some(NodeId(*id)).filter(|id| self.nodes.contains_key(id));
        let replicas: Vec<NodeId> = group.replicas.iter().filter_map(known).collect();
        if replicas.is_empty() {
            return Err(Error::Malformed);
        }
        let leader = group.leader.as_ref().and_then(known);
        Ok((GroupId(group.id), Placement { replicas, leader, term: group.term }))
    }
}

/// How nodes are reached that a topology tells of.
struct Ways<'a> {
    known: &'a View,
    cluster: Option<ClusterId>,
    /// The way to the node that tells.
    asked: &'a Link,
    connect: &'a Connect,
}

impl Ways<'_> {
    /// Links to nodes that are known already are kept, with the connections behind them.
    fn to(&self, node: &v1::NodeAddress) -> Result<(NodeId, Link), Error> {
        let Ways { known, cluster, asked, connect } = *self;
        let (id, address) = (NodeId(node.id), node.address.as_str());
        let address = if address.is_empty() { asked.address() } else { address };
        if let Some(link) = known.link(id).filter(|link| link.address() == address && known.cluster == cluster) {
            return Ok((id, link.clone()));
        }
        let link = match address == asked.address() {
            true => asked.clone(),
            false => Link::new(address.to_owned(), connect(address).map_err(|_| Error::Malformed)?),
        };
        Ok((id, cluster.map_or(link.clone(), |cluster| link.in_cluster(cluster))))
    }
}

impl Placement {
    /// The replicas, the leader first, the others in turns that begin with another one for each `turn`.
    pub(crate) fn in_order(&self, turn: usize) -> Vec<NodeId> {
        let others = self.replicas.iter().copied().filter(|node| Some(*node) != self.leader);
        let mut order: Vec<NodeId> = others.collect();
        let turns = order.len().max(1);
        order.rotate_left(turn % turns);
        order.splice(..0, self.leader);
        order
    }

    fn learn(&mut self, other: &Placement) {
        if other.term > self.term || (other.term == self.term && self.leader.is_none()) {
            (self.leader, self.term) = (other.leader, other.term);
        }
    }

    fn hear(&mut self, from: NodeId, leader: Option<NodeId>, term: u64) {
        if self.leader == Some(from) {
            // It must know. One that has never heard of the term has lost its memory, and with it the group.
            (self.leader, self.term) = (leader, term);
        } else {
            self.learn(&Placement { replicas: Vec::new(), leader, term });
        }
    }
}

#[cfg(test)]
mod tests;
