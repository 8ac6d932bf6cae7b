//! The commands that change the nodes of a cluster. Each looks first, refuses what would lose data or a
//! majority, and can be run again after it was interrupted.

use std::collections::BTreeSet;

use serde_json::json;
use ursula_common::cluster::{ClusterChange, NewNode, NodeState};
use ursula_common::{GroupId, NodeId};
use ursula_proto::admin::v1::{NodeStatus, Peer};

use super::change::{Worker, all_in_place, moves};
use super::failure::Failure;
use super::view::{View, describe};
use super::{NodeAt, checks};

pub(super) async fn add(worker: &Worker<'_>, address: &str, new: &NodeAt) -> Result<(), Failure> {
    let view = worker.look(address).await?;
    checks::groups_can_change(&view)?;
    checks::nobody_drains(&view, None)?;
    let status = newcomer(&view, new).await?;
    let nodes: BTreeSet<NodeId> = view.cluster.members().chain([new.id]).collect();
    let what = format!("node {} is added; {}", new.id, text_of_moves(&view, &nodes));
    if worker.dry_run {
        return done(worker, &format!("would be done: {what}"), new.id);
    }
    worker.output.progress(&what);
    let view = take_in(worker, view, new, &status).await?;
    let view = worker.place(view, &nodes).await?;
    worker.until(view, all_in_place).await?;
    done(worker, &format!("node {} is in the cluster and has its share of the groups", new.id), new.id)
}

pub(super) async fn remove(worker: &Worker<'_>, address: &str, old: NodeId) -> Result<(), Failure> {
    let view = worker.look(address).await?;
    if is_removed(&view, old) {
        return done(worker, &format!("node {old} was removed before"), old);
    }
    checks::member(&view, old)?;
    checks::nobody_drains(&view, Some(old))?;
    let nodes: BTreeSet<NodeId> = view.cluster.members().filter(|node| *node != old).collect();
    checks::enough_nodes(&view, &nodes)?;
    checks::groups_can_change(&view)?;
    if worker.dry_run {
        let what = format!("would be done: node {old} is removed for ever; {}", text_of_moves(&view, &nodes));
        return done(worker, &what, old);
    }
    take_out(worker, view, old, &nodes).await?;
    done(worker, &format!("node {old} is removed: its process can be stopped and its data directory deleted"), old)
}

pub(super) async fn replace(worker: &Worker<'_>, address: &str, old: NodeId, new: &NodeAt) -> Result<(), Failure> {
    let view = worker.look(address).await?;
    if old == new.id {
        return Err(Failure::refused(format!("a new node needs an id of its own: {old} is that of the old one")));
    }
    if is_removed(&view, old) && view.cluster.members().any(|node| node == new.id) {
        return done(worker, &format!("node {} has replaced node {old} before", new.id), new.id);
    }
    checks::member(&view, old)?;
    checks::nobody_drains(&view, Some(old))?;
    checks::groups_can_change(&view)?;
    let status = newcomer(&view, new).await?;
    let nodes: BTreeSet<NodeId> = view.cluster.members().chain([new.id]).filter(|node| *node != old).collect();
    let what = format!("node {} replaces node {old}; {}", new.id, text_of_moves(&view, &nodes));
    if worker.dry_run {
        return done(worker, &format!("would be done: {what}"), new.id);
    }
    worker.output.progress(&what);
    let view = take_in(worker, view, new, &status).await?;
    take_out(worker, view, old, &nodes).await?;
    done(worker, &format!("node {} has replaced node {old}, which can be deleted", new.id), new.id)
}

pub(super) async fn drain(worker: &Worker<'_>, address: &str, node: NodeId) -> Result<(), Failure> {
    let view = worker.look(address).await?;
    checks::member(&view, node)?;
    if view.cluster.active().all(|active| active == node) {
        return Err(Failure::refused(format!(
            "node {node} is the last active one: nobody else could lead; add a node first, or undrain one"
        )));
    }
    checks::can_do_without(&view, node)?;
    if worker.dry_run {
        let groups = view.led_by(node).len();
        return done(worker, &format!("would be done: {groups} groups get another leader than node {node}"), node);
    }
    let change = ClusterChange::SetNodeState { node, state: NodeState::Draining };
    let view = worker.propose(view, change).await?;
    let leads_nothing = |view: &View| match view.led_by(node).len() {
        0 => Ok(()),
        groups => Err(format!("node {node} still leads {groups} groups")),
    };
    worker.until(view, leads_nothing).await?;
    let text = format!("node {node} leads nothing: it can be stopped; `ursula cluster undrain {node}` brings it back");
    done(worker, &text, node)
}

pub(super) async fn undrain(worker: &Worker<'_>, address: &str, node: NodeId) -> Result<(), Failure> {
    let view = View::take(address).await?;
    checks::member(&view, node)?;
    if worker.dry_run {
        return done(worker, &format!("would be done: node {node} gets leaders again"), node);
    }
    worker.propose(view, ClusterChange::SetNodeState { node, state: NodeState::Active }).await?;
    done(worker, &format!("node {node} is active: leaders come back to it in a moment"), node)
}

