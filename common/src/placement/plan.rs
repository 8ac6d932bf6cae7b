//! Where groups should be, given the nodes and where they are now. Pure and deterministic.

use std::collections::BTreeSet;

use super::flow::share_out;
use crate::cluster::Placement;
use crate::{GroupId, NodeId};

/// Replicas of a group that holds streams: a second one alone would make the group less available.
pub fn replicas_of_groups(nodes: usize) -> usize {
    if nodes >= 3 { 3 } else { 1 }
}

/// Voting replicas of the meta group; the other nodes follow it without a vote.
pub fn replicas_of_meta(nodes: usize) -> usize {
    if nodes >= 5 { 5 } else { replicas_of_groups(nodes) }
}

/// Places the groups of `now` on `nodes`: no two replicas of a group on one node, as many on each node as on
/// any other, give or take one, as many to lead (the first of each list), give or take one, and as few
/// replicas and leaders moved as that allows. A group that is new has no replicas in `now`.
///
/// # Panics
/// If there are no nodes.
pub fn plan(nodes: &BTreeSet<NodeId>, now: &Placement) -> Placement {
    let ids: Vec<NodeId> = nodes.iter().copied().collect();
    assert!(!ids.is_empty(), "groups need at least one node");
    let data: Vec<(GroupId, &Vec<NodeId>)> =
        now.iter().map(|(group, replicas)| (*group, replicas)).filter(|(group, _)| *group != GroupId::META).collect();

    let options: Vec<Vec<(usize, bool)>> =
        data.iter().map(|(_, replicas)| ids.iter().map(|id| replicas.contains(id)).enumerate().collect()).collect();
    let placed = share_out(&options, ids.len(), replicas_of_groups(ids.len()));

    let to_lead = |((_, replicas), placed): (&(GroupId, &Vec<NodeId>), &Vec<usize>)| {
        let leads = |holder: &usize| (*holder, replicas.first() == Some(&ids[*holder]));
        placed.iter().map(leads).collect()
    };
    let options: Vec<Vec<(usize, bool)>> = data.iter().zip(&placed).map(to_lead).collect();
    let leaders = share_out(&options, ids.len(), 1);

    let mut plan = Placement::new();
    if let Some(replicas) = now.get(&GroupId::META) {
        plan.insert(GroupId::META, plan_meta(&ids, replicas));
    }
    for (((group, replicas), placed), leader) in data.into_iter().zip(placed).zip(leaders) {
        let placed: Vec<NodeId> = placed.into_iter().map(|holder| ids[holder]).collect();
        let leader = leader.into_iter().map(|holder| ids[holder]);
        let kept = replicas.iter().filter(|id| placed.contains(id)).copied();
        plan.insert(group, distinct(leader.chain(kept).chain(placed.iter().copied())));
    }
    plan
}

/// The meta group stays where it is, as far as it can.
fn plan_meta(nodes: &[NodeId], now: &[NodeId]) -> Vec<NodeId> {
    let stay = now.iter().filter(|id| nodes.contains(id));
    let mut replicas = distinct(stay.chain(nodes).copied());
    replicas.truncate(replicas_of_meta(nodes.len()));
    replicas
}

fn distinct(ids: impl Iterator<Item = NodeId>) -> Vec<NodeId> {
    let mut seen = BTreeSet::new();
    ids.filter(|id| seen.insert(*id)).collect()
}

#[cfg(test)]
mod tests;
