//! Random changes beside a model that knows only which of them succeed and what they then change.

use std::collections::BTreeMap;

use super::*;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn ids(&mut self) -> Vec<NodeId> {
        let count = 2 + self.below(3);
        (0..count).map(|_| NodeId(1 + self.below(6))).collect()
    }

    fn change(&mut self) -> ClusterChange {
        let id = 1 + self.below(6);
        match self.below(10) {
            0..3 => ClusterChange::AddNode(node(id)),
            3..6 => {
                let states = [NodeState::Active, NodeState::Draining, NodeState::Removed];
                set(id, states[self.below(3) as usize])
            }
            6 => ClusterChange::SetNodeAddress { node: NodeId(id), address: format!("new-{}:1", self.below(4)).into() },
            _ => ClusterChange::Place(
                (0..1 + self.below(2)).map(|_| (GroupId(self.below(4) as u32), self.ids())).collect(),
            ),
        }
    }
}

#[derive(Clone, PartialEq)]
struct Model {
    version: u64,
    nodes: BTreeMap<NodeId, (String, NodeState)>,
    groups: BTreeMap<GroupId, Vec<NodeId>>,
}

impl Model {
    fn of(cluster: &Cluster) -> Model {
        let node = |(id, node): (&NodeId, &NodeRecord)| (*id, (node.address.to_string(), node.state));
        Model { version: cluster.version, nodes: cluster.nodes.iter().map(node).collect(), groups: cluster.placement() }
    }

    /// Whether it succeeds.
    fn change(&mut self, change: &ClusterChange) -> bool {
        let before = self.clone();
        let fine = self.try_change(change);
        if !fine {
            *self = before;
        } else if *self != before {
            self.version += 1;
        }
        fine
    }

    fn try_change(&mut self, change: &ClusterChange) -> bool {
        let taken = |address: &str, id: NodeId| {
            let is = |(other, (known, state)): (&NodeId, &(String, NodeState))| {
                *other != id && known == address && *state != NodeState::Removed
            };
            self.nodes.iter().any(is)
        };
        match change {
            ClusterChange::AddNode(new) => match self.nodes.get(&new.id) {
                Some((address, state)) => *address == *new.address && *state != NodeState::Removed,
                None if taken(&new.address, new.id) => false,
                None => self.nodes.insert(new.id, (new.address.to_string(), NodeState::Active)).is_none(),
            },
            ClusterChange::SetNodeState { node, state } => {
                let used = self.groups.values().any(|replicas| replicas.contains(node));
                let Some((_, known)) = self.nodes.get_mut(node) else { return false };
                if known == state {
                    return true;
                }
                let fine = *known != NodeState::Removed && !(used && *state == NodeState::Removed);
                *known = *state;
                fine && self.nodes.values().any(|(_, state)| *state == NodeState::Active)
            }
            ClusterChange::SetNodeAddress { node, address } => {
                let taken = taken(address, *node);
                let Some((known, state)) = self.nodes.get_mut(node) else { return false };
                let same = *known == **address;
                *known = address.to_string();
                same || *state != NodeState::Removed && !taken
            }
            ClusterChange::Place(placement) => {
                placement.iter().all(|(group, replicas)| self.groups.get(group) == Some(replicas))
                    || placement.iter().all(|(group, replicas)| self.place(*group, replicas))
            }
            ClusterChange::Form(_) | ClusterChange::Begin(_) => panic!("not part of the walk"),
        }
    }

    fn place(&mut self, group: GroupId, replicas: &[NodeId]) -> bool {
        let Some(known) = self.groups.get_mut(&group) else { return false };
        let distinct: BTreeSet<_> = replicas.iter().collect();
        let may = |id: &NodeId| match self.nodes.get(id) {
            Some((_, NodeState::Active)) => true,
            Some((_, NodeState::Draining)) => known.contains(id),
            _ => false,
        };
        let fine = distinct.len() == replicas.len() && replicas.iter().all(may) && replicas.len() >= known.len().min(3);
        *known = replicas.to_vec();
        fine
    }
}

fn walk(seed: u64) -> [u32; 2] {
    let (mut dice, mut state) = (Dice(seed), formed());
    let mut model = Model::of(cluster(&state));
    let mut counts = [0; 2];
    for _ in 0..200 {
        let op = dice.change();
        let before = state.cluster().cloned();
        let outcome = change(&mut state, op.clone());
        assert_eq!(outcome.is_ok(), model.change(&op), "seed {seed}: {op:?} gave {outcome:?}");
        assert!(Model::of(cluster(&state)) == model, "seed {seed}: {op:?}");
        if outcome.is_err() {
            assert!(state.cluster() == before.as_ref(), "seed {seed}: a refusal changes nothing");
        } else {
            let after = state.cluster().cloned();
            assert_eq!(change(&mut state, op), Ok(()), "seed {seed}: the same again");
            assert!(state.cluster() == after.as_ref(), "seed {seed}: the same again changes nothing");
        }
        counts[usize::from(outcome.is_ok())] += 1;
    }
    let read = State::decode(state.encode().into()).expect("a snapshot is read");
    assert_eq!(read.cluster(), state.cluster(), "seed {seed}: a snapshot holds everything");
    counts
}

#[test]
fn random_changes() {
    let mut sums = [0; 2];
    for seed in 0..100 {
        let counts = walk(seed);
        sums = [sums[0] + counts[0], sums[1] + counts[1]];
    }
    assert!(sums.iter().all(|sum| *sum > 2000), "both outcomes happen often: {sums:?}");
}
