//! Nodes whose engine only pretends: groups have members, leaders and a length, and everything that is said
//! to a leader has happened a moment later. The meta group is the real state machine.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};
use ursula_common::cluster::{Cluster, ClusterOp};
use ursula_common::verb::{Op, OpResult};
use ursula_common::{ClusterId, Error, GroupId, Millis, NodeId};
use ursula_proto::{AdminClient, NodeChannel, admin_client, admin_server, node_server, v1};
use ursula_stream_core::{Answer, Command, State};

use crate::admin::AdminService;
use crate::cluster::{
    ClusterSide, Hosting, Identity, Lead, Leads, Peer, Progress, Refusals, ReplicaCommand, ReplicaStatus, Role,
    topology,
};
use crate::data_dir::{Forgotten, Standing};

pub(super) const GROUPS: u32 = 4;
const ENTRIES: u64 = 1000;

/// All nodes and groups. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct World(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    nodes: BTreeMap<NodeId, Member>,
    groups: BTreeMap<GroupId, Group>,
    meta: Option<State>,
}

/// What is on the disk of a node, and whether it runs.
struct Member {
    identity: Identity,
    peers: Vec<Peer>,
    connected: BTreeSet<NodeId>,
    hosted: BTreeSet<GroupId>,
    held: BTreeSet<GroupId>,
    refused: Refusals,
    standing: Standing,
    asked_to_host: u32,
    up: bool,
    side: Option<ClusterSide>,
    cluster: watch::Sender<Option<Arc<Cluster>>>,
    leads: watch::Sender<Leads>,
}

#[derive(Default)]
struct Group {
    voters: BTreeSet<NodeId>,
    learners: BTreeSet<NodeId>,
    lead: Lead,
    /// Entries that each node has.
    has: BTreeMap<NodeId, u64>,
    /// Times it was made.
    made: u32,
}

impl World {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a node with an empty directory.
    pub(super) fn start(&self, id: u64) {
        let node = NodeId(id);
        let identity = Identity { node, incarnation: 1000 + id, groups: GROUPS, cluster: None };
        let member = Member {
            identity,
            peers: Vec::new(),
            connected: BTreeSet::new(),
            hosted: BTreeSet::new(),
            held: BTreeSet::new(),
            refused: Refusals::new(),
            standing: Standing::Unclaimed,
            asked_to_host: 0,
            up: false,
            side: None,
            cluster: watch::channel(None).0,
            leads: watch::channel(Leads::new()).0,
        };
        self.lock().nodes.insert(node, member);
        self.restart(id);
    }

    /// Starts a process on the directory of the last one.
    pub(super) fn restart(&self, id: u64) {
        let node = NodeId(id);
        {
            let mut inner = self.lock();
            let member = inner.nodes.get_mut(&node).expect("a node");
            member.up = true;
            member.cluster = watch::channel(None).0;
            member.leads = watch::channel(Leads::new()).0;
        }
        let side = ClusterSide::start(Arc::new(Engine { world: self.clone(), node }));
        self.lock().nodes.get_mut(&node).expect("a node").side = Some(side);
    }

    pub(super) fn kill(&self, id: u64) {
        let mut inner = self.lock();
        let member = inner.nodes.get_mut(&NodeId(id)).expect("a node");
        member.up = false;
        member.side.take().expect("it ran").stop();
    }

