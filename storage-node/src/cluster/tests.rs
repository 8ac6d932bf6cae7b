//! Whole clusters over an engine that pretends: what becomes of each change without anybody's help.

mod world;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;
use ursula_common::cluster::{Form, NewNode, NodeState, Placement};
use ursula_common::placement::{SlotTable, plan::plan};
use ursula_common::{ClusterId, GroupId, NodeId};
use ursula_proto::{admin::v1, cluster_id_bytes, from_status};

use super::*;
use world::{GROUPS, World};

const ID: ClusterId = ClusterId(0xfeed);

fn join_request(id: u64, nodes: &[u64], initialize: bool) -> v1::JoinRequest {
    let voter = |id: &u64| v1::Peer { node: *id, address: format!("node-{id}:1"), incarnation: 1000 + id };
    let voters = nodes.iter().take(3).map(voter).collect();
    v1::JoinRequest { cluster: cluster_id_bytes(ID), node: id, incarnation: 1000 + id, voters, initialize }
}

fn new_node(id: u64) -> NewNode {
    NewNode { id: NodeId(id), address: format!("node-{id}:1").into(), incarnation: 1000 + id }
}

fn set(ids: &[u64]) -> BTreeSet<NodeId> {
    ids.iter().map(|id| NodeId(*id)).collect()
}

async fn formed(ids: &[u64]) -> World {
    let world = World::default();
    for id in ids {
        world.start(*id);
    }
    for id in ids {
        world.admin(*id).join(join_request(*id, ids, *id == ids[0])).await.expect("it joins");
    }
    world.pass(1).await;
    let new: Placement = (0..=GROUPS).map(|group| (GroupId(group), Vec::new())).collect();
    let form = Form {
        cluster: ID,
        nodes: ids.iter().map(|id| new_node(*id)).collect(),
        slots: SlotTable::spread(GROUPS),
        placement: plan(&set(ids), &new),
    };
    world.propose(ClusterChange::Form(form)).await.expect("it forms");
    world.pass(20).await;
    world
}

/// Makes a node that runs a member of the cluster with this meta group.
async fn take_in(world: &World, id: u64, meta: &[u64]) {
    world.admin(id).join(join_request(id, meta, false)).await.expect("it joins");
    world.propose(ClusterChange::AddNode(new_node(id))).await.expect("it is added");
}

async fn place(world: &World, ids: &[u64]) {
    let placement = plan(&set(ids), &world.cluster().placement());
    world.propose(ClusterChange::Place(placement)).await.expect("a plan is accepted");
}

/// Every group is where the cluster wants it, led by its first replica, and nowhere else.
#[track_caller]
fn assert_in_place(world: &World, alive: &[u64]) {
    let cluster = world.cluster();
    for (group, record) in &cluster.groups {
        let (voters, leader, learners) = world.group(group.0);
        assert_eq!(
            voters,
            record.replicas.iter().map(|id| id.0).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        );
        let first = record.replicas.iter().find(|id| cluster.nodes[id].state == NodeState::Active);
        assert_eq!(leader, first.map(|id| id.0), "group {group}");
        assert_eq!(learners, cluster.learners(*group).iter().map(|id| id.0).collect::<Vec<_>>());
    }
    for id in alive {
        let wanted = cluster.groups.keys().filter(|group| cluster.hosts(NodeId(*id), **group));
        assert_eq!(world.hosted(*id), wanted.map(|group| group.0).collect::<Vec<_>>(), "node {id}");
    }
}

#[tokio::test(start_paused = true)]
async fn three_nodes_become_a_cluster() {
    let world = formed(&[1, 2, 3]).await;
    assert_in_place(&world, &[1, 2, 3]);
    assert_eq!(world.made(), (0..=GROUPS).map(|group| (group, 1)).collect(), "each group is made once");
    assert!(world.cluster().groups.values().all(|record| record.begun));
}

#[tokio::test(start_paused = true)]
async fn a_node_is_added_and_gets_its_share() {
    let world = formed(&[1, 2, 3]).await;
    world.start(4);
    take_in(&world, 4, &[1, 2, 3]).await;
    world.pass(5).await;
    assert_eq!(world.group(0).2, [4], "it follows the meta group");
    place(&world, &[1, 2, 3, 4]).await;
    world.pass(40).await;
    assert_in_place(&world, &[1, 2, 3, 4]);
    assert_eq!(world.hosted(4).len(), 4, "3 of 12 replicas and the meta group");
    assert!(world.made().values().all(|made| *made == 1));
}

