//! The rules for changes of the cluster, one by one and in a random walk beside a model.

mod random;

use std::collections::BTreeSet;

use ursula_common::cluster::Form;
use ursula_common::placement::SlotTable;
use ursula_common::verb::{Ack, Op};
use ursula_common::{BucketName, ClusterId, Millis};

use super::*;
use crate::{Answer, Command};

const ID: ClusterId = ClusterId(0xc0ffee);

fn meta() -> State {
    at_one(2)
}

/// Not at time zero, so that a change does not move it.
fn at_one(groups: u32) -> State {
    let mut state = State::new(GroupId::META, groups);
    state.apply(Command { at: Millis(1), origin: None, op: Op::Expire }, &mut Vec::new());
    state
}

fn node(id: u64) -> NewNode {
    NewNode { id: NodeId(id), address: format!("node-{id}:4438").into(), incarnation: 100 + id }
}

fn nodes(ids: &[u64]) -> Vec<NodeId> {
    ids.iter().map(|id| NodeId(*id)).collect()
}

fn placement(groups: &[(u32, &[u64])]) -> Placement {
    groups.iter().map(|(group, ids)| (GroupId(*group), nodes(ids))).collect()
}

/// Three nodes, the meta group and two more.
fn form() -> Form {
    let nodes = [1, 2, 3].map(node).to_vec();
    let placement = placement(&[(0, &[1, 2, 3]), (1, &[2, 3, 1]), (2, &[3, 1, 2])]);
    Form { cluster: ID, nodes, slots: SlotTable::spread(2), placement }
}

fn apply_op(state: &mut State, op: ClusterOp) -> Result<(), Error> {
    let mut effects = Vec::new();
    let answer = state.apply(Command { at: Millis(1), origin: None, op: Op::Cluster(Box::new(op)) }, &mut effects);
    state.check();
    assert!(effects.is_empty());
    match answer {
        Answer::Done(outcome) => outcome.map(drop),
        Answer::Pending(_) => panic!("nobody else is asked"),
    }
}

fn change(state: &mut State, change: ClusterChange) -> Result<(), Error> {
    apply_op(state, ClusterOp { version: None, change })
}

fn formed() -> State {
    let mut state = meta();
    assert_eq!(change(&mut state, ClusterChange::Form(form())), Ok(()));
    let groups = BTreeSet::from([GroupId(1), GroupId(2)]);
    assert_eq!(change(&mut state, ClusterChange::Begin(groups)), Ok(()));
    state
}

fn cluster(state: &State) -> &Cluster {
    state.cluster().expect("it was formed")
}

#[track_caller]
fn refused(state: &mut State, op: ClusterChange, words: &str) {
    let before = state.encode();
    let Err(Error::ClusterRefused { reason }) = change(state, op) else { panic!("it was not refused: {words}") };
    assert!(reason.contains(words), "{reason}");
    assert!(state.encode() == before, "a refusal changes nothing");
}

fn set(node: u64, state: NodeState) -> ClusterChange {
    ClusterChange::SetNodeState { node: NodeId(node), state }
}

fn place(groups: &[(u32, &[u64])]) -> ClusterChange {
    ClusterChange::Place(placement(groups))
}

#[test]
fn a_cluster_is_formed_once() {
    let mut state = meta();
    refused(&mut state, ClusterChange::AddNode(node(4)), "not formed");
    assert_eq!(change(&mut state, ClusterChange::Form(form())), Ok(()));
    assert_eq!((cluster(&state).id, cluster(&state).version), (ID, 1));
    let before = state.encode();
    assert_eq!(change(&mut state, ClusterChange::Form(form())), Ok(()), "the same again");
    assert!(state.encode() == before);
    refused(&mut state, ClusterChange::Form(Form { cluster: ClusterId(1), ..form() }), "formed long ago");
    refused(&mut state, ClusterChange::Form(Form { slots: SlotTable::spread(1), ..form() }), "formed long ago");
}

#[test]
fn forming_sets_the_number_of_groups() {
    let mut state = at_one(7);
    assert_eq!(change(&mut state, ClusterChange::Form(form())), Ok(()));
    assert_eq!(state.data_groups, 2);
    assert!(State::decode(state.encode().into()).is_ok_and(|read| read.encode() == state.encode()));
}

#[test]
fn a_group_that_is_in_use_keeps_its_number_of_groups() {
    let mut state = at_one(7);
    let name = BucketName::parse("bucket").expect("a name");
    state.apply(Command { at: Millis(1), origin: None, op: Op::CreateBucket(name, Ack::Quorum) }, &mut Vec::new());
    refused(&mut state, ClusterChange::Form(form()), "has served 7 groups");
}

#[test]
fn what_cannot_be_a_cluster_is_refused() {
    let form = |change: fn(&mut Form)| {
        let mut form = form();
        change(&mut form);
        ClusterChange::Form(form)
    };
    let mut state = meta();
    refused(&mut state, form(|f| f.nodes.clear()), "at least one node");
    refused(&mut state, form(|f| f.nodes.push(node(1))), "node 1 is in the cluster already");
    refused(&mut state, form(|f| f.nodes[0].id = NodeId(0)), "begin at 1");
    refused(&mut state, form(|f| f.nodes[0].address = "".into()), "is not an address");
    refused(&mut state, form(|f| f.nodes[0].address = "node-1".into()), "is not an address");
    refused(&mut state, form(|f| f.nodes[0].address = "http://n:1".into()), "is not an address");
    refused(&mut state, form(|f| f.nodes[1].address = "node-1:4438".into()), "node 1 has the address");
    refused(&mut state, form(|f| f.nodes[1].incarnation = 101), "directory is that of node 1");
    refused(&mut state, form(|f| drop(f.placement.remove(&GroupId(1)))), "numbered from 0");
    refused(&mut state, form(|f| f.placement.retain(|group, _| *group == GroupId::META)), "numbered from 0");
    refused(&mut state, form(|f| f.slots = SlotTable::spread(3)), "slots must lead");
    refused(&mut state, form(|f| f.placement.extend(placement(&[(1, &[])]))), "would have 0 replicas");
    refused(&mut state, form(|f| f.placement.extend(placement(&[(1, &[1, 1])]))), "two replicas on node 1");
    refused(&mut state, form(|f| f.placement.extend(placement(&[(1, &[9])]))), "no node 9");
}