    /// Lets everything happen that happens by itself in so many seconds.
    pub(super) async fn pass(&self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.lock().tick();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(super) fn admin(&self, id: u64) -> AdminClient {
        admin_client(self.channel(NodeId(id)).expect("it is up"))
    }

    pub(super) fn side(&self, id: u64) -> ClusterSide {
        self.lock().nodes[&NodeId(id)].side.clone().expect("it is up")
    }

    fn channel(&self, node: NodeId) -> Option<NodeChannel> {
        let side = self.lock().nodes.get(&node).filter(|member| member.up)?.side.clone()?;
        let routes = tonic::service::Routes::new(admin_server(AdminService::new(side.clone(), None, None)));
        Some(ursula_proto::local(routes.add_service(node_server(TopologyOnly(side)))))
    }

    /// Voters, leader and learners of a group.
    pub(super) fn group(&self, group: u32) -> (Vec<u64>, Option<u64>, Vec<u64>) {
        let inner = self.lock();
        let group = &inner.groups[&GroupId(group)];
        let ids = |set: &BTreeSet<NodeId>| set.iter().map(|id| id.0).collect();
        (ids(&group.voters), group.lead.leader.map(|id| id.0), ids(&group.learners))
    }

    pub(super) fn term(&self, group: u32) -> u64 {
        self.lock().groups[&GroupId(group)].lead.term
    }

    pub(super) fn hosted(&self, id: u64) -> Vec<u32> {
        self.lock().nodes[&NodeId(id)].hosted.iter().map(|group| group.0).collect()
    }

    /// From now on the replica of a group on a node cannot be started.
    pub(super) fn damage(&self, id: u64, group: u32) {
        let mut inner = self.lock();
        let member = inner.nodes.get_mut(&NodeId(id)).expect("a node");
        member.hosted.remove(&GroupId(group));
        member.refused.insert(GroupId(group), "it is damaged".into());
        member.asked_to_host = 0;
    }

    /// From now on the replica of a group on a node cannot read all that it had.
    pub(super) fn lose(&self, id: u64, group: u32) {
        let mut inner = self.lock();
        let member = inner.nodes.get_mut(&NodeId(id)).expect("a node");
        member.refused.insert(GroupId(group), "it has lost something".into());
    }

    /// How often a node was asked to start a replica.
    pub(super) fn asked_to_host(&self, id: u64) -> u32 {
        self.lock().nodes[&NodeId(id)].asked_to_host
    }

    pub(super) fn made(&self) -> BTreeMap<u32, u32> {
        self.lock().groups.iter().map(|(id, group)| (id.0, group.made)).collect()
    }

    pub(super) fn cluster(&self) -> Cluster {
        let inner = self.lock();
        Cluster::clone(inner.meta.as_ref().and_then(State::cluster).expect("it was formed"))
    }

    /// Proposes where the meta group is led.
    pub(super) async fn propose(&self, change: ursula_common::cluster::ClusterChange) -> Result<(), Error> {
        let leader = self.group(0).1.expect("it has a leader");
        ursula_proto::propose(&mut self.admin(leader), ClusterOp { version: None, change }, false).await
    }
}

impl Inner {
    /// Replication, elections, and what the nodes see of them.
    fn tick(&mut self) {
        let Inner { nodes, groups, meta } = self;
        for (id, group) in groups.iter_mut() {
            let runs = |node: &NodeId| nodes.get(node).is_some_and(|member| member.up && member.hosted.contains(id));
            let running = group.voters.iter().filter(|node| runs(node)).count();
            let has_majority = running > group.voters.len() / 2;
            if !group.lead.leader.is_some_and(|node| runs(&node) && group.voters.contains(&node)) {
                group.lead.leader = None;
            }
            if has_majority && group.lead.leader.is_none() {
                let next = group.voters.iter().find(|node| runs(node) && group.has.contains_key(node));
                group.lead = Lead { term: group.lead.term + 1, leader: next.copied() };
            }
            if has_majority {
                for node in group.voters.iter().chain(&group.learners).filter(|node| runs(node)) {
                    let has = group.has.entry(*node).or_default();
                    *has = (*has + ENTRIES / 5).min(ENTRIES);
                }
            }
        }
        let known = meta.as_ref().and_then(State::cluster);
        for (node, member) in nodes.iter_mut().filter(|(_, member)| member.up) {
            let of = |group: &Group| group.voters.contains(node) || group.learners.contains(node);
            let hosted = || groups.iter().filter(|(id, _)| member.hosted.contains(id));
            let leads: Leads = hosted().filter(|(_, group)| of(group)).map(|(id, group)| (*id, group.lead)).collect();
            member.leads.send_if_modified(|old| std::mem::replace(old, leads.clone()) != leads);
            let meta = groups.get(&GroupId::META).filter(|group| of(group) && member.hosted.contains(&GroupId::META));
            if let (Some(known), Some(_)) = (known, meta) {
                let old = member.cluster.borrow().as_ref().map_or(0, |cluster| cluster.version);
                if old != known.version {
                    member.cluster.send_replace(Some(known.clone()));
                }
            }
        }
    }

