//! Three nodes on loopback, with logs on disk: formed over the contract of operators, and work between groups
//! that different nodes lead.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::net::TcpListener;
use ursula_cold::store::Store;
use ursula_common::clock::SystemClock;
use ursula_common::cluster::{ClusterChange, ClusterOp, Form, NewNode, NodeState, Placement};
use ursula_common::placement::{SlotTable, plan::plan};
use ursula_common::verb::{Ack, Create, Op, Reply};
use ursula_common::{BucketName, ClusterId, Error, GroupId, NodeId, Offset, StreamKey};
use ursula_proto::admin::v1::{DescribeRequest, JoinRequest, NodeStatus, Peer};
use ursula_proto::{AdminClient, NodeClient, admin_client, cluster_id_bytes, node_client, v1};
use ursula_storage_node::{Formation, Node, NodeConfig, Platform, serve};

use super::world::{Lane, OpResult, TEXT, append, appended, create, created, eventually, fork, metric, within};

const GROUPS: u32 = 3;
const ID: ClusterId = ClusterId(0xc1);

struct Member {
    node: Node,
    address: String,
    lane: Option<Lane>,
    _dir: TempDir,
}

pub(crate) struct Cluster {
    members: BTreeMap<u64, Member>,
    slots: SlotTable,
    calls: u64,
}

impl Member {
    async fn start(id: u64, store: Option<Arc<dyn Store>>) -> Member {
        let dir = TempDir::new().expect("a directory");
        let config = NodeConfig {
            node_id: id,
            data_dir: Some(dir.path().to_owned()),
            disk_reserve_bytes: 0,
            cores: 1,
            groups: GROUPS,
            ..NodeConfig::default()
        };
        let platform = Platform { store, ..Platform::system(Arc::new(SystemClock)) };
        let node = within(Node::start_on(&config, Formation::Member, platform)).await.expect("a node");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let operations = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(serve(node.clone(), listener, operations, std::future::pending()));
        Member { node, address, lane: None, _dir: dir }
    }

    fn admin(&self) -> AdminClient {
        admin_client(ursula_proto::remote(&self.address).expect("an address"))
    }

    fn client(&self) -> NodeClient {
        node_client(ursula_proto::remote(&self.address).expect("an address"))
    }

    async fn status(&self) -> NodeStatus {
        within(self.admin().describe(DescribeRequest {})).await.expect("an answer").into_inner()
    }
}

impl Cluster {
    /// All with the same store, if there is one.
    pub(crate) async fn three(store: Option<Arc<dyn Store>>) -> Cluster {
        let mut members = BTreeMap::new();
        let (mut voters, mut nodes) = (Vec::new(), Vec::new());
        for id in 1..=3 {
            let member = Member::start(id, store.clone()).await;
            let incarnation = member.status().await.incarnation;
            voters.push(Peer { node: id, address: member.address.clone(), incarnation });
            nodes.push(NewNode { id: NodeId(id), address: member.address.as_str().into(), incarnation });
            members.insert(id, member);
        }
        for voter in &voters {
            let request = JoinRequest {
                cluster: cluster_id_bytes(ID),
                node: voter.node,
                incarnation: voter.incarnation,
                voters: voters.clone(),
                initialize: voter.node == 1,
            };
            within(members[&voter.node].admin().join(request)).await.expect("it joins");
        }
        let new: Placement = (0..=GROUPS).map(|group| (GroupId(group), Vec::new())).collect();
        let placement = plan(&nodes.iter().map(|node| node.id).collect(), &new);
        let form = Form { cluster: ID, nodes, slots: SlotTable::spread(GROUPS), placement };
        let cluster = Cluster { members, slots: SlotTable::spread(GROUPS), calls: 0 };
        cluster.change(ClusterChange::Form(form)).await;
        eventually("all groups have leaders", async || {
            let topology = cluster.topology().await;
            topology.is_some_and(|topology| topology.groups.iter().all(|group| group.leader.is_some()))
        })
        .await;
        cluster
    }

