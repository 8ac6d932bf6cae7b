//! The gRPC service for operators: says what the node is, claims it for a cluster, takes changes of the
//! cluster to the meta group.

use std::sync::Arc;

use tonic::{Request, Response, Status};
use ursula_common::cluster::ClusterOp;
use ursula_common::verb::{Op, Reply};
use ursula_common::{ClusterId, Error, GroupId, NodeId, wire};
use ursula_proto::admin::v1;
use ursula_proto::{PROTOCOL, PROTOCOL_MIN, cluster_id, cluster_id_bytes, to_status};
use ursula_stream_core::change_cluster;

use crate::cluster::{ClusterSide, Identity, Peer, Progress, ReplicaCommand, ReplicaStatus, Role, Task};
use crate::cold::Cold;
use crate::data_dir::DataDir;

/// The service of one node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AdminService {
    side: ClusterSide,
    /// What the node has of a disk and of the world outside, to tell how they are.
    dir: Option<DataDir>,
    cold: Option<Cold>,
}

impl AdminService {
    pub(crate) fn new(side: ClusterSide, dir: Option<DataDir>, cold: Option<Cold>) -> AdminService {
        AdminService { side, dir, cold }
    }

    /// How full the disk is; nothing if that cannot be found out.
    async fn disk(&self) -> Option<v1::Disk> {
        let dir = self.dir.clone()?;
        let space = dir.clone().blocking(move || dir.log().space()).await.ok()?;
        Some(v1::Disk { log_bytes: space.used, free_bytes: space.free, full: space.high_water })
    }
}