    fn led(&mut self, group: GroupId, node: NodeId) -> Result<&mut Group, Error> {
        let group = self.groups.entry(group).or_default();
        if group.lead.leader == Some(node) {
            return Ok(group);
        }
        Err(Error::NotLeader { leader: group.lead.leader, term: group.lead.term })
    }
}

struct Engine {
    world: World,
    node: NodeId,
}

impl Engine {
    fn with<T>(&self, use_it: impl FnOnce(&mut Member) -> T) -> T {
        use_it(self.world.lock().nodes.get_mut(&self.node).expect("a node"))
    }
}

#[tonic::async_trait]
impl Hosting for Engine {
    fn identity(&self) -> Identity {
        self.with(|member| member.identity.clone())
    }

    async fn claim(&self, cluster: ClusterId, _: bool) -> io::Result<()> {
        self.with(|member| member.identity.cluster = Some(cluster));
        Ok(())
    }

    async fn stand(&self, standing: Standing) -> io::Result<()> {
        self.with(|member| member.standing = standing);
        Ok(())
    }

    fn remembered(&self) -> Vec<Peer> {
        self.with(|member| member.peers.clone())
    }

    async fn remember(&self, peers: Vec<Peer>) -> io::Result<()> {
        self.with(|member| member.peers = peers);
        Ok(())
    }

    fn connect(&self, peers: &[Peer]) {
        self.with(|member| member.connected = peers.iter().map(|peer| peer.node).collect());
    }

    fn channel(&self, node: NodeId) -> Option<NodeChannel> {
        let connected = self.with(|member| member.connected.contains(&node));
        self.world.channel(node).filter(|_| connected || node == self.node)
    }

    fn cluster(&self) -> watch::Receiver<Option<Arc<Cluster>>> {
        self.with(|member| member.cluster.subscribe())
    }

    fn leads(&self) -> watch::Receiver<Leads> {
        self.with(|member| member.leads.subscribe())
    }

    fn stored(&self) -> BTreeSet<GroupId> {
        self.hosted()
    }

    fn refused(&self) -> Refusals {
        self.with(|member| member.refused.clone())
    }

    async fn host(&self, group: GroupId) -> Result<(), Error> {
        self.with(|member| {
            member.asked_to_host += 1;
            if let Some(reason) = member.refused.get(&group).cloned() {
                return Err(Error::ClusterRefused { reason });
            }
            member.hosted.insert(group);
            Ok(())
        })
    }

    async fn hold(&self, group: GroupId, held: bool) -> Result<(), Error> {
        self.with(|member| if held { member.held.insert(group) } else { member.held.remove(&group) });
        Ok(())
    }

    async fn forget(&self, forgotten: Forgotten) -> Result<(), Error> {
        let group = GroupId(forgotten.group);
        assert!(self.with(|member| member.held.remove(&group)), "it may have acknowledged something meanwhile");
        self.with(|member| member.hosted.remove(&group));
        let mut inner = self.world.lock();
        let forgotten = inner.groups.entry(group).or_default();
        assert!(!forgotten.voters.contains(&self.node), "a voter must not forget");
        forgotten.has.remove(&self.node);
        Ok(())
    }

    fn hosted(&self) -> BTreeSet<GroupId> {
        self.with(|member| member.hosted.clone())
    }

