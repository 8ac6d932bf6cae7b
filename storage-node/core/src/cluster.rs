//! The cluster, decided in the meta group: nodes, and where groups belong. A change that was made
//! already succeeds and changes nothing; every other one adds one to the version.

mod refusal;
mod rules;

use std::collections::BTreeSet;
use std::sync::Arc;

use ursula_common::cluster::{
    Cluster, ClusterChange, ClusterOp, GroupRecord, NewNode, NodeRecord, NodeState, Placement,
};
use ursula_common::verb::Reply;
use ursula_common::{Error, GroupId, NodeId};

use crate::State;
use refusal::Refusal;

impl State {
    /// The cluster, once it was formed; only the meta group has it.
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }
}

/// The cluster after a change; `None` if it changes nothing.
///
/// # Errors
/// [`Error::ClusterRefused`].
pub fn change_cluster(cluster: &Cluster, op: ClusterOp) -> Result<Option<Cluster>, Error> {
    Ok(changed(cluster, op)?)
}

fn changed(cluster: &Cluster, op: ClusterOp) -> Result<Option<Cluster>, Refusal> {
    let ClusterOp { version, change } = op;
    if done_already(cluster, &change)? {
        return Ok(None);
    }
    if version.is_some_and(|planned| planned != cluster.version) {
        return Err(Refusal::Moved { version: cluster.version });
    }
    let mut new = Cluster::clone(cluster);
    match change {
        ClusterChange::Form(_) => return Err(Refusal::Formed(cluster.id)),
        ClusterChange::AddNode(node) => rules::add_node(&mut new, node)?,
        ClusterChange::SetNodeState { node, state } => rules::set_state(&mut new, node, state)?,
        ClusterChange::SetNodeAddress { node, address } => rules::set_address(&mut new, node, address)?,
        ClusterChange::Place(placement) => rules::place(&mut new, placement)?,
        ClusterChange::Begin(groups) => rules::begin(&mut new, &groups)?,
    }
    new.version += 1;
    Ok(Some(new))
}

/// Changes the cluster (meta group).
pub(crate) fn apply(state: &mut State, op: ClusterOp) -> Result<Reply, Error> {
    let new = match (&state.cluster, op.change) {
        (Some(cluster), change) => changed(cluster, ClusterOp { change, ..op })?,
        (None, ClusterChange::Form(form)) => {
            let in_use = state.buckets.len() > 1 || !state.sagas.running.is_empty();
            Some(rules::form(form, in_use.then_some(state.data_groups))?)
        }
        (None, _) => return Err(Refusal::NotFormed.into()),
    };
    if let Some(new) = new {
        state.data_groups = new.data_groups();
        state.cluster = Some(Arc::new(new));
        state.mark_group();
    }
    Ok(Reply::Done)
}

/// Whether the cluster is already as the change would have it, so that one that is sent again succeeds.
fn done_already(cluster: &Cluster, change: &ClusterChange) -> Result<bool, Refusal> {
    Ok(match change {
        ClusterChange::Form(form) => {
            let nodes = |node: &NewNode| cluster.nodes.get(&node.id).is_some_and(|known| is(known, node));
            form.cluster == cluster.id && form.slots == cluster.slots && form.nodes.iter().all(nodes)
        }
        ClusterChange::AddNode(node) => cluster.nodes.get(&node.id).is_some_and(|known| is(known, node)),
        ClusterChange::SetNodeState { node, state } => rules::node(cluster, *node)?.state == *state,
        ClusterChange::SetNodeAddress { node, address } => rules::node(cluster, *node)?.address == *address,
        ClusterChange::Place(placement) => is_placed(cluster, placement),
        ClusterChange::Begin(groups) => groups.iter().all(|group| has_begun(cluster, *group)),
    })
}

fn is(known: &NodeRecord, node: &NewNode) -> bool {
    known.address == node.address && known.incarnation == node.incarnation && known.state != NodeState::Removed
}

fn is_placed(cluster: &Cluster, placement: &Placement) -> bool {
    placement.iter().all(|(group, replicas)| {
        cluster.groups.get(group).is_some_and(|record: &GroupRecord| record.replicas == *replicas)
    })
}

fn has_begun(cluster: &Cluster, group: GroupId) -> bool {
    cluster.groups.get(&group).is_some_and(|record| record.begun)
}

/// What every stored cluster fulfils; checked when one is read.
pub(crate) fn is_sound(cluster: &Cluster) -> bool {
    let known: BTreeSet<NodeId> = cluster.members().collect();
    let replicas = |record: &GroupRecord| {
        let distinct: BTreeSet<NodeId> = record.replicas.iter().copied().collect();
        !distinct.is_empty() && distinct.len() == record.replicas.len() && distinct.is_subset(&known)
    };
    let groups = 0..u32::try_from(cluster.groups.len()).unwrap_or(u32::MAX);
    (1..1 << 62).contains(&cluster.version)
        && cluster.groups.keys().map(|group| group.0).eq(groups)
        && cluster.groups.values().all(replicas)
        && cluster.slots.groups().iter().all(|group| (1..cluster.groups.len()).contains(&(group.0 as usize)))
}

#[cfg(test)]
mod tests;
