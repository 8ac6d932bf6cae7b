//! Steps one by one, and whole ways from one place to another through a group that only pretends.

use std::collections::BTreeMap;

use super::super::hosting::{Lead, Role};
use super::*;

fn set(ids: &[u64]) -> BTreeSet<NodeId> {
    ids.iter().map(|id| NodeId(*id)).collect()
}

fn goal(voters: &[u64]) -> Goal {
    let leaders = voters.iter().map(|id| NodeId(*id)).collect();
    Goal { voters: set(voters), learners: BTreeSet::new(), leaders }
}

const LAST: u64 = 10_000;

/// A group whose members have all of its entries, seen by node 1, its leader.
fn status(voters: &[u64], learners: &[u64]) -> ReplicaStatus {
    let here = Progress { matched: LAST, silent: Some(Duration::from_millis(100)) };
    let members = voters.iter().chain(learners).map(|id| (NodeId(*id), here));
    ReplicaStatus {
        group: GroupId(1),
        role: Role::Leader,
        lead: Lead { term: 3, leader: Some(NodeId(1)) },
        last: LAST,
        applied: LAST,
        voters: vec![set(voters)],
        learners: set(learners),
        progress: members.collect(),
        pristine: false,
        unpacked_bytes: None,
    }
}

fn with(status: ReplicaStatus, node: u64, matched: u64, silent: Option<u64>) -> ReplicaStatus {
    let mut status = status;
    status.progress.insert(NodeId(node), Progress { matched, silent: silent.map(Duration::from_millis) });
    status
}

fn first(goal: &Goal, status: &ReplicaStatus) -> Step {
    next(goal, NodeId(1), status)
}

#[track_caller]
fn stuck(step: Step, words: &str) {
    let Step::Stuck(text) = step else { panic!("{step:?} instead of stuck") };
    assert!(text.contains(words), "{text}");
}

#[test]
fn what_is_right_stays() {
    assert_eq!(first(&goal(&[1, 2, 3]), &status(&[1, 2, 3], &[])), Step::Settled);
    // Also while a node is away: it may come back.
    assert_eq!(first(&goal(&[1, 2, 3]), &with(status(&[1, 2, 3], &[]), 3, 5, None)), Step::Settled);
}

#[test]
fn a_new_member_follows_then_catches_up_then_votes() {
    let goal = goal(&[1, 2, 4]);
    assert_eq!(first(&goal, &status(&[1, 2, 3], &[])), Step::Do(ReplicaCommand::AddLearner(NodeId(4))));
    let joined = status(&[1, 2, 3], &[4]);
    stuck(first(&goal, &with(joined.clone(), 4, 0, None)), "node 4 does not answer");
    stuck(first(&goal, &with(joined.clone(), 4, LAST, Some(2001))), "node 4 does not answer");
    let waiting = first(&goal, &with(joined.clone(), 4, LAST - NEW_VOTER_LAG_MAX - 1, Some(2000)));
    assert_eq!(waiting, Step::Wait("node 4 catches up: 2 entries to go".to_owned()));
    let there = with(joined, 4, LAST - NEW_VOTER_LAG_MAX, Some(2000));
    assert_eq!(first(&goal, &there), Step::Do(ReplicaCommand::ChangeVoters(set(&[1, 2, 4]))));
    assert_eq!(first(&goal, &status(&[1, 2, 4], &[3])), Step::Do(ReplicaCommand::RemoveLearners(set(&[3]))));
}

#[test]
fn a_change_that_was_begun_is_brought_to_its_end() {
    let mut joint = status(&[1, 2, 4], &[]);
    joint.voters.insert(0, set(&[1, 2, 3]));
    assert_eq!(first(&goal(&[1, 2, 5]), &joint), Step::Do(ReplicaCommand::ChangeVoters(set(&[1, 2, 4]))));
}

#[test]
fn no_change_without_a_majority_of_the_goal() {
    let away = with(with(status(&[1, 2, 3, 4], &[]), 2, LAST, None), 3, LAST, None);
    stuck(first(&goal(&[1, 2, 3]), &away), "only 1 of the 3 voters");
}

#[test]
fn a_dead_node_is_replaced_without_it() {
    let dead = with(status(&[1, 2, 3], &[4]), 3, 5, None);
    assert_eq!(first(&goal(&[1, 2, 4]), &dead), Step::Do(ReplicaCommand::ChangeVoters(set(&[1, 2, 4]))));
}

#[test]
fn a_leader_that_goes_hands_over_first() {
    let moved = goal(&[3, 2, 4]);
    let ready = status(&[1, 2, 3], &[4]);
    assert_eq!(first(&moved, &ready), Step::Do(ReplicaCommand::TransferLeader(NodeId(3))));
    let slow = with(ready.clone(), 3, LAST, None);
    assert_eq!(first(&moved, &slow), Step::Do(ReplicaCommand::TransferLeader(NodeId(2))));
    let slower = with(slow, 2, 0, Some(1));
    stuck(first(&moved, &slower), "nobody can take over");
    // Nobody that has a vote stays: the new ones get theirs beside it.
    let all_new = first(&goal(&[5]), &status(&[1], &[5]));
    assert_eq!(all_new, Step::Do(ReplicaCommand::ChangeVoters(set(&[1, 5]))));
}