    /// Changes the cluster at whichever node leads the meta group.
    pub(crate) async fn change(&self, change: ClusterChange) {
        let op = ClusterOp { version: None, change };
        eventually("a leader of the meta group takes the change", async || {
            for member in self.members.values() {
                match ursula_proto::propose(&mut member.admin(), op.clone(), false).await {
                    Ok(()) => return true,
                    Err(Error::NotLeader { .. } | Error::Unavailable | Error::OutcomeUnknown) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            false
        })
        .await;
    }

    /// What some node tells gateways.
    async fn topology(&self) -> Option<v1::Topology> {
        for member in self.members.values() {
            let request = v1::WatchTopologyRequest { have_version: 0 };
            if let Ok(news) = within(member.client().watch_topology(request)).await {
                return within(news.into_inner().message()).await.ok().flatten();
            }
        }
        None
    }

    pub(crate) async fn leader(&self, group: GroupId) -> Option<u64> {
        self.topology().await?.groups.into_iter().find(|known| known.id == group.0)?.leader
    }

    pub(crate) fn client(&self, node: u64) -> NodeClient {
        self.members[&node].client()
    }

    pub(crate) fn metric(&self, node: u64, name: &str) -> f64 {
        metric(&self.members[&node].node, name)
    }

    /// Who leads a group, once somebody does.
    pub(crate) async fn led_by(&self, group: GroupId) -> u64 {
        let mut leader = None;
        eventually("a leader", async || {
            leader = self.leader(group).await;
            leader.is_some()
        })
        .await;
        leader.expect("it was found")
    }

    fn group(&self, op: &Op) -> GroupId {
        match op {
            Op::Create(create) => self.slots.group_of(&create.key),
            Op::Append(append) => self.slots.group_of(&append.key),
            Op::Delete(key) => self.slots.group_of(key),
            _ => GroupId::META,
        }
    }

    /// Carries out an op once, at the leader of its group.
    pub(crate) async fn submit(&mut self, op: Op) -> OpResult {
        let group = self.group(&op);
        loop {
            self.calls += 1;
            let leader = self.led_by(group).await;
            let Some(member) = self.members.get_mut(&leader) else { continue };
            if member.lane.is_none() {
                member.lane = Some(Lane::open(&member.client(), 1000 * u64::from(group.0) + leader).await);
            }
            let lane = member.lane.as_mut().expect("it was opened");
            match lane.ask(self.calls, group, &op).await {
                Err(Error::NotLeader { .. }) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                result => return result,
            }
        }
    }

    /// A name in a bucket that lies in `group`.
    pub(crate) fn key_in(&self, bucket: &str, group: u32, name: &str) -> StreamKey {
        let mut names = (0..).map(|i| StreamKey::parse(bucket, &format!("{name}-{i}")).expect("a name"));
        names.find(|key| self.slots.group_of(key) == GroupId(group)).expect("names enough")
    }

    pub(crate) async fn stop(self) {
        for member in self.members.into_values() {
            within(member.node.stop()).await.expect("it stops");
        }
    }
}

fn bucket() -> BucketName {
    BucketName::parse("elsewhere").expect("a name")
}

#[tokio::test(flavor = "multi_thread")]
async fn work_between_groups_reaches_leaders_on_other_nodes() {
    let mut cluster = Cluster::three(None).await;
    let leaders =
        [cluster.leader(GroupId(1)).await, cluster.leader(GroupId(2)).await, cluster.leader(GroupId(3)).await];
    assert!(leaders[0] != leaders[1] && leaders[1] != leaders[2], "the test needs different leaders: {leaders:?}");

    // The meta group tells all groups of a bucket.
    assert_eq!(cluster.submit(Op::CreateBucket(bucket(), Ack::Quorum)).await, Ok(Reply::Bucket(true)));
    let [source, middle, last] = [1, 2, 3].map(|group| cluster.key_in("elsewhere", group, "s"));
    created(cluster.submit(create(&source, TEXT)).await);
    appended(cluster.submit(append(&source, TEXT, Bytes::from_static(b"0123456789"))).await);

    // A fork takes a reference on its source, where the leader of that finds the place.
    let made = created(cluster.submit(fork(&middle, &source, Some(0), 6)).await);
    assert_eq!(made.tail, Offset(6));
    // The record that this one is cut in lies two groups away.
    let made = created(cluster.submit(fork(&last, &middle, Some(0), 4)).await);
    assert_eq!(made.tail, Offset(4));
    let wrong = cluster.submit(fork(&cluster.key_in("elsewhere", 3, "wrong"), &middle, Some(0), 7)).await;
    assert_eq!(wrong, Err(Error::ForkSubOffsetInvalid));
    let nowhere = cluster.key_in("elsewhere", 1, "nowhere");
    let wrong = cluster.submit(fork(&cluster.key_in("elsewhere", 3, "wrong"), &nowhere, None, 0)).await;
    assert_eq!(wrong, Err(Error::ForkSourceNotFound));

    // References are given back, and the bucket goes everywhere.
    assert_eq!(cluster.submit(Op::DeleteBucket(bucket())).await, Err(Error::BucketNotEmpty));
    for key in [&last, &middle, &source] {
        assert_eq!(cluster.submit(Op::Delete(key.clone())).await, Ok(Reply::Done));
    }
    let mut deleted = cluster.submit(Op::DeleteBucket(bucket())).await;
    while deleted == Err(Error::BucketNotEmpty) {
        // The reference of a fork is on its way back.
        deleted = cluster.submit(Op::DeleteBucket(bucket())).await;
    }
    assert_eq!(deleted, Ok(Reply::Done));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_carries_on_what_the_old_one_began() {
    let mut cluster = Cluster::three(None).await;
    let source = cluster.key_in("default", 1, "s");
    let Op::Create(plain) = create(&source, TEXT) else { unreachable!() };
    let body = Bytes::from_static(b"0123456789");
    created(cluster.submit(Op::Create(Create { body, ..plain })).await);
    let forked = cluster.key_in("default", 2, "f");
    created(cluster.submit(fork(&forked, &source, Some(0), 3)).await);

    // The group of the source is led by another node from now on; forks still find it.
    let before = cluster.leader(GroupId(1)).await.expect("a leader");
    cluster.change(ClusterChange::SetNodeState { node: NodeId(before), state: NodeState::Draining }).await;
    eventually("another node leads", async || cluster.leader(GroupId(1)).await.is_some_and(|leader| leader != before))
        .await;
    let again = cluster.key_in("default", 3, "f");
    assert_eq!(created(cluster.submit(fork(&again, &source, Some(0), 5)).await).tail, Offset(5));

    // The source ends when its last fork does: the new leaders have taken the references over.
    assert_eq!(cluster.submit(Op::Delete(source.clone())).await, Ok(Reply::Done));
    let kept = Err(Error::StreamExists { tail: Offset(10), closed: false });
    assert_eq!(cluster.submit(create(&source, TEXT)).await, kept);
    for key in [&forked, &again] {
        assert_eq!(cluster.submit(Op::Delete(key.clone())).await, Ok(Reply::Done));
    }
    loop {
        match cluster.submit(create(&source, TEXT)).await {
            result if result == kept => {}
            result => break assert!(created(result).new),
        }
    }
    cluster.stop().await;
}