/// Says that it is done.
pub(super) fn done(worker: &Worker<'_>, text: &str, node: NodeId) -> Result<(), Failure> {
    worker.output.result(text, &json!({ "node": node.0, "dry_run": worker.dry_run, "message": text }));
    Ok(())
}

fn is_removed(view: &View, node: NodeId) -> bool {
    view.cluster.nodes.get(&node).is_some_and(|known| known.state == NodeState::Removed)
}

fn text_of_moves(view: &View, nodes: &BTreeSet<NodeId>) -> String {
    let placement = moves(view, nodes);
    let new = |(group, replicas): (&GroupId, &Vec<NodeId>)| {
        let now = view.cluster.groups.get(group).map_or(&[][..], |record| &record.replicas);
        replicas.iter().filter(|node| !now.contains(node)).count()
    };
    let replicas: usize = placement.iter().map(new).sum();
    format!("{replicas} replicas are made, {} of {} groups change", placement.len(), view.cluster.groups.len())
}

/// What a node that shall join says of itself.
async fn newcomer(view: &View, new: &NodeAt) -> Result<NodeStatus, Failure> {
    let NodeAt { id, address } = new;
    let status = describe(address).await.map_err(|reason| {
        Failure::refused(format!(
            "cannot reach node {id} at {address} ({reason}): start it with `ursula-storage-node --node-id {id} --listen \
             {address} --data-dir DIRECTORY`"
        ))
    })?;
    checks::is_meant(new, &status)?;
    let mut all: Vec<NodeStatus> = view.nodes.values().flatten().cloned().collect();
    all.push(status.clone());
    checks::fit_together(&all)?;
    if is_removed(view, *id) {
        return Err(Failure::refused(format!(
            "node {id} was removed, and ids are never used again: start it with an empty data directory and another id"
        )));
    }
    let known = view.cluster.nodes.get(id).filter(|known| known.incarnation != status.incarnation);
    if known.is_some() {
        return Err(Failure::refused(format!(
            "node {id} is in the cluster already, with another data directory: give it that one back, or start it under a \
             new id and put it in the place of the old one with `ursula cluster replace-node {id}`"
        )));
    }
    let groups = view.cluster.data_groups();
    if status.groups != groups {
        return Err(Failure::refused(format!(
            "node {id} is set up for {} groups, and the cluster has {groups}: start it with groups = {groups} and an \
             empty data directory",
            status.groups
        )));
    }
    match status.cluster_id()? {
        Some(own) if own != view.cluster.id => Err(Failure::refused(format!(
            "node {id} belongs to cluster {own}, not to {}: start it with an empty data directory",
            view.cluster.id
        ))),
        _ => Ok(status),
    }
}

/// Makes a node a member and waits until it follows the meta group.
async fn take_in(worker: &Worker<'_>, view: View, new: &NodeAt, status: &NodeStatus) -> Result<View, Failure> {
    let meta = view.cluster.groups.get(&GroupId::META).map_or(&[][..], |record| &record.replicas);
    let peer = |node: &NodeId| {
        let known = view.cluster.nodes.get(node)?;
        Some(Peer { node: node.0, address: known.address.to_string(), incarnation: known.incarnation })
    };
    let voters: Vec<Peer> = meta.iter().filter_map(peer).collect();
    worker.join(&new.address, status, view.cluster.id, &voters, false).await?;
    let node = NewNode { id: new.id, address: new.address.as_str().into(), incarnation: status.incarnation };
    let view = worker.propose(view, ClusterChange::AddNode(node)).await?;
    let id = new.id;
    let follows = |view: &View| {
        let follows = view.replica(id, GroupId::META).is_some_and(|meta| !meta.voters.is_empty());
        if follows { Ok(()) } else { Err(format!("node {id} gets the state of the cluster")) }
    };
    worker.until(view, follows).await
}

/// Moves everything away from a node, and removes it.
async fn take_out(worker: &Worker<'_>, view: View, old: NodeId, nodes: &BTreeSet<NodeId>) -> Result<(), Failure> {
    worker.output.progress(&format!("node {old} goes; {}", text_of_moves(&view, nodes)));
    let set = |state| ClusterChange::SetNodeState { node: old, state };
    let view = worker.propose(view, set(NodeState::Draining)).await?;
    let view = worker.place(view, nodes).await?;
    let view = worker.until(view, all_in_place).await?;
    let view = worker.propose(view, set(NodeState::Removed)).await?;
    let free = |view: &View| match checks::is_free(view, old) {
        true => Ok(()),
        false => Err(format!("the meta group lets node {old} go")),
    };
    worker.until(view, free).await.map(drop)
}
