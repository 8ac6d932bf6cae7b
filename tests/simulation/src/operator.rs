//! What an operator does with a cluster: forms it, drains nodes, takes them in and out. One order after the other,
//! each as often as it takes.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use ursula_common::cluster::{Cluster, ClusterChange, ClusterOp, Form, NewNode, NodeState, Placement};
use ursula_common::placement::{SlotTable, plan::plan};
use ursula_common::{ClusterId, GroupId, NodeId};
use ursula_proto::admin::v1::{
    DescribeRequest, ForgetRequest, GroupStatus, JoinRequest, NodeStatus, Peer, Role, SetAsideRequest,
};
use ursula_proto::{AdminClient, admin_client, cluster_id_bytes};

use crate::{network, replicas};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Makes a cluster of the first nodes.
    Form {
        /// How many.
        nodes: u64,
        /// Groups that hold streams.
        groups: u32,
    },
    /// Makes others lead what a node leads, and then gives it back.
    Drain(u64),
    /// Takes a node in.
    Add(u64),
    /// Takes a node out.
    Remove(u64),
    /// Looks who leads.
    Look,
    /// Waits until every node hosts what it should, and has every byte of it.
    Inspect {
        /// But this one, whose files are damaged.
        except: Option<u64>,
    },
}

/// The desk of the operator. Orders can be put there at any time.
#[derive(Clone)]
pub(crate) struct Desk {
    orders: mpsc::UnboundedSender<Order>,
    /// Orders that are not done.
    open: Arc<AtomicUsize>,
    trouble: Trouble,
    /// See [`Desk::leader`].
    leader: Arc<AtomicU64>,
}

/// What is wrong at this moment; for messages.
type Trouble = Arc<Mutex<Option<String>>>;

impl Desk {
    /// The node that led most groups of streams when [`Order::Look`] was done last.
    pub(crate) fn leader(&self) -> Option<u64> {
        Some(self.leader.load(Ordering::Relaxed)).filter(|node| *node > 0)
    }

    pub(crate) fn order(&self, order: Order) {
        self.open.fetch_add(1, Ordering::Relaxed);
        let _ = self.orders.send(order);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }

    /// What keeps the operator from coming to an end, if that is known.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Looks again after so long.
const PAUSE: Duration = Duration::from_millis(200);
/// A call may take so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// Who does not answer within this time does not lead, as far as it matters.
const GLANCE: Duration = Duration::from_millis(50);
/// How long a node stays drained.
const DRAINED: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Operator {
    cluster: ClusterId,
    hosts: Vec<String>,
    orders: mpsc::UnboundedReceiver<Order>,
    open: Arc<AtomicUsize>,
    trouble: Trouble,
    leader: Arc<AtomicU64>,
}

impl Operator {
    /// `hosts` are those of node 1, node 2 and so on.
    pub(crate) fn new(seed: u64, hosts: Vec<String>) -> (Operator, Desk) {
        let (sender, orders) = mpsc::unbounded_channel();
        let (open, leader) = (Arc::<AtomicUsize>::default(), Arc::<AtomicU64>::default());
        let trouble = Trouble::default();
        let desk = Desk { orders: sender, open: open.clone(), trouble: trouble.clone(), leader: leader.clone() };
        (Operator { cluster: ClusterId(u128::from(seed) + 1), hosts, orders, open, trouble, leader }, desk)
    }