#[tonic::async_trait]
impl v1::admin_server::Admin for AdminService {
    async fn describe(&self, _: Request<v1::DescribeRequest>) -> Result<Response<v1::NodeStatus>, Status> {
        let hosting = self.side.hosting();
        let identity = hosting.identity();
        let mut hosted = Vec::new();
        for group in hosting.hosted() {
            if let Some(status) = hosting.status(group).await {
                hosted.push(group_status(status, self.side.task(group)));
            }
        }
        Ok(Response::new(v1::NodeStatus {
            node: identity.node.0,
            incarnation: identity.incarnation,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            protocol_min: PROTOCOL_MIN,
            groups: identity.groups,
            cluster: identity.cluster.map(cluster_id_bytes).unwrap_or_default(),
            state: self.side.cluster().map(|cluster| wire::cluster::encode(&cluster).into()).unwrap_or_default(),
            hosted,
            refused: hosting.refused().into_iter().map(refused_group).collect(),
            disk: self.disk().await,
            store_failing: self.cold.as_ref().map(Cold::is_failing),
        }))
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinReply>, Status> {
        let _one = self.side.joining().await;
        self.claim(request.into_inner()).await.map_err(to_status)?;
        Ok(Response::new(v1::JoinReply {}))
    }

    async fn propose(&self, request: Request<v1::ProposeRequest>) -> Result<Response<v1::ProposeReply>, Status> {
        let v1::ProposeRequest { op, dry_run } = request.into_inner();
        let Op::Cluster(op) = wire::decode_op(op).map_err(to_status)? else {
            return Err(to_status(Error::Malformed));
        };
        let outcome = if dry_run { self.try_out(*op) } else { self.side.hosting().propose(*op).await };
        Ok(Response::new(v1::ProposeReply { outcome: wire::reply::encode(&outcome).into() }))
    }

    async fn import(&self, request: Request<v1::ImportRequest>) -> Result<Response<v1::ImportReply>, Status> {
        let v1::ImportRequest { group, op } = request.into_inner();
        let op = match wire::decode_op(op).map_err(to_status)? {
            op @ (Op::BeginImport(_) | Op::Import(_) | Op::EndImport(_) | Op::CreateBucket(..)) => op,
            _ => return Err(to_status(Error::Malformed)),
        };
        let outcome = self.side.hosting().import(GroupId(group), op).await;
        Ok(Response::new(v1::ImportReply { outcome: wire::reply::encode(&outcome).into() }))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderReply>, Status> {
        let v1::TransferLeaderRequest { group, to } = request.into_inner();
        self.transfer(GroupId(group), NodeId(to)).await.map_err(to_status)?;
        Ok(Response::new(v1::TransferLeaderReply {}))
    }

    async fn set_aside(&self, request: Request<v1::SetAsideRequest>) -> Result<Response<v1::SetAsideReply>, Status> {
        let v1::SetAsideRequest { group, node } = request.into_inner();
        self.do_without(GroupId(group), NodeId(node)).await.map_err(to_status)?;
        Ok(Response::new(v1::SetAsideReply {}))
    }

    async fn forget(&self, request: Request<v1::ForgetRequest>) -> Result<Response<v1::ForgetReply>, Status> {
        let group = GroupId(request.into_inner().group);
        // Goes on if the asker leaves: a replica that answers nobody meanwhile must not stay so.
        let side = self.side.clone();
        let done = tokio::spawn(async move { side.begin_anew(group).await }).await;
        done.unwrap_or(Err(Error::Unavailable)).map_err(to_status)?;
        Ok(Response::new(v1::ForgetReply {}))
    }
}

impl AdminService {
    async fn claim(&self, request: v1::JoinRequest) -> Result<(), Error> {
        let hosting = self.side.hosting();
        let me = hosting.identity();
        let cluster = cluster_id(&request.cluster)?;
        check_meant(&me, &request, cluster)?;
        let peers: Vec<Peer> = request.voters.into_iter().map(peer).collect();
        let voters = peers.iter().map(|peer| peer.node).collect();
        let others: Vec<Peer> = peers.into_iter().filter(|peer| peer.node != me.node).collect();
        let disk = |error: std::io::Error| refused(format!("node {} cannot keep this: {error}", me.node));
        if hosting.cluster().borrow().is_none() {
            hosting.remember(others.clone()).await.map_err(disk)?;
            hosting.claim(cluster, false).await.map_err(disk)?;
            hosting.connect(&others);
        }
        hosting.host(GroupId::META).await?;
        let is_new = hosting.status(GroupId::META).await.is_some_and(|status| status.pristine);
        if request.initialize && is_new {
            hosting.command(GroupId::META, ReplicaCommand::Initialize(voters)).await?;
        }
        Ok(())
    }

    fn try_out(&self, op: ClusterOp) -> Result<Reply, Error> {
        let not_formed = || refused("the cluster is not formed yet: run `ursula cluster init` first".to_owned());
        let cluster: Arc<_> = self.side.cluster().ok_or_else(not_formed)?;
        change_cluster(&cluster, op).map(|_| Reply::Done)
    }

    /// How a group stands that is led here.
    async fn led(&self, group: GroupId) -> Result<ReplicaStatus, Error> {
        let status = self.side.hosting().status(group).await.ok_or(Error::NOT_HERE)?;
        if !status.leads() {
            return Err(Error::NotLeader { leader: status.lead.leader, term: status.lead.term });
        }
        Ok(status)
    }

    async fn do_without(&self, group: GroupId, node: NodeId) -> Result<(), Error> {
        let status = self.led(group).await?;
        if self.side.hosting().identity().node == node || status.members().len() < 2 {
            return Err(refused(format!("group {group} cannot do without node {node}, which leads it")));
        }
        self.side.set_aside(group, status.lead.term, node);
        Ok(())
    }

    async fn transfer(&self, group: GroupId, to: NodeId) -> Result<(), Error> {
        let hosting = self.side.hosting();
        let status = self.led(group).await?;
        if !status.voters.iter().all(|voters| voters.contains(&to)) {
            return Err(refused(format!("node {to} has no vote in group {group}: it cannot lead it")));
        }
        hosting.command(group, ReplicaCommand::TransferLeader(to)).await
    }
}

/// Nothing is claimed by mistake: not another node at this address, not one that has a cluster.
fn check_meant(me: &Identity, request: &v1::JoinRequest, cluster: ClusterId) -> Result<(), Error> {
    let Identity { node, incarnation, cluster: own, .. } = me;
    if request.node != node.0 || request.incarnation != *incarnation {
        return Err(refused(format!("this is node {node} with another data directory than was meant: look again")));
    }
    if let Some(own) = own.filter(|own| *own != cluster) {
        return Err(refused(format!(
            "node {node} belongs to cluster {own}: to take it into another one, start it with an empty data directory"
        )));
    }
    if request.voters.is_empty() || request.initialize && !request.voters.iter().any(|peer| peer.node == node.0) {
        return Err(refused(format!("node {node} is to make the meta group, but is none of its voters")));
    }
    Ok(())
}

fn refused(reason: String) -> Error {
    Error::ClusterRefused { reason: reason.into() }
}

fn refused_group((group, reason): (GroupId, Arc<str>)) -> v1::RefusedGroup {
    v1::RefusedGroup { group: group.0, reason: reason.as_ref().to_owned() }
}

fn peer(peer: v1::Peer) -> Peer {
    Peer { node: NodeId(peer.node), address: peer.address.into(), incarnation: peer.incarnation }
}

fn group_status(status: ReplicaStatus, task: Option<Task>) -> v1::GroupStatus {
    let role = match status.role {
        Role::Leader => v1::Role::Leader,
        Role::Follower => v1::Role::Follower,
        Role::Candidate => v1::Role::Candidate,
        Role::Learner => v1::Role::Learner,
    };
    let progress = |(node, progress): (NodeId, Progress)| v1::Progress {
        node: node.0,
        matched: progress.matched,
        silent_ms: progress.silent.map(|silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)),
    };
    let voters = |nodes: std::collections::BTreeSet<NodeId>| v1::Voters {
        nodes: nodes.into_iter().map(|node| node.0).collect(),
    };
    let (task, stuck) = task.map_or_else(Default::default, |task| (task.text, task.stuck));
    v1::GroupStatus {
        group: status.group.0,
        role: role.into(),
        term: status.lead.term,
        leader: status.lead.leader.map(|node| node.0),
        last: status.last,
        applied: status.applied,
        voters: status.voters.into_iter().map(voters).collect(),
        learners: status.learners.into_iter().map(|node| node.0).collect(),
        progress: status.progress.into_iter().map(progress).collect(),
        task,
        stuck,
        unpacked_bytes: status.unpacked_bytes,
    }
}