#[tokio::test(start_paused = true)]
async fn a_dead_node_is_replaced() {
    let world = formed(&[1, 2, 3]).await;
    world.kill(2);
    world.start(4);
    world.pass(3).await;
    take_in(&world, 4, &[1, 2, 3]).await;
    place(&world, &[1, 3, 4]).await;
    world.pass(40).await;
    world.propose(ClusterChange::SetNodeState { node: NodeId(2), state: NodeState::Removed }).await.expect("removed");
    world.pass(20).await;
    assert_in_place(&world, &[1, 3, 4]);

    // It comes back, and learns that it has no part any more.
    assert!(!world.hosted(2).is_empty());
    world.restart(2);
    world.pass(10).await;
    assert_eq!(world.hosted(2), Vec::<u32>::new());
    assert!(world.made().values().all(|made| *made == 1), "nothing is made again");
}

#[tokio::test(start_paused = true)]
async fn one_node_grows_to_three() {
    let world = World::default();
    world.start(1);
    world.pass(1).await;
    let forming = world.side(1);
    let forming = tokio::spawn(async move { forming.form_alone(ID, "node-1:1").await });
    world.pass(5).await;
    forming.await.expect("no panic").expect("it forms");
    assert_in_place(&world, &[1]);
    for id in [2, 3] {
        world.start(id);
        take_in(&world, id, &[1]).await;
    }
    world.pass(5).await;
    place(&world, &[1, 2, 3]).await;
    world.pass(40).await;
    assert_in_place(&world, &[1, 2, 3]);
    // It forms no other one when it starts again.
    world.kill(1);
    world.pass(2).await;
    world.restart(1);
    let forming = world.side(1);
    let forming = tokio::spawn(async move { forming.form_alone(ClusterId(9), "node-1:1").await });
    world.pass(5).await;
    assert_eq!(forming.await.expect("no panic"), Ok(()));
    assert_eq!(world.cluster().id, ID);
}

#[tokio::test(start_paused = true)]
async fn a_draining_node_leads_nothing() {
    let world = formed(&[1, 2, 3]).await;
    world.propose(ClusterChange::SetNodeState { node: NodeId(1), state: NodeState::Draining }).await.expect("drains");
    world.pass(3).await;
    assert!((0..=GROUPS).all(|group| world.group(group).1 != Some(1)));
    assert_in_place(&world, &[1, 2, 3]);
    world.propose(ClusterChange::SetNodeState { node: NodeId(1), state: NodeState::Active }).await.expect("is back");
    world.pass(20).await;
    assert_in_place(&world, &[1, 2, 3]);
    assert!((0..=GROUPS).any(|group| world.group(group).1 == Some(1)));
}

/// The next leader takes the node in again; a later one was told to do without it, but not since.
#[tokio::test(start_paused = true)]
async fn a_node_is_set_aside_by_one_leader_for_its_term() {
    let world = formed(&[1, 2, 3]).await;
    let group = 1;
    let (_, leader, _) = world.group(group);
    let (leader, others) = (leader.expect("it is led"), [1, 2, 3].map(|id| (Some(id) != leader).then_some(id)));
    let [heir, aside] = others.into_iter().flatten().collect::<Vec<_>>()[..] else { panic!("two others") };
    world.admin(leader).set_aside(v1::SetAsideRequest { group, node: aside }).await.expect("it can be done");
    world.pass(1).await;
    assert!(!world.group(group).0.contains(&aside));
    for to in [heir, leader] {
        let from = world.group(group).1.expect("it is led");
        world.admin(from).transfer_leader(v1::TransferLeaderRequest { group, to }).await.expect("it can lead");
        world.pass(3).await;
        assert_eq!(world.group(group).0, [1, 2, 3], "led by node {to}");
    }
}