    pub(crate) async fn run(mut self) {
        while let Some(order) = self.orders.recv().await {
            match order {
                Order::Form { nodes, groups } => self.form(nodes, groups).await,
                Order::Drain(node) => self.drain(NodeId(node)).await,
                Order::Add(node) => self.add(node).await,
                Order::Look => self.look().await,
                Order::Remove(node) => self.remove(NodeId(node)).await,
                Order::Inspect { except } => self.inspect(except).await,
            }
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
        pending().await
    }

    fn address(&self, node: u64) -> String {
        network::address(&self.hosts[node as usize - 1])
    }

    fn client(&self, node: u64) -> AdminClient {
        admin_client(network::connect(&self.address(node)).expect("an address"))
    }

    async fn describe(&self, node: u64) -> Option<NodeStatus> {
        let answer = timeout(PATIENCE, self.client(node).describe(DescribeRequest {})).await;
        Some(answer.ok()?.ok()?.into_inner())
    }

    async fn describe_all(&self) -> Vec<NodeStatus> {
        self.describe_all_within(PATIENCE).await
    }

    /// Those nodes that answer within `patience`, at most [`PATIENCE`], each.
    async fn describe_all_within(&self, patience: Duration) -> Vec<NodeStatus> {
        let mut all = Vec::new();
        for node in 1..=self.hosts.len() as u64 {
            all.extend(timeout(patience, self.describe(node)).await.ok().flatten());
        }
        all
    }

    async fn look(&self) {
        let all = self.describe_all_within(GLANCE).await;
        let leads = |status: &&NodeStatus| {
            let leads = |group: &&GroupStatus| group.group > 0 && group.role() == Role::Leader;
            status.hosted.iter().filter(leads).count()
        };
        let leader = all.iter().filter(|status| leads(status) > 0).max_by_key(leads);
        self.leader.store(leader.map_or(0, |status| status.node), Ordering::Relaxed);
    }

    async fn known(&self, node: u64) -> NodeStatus {
        loop {
            if let Some(status) = self.describe(node).await {
                return status;
            }
            sleep(PAUSE).await;
        }
    }

    /// The cluster as the node knows it that knows the newest.
    fn newest(all: &[NodeStatus]) -> Option<Cluster> {
        let known = all.iter().filter_map(|status| status.known_cluster().ok().flatten());
        known.max_by_key(|cluster| cluster.version)
    }

    /// Proposes a change until the cluster is as it should be.
    async fn change(&self, change: ClusterChange, is_done: impl Fn(&Cluster) -> bool) {
        loop {
            let all = self.describe_all().await;
            if Self::newest(&all).is_some_and(|cluster| is_done(&cluster)) {
                return;
            }
            for status in &all {
                let op = ClusterOp { version: None, change: change.clone() };
                // Whether it was done is seen, however it was answered.
                let asked = timeout(PATIENCE, ursula_proto::propose(&mut self.client(status.node), op, false)).await;
                if matches!(asked, Ok(Ok(()))) {
                    break;
                }
            }
            self.tell(format!("{change:?} is not done"));
            sleep(PAUSE).await;
        }
    }

    async fn join(&self, status: &NodeStatus, voters: &[Peer], initialize: bool) {
        let request = JoinRequest {
            cluster: cluster_id_bytes(self.cluster),
            node: status.node,
            incarnation: status.incarnation,
            voters: voters.to_vec(),
            initialize,
        };
        while !matches!(timeout(PATIENCE, self.client(status.node).join(request.clone())).await, Ok(Ok(_))) {
            sleep(PAUSE).await;
        }
    }

    async fn form(&self, nodes: u64, groups: u32) {
        let (mut found, mut voters, mut new) = (Vec::new(), Vec::new(), Vec::new());
        for node in 1..=nodes {
            let (status, address) = (self.known(node).await, self.address(node));
            voters.push(Peer { node, address: address.clone(), incarnation: status.incarnation });
            new.push(NewNode { id: NodeId(node), address: address.into(), incarnation: status.incarnation });
            found.push(status);
        }
        for status in &found {
            self.join(status, &voters, status.node == 1).await;
        }
        let none: Placement = (0..=groups).map(|group| (GroupId(group), Vec::new())).collect();
        let placement = plan(&new.iter().map(|node| node.id).collect(), &none);
        let form = Form { cluster: self.cluster, nodes: new, slots: SlotTable::spread(groups), placement };
        self.change(ClusterChange::Form(form), |_| true).await;
        self.in_place().await;
    }

    async fn drain(&self, node: NodeId) {
        let set = |state| ClusterChange::SetNodeState { node, state };
        let is = |wanted| move |cluster: &Cluster| cluster.nodes.get(&node).is_none_or(|known| known.state == wanted);
        self.change(set(NodeState::Draining), is(NodeState::Draining)).await;
        sleep(DRAINED).await;
        self.change(set(NodeState::Active), is(NodeState::Active)).await;
    }

    async fn add(&self, node: u64) {
        let status = self.known(node).await;
        let cluster = loop {
            if let Some(cluster) = Self::newest(&self.describe_all().await) {
                break cluster;
            }
            sleep(PAUSE).await;
        };
        let meta = cluster.groups.get(&GroupId::META).map_or(&[][..], |record| &record.replicas);
        let peer = |node: &NodeId| {
            let known = cluster.nodes.get(node)?;
            Some(Peer { node: node.0, address: known.address.to_string(), incarnation: known.incarnation })
        };
        let voters: Vec<Peer> = meta.iter().filter_map(peer).collect();
        self.join(&status, &voters, false).await;
        let new = NewNode { id: NodeId(node), address: self.address(node).into(), incarnation: status.incarnation };
        self.change(ClusterChange::AddNode(new), |cluster| cluster.nodes.contains_key(&NodeId(node))).await;
        self.place(|_| true).await;
    }

    async fn remove(&self, node: NodeId) {
        let set = |state| ClusterChange::SetNodeState { node, state };
        let state = |cluster: &Cluster| cluster.nodes.get(&node).map(|known| known.state);
        self.change(set(NodeState::Draining), |cluster| state(cluster) != Some(NodeState::Active)).await;
        self.place(|member| member != node).await;
        self.change(set(NodeState::Removed), |cluster| state(cluster) == Some(NodeState::Removed)).await;
    }

    /// Places all groups on those members that are wanted, and waits until they are there.
    async fn place(&self, wanted: impl Fn(NodeId) -> bool) {
        loop {
            let Some(cluster) = Self::newest(&self.describe_all().await) else {
                sleep(PAUSE).await;
                continue;
            };
            let (now, nodes) = (cluster.placement(), cluster.members().filter(|node| wanted(*node)).collect());
            let moves: Placement =
                plan(&nodes, &now).into_iter().filter(|(group, replicas)| now.get(group) != Some(replicas)).collect();
            if moves.is_empty() {
                return self.in_place().await;
            }
            let version = cluster.version;
            self.change(ClusterChange::Place(moves), |cluster| cluster.version > version).await;
        }
    }

    async fn inspect(&self, except: Option<u64>) {
        loop {
            let all = self.describe_all().await;
            let hosts = |node: u64, group: GroupId| {
                let status = all.iter().find(|status| status.node == node);
                status.is_some_and(|status| status.hosted.iter().any(|hosted| hosted.group == group.0))
            };
            let whole = Self::newest(&all).is_some_and(|cluster| {
                let due = |node: &NodeId| Some(node.0) != except;
                is_in_place(&cluster, &all)
                    && (cluster.groups.iter()).all(|(id, record)| {
                        record.replicas.iter().filter(|node| due(node)).all(|node| hosts(node.0, *id))
                    })
            });
            if whole && self.is_same_everywhere(&all, except).await {
                return;
            }
            self.repair(&all).await;
            sleep(PAUSE).await;
        }
    }

    fn tell(&self, trouble: String) {
        tracing::info!(trouble, "the operator waits");
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
    }

    /// Whether all replicas of all groups have the same bytes; but see [`replicas::difference`].
    async fn is_same_everywhere(&self, all: &[NodeStatus], damaged: Option<u64>) -> bool {
        let Some(cluster) = Self::newest(all) else { return false };
        for (group, record) in cluster.groups.iter().filter(|(group, _)| **group != GroupId::META) {
            let addresses = record.replicas.iter().map(|node| (*node, self.address(node.0))).collect();
            if let Some(difference) = replicas::difference(*group, &addresses, damaged.map(NodeId)).await {
                self.tell(difference);
                return false;
            }
        }
        true
    }

    /// Lets nodes make those replicas anew that they refuse, as `ursula cluster repair` does; a step of each.
    async fn repair(&self, all: &[NodeStatus]) {
        let refusals = all.iter().flat_map(|status| status.refused.iter().map(|refused| (status.node, refused.group)));
        for (node, group) in refusals {
            let Some((leader, led)) = leader_of(all, group) else { continue };
            let request = SetAsideRequest { group, node };
            let aside = timeout(PATIENCE, self.client(leader).set_aside(request)).await;
            let is_member = match &led.voters[..] {
                [only] => only.nodes.contains(&node) || led.learners.contains(&node),
                _ => true,
            };
            if matches!(aside, Ok(Ok(_))) && !is_member {
                // What it says is seen at the next look.
                drop(timeout(PATIENCE, self.client(node).forget(ForgetRequest { group })).await);
            }
        }
    }

    /// Waits until every group has its voters where they should be, and a leader.
    async fn in_place(&self) {
        loop {
            let all = self.describe_all().await;
            if Self::newest(&all).is_some_and(|cluster| is_in_place(&cluster, &all)) {
                return;
            }
            self.tell("a group is not where it should be".to_owned());
            self.repair(&all).await;
            sleep(PAUSE).await;
        }
    }
}

/// Who leads a group now, and how it stands there.
fn leader_of(all: &[NodeStatus], group: u32) -> Option<(u64, &GroupStatus)> {
    let hosted = all.iter().flat_map(|status| status.hosted.iter().map(|hosted| (status.node, hosted)));
    let leads = hosted.filter(|(_, hosted)| hosted.group == group && hosted.role() == Role::Leader);
    leads.max_by_key(|(_, hosted)| hosted.term)
}

fn is_in_place(cluster: &Cluster, all: &[NodeStatus]) -> bool {
    cluster.groups.iter().all(|(id, record)| {
        let goal: BTreeSet<u64> = record.replicas.iter().map(|node| node.0).collect();
        leader_of(all, id.0).is_some_and(|(_, group)| match &group.voters[..] {
            [only] => only.nodes.iter().copied().collect::<BTreeSet<_>>() == goal,
            _ => false,
        })
    })
}
