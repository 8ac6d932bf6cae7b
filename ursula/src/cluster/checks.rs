//! Whether a change may be made: pure, and each refusal says what to do.

use std::collections::BTreeSet;

use ursula_common::cluster::NodeState;
use ursula_common::{GroupId, NodeId};
use ursula_proto::admin::v1::NodeStatus;
use ursula_proto::{PROTOCOL, PROTOCOL_MIN};

use super::NodeAt;
use super::failure::Failure;
use super::view::{View, voters};

/// Copies that data has in a cluster that has nodes enough.
const REPLICAS: usize = 3;

/// Whether a node is the one that was named, and speaks a protocol that this program speaks.
pub(super) fn is_meant(at: &NodeAt, status: &NodeStatus) -> Result<(), Failure> {
    let NodeAt { id, address } = at;
    if status.node != id.0 {
        return Err(Failure::refused(format!(
            "the node at {address} is node {}, not {id}: correct the id, or the address",
            status.node
        )));
    }
    if status.protocol < PROTOCOL_MIN || status.protocol_min > PROTOCOL {
        return Err(Failure::refused(format!(
            "node {id} runs version {} with protocol {} to {}, and this program speaks {PROTOCOL_MIN} to {PROTOCOL}: \
             bring both to the same version",
            status.version, status.protocol_min, status.protocol
        )));
    }
    Ok(())
}

/// Whether all of these can speak to each other.
pub(super) fn fit_together(nodes: &[NodeStatus]) -> Result<(), Failure> {
    let oldest = nodes.iter().min_by_key(|node| node.protocol);
    let newest = nodes.iter().max_by_key(|node| node.protocol_min);
    match (oldest, newest) {
        (Some(oldest), Some(newest)) if oldest.protocol < newest.protocol_min => Err(Failure::refused(format!(
            "node {} runs version {} and node {} version {}, which do not understand each other: bring them to the \
             same version",
            oldest.node, oldest.version, newest.node, newest.version
        ))),
        _ => Ok(()),
    }
}

/// The node, which was not removed.
pub(super) fn member(view: &View, node: NodeId) -> Result<NodeState, Failure> {
    let known = view.cluster.nodes.get(&node).filter(|known| known.state != NodeState::Removed);
    known.map(|known| known.state).ok_or_else(|| {
        let members: Vec<String> = view.cluster.members().map(|node| node.to_string()).collect();
        Failure::refused(format!("there is no node {node} in the cluster: it has nodes {}", members.join(", ")))
    })
}

/// Groups are placed on all nodes that stay, and one that drains takes none.
pub(super) fn nobody_drains(view: &View, but: Option<NodeId>) -> Result<(), Failure> {
    let drains = |node: &NodeId| {
        Some(*node) != but && view.cluster.nodes.get(node).is_some_and(|known| known.state == NodeState::Draining)
    };
    match view.cluster.members().find(drains) {
        None => Ok(()),
        Some(node) => Err(Failure::refused(format!(
            "node {node} drains: bring it back with `ursula cluster undrain {node}` first, or take it out with \
             `ursula cluster remove-node {node}`"
        ))),
    }
}

/// Whether the nodes that would be left can hold what the data has.
pub(super) fn enough_nodes(view: &View, after: &BTreeSet<NodeId>) -> Result<(), Failure> {
    let data = view.cluster.groups.iter().filter(|(group, _)| **group != GroupId::META);
    let copies = data.map(|(_, record)| record.replicas.len()).max().unwrap_or(1).min(REPLICAS);
    if after.len() >= copies {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "the data has {copies} copies, and {} nodes would be left to hold them: add a node first with `ursula cluster \
         add-node`, or put another one in its place with `ursula cluster replace-node`",
        after.len()
    )))
}

/// Every group has a leader, and a majority of its voters answers: without that no member can be changed.
pub(super) fn groups_can_change(view: &View) -> Result<(), Failure> {
    majorities(view, view.cluster.groups.keys(), |_| true, "")
}

/// Whether each group still has a majority when `node` is away.
pub(super) fn can_do_without(view: &View, node: NodeId) -> Result<(), Failure> {
    have_majority_without(view, view.cluster.groups.keys(), node)
}

/// Whether each of these groups still has a majority when `node` is away.
pub(super) fn have_majority_without<'a>(
    view: &View,
    groups: impl IntoIterator<Item = &'a GroupId>,
    node: NodeId,
) -> Result<(), Failure> {
    majorities(view, groups, |voter| voter != node, &format!(" without node {node}"))
}

fn majorities<'a>(
    view: &View,
    groups: impl IntoIterator<Item = &'a GroupId>,
    counts: impl Fn(NodeId) -> bool,
    without: &str,
) -> Result<(), Failure> {
    let down = || {
        let down: Vec<String> =
            view.nodes.iter().filter(|(_, answer)| answer.is_err()).map(|(node, _)| node.to_string()).collect();
        if down.is_empty() { String::new() } else { format!("; nodes that do not answer: {}", down.join(", ")) }
    };
    for group in groups {
        let Some((_, leader)) = view.leader(*group) else {
            return Err(Failure::refused(format!(
                "group {group} has no leader: wait until it has one, or start the nodes that are down{}",
                down()
            )));
        };
        let serves = |node: NodeId| counts(node) && view.answers(node) && view.refusal(node, *group).is_none();
        for config in &leader.voters {
            let up = config.nodes.iter().filter(|node| serves(NodeId(**node))).count();
            if up <= config.nodes.len() / 2 {
                return Err(Failure::refused(format!(
                    "group {group} has only {up} of {} voters{without}, which is no majority: start the nodes that \
                     are down first, and repair replicas that are refused{}",
                    config.nodes.len(),
                    down()
                )));
            }
        }
    }
    Ok(())
}

/// Whether a node has no part in any group any more.
pub(super) fn is_free(view: &View, node: NodeId) -> bool {
    let member = |group: &GroupId| {
        let leader = view.leader(*group).map(|(_, leader)| leader);
        leader.is_none_or(|leader| voters(leader).contains(&node) || leader.learners.contains(&node.0))
    };
    !view.cluster.groups.keys().any(member)
}
