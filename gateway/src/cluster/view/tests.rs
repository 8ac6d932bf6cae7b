//! What is news, and what is not.

use super::*;
use crate::tests::{address, nodes, topology_of};

const GROUP: GroupId = GroupId(1);

struct World {
    views: Views,
    asked: Link,
}

impl World {
    /// Three nodes know of version 10, and of node 1 that leads in term 5.
    fn new() -> World {
        let (nodes, connect) = nodes(5);
        let world = World { views: Views::new(connect), asked: nodes[0].link() };
        world.merge(topology_of(10, &[1, 2, 3], Some(1), 5));
        world
    }

    fn merge(&self, topology: v1::Topology) {
        self.views.merge(&topology, &self.asked).expect("a topology");
    }

    fn hear(&self, from: u64, leader: Option<u64>, term: u64) -> (Option<u64>, u64) {
        self.views.hear(GROUP, NodeId(from), leader.map(NodeId), term);
        self.led()
    }

    fn led(&self) -> (Option<u64>, u64) {
        let view = self.views.get();
        let placement = view.placement(GROUP).expect("the group");
        (placement.leader.map(|node| node.0), placement.term)
    }

    fn nodes(&self) -> Vec<u64> {
        self.views.get().links().map(|(node, _)| node.0).collect()
    }
}

#[test]
fn an_older_topology_changes_nothing_but_may_know_a_later_leader() {
    let world = World::new();
    world.merge(topology_of(9, &[1, 2], Some(2), 4));
    assert_eq!((world.nodes(), world.led(), world.views.get().version()), (vec![1, 2, 3], (Some(1), 5), 10));
    world.merge(topology_of(9, &[1, 2], Some(2), 6));
    assert_eq!((world.nodes(), world.led(), world.views.get().version()), (vec![1, 2, 3], (Some(2), 6), 10));
    // Somebody whom nobody knows cannot be asked.
    world.merge(topology_of(9, &[1, 4], Some(4), 7));
    assert_eq!((world.nodes(), world.led()), (vec![1, 2, 3], (None, 7)));
}

#[test]
fn a_newer_topology_replaces_all_but_later_leaders() {
    let world = World::new();
    world.merge(topology_of(11, &[1, 2, 4], Some(2), 4));
    assert_eq!((world.nodes(), world.led(), world.views.get().version()), (vec![1, 2, 4], (Some(1), 5), 11));
    world.merge(topology_of(11, &[1, 2, 4], Some(4), 6));
    assert_eq!(world.led(), (Some(4), 6));
    // A leader that has left does not lead.
    world.merge(topology_of(12, &[1, 2, 3], None, 5));
    assert_eq!((world.nodes(), world.led()), (vec![1, 2, 3], (None, 6)));
}

#[test]
fn links_live_as_long_as_the_address_of_their_node() {
    let world = World::new();
    let link = |node: u64| world.views.get().link(NodeId(node)).cloned();
    let before: Vec<Link> = [1, 2, 3].map(|node| link(node).expect("a link")).into();
    assert!(before[0].is(&world.asked), "the way to the node that was asked is known");
    let mut moved = topology_of(11, &[1, 2, 4], Some(1), 5);
    moved.nodes[1].address = address(5);
    world.merge(moved);
    assert!(link(1).is_some_and(|link| link.is(&before[0])));
    assert!(link(2).is_some_and(|link| !link.is(&before[1]) && link.address() == address(5)));
    assert!(link(3).is_none());
    assert!(link(4).is_some());
}

#[test]
fn hints_count_by_their_term() {
    let world = World::new();
    assert_eq!(world.hear(2, Some(3), 4), (Some(1), 5), "old news");
    assert_eq!(world.hear(2, Some(3), 5), (Some(1), 5), "one term has one leader");
    assert_eq!(world.hear(2, None, 6), (None, 6), "a new term without a leader yet");
    assert_eq!(world.hear(3, Some(1), 5), (None, 6));
    assert_eq!(world.hear(3, Some(2), 6), (Some(2), 6));
    assert_eq!(world.hear(3, Some(99), 7), (None, 7), "a stranger");
    assert_eq!(world.views.confirm(GROUP, NodeId(3)), 7);
    assert_eq!(world.led(), (Some(3), 7));
}

#[test]
fn a_leader_knows_best_that_it_is_none() {
    let world = World::new();
    assert_eq!(world.hear(1, None, 5), (None, 5));
    assert_eq!(world.hear(2, Some(1), 5), (Some(1), 5), "it may lead after all");
    assert_eq!(world.hear(1, Some(3), 6), (Some(3), 6));
    // It has lost its memory, or the group was taken away from it.
    assert_eq!(world.hear(3, None, 0), (None, 0));
    assert_eq!(world.hear(2, Some(2), 1), (Some(2), 1));
}

#[test]
fn replicas_are_asked_in_turns() {
    let placement = |leader| Placement { replicas: [1, 2, 3].map(NodeId).into(), leader, term: 1 };
    let order = |leader: Option<u64>, turn| {
        let order = placement(leader.map(NodeId)).in_order(turn);
        order.into_iter().map(|node| node.0).collect::<Vec<_>>()
    };
    assert_eq!([0, 1, 2].map(|turn| order(Some(2), turn)), [[2, 1, 3], [2, 3, 1], [2, 1, 3]]);
    assert_eq!([0, 1, 2].map(|turn| order(None, turn)), [[1, 2, 3], [2, 3, 1], [3, 1, 2]]);
    // One that leads and is about to leave.
    assert_eq!(order(Some(9), 0), [9, 1, 2, 3]);
}

fn of_cluster(id: u128, topology: v1::Topology) -> v1::Topology {
    v1::Topology { cluster: ursula_proto::cluster_id_bytes(ClusterId(id)), ..topology }
}

/// A node with the directory of another cluster, at an address that this gateway knows.
#[test]
fn another_cluster_is_not_believed_however_new_it_is() {
    let (nodes, connect) = nodes(5);
    let (views, asked) = (Views::new(connect), nodes[0].link());
    let merge = |topology| views.merge(&topology, &asked);
    merge(of_cluster(7, topology_of(10, &[1, 2, 3], Some(1), 5))).expect("the first");
    let refused = merge(of_cluster(8, topology_of(99, &[3], Some(3), 50))).expect_err("another one");
    assert!(refused.to_string().contains("belongs to cluster 00000000000000000000000000000008"), "{refused}");
    assert_eq!(views.get().version(), 10);
    merge(of_cluster(7, topology_of(11, &[1], Some(1), 5))).expect("its own");
    // A node alone and in memory has begun anew.
    merge(of_cluster(8, topology_of(1, &[1], Some(1), 1))).expect("it is the only one");
    let view = views.get();
    assert_eq!((view.version(), view.placement(GROUP).map(|placement| placement.term)), (1, Some(1)));
}