#[tokio::test(start_paused = true)]
async fn all_nodes_restart_at_once() {
    let world = formed(&[1, 2, 3]).await;
    [1, 2, 3].into_iter().for_each(|id| world.kill(id));
    world.pass(2).await;
    [1, 2, 3].into_iter().for_each(|id| world.restart(id));
    world.pass(20).await;
    assert_in_place(&world, &[1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_way_is_said() {
    let world = formed(&[1, 2, 3]).await;
    world.start(4);
    take_in(&world, 4, &[1, 2, 3]).await;
    world.pass(3).await;
    world.kill(4);
    place(&world, &[1, 2, 3, 4]).await;
    world.pass(5).await;
    let mut said = BTreeMap::new();
    for id in [1, 2, 3] {
        let status = world.admin(id).describe(v1::DescribeRequest {}).await.expect("an answer").into_inner();
        said.extend(status.hosted.into_iter().filter(|group| group.stuck).map(|group| (group.group, group.task)));
    }
    assert_eq!(said.len(), 3, "of the groups that it shall get: {said:?}");
    assert!(said.values().all(|task| task.contains("node 4 does not answer")), "{said:?}");
}

/// The damage of one replica must not keep its node busy, nor the others from it.
#[tokio::test(start_paused = true)]
async fn a_damaged_replica_is_told_and_seldom_tried() {
    let world = formed(&[1, 2, 3]).await;
    world.damage(3, 2);
    world.pass(600).await;
    let tries = world.asked_to_host(3);
    assert!((5..=20).contains(&tries), "{tries} tries in ten minutes");
    let status = world.admin(3).describe(v1::DescribeRequest {}).await.expect("an answer").into_inner();
    let refused: Vec<(u32, &str)> = status.refused.iter().map(|each| (each.group, each.reason.as_str())).collect();
    assert_eq!(refused, [(2, "it is damaged")]);
    assert_eq!(world.hosted(3), [0, 1, 3, 4], "the others go on");
    assert_eq!(world.group(2).0, [1, 2, 3], "its vote is not taken away by itself");
}

/// A replica that needs a snapshot, or a reader, finds all of it with the next leader.
#[tokio::test(start_paused = true)]
async fn who_has_lost_something_leads_no_more() {
    let world = formed(&[1, 2, 3]).await;
    let group = 1;
    let first = world.group(group).1.expect("it is led");
    world.lose(first, group);
    for _ in 0..30 {
        world.pass(2).await;
        assert_ne!(world.group(group).1, Some(first));
    }
    assert_eq!(world.group(group).0, [1, 2, 3], "its vote is not taken away by itself");
    let second = world.group(group).1.expect("it is led");
    world.lose(second, group);
    for _ in 0..30 {
        world.pass(2).await;
        let leader = world.group(group).1;
        assert!(leader.is_some() && ![first, second].map(Some).contains(&leader), "{leader:?}");
    }
    let third = world.group(group).1.expect("it is led");
    world.lose(third, group);
    world.pass(2).await;
    let (before, lead) = (world.group(group).1, world.term(group));
    world.pass(60).await;
    assert_eq!((world.group(group).1, world.term(group)), (before, lead), "none is better than the others");
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_meta_group_is_damaged_does_its_part() {
    let world = formed(&[1, 2, 3]).await;
    world.kill(3);
    world.damage(3, 0);
    world.restart(3);
    world.pass(20).await;
    assert!((1..=GROUPS).any(|group| world.group(group).1 == Some(3)), "it leads groups");
    world.start(4);
    world.pass(3).await;
    take_in(&world, 4, &[1, 2, 3]).await;
    place(&world, &[1, 3, 4]).await;
    world.pass(40).await;
    let cluster = world.cluster();
    for group in 0..=GROUPS {
        let goal: BTreeSet<u64> = cluster.groups[&GroupId(group)].replicas.iter().map(|node| node.0).collect();
        assert_eq!(world.group(group).0, goal.into_iter().collect::<Vec<_>>(), "group {group}");
    }
    assert!(world.made().values().all(|made| *made == 1), "nothing is made again");
}

#[tokio::test(start_paused = true)]
async fn a_node_is_claimed_once_and_not_by_mistake() {
    let world = formed(&[1, 2, 3]).await;
    world.admin(2).join(join_request(2, &[1, 2, 3], false)).await.expect("the same again");
    let reason = async |id, request| {
        let status = world.admin(id).join(request).await.expect_err("it is refused");
        from_status(&status).to_string()
    };
    let other = v1::JoinRequest { cluster: cluster_id_bytes(ClusterId(9)), ..join_request(2, &[1, 2, 3], false) };
    assert!(reason(2, other).await.contains("belongs to cluster 0000000000000000000000000000feed"));
    assert!(reason(2, join_request(3, &[1, 2, 3], false)).await.contains("this is node 2"));
    let wiped = v1::JoinRequest { incarnation: 7, ..join_request(2, &[1, 2, 3], false) };
    assert!(reason(2, wiped).await.contains("another data directory"));
    world.start(4);
    assert!(reason(4, join_request(4, &[1, 2, 3], true)).await.contains("none of its voters"));
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_hands_over_and_only_to_voters() {
    let world = formed(&[1, 2, 3]).await;
    let (_, leader, _) = world.group(1);
    let leader = leader.expect("it has one");
    let transfer = async |at, to| {
        let answer = world.admin(at).transfer_leader(v1::TransferLeaderRequest { group: 1, to }).await;
        answer.map(drop).map_err(|status| from_status(&status))
    };
    let other = leader % 3 + 1;
    assert!(matches!(transfer(other, other).await, Err(Error::NotLeader { leader: Some(_), .. })));
    assert!(matches!(transfer(leader, 9).await, Err(Error::ClusterRefused { .. })));
    assert_eq!(transfer(leader, other).await, Ok(()));
    world.pass(1).await;
    assert_eq!(world.group(1).1, Some(other));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_changes_nothing() {
    let world = formed(&[1, 2, 3]).await;
    let before = world.cluster();
    let mut admin = world.admin(2);
    let removed = ClusterChange::SetNodeState { node: NodeId(1), state: NodeState::Removed };
    let outcome = ursula_proto::propose(&mut admin, ClusterOp { version: None, change: removed }, true).await;
    assert!(outcome.is_err_and(|error| error.to_string().contains("still has 5 groups")));
    let fine = ClusterChange::SetNodeState { node: NodeId(1), state: NodeState::Draining };
    assert_eq!(ursula_proto::propose(&mut admin, ClusterOp { version: None, change: fine }, true).await, Ok(()));
    assert_eq!(world.cluster(), before);
}

#[tokio::test(start_paused = true)]
async fn the_topology_tells_each_change() {
    let world = formed(&[1, 2, 3, 4]).await;
    let mut news = Box::pin(topology::watch(&world.side(4)).expect("there is one"));
    let first = news.next().await.expect("at once");
    assert_eq!((first.slots.len(), first.groups.len(), first.nodes.len()), (4096, 5, 4));
    // Node 4 has three of the groups, and is told of the others.
    assert!(first.groups.iter().all(|group| group.leader == Some(group.replicas[0]) && group.term > 0));
    let elsewhere = (1..=GROUPS).find(|group| !world.hosted(4).contains(group)).expect("it has not all groups");

    let leader = world.group(elsewhere).1.expect("it has one");
    world.kill(leader);
    world.pass(3).await;
    let mut last = first.clone();
    while let Some(Some(topology)) = futures_util::FutureExt::now_or_never(news.next()) {
        last = if topology.version == 0 { last } else { topology };
    }
    let told = last.groups.iter().find(|group| group.id == elsewhere).expect("all groups");
    assert_eq!(told.leader, world.group(elsewhere).1);
    assert_ne!(told.leader, Some(leader));
    assert_eq!(last.version, first.version, "only a leader has changed");
    assert_eq!(news.next().await.expect("a second later"), ursula_proto::v1::Topology::default());
}

#[tokio::test(start_paused = true)]
async fn a_node_without_a_cluster_has_no_topology() {
    let world = World::default();
    world.start(1);
    world.pass(1).await;
    assert!(topology::watch(&world.side(1)).is_err());
    let status = world.admin(1).describe(v1::DescribeRequest {}).await.expect("an answer").into_inner();
    assert_eq!((status.cluster_id(), status.known_cluster(), status.groups), (Ok(None), Ok(None), GROUPS));
}