#[test]
fn the_best_place_leads() {
    let better = goal(&[2, 1, 3]);
    assert_eq!(first(&better, &status(&[1, 2, 3], &[])), Step::Balance(NodeId(2)));
    assert_eq!(first(&better, &with(status(&[1, 2, 3], &[]), 2, LAST, None)), Step::Settled);
}

#[test]
fn a_draining_leader_hands_over_at_once() {
    let mut draining = goal(&[1, 2, 3]);
    draining.leaders.remove(0);
    let all = status(&[1, 2, 3], &[]);
    assert_eq!(first(&draining, &all), Step::Do(ReplicaCommand::TransferLeader(NodeId(2))));
    let one = with(all.clone(), 2, LAST, None);
    assert_eq!(first(&draining, &one), Step::Do(ReplicaCommand::TransferLeader(NodeId(3))));
    stuck(first(&draining, &with(one, 3, LAST, None)), "nobody can take over");
    draining.leaders.clear();
    assert_eq!(first(&draining, &all), Step::Settled, "the whole group drains: somebody has to lead");
}

#[test]
fn every_member_follows_the_meta_group() {
    let meta = Goal { learners: set(&[4, 5]), ..goal(&[1, 2, 3]) };
    assert_eq!(first(&meta, &status(&[1, 2, 3], &[5])), Step::Do(ReplicaCommand::AddLearner(NodeId(4))));
    assert_eq!(first(&meta, &status(&[1, 2, 3], &[4, 5])), Step::Settled);
    let removed = first(&meta, &status(&[1, 2, 3], &[4, 5, 6]));
    assert_eq!(removed, Step::Do(ReplicaCommand::RemoveLearners(set(&[6]))));
}

/// A group that does what it is told at once; members that are new have nothing at first.
struct Pretended {
    leader: NodeId,
    voters: BTreeSet<NodeId>,
    learners: BTreeMap<NodeId, u64>,
}

impl Pretended {
    fn status(&self) -> ReplicaStatus {
        let all = self.voters.iter().map(|id| (*id, LAST)).chain(self.learners.iter().map(|(id, at)| (*id, *at)));
        let progress = |(id, matched)| (id, Progress { matched, silent: Some(Duration::ZERO) });
        ReplicaStatus {
            lead: Lead { term: 1, leader: Some(self.leader) },
            voters: vec![self.voters.clone()],
            learners: self.learners.keys().copied().collect(),
            progress: all.map(progress).collect(),
            ..status(&[], &[])
        }
    }

    fn obey(&mut self, command: ReplicaCommand) {
        match command {
            ReplicaCommand::Initialize(_) => panic!("it was made long ago"),
            ReplicaCommand::AddLearner(node) => assert_eq!(self.learners.insert(node, 0), None),
            ReplicaCommand::ChangeVoters(voters) => {
                assert!(voters.contains(&self.leader), "the leader leads the change to its end");
                for node in voters.difference(&self.voters) {
                    let matched = self.learners.remove(node).expect("a voter was a learner");
                    assert!(matched + LAG_MAX >= LAST, "a voter has what was acknowledged");
                }
                self.learners.extend(self.voters.difference(&voters).map(|node| (*node, LAST)));
                self.voters = voters;
            }
            ReplicaCommand::RemoveLearners(nodes) => {
                assert!(nodes.is_disjoint(&self.voters));
                nodes.iter().for_each(|node| assert!(self.learners.remove(node).is_some()));
            }
            ReplicaCommand::TransferLeader(node) => {
                assert!(self.voters.contains(&node), "a voter leads");
                self.leader = node;
            }
        }
    }
}

/// From every set of one to three of five nodes to every other one.
#[test]
fn every_goal_is_reached() {
    let sets: Vec<Vec<u64>> = (1..32u64).map(|bits| (1..=5).filter(|id| bits >> (id - 1) & 1 == 1).collect()).collect();
    let sets: Vec<&Vec<u64>> = sets.iter().filter(|ids| ids.len() <= 3).collect();
    for from in &sets {
        for to in &sets {
            let mut group = Pretended { leader: NodeId(from[0]), voters: set(from), learners: BTreeMap::new() };
            let goal = goal(to);
            let mut steps = 0;
            loop {
                match next(&goal, group.leader, &group.status()) {
                    Step::Settled => break,
                    Step::Wait(_) => group.learners.values_mut().for_each(|matched| *matched = LAST),
                    Step::Stuck(text) => panic!("{from:?} to {to:?}: {text}"),
                    Step::Do(command) => group.obey(command),
                    Step::Balance(node) => group.leader = node,
                }
                steps += 1;
                assert!(steps < 20, "{from:?} to {to:?} comes to no end");
            }
            assert_eq!((&group.voters, group.leader), (&set(to), NodeId(to[0])), "{from:?} to {to:?}");
            assert!(group.learners.is_empty());
        }
    }
}
