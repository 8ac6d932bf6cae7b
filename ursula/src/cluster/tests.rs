//! What is refused before anything is changed, and what people are shown.

use std::collections::BTreeMap;

use clap::Parser;
use ursula_common::cluster::{Cluster, GroupRecord, NodeRecord, NodeState};
use ursula_common::placement::{SlotTable, plan::plan};
use ursula_common::{ClusterId, GroupId};
use ursula_proto::admin::v1::{Disk, GroupStatus, NodeStatus, Progress, Role, Voters};
use ursula_proto::{PROTOCOL, PROTOCOL_MIN};

use super::paint::{Color, Paint, size};
use super::view::View;
use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

/// A cluster in which everything is as it should be.
fn view(nodes: u64, groups: u32) -> View {
    let ids = (1..=nodes).map(NodeId);
    let placement = plan(&ids.clone().collect(), &(0..=groups).map(|group| (GroupId(group), Vec::new())).collect());
    let record = |id: NodeId| NodeRecord {
        address: format!("node-{id}:4438").into(),
        incarnation: id.0,
        state: NodeState::Active,
    };
    let cluster = Cluster {
        id: ClusterId(0xab),
        version: 7,
        nodes: ids.clone().map(|id| (id, record(id))).collect(),
        slots: SlotTable::spread(groups),
        groups: placement.into_iter().map(|(id, replicas)| (id, GroupRecord { replicas, begun: true })).collect(),
    };
    let nodes = ids.map(|id| (id, Ok(status(&cluster, id)))).collect();
    View { cluster, nodes }
}

fn status(cluster: &Cluster, id: NodeId) -> NodeStatus {
    let hosted = |(group, record): (&GroupId, &GroupRecord)| {
        let leads = record.replicas.first() == Some(&id);
        GroupStatus {
            group: group.0,
            role: if leads { Role::Leader } else { Role::Follower }.into(),
            term: 3,
            voters: vec![Voters { nodes: record.replicas.iter().map(|node| node.0).collect() }],
            learners: cluster.learners(*group).iter().map(|node| node.0).collect(),
            ..GroupStatus::default()
        }
    };
    NodeStatus {
        node: id.0,
        incarnation: id.0,
        version: "0.1.0".to_owned(),
        protocol: PROTOCOL,
        protocol_min: PROTOCOL_MIN,
        groups: cluster.data_groups(),
        hosted: cluster.groups.iter().filter(|(group, _)| cluster.hosts(id, **group)).map(hosted).collect(),
        ..NodeStatus::default()
    }
}

fn down(view: &mut View, node: u64) {
    view.nodes.insert(NodeId(node), Err("no answer".to_owned()));
}

#[track_caller]
fn refused(outcome: Result<(), Failure>, words: &str) {
    let Err(Failure { text, end: failure::End::Refused, .. }) = outcome else {
        panic!("{outcome:?} instead of: {words}")
    };
    assert!(text.contains(words), "{text}");
}

#[test]
fn nodes_are_named_by_id_and_address() {
    let parse = |text: &str| text.parse::<NodeAt>();
    assert_eq!(parse("3=[::1]:4438"), Ok(NodeAt { id: NodeId(3), address: "[::1]:4438".to_owned() }));
    for wrong in ["", "1", "1=", "1=host", "0=h:1", "x=h:1", "1=:1", "1=h:0", "1=h:99999"] {
        assert!(parse(wrong).is_err_and(|error| error.contains("ID=HOST:PORT")), "{wrong}");
    }
}

#[test]
fn commands_are_understood() {
    for line in [
        "x init --node 1=a:1 --node 2=b:1 --groups 4 --dry-run",
        "x status --address h:1 --output json",
        "x status --watch",
        "x status --watch 5 --color never",
        "x add-node --node 4=d:1 --timeout 5",
        "x remove-node 4 --dry-run",
        "x replace-node 4 --node 5=e:1",
        "x drain 2 --address h:1",
        "x undrain 2",
    ] {
        assert!(Line::try_parse_from(line.split(' ')).is_ok(), "{line}");
    }
    assert!(Line::try_parse_from(["x", "init"]).is_err(), "nodes are needed");
}

#[test]
fn another_node_or_version_is_refused() {
    let at = NodeAt { id: NodeId(2), address: "node-2:4438".to_owned() };
    let view = view(3, 2);
    let of = |id| view.nodes[&NodeId(id)].clone().expect("it answers");
    assert_eq!(checks::is_meant(&at, &of(2)), Ok(()));
    refused(checks::is_meant(&at, &of(3)), "is node 3, not 2");
    let newer = NodeStatus { protocol: 9, protocol_min: 8, ..of(2) };
    refused(checks::is_meant(&at, &newer), "protocol 8 to 9");
    assert_eq!(checks::fit_together(&[of(1), NodeStatus { protocol: 8, ..of(2) }]), Ok(()));
    refused(checks::fit_together(&[of(1), newer]), "node 1 runs version 0.1.0 and node 2");
}

