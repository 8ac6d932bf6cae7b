//! What every plan keeps to, for many random clusters, and that no plan could move less.

use std::collections::BTreeMap;

use super::*;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

fn set(ids: impl IntoIterator<Item = u64>) -> BTreeSet<NodeId> {
    ids.into_iter().map(NodeId).collect()
}

/// `groups` that hold streams and the meta group, all new.
fn new(groups: u32) -> Placement {
    (0..=groups).map(|group| (GroupId(group), Vec::new())).collect()
}

fn counts<'a>(nodes: &BTreeSet<NodeId>, ids: impl Iterator<Item = &'a NodeId>) -> BTreeMap<NodeId, usize> {
    let mut counts: BTreeMap<NodeId, usize> = nodes.iter().map(|node| (*node, 0)).collect();
    ids.for_each(|id| *counts.get_mut(id).expect("only nodes that were given") += 1);
    counts
}

fn spread(counts: &BTreeMap<NodeId, usize>) -> usize {
    counts.values().max().expect("a node") - counts.values().min().expect("a node")
}

fn check(nodes: &BTreeSet<NodeId>, now: &Placement, plan: &Placement) {
    assert!(plan.keys().eq(now.keys()), "all groups and no others");
    for (group, replicas) in plan {
        let each = if *group == GroupId::META { replicas_of_meta } else { replicas_of_groups };
        assert_eq!(replicas.len(), each(nodes.len()));
        assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), replicas.len(), "one replica on a node");
        assert!(replicas.iter().all(|id| nodes.contains(id)));
    }
    let data = || plan.iter().filter(|(group, _)| **group != GroupId::META).map(|(_, replicas)| replicas);
    let loads = counts(nodes, data().flatten());
    let leaders = counts(nodes, data().filter_map(|replicas| replicas.first()));
    assert!(spread(&loads) <= 1, "{loads:?}");
    assert!(spread(&leaders) <= 1, "{leaders:?}");
}

/// Replicas that have to be made.
fn moves(now: &Placement, plan: &Placement) -> usize {
    let made = |(group, replicas): (&GroupId, &Vec<NodeId>)| {
        let old = &now[group];
        usize::from(*group != GroupId::META) * replicas.iter().filter(|id| !old.contains(id)).count()
    };
    plan.iter().map(made).sum()
}

#[test]
fn plans_are_balanced_and_stable() {
    let mut dice = Dice(1);
    for _ in 0..150 {
        let mut nodes = set((0..1 + dice.below(6)).map(|n| n as u64 + 1));
        let mut now = plan(&nodes, &new(1 + dice.below(24) as u32));
        for next in 10..16 {
            check(&nodes, &now, &now);
            assert!(plan(&nodes, &now) == now, "what is balanced stays");
            let gone = nodes.iter().nth(dice.below(nodes.len())).copied();
            match dice.below(3) {
                0 if nodes.len() > 1 => drop(gone.map(|id| nodes.remove(&id))),
                1 => drop(gone.map(|id| (nodes.remove(&id), nodes.insert(NodeId(next))))),
                _ => drop(nodes.insert(NodeId(next))),
            }
            let next = plan(&nodes, &now);
            check(&nodes, &now, &next);
            now = next;
        }
    }
}

/// Every balanced placement of a small cluster is tried.
#[test]
fn no_plan_could_move_less() {
    let mut dice = Dice(2);
    for _ in 0..60 {
        let (groups, nodes) = (1 + dice.below(4), set(1..=3 + dice.below(2) as u64));
        // From anywhere, not only from what a plan was.
        let ids = |dice: &mut Dice| distinct((0..3).map(|_| NodeId(1 + dice.below(6) as u64)));
        let now: Placement = (1..=groups as u32).map(|group| (GroupId(group), ids(&mut dice))).collect();
        let next = plan(&nodes, &now);
        check(&nodes, &now, &next);
        assert_eq!(moves(&now, &next), fewest_moves(&nodes, &now), "{now:?} to {next:?}");
    }
}

fn fewest_moves(nodes: &BTreeSet<NodeId>, now: &Placement) -> usize {
    // Three replicas on three or four nodes: a group leaves out one node, or none.
    let all: Vec<NodeId> = nodes.iter().copied().collect();
    let choices: Vec<Vec<NodeId>> = match all.len() {
        3 => vec![all],
        _ => all.iter().map(|out| all.iter().filter(|id| *id != out).copied().collect()).collect(),
    };
    let mut best = usize::MAX;
    for number in 0..choices.len().pow(now.len() as u32) {
        let pick = |place: u32| choices[number / choices.len().pow(place) % choices.len()].clone();
        let tried: Placement = now.keys().zip(0..).map(|(group, place)| (*group, pick(place))).collect();
        if spread(&counts(nodes, tried.values().flatten())) <= 1 {
            best = best.min(moves(now, &tried));
        }
    }
    best
}

#[test]
fn an_added_node_takes_its_share_and_nothing_else_moves() {
    let now = plan(&set(1..=3), &new(8));
    let next = plan(&set(1..=4), &now);
    assert_eq!(moves(&now, &next), 24 / 4);
}

#[test]
fn a_replaced_node_hands_over_what_it_had() {
    let now = plan(&set(1..=4), &new(8));
    let next = plan(&set([1, 2, 3, 9]), &now);
    for (group, replicas) in &next {
        let same = |id: &NodeId| if *id == NodeId(9) { NodeId(4) } else { *id };
        let old: BTreeSet<NodeId> = now[group].iter().copied().collect();
        assert!(*group == GroupId::META || replicas.iter().map(same).collect::<BTreeSet<_>>() == old, "{group}");
    }
}

#[test]
fn the_meta_group_stays() {
    let of = |nodes: BTreeSet<NodeId>, now: &[u64]| {
        let now = Placement::from([(GroupId::META, now.iter().map(|id| NodeId(*id)).collect())]);
        plan(&nodes, &now)[&GroupId::META].iter().map(|id| id.0).collect::<Vec<_>>()
    };
    assert_eq!(of(set(1..=2), &[]), [1]);
    assert_eq!(of(set(1..=4), &[3]), [3, 1, 2]);
    assert_eq!(of(set(1..=6), &[3, 1, 6]), [3, 1, 6, 2, 4]);
    assert_eq!(of(set([1, 2, 4]), &[3, 1, 2]), [1, 2, 4]);
}

/// Plans are made by one version and compared by another: they must not wander.
#[test]
fn plans_are_golden() {
    let text = |plan: Placement| {
        let ids = |replicas: &Vec<NodeId>| replicas.iter().map(NodeId::to_string).collect::<Vec<_>>().concat();
        plan.values().map(ids).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(text(plan(&set(1..=3), &new(4))), "123 123 213 312 123");
    assert_eq!(text(plan(&set(1..=5), &new(6))), "12345 123 213 312 415 524 345");
}
