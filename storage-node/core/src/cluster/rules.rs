//! The rule of each change. Nothing is changed by one that is refused: the caller drops the copy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ursula_common::cluster::{Cluster, Form, GroupRecord, NewNode, NodeRecord, NodeState, Placement};
use ursula_common::limits::{ADDRESS_BYTES_MAX, NODES_MAX, REPLICAS_MAX};
use ursula_common::{GroupId, NodeId};

use super::refusal::Refusal;
use crate::state::DATA_GROUPS_MAX;

/// Fewer voting replicas than this are never made of as many or more.
const REPLICAS_KEPT: usize = 3;

/// `in_use` is the number of groups that the meta group has served so far, if it has.
pub(super) fn form(form: Form, in_use: Option<u32>) -> Result<Cluster, Refusal> {
    let Form { cluster: id, nodes, slots, placement } = form;
    let alone = nodes.len() == 1;
    let mut cluster = Cluster { id, version: 1, nodes: BTreeMap::new(), slots, groups: BTreeMap::new() };
    for node in nodes {
        if cluster.nodes.contains_key(&node.id) {
            return Err(Refusal::NodeExists(node.id));
        }
        check_node(&cluster, &node, alone)?;
        insert(&mut cluster, node);
    }
    if cluster.nodes.is_empty() {
        return Err(Refusal::NoNodes);
    }
    let groups = u32::try_from(placement.len()).unwrap_or(u32::MAX);
    if !(2..=DATA_GROUPS_MAX + 1).contains(&groups) || !placement.keys().map(|group| group.0).eq(0..groups) {
        return Err(Refusal::GroupNumbers);
    }
    if let Some(used) = in_use.filter(|used| *used != groups - 1) {
        return Err(Refusal::InUse { groups: used });
    }
    if !cluster.slots.groups().iter().all(|group| (1..groups).contains(&group.0)) {
        return Err(Refusal::Slots);
    }
    for (group, replicas) in placement {
        check_replicas(&cluster, group, &replicas, &[])?;
        // The group that decides this has begun.
        cluster.groups.insert(group, GroupRecord { replicas, begun: group == GroupId::META });
    }
    Ok(cluster)
}

pub(super) fn add_node(cluster: &mut Cluster, new: NewNode) -> Result<(), Refusal> {
    match cluster.nodes.get(&new.id) {
        Some(known) if known.state == NodeState::Removed => return Err(Refusal::IdUsed(new.id)),
        Some(_) => return Err(Refusal::NodeExists(new.id)),
        None => {}
    }
    check_node(cluster, &new, false)?;
    insert(cluster, new);
    Ok(())
}

pub(super) fn set_state(cluster: &mut Cluster, id: NodeId, state: NodeState) -> Result<(), Refusal> {
    member(cluster, id)?;
    let groups = cluster.groups_of(id).count();
    if state == NodeState::Removed && groups > 0 {
        return Err(Refusal::StillPlaced { node: id, groups });
    }
    if state != NodeState::Active && cluster.active().all(|active| active == id) {
        return Err(Refusal::LastActive(id));
    }
    if let Some(node) = cluster.nodes.get_mut(&id) {
        node.state = state;
    }
    Ok(())
}

pub(super) fn set_address(cluster: &mut Cluster, id: NodeId, address: Arc<str>) -> Result<(), Refusal> {
    member(cluster, id)?;
    check_address(cluster, id, &address)?;
    if let Some(node) = cluster.nodes.get_mut(&id) {
        node.address = address;
    }
    Ok(())
}

pub(super) fn place(cluster: &mut Cluster, placement: Placement) -> Result<(), Refusal> {
    for (group, replicas) in placement {
        let record = cluster.groups.get(&group).ok_or(Refusal::NoGroup(group))?;
        if !record.begun {
            return Err(Refusal::NotBegun(group));
        }
        check_replicas(cluster, group, &replicas, &record.replicas)?;
        let (now, then) = (record.replicas.len(), replicas.len());
        if then < now.min(REPLICAS_KEPT) {
            return Err(Refusal::FewerReplicas { group, now, then });
        }
        cluster.groups.insert(group, GroupRecord { replicas, begun: true });
    }
    Ok(())
}

pub(super) fn begin(cluster: &mut Cluster, groups: &BTreeSet<GroupId>) -> Result<(), Refusal> {
    for group in groups {
        cluster.groups.get_mut(group).ok_or(Refusal::NoGroup(*group))?.begun = true;
    }
    Ok(())
}

pub(super) fn node(cluster: &Cluster, id: NodeId) -> Result<&NodeRecord, Refusal> {
    cluster.nodes.get(&id).ok_or(Refusal::NoNode(id))
}

fn member(cluster: &Cluster, id: NodeId) -> Result<(), Refusal> {
    if node(cluster, id)?.state == NodeState::Removed { Err(Refusal::Removed(id)) } else { Ok(()) }
}

fn insert(cluster: &mut Cluster, node: NewNode) {
    let NewNode { id, address, incarnation } = node;
    cluster.nodes.insert(id, NodeRecord { address, incarnation, state: NodeState::Active });
}

/// A node alone in its cluster may be in the process of those who ask it: then it needs no address.
fn check_node(cluster: &Cluster, new: &NewNode, alone: bool) -> Result<(), Refusal> {
    if new.id.0 == 0 {
        return Err(Refusal::NodeZero);
    }
    if cluster.nodes.len() >= NODES_MAX {
        return Err(Refusal::TooManyNodes);
    }
    if let Some((other, _)) = cluster.nodes.iter().find(|(_, known)| known.incarnation == new.incarnation) {
        return Err(Refusal::DirectoryTaken { other: *other });
    }
    if alone && new.address.is_empty() { Ok(()) } else { check_address(cluster, new.id, &new.address) }
}

fn check_address(cluster: &Cluster, id: NodeId, address: &Arc<str>) -> Result<(), Refusal> {
    let valid = address.len() <= ADDRESS_BYTES_MAX
        && address.bytes().all(|byte| byte.is_ascii_graphic() && !b"/@?#".contains(&byte))
        && address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
    if !valid {
        return Err(Refusal::Address(address.clone()));
    }
    let taken = |known: &NodeRecord| known.address == *address && known.state != NodeState::Removed;
    match cluster.nodes.iter().find(|(other, known)| **other != id && taken(known)) {
        Some((other, _)) => Err(Refusal::AddressTaken { address: address.clone(), other: *other }),
        None => Ok(()),
    }
}

fn check_replicas(cluster: &Cluster, group: GroupId, replicas: &[NodeId], now: &[NodeId]) -> Result<(), Refusal> {
    if !(1..=REPLICAS_MAX).contains(&replicas.len()) {
        return Err(Refusal::ReplicaCount { group, replicas: replicas.len() });
    }
    let mut seen = BTreeSet::new();
    for id in replicas {
        if !seen.insert(*id) {
            return Err(Refusal::TwiceOnNode { group, node: *id });
        }
        match node(cluster, *id)?.state {
            NodeState::Removed => return Err(Refusal::Removed(*id)),
            NodeState::Draining if !now.contains(id) => return Err(Refusal::Draining { group, node: *id }),
            NodeState::Active | NodeState::Draining => {}
        }
    }
    Ok(())
}