#[test]
fn a_majority_is_never_given_away() {
    let mut view = view(3, 2);
    assert_eq!(checks::groups_can_change(&view), Ok(()));
    assert_eq!(checks::can_do_without(&view, NodeId(1)), Ok(()));
    down(&mut view, 2);
    refused(checks::groups_can_change(&view), "group 2 has no leader");
    assert_eq!(view.electing(), Some(GroupId(2)), "a majority of it answers");
    // The others elect one of them.
    let Some(Ok(status)) = view.nodes.get_mut(&NodeId(3)) else { panic!("it answers") };
    status.hosted[2].set_role(Role::Leader);
    status.hosted[2].term = 4;
    assert_eq!(checks::groups_can_change(&view), Ok(()));
    assert_eq!(view.electing(), None);
    refused(checks::can_do_without(&view, NodeId(1)), "has only 1 of 3 voters without node 1");
    assert_eq!(checks::can_do_without(&view, NodeId(2)), Ok(()));
}

#[test]
fn copies_are_never_given_away() {
    let view = view(3, 2);
    let ids = |ids: &[u64]| ids.iter().map(|id| NodeId(*id)).collect();
    refused(checks::enough_nodes(&view, &ids(&[1, 2])), "the data has 3 copies, and 2 nodes");
    assert_eq!(checks::enough_nodes(&view, &ids(&[1, 2, 4])), Ok(()));
    refused(checks::enough_nodes(&self::view(1, 2), &ids(&[])), "1 copies, and 0 nodes");
}

#[test]
fn a_draining_node_stands_in_the_way_of_others() {
    let mut view = view(4, 2);
    view.cluster.nodes.get_mut(&NodeId(2)).expect("a node").state = NodeState::Draining;
    refused(checks::nobody_drains(&view, None), "ursula cluster undrain 2");
    assert_eq!(checks::nobody_drains(&view, Some(NodeId(2))), Ok(()));
    view.cluster.nodes.get_mut(&NodeId(2)).expect("a node").state = NodeState::Removed;
    assert_eq!(checks::nobody_drains(&view, None), Ok(()));
    assert!(checks::member(&view, NodeId(2)).is_err_and(|failure| failure.text.contains("it has nodes 1, 3, 4")));
}

#[test]
fn what_is_under_way_is_seen() {
    let mut view = view(4, 2);
    assert_eq!(change::all_in_place(&view), Ok(()));
    assert!(!checks::is_free(&view, NodeId(4)));
    let record = view.cluster.groups.get_mut(&GroupId(1)).expect("a group");
    record.replicas = [1, 2, 4].map(NodeId).to_vec();
    let missing = change::all_in_place(&view).expect_err("it is on its way");
    assert!(missing.starts_with("2 of 3 groups are in place; group 1: "), "{missing}");
    assert!(status::text(&view, Paint::new(Color::Never)).contains("its members change"));
}

#[test]
fn a_plan_is_moved_for_a_new_node() {
    let view = view(3, 4);
    let moved = change::moves(&view, &(1..=4).map(NodeId).collect());
    let new: usize = moved.values().flatten().filter(|node| **node == NodeId(4)).count();
    assert_eq!(new, 3);
    assert!(change::moves(&view, &(1..=3).map(NodeId).collect()).is_empty());
}

#[test]
fn status_is_shown() {
    let mut view = view(3, 2);
    down(&mut view, 3);
    let Some(Ok(first)) = view.nodes.get_mut(&NodeId(1)) else { panic!("it answers") };
    first.disk = Some(Disk { log_bytes: 192 << 20, free_bytes: 3 << 30, full: false });
    first.store_failing = Some(true);
    let progress = [(2, 1000), (3, 925)].map(|(node, matched)| Progress { node, matched, silent_ms: None });
    first.hosted[1].last = 1000;
    first.hosted[1].progress = progress.to_vec();
    first.hosted[1].unpacked_bytes = Some(1024);
    assert_eq!(
        status::text(&view, Paint::new(Color::Never)),
        "\
cluster 000000000000000000000000000000ab, version 7

node  address                     state     replicas  leads       log      free  version
1     node-1:4438                 active           3      2   192 MiB   3.0 GiB  0.1.0
2     node-2:4438                 active           3      1         -         -  0.1.0
3     node-3:4438                 active           3      0         -         -  does not answer: no answer

group  leader  term  replicas       behind  unpacked  under way
meta   1       3     1 2 3               0         -
1      1       3     1 2 3              75   1.0 KiB
2      2       3     2 1 3               0         -

node 1 cannot use the object store: the messages of the node say why
"
    );
    let value = status::value(&view);
    assert_eq!(value["nodes"][2]["unreachable"], "no answer");
    assert_eq!(value["groups"][1]["in_place"], true);
    assert_eq!((&value["groups"][1]["behind"], &value["nodes"][0]["store_failing"]), (&75.into(), &true.into()));
    let coloured = status::text(&view, Paint::new(Color::Always));
    assert!(coloured.contains("\x1b[31mdoes not answer: no answer\x1b[0m"), "{coloured}");
    assert_eq!(BTreeMap::from_iter(value["groups"][0].as_object().expect("an object").clone())["leader"], 1);
}

#[test]
fn codes_of_the_process() {
    use failure::End;
    let ends = [End::Unread, End::Refused, End::Late, End::Unknown, End::Interrupted];
    assert_eq!(ends.map(|end| Failure::of(end, "").exit_code()), [0, 1, 3, 4, 130]);
}

#[test]
fn sizes_are_short() {
    let sizes = [0, 1023, 1024, 1536, 200 << 20, 5 << 40].map(size);
    assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "200 MiB", "5.0 TiB"]);
}