    async fn status(&self, id: GroupId) -> Option<ReplicaStatus> {
        let mut inner = self.world.lock();
        let Inner { nodes, groups, .. } = &mut *inner;
        if !nodes[&self.node].hosted.contains(&id) {
            return None;
        }
        let group = groups.entry(id).or_default();
        let progress = |node: &NodeId| {
            let silent = nodes[node].up && nodes[node].hosted.contains(&id);
            let matched = group.has.get(node).copied().unwrap_or_default();
            (*node, Progress { matched, silent: silent.then_some(Duration::from_millis(100)) })
        };
        let leads = group.lead.leader == Some(self.node);
        let others = group.voters.iter().chain(&group.learners).filter(|_| leads);
        let member = group.voters.contains(&self.node) || group.learners.contains(&self.node);
        Some(ReplicaStatus {
            group: id,
            role: if leads { Role::Leader } else { Role::Follower },
            lead: group.lead,
            last: ENTRIES,
            applied: ENTRIES,
            voters: if member { vec![group.voters.clone()] } else { Vec::new() },
            learners: group.learners.clone(),
            progress: others.map(progress).collect(),
            pristine: !group.has.contains_key(&self.node),
            unpacked_bytes: None,
        })
    }

    async fn command(&self, id: GroupId, command: ReplicaCommand) -> Result<(), Error> {
        tokio::time::sleep(Duration::from_millis(30)).await;
        let mut inner = self.world.lock();
        if let ReplicaCommand::Initialize(voters) = command {
            let group = inner.groups.entry(id).or_default();
            group.made += 1;
            group.has.insert(self.node, 1);
            group.voters = voters;
            return Ok(());
        }
        let group = inner.led(id, self.node)?;
        match command {
            ReplicaCommand::Initialize(_) => panic!("done above"),
            ReplicaCommand::AddLearner(node) => drop(group.learners.insert(node)),
            ReplicaCommand::ChangeVoters(voters) => {
                let lost: Vec<NodeId> = group.voters.difference(&voters).copied().collect();
                group.learners.extend(lost);
                group.learners.retain(|node| !voters.contains(node));
                group.voters = voters;
            }
            ReplicaCommand::RemoveLearners(nodes) => group.learners.retain(|node| !nodes.contains(node)),
            ReplicaCommand::TransferLeader(node) => {
                assert!(group.voters.contains(&node));
                group.lead = Lead { term: group.lead.term + 1, leader: Some(node) };
            }
        }
        Ok(())
    }

    async fn import(&self, _: GroupId, _: Op) -> OpResult {
        Err(Error::NOT_HERE)
    }

    async fn propose(&self, op: ClusterOp) -> OpResult {
        let mut inner = self.world.lock();
        inner.led(GroupId::META, self.node)?;
        let meta = inner.meta.get_or_insert_with(|| State::new(GroupId::META, GROUPS));
        let command = Command { at: Millis(1), origin: None, op: Op::Cluster(Box::new(op)) };
        let Answer::Done(outcome) = meta.apply(command, &mut Vec::new()) else { panic!("decided at once") };
        inner.tick();
        outcome
    }
}

/// Serves the topology and nothing else.
#[derive(Clone)]
struct TopologyOnly(ClusterSide);

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn no<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("only the topology"))
}

#[tonic::async_trait]
impl v1::node_server::Node for TopologyOnly {
    type LaneStream = Messages<v1::ReplyBatch>;
    type ReadStream = Messages<v1::ReadChunk>;
    type TailStream = Messages<v1::TailEvent>;
    type WatchTopologyStream = Messages<v1::Topology>;

    async fn lane(&self, _: Request<Streaming<v1::OpBatch>>) -> Result<Response<Self::LaneStream>, Status> {
        no()
    }

    async fn describe(&self, _: Request<v1::DescribeRequest>) -> Result<Response<v1::StreamInfo>, Status> {
        no()
    }

    async fn read(&self, _: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        no()
    }

    async fn tail(&self, _: Request<v1::TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        no()
    }

    async fn list(&self, _: Request<v1::ListRequest>) -> Result<Response<v1::ListReply>, Status> {
        no()
    }

    async fn describe_bucket(
        &self,
        _: Request<v1::DescribeBucketRequest>,
    ) -> Result<Response<v1::DescribeBucketReply>, Status> {
        no()
    }

    async fn watch_topology(
        &self,
        _: Request<v1::WatchTopologyRequest>,
    ) -> Result<Response<Self::WatchTopologyStream>, Status> {
        let topologies = topology::watch(&self.0).map_err(ursula_proto::to_status)?;
        Ok(Response::new(topologies.map(Ok).boxed()))
    }
}
