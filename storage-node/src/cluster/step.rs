//! What the leader of a group has to do next to bring its members where they should be. Pure: the loop that
//! does it is in `reconciler.rs`.
//!
//! Never takes a vote away before its successor has everything, and changes one thing at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use ursula_common::cluster::{Cluster, NodeState};
use ursula_common::{GroupId, NodeId};

use super::hosting::{Progress, ReplicaCommand, ReplicaStatus};

/// A member that has not answered for so long may be gone: several heartbeats.
const SILENT_MAX: Duration = Duration::from_secs(2);
/// A member with at most so many entries to go has caught up: the rest is there in a moment.
const LAG_MAX: u64 = 256;
/// The same of one that is to get a vote: one may be on its way. It has what was there when it became a member, so it may
/// use its vote at once, even if a replica was forgotten there; see `Forgotten`.
const NEW_VOTER_LAG_MAX: u64 = 1;

/// Where the members of a group should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Goal {
    pub(super) voters: BTreeSet<NodeId>,
    pub(super) learners: BTreeSet<NodeId>,
    /// Voters that may lead, the best one first.
    pub(super) leaders: Vec<NodeId>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: everything is as it should be.
    Settled,
    /// Nothing now; what is waited for goes by itself.
    Wait(String),
    /// Nothing now; somebody has to look after what stands in the way.
    Stuck(String),
    /// This, at once.
    Do(ReplicaCommand),
    /// Let another node lead, once that has been the better place for a while.
    Balance(NodeId),
}

impl Goal {
    /// The goal of a group; `None` if the cluster has no such group.
    pub(super) fn of(cluster: &Cluster, group: GroupId) -> Option<Goal> {
        let replicas = &cluster.groups.get(&group)?.replicas;
        let active = |node: &&NodeId| cluster.nodes.get(node).is_some_and(|known| known.state == NodeState::Active);
        Some(Goal {
            voters: replicas.iter().copied().collect(),
            learners: cluster.learners(group),
            leaders: replicas.iter().filter(active).copied().collect(),
        })
    }

    /// The goal as if a node did not belong to the group.
    pub(super) fn without(mut self, node: Option<NodeId>) -> Goal {
        if let Some(node) = node {
            self.voters.remove(&node);
            self.learners.remove(&node);
            self.leaders.retain(|leader| *leader != node);
        }
        self
    }
}

/// The next step of the leader `me`.
pub(super) fn next(goal: &Goal, me: NodeId, status: &ReplicaStatus) -> Step {
    let view = View { me, status };
    let Some(voters) = status.voters.last() else { return Step::Wait("the group is not made yet".to_owned()) };
    if status.voters.len() > 1 {
        // A leader before this one has begun it: it is brought to its end before anything else.
        return Step::Do(ReplicaCommand::ChangeVoters(voters.clone()));
    }
    let members = status.members();
    if let Some(node) = goal.voters.iter().chain(&goal.learners).find(|node| !members.contains(node)) {
        return Step::Do(ReplicaCommand::AddLearner(*node));
    }
    if goal.voters != *voters {
        return change(goal, &view, voters);
    }
    let wanted = |node: &NodeId| goal.voters.contains(node) || goal.learners.contains(node);
    let surplus: BTreeSet<NodeId> = members.into_iter().filter(|node| !wanted(node)).collect();
    if !surplus.is_empty() {
        return Step::Do(ReplicaCommand::RemoveLearners(surplus));
    }
    lead(goal, &view)
}

/// Who could take over the lead from `me` at once.
pub(super) fn heirs(me: NodeId, status: &ReplicaStatus) -> Vec<NodeId> {
    let view = View { me, status };
    let [voters] = &status.voters[..] else { return Vec::new() };
    voters.iter().copied().filter(|node| *node != me && view.has_caught_up(*node)).collect()
}

/// From `now` to the voters of the goal, all of which are members.
fn change(goal: &Goal, view: &View<'_>, now: &BTreeSet<NodeId>) -> Step {
    if let Some(node) = goal.voters.difference(now).find(|node| !view.is_within(**node, NEW_VOTER_LAG_MAX)) {
        return view.behind(*node);
    }
    let answering = goal.voters.iter().filter(|node| view.answers(**node)).count();
    if answering <= goal.voters.len() / 2 {
        let text = format!("only {answering} of the {} voters to be answer: no majority", goal.voters.len());
        return Step::Stuck(text);
    }
    if goal.voters.contains(&view.me) {
        return Step::Do(ReplicaCommand::ChangeVoters(goal.voters.clone()));
    }
    // The leader goes: one that stays leads the change. If none of them has a vote yet, they get it first.
    let heirs = || goal.leaders.iter().chain(&goal.voters).filter(|node| now.contains(node));
    if heirs().next().is_none() {
        return Step::Do(ReplicaCommand::ChangeVoters(now.union(&goal.voters).copied().collect()));
    }
    match heirs().find(|node| view.has_caught_up(**node)) {
        Some(heir) => Step::Do(ReplicaCommand::TransferLeader(*heir)),
        None => Step::Stuck("no voter that stays has caught up, so nobody can take over the lead".to_owned()),
    }
}

/// The members are right: is the leader?
fn lead(goal: &Goal, view: &View<'_>) -> Step {
    match goal.leaders.first() {
        None => Step::Settled,
        Some(best) if *best == view.me => Step::Settled,
        Some(best) if goal.leaders.contains(&view.me) => {
            if view.has_caught_up(*best) {
                Step::Balance(*best)
            } else {
                Step::Settled
            }
        }
        // This node drains.
        Some(_) => match goal.leaders.iter().find(|node| view.has_caught_up(**node)) {
            Some(heir) => Step::Do(ReplicaCommand::TransferLeader(*heir)),
            None => Step::Stuck("no other voter has caught up, so nobody can take over the lead".to_owned()),
        },
    }
}

/// What the leader knows of the others.
struct View<'a> {
    me: NodeId,
    status: &'a ReplicaStatus,
}

impl View<'_> {
    fn progress(&self, node: NodeId) -> Option<&Progress> {
        self.status.progress.get(&node)
    }

    fn answers(&self, node: NodeId) -> bool {
        let silent = self.progress(node).and_then(|progress| progress.silent);
        node == self.me || silent.is_some_and(|silent| silent <= SILENT_MAX)
    }

    fn has_caught_up(&self, node: NodeId) -> bool {
        self.is_within(node, LAG_MAX)
    }

    fn is_within(&self, node: NodeId, lag_max: u64) -> bool {
        let near = |progress: &Progress| progress.matched.saturating_add(lag_max) >= self.status.last;
        node == self.me || self.answers(node) && self.progress(node).is_some_and(near)
    }

    fn behind(&self, node: NodeId) -> Step {
        if !self.answers(node) {
            return Step::Stuck(format!("node {node} does not answer: start it, or replace it"));
        }
        let matched = self.progress(node).map_or(0, |progress| progress.matched);
        let to_go = self.status.last.saturating_sub(matched);
        Step::Wait(format!("node {node} catches up: {to_go} entries to go"))
    }
}

#[cfg(test)]
mod tests;
