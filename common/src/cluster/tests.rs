//! Cluster ids as text, and who hosts what.

use super::*;

#[test]
fn an_id_is_32_digits() {
    let id = ClusterId(0xabc);
    assert_eq!(id.to_string(), "00000000000000000000000000000abc");
    assert_eq!(id.to_string().parse(), Ok(id));
    for wrong in ["", "abc", "+0000000000000000000000000000abc", "g0000000000000000000000000000abc"] {
        assert!(wrong.parse::<ClusterId>().is_err(), "{wrong}");
    }
}

#[test]
fn every_member_hosts_the_meta_group() {
    let node = |state| NodeRecord { address: "h:1".into(), incarnation: 1, state };
    let group =
        |replicas: &[u64]| GroupRecord { replicas: replicas.iter().map(|id| NodeId(*id)).collect(), begun: true };
    let cluster = Cluster {
        id: ClusterId(1),
        version: 1,
        nodes: BTreeMap::from([
            (NodeId(1), node(NodeState::Active)),
            (NodeId(2), node(NodeState::Draining)),
            (NodeId(3), node(NodeState::Removed)),
        ]),
        slots: SlotTable::spread(1),
        groups: BTreeMap::from([(GroupId::META, group(&[1])), (GroupId(1), group(&[2]))]),
    };
    assert_eq!(cluster.learners(GroupId::META), BTreeSet::from([NodeId(2)]));
    assert_eq!(cluster.learners(GroupId(1)), BTreeSet::new());
    let hosts = |node| [0, 1].map(|group| cluster.hosts(NodeId(node), GroupId(group)));
    assert_eq!([hosts(1), hosts(2), hosts(3)], [[true, false], [true, true], [false, false]]);
    assert_eq!(cluster.groups_of(NodeId(2)).collect::<Vec<_>>(), [GroupId(1)]);
    assert_eq!((cluster.active().count(), cluster.members().count(), cluster.data_groups()), (1, 2, 1));
}