#[test]
fn the_only_node_of_a_process_needs_no_address() {
    let alone = NewNode { address: "".into(), ..node(1) };
    let placement = placement(&[(0, &[1]), (1, &[1]), (2, &[1])]);
    let mut state = meta();
    assert_eq!(change(&mut state, ClusterChange::Form(Form { nodes: vec![alone], placement, ..form() })), Ok(()));
    let address = |address: &str| ClusterChange::SetNodeAddress { node: NodeId(1), address: address.into() };
    assert_eq!(change(&mut state, address("[::1]:4438")), Ok(()));
    refused(&mut state, address(""), "is not an address");
}

#[test]
fn nodes_come_and_go() {
    let mut state = formed();
    assert_eq!(change(&mut state, ClusterChange::AddNode(node(4))), Ok(()));
    assert_eq!(change(&mut state, ClusterChange::AddNode(node(4))), Ok(()), "the same again");
    assert_eq!(cluster(&state).version, 3);
    refused(&mut state, ClusterChange::AddNode(NewNode { incarnation: 9, ..node(4) }), "choose another id");
    refused(&mut state, ClusterChange::AddNode(NewNode { id: NodeId(5), ..node(4) }), "directory is that of node 4");
    let moved = NewNode { address: "node-1:4438".into(), ..node(5) };
    refused(&mut state, ClusterChange::AddNode(moved), "node 1 has the address");

    assert_eq!(change(&mut state, place(&[(1, &[4, 2, 3])])), Ok(()));
    refused(&mut state, set(4, NodeState::Removed), "node 4 still has 1 groups");
    assert_eq!(change(&mut state, place(&[(1, &[1, 2, 3])])), Ok(()));
    assert_eq!(change(&mut state, set(4, NodeState::Removed)), Ok(()));
    assert_eq!(change(&mut state, set(4, NodeState::Removed)), Ok(()), "the same again");
    refused(&mut state, set(4, NodeState::Active), "removed, for ever");
    refused(&mut state, ClusterChange::AddNode(node(4)), "never used again");
    refused(&mut state, place(&[(1, &[4, 2, 3])]), "node 4 was removed");
    // The address of one that was removed is free again.
    assert_eq!(
        change(&mut state, ClusterChange::AddNode(NewNode { incarnation: 9, id: NodeId(5), ..node(4) })),
        Ok(())
    );
}

#[test]
fn a_draining_node_gets_nothing_new() {
    let mut state = formed();
    assert_eq!(change(&mut state, ClusterChange::AddNode(node(4))), Ok(()));
    for id in [1, 4] {
        assert_eq!(change(&mut state, set(id, NodeState::Draining)), Ok(()));
    }
    refused(&mut state, place(&[(1, &[4, 2, 3])]), "node 4 is draining");
    assert_eq!(change(&mut state, place(&[(1, &[3, 2, 1])])), Ok(()), "what it has it may keep");
    for id in [2, 3] {
        let outcome = change(&mut state, set(id, NodeState::Draining));
        assert_eq!(outcome.is_ok(), id == 2, "the last active node stays");
    }
}

#[test]
fn placements_keep_their_rules() {
    let mut state = meta();
    assert_eq!(change(&mut state, ClusterChange::Form(form())), Ok(()));
    refused(&mut state, place(&[(1, &[1, 2, 3])]), "group 1 has not elected");
    assert_eq!(change(&mut state, ClusterChange::Begin([GroupId(1)].into())), Ok(()));
    assert_eq!(change(&mut state, place(&[(1, &[1, 2, 3])])), Ok(()));
    refused(&mut state, place(&[(7, &[1, 2, 3])]), "no group 7");
    refused(&mut state, ClusterChange::Begin([GroupId(7)].into()), "no group 7");
    refused(&mut state, place(&[(1, &[1, 2])]), "has 3 replicas and would keep 2");
    refused(&mut state, place(&[(1, &[1, 2, 2])]), "two replicas on node 2");
}

#[test]
fn a_plan_for_another_version_is_refused() {
    let mut state = formed();
    let at = |version, change| ClusterOp { version: Some(version), change };
    let draining = set(1, NodeState::Draining);
    assert!(apply_op(&mut state, at(1, draining.clone())).is_err_and(|error| error.to_string().contains("version 2")));
    assert_eq!(apply_op(&mut state, at(2, draining.clone())), Ok(()));
    assert_eq!(apply_op(&mut state, at(2, draining)), Ok(()), "what was done is done");
}

#[test]
fn other_groups_know_no_cluster() {
    let mut state = State::new(GroupId(1), 2);
    assert_eq!(change(&mut state, ClusterChange::Form(form())), Err(Error::Malformed));
}
