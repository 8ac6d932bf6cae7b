//! The replicas of a core: they are started and stopped while it runs.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, spawn_local};
use tracing::{error, info, warn};
use ursula_common::cluster::Cluster;
use ursula_common::{Error, GroupId, NodeId};

use super::{Core, Log};
use crate::cluster::{Lead, Leads, Progress, ReplicaCommand, ReplicaStatus, Role};
use crate::group::Group;
use crate::group::courier::Courier;
use crate::group::state::GroupState;
use crate::raft::{Replica, Status, Storage};

/// What is asked of the replica of a group, or for there to be one.
#[derive(Debug)]
pub(crate) enum HostingRequest {
    /// Start it, if it is not there.
    Host(oneshot::Sender<Result<(), Error>>),
    /// Stop it, and forget everything about the group.
    Forget(oneshot::Sender<Result<(), Error>>),
    /// How it stands; nothing if there is none.
    Status(oneshot::Sender<ReplicaStatus>),
    /// Change its group.
    Command(ReplicaCommand, oneshot::Sender<Result<(), Error>>),
}

/// What all cores of a node tell about their replicas. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Board {
    /// The cluster, as the meta group has it.
    pub(crate) cluster: watch::Sender<Option<Arc<Cluster>>>,
    /// Who leads the groups that are hosted here.
    pub(crate) leads: watch::Sender<Leads>,
    pub(crate) hosted: watch::Sender<BTreeSet<GroupId>>,
}

/// A replica that runs.
pub(super) struct Hosted {
    pub(super) group: Rc<Group>,
    pub(super) courier: Rc<Courier>,
    tasks: [AbortHandle; 2],
}

/// The replicas of a core.
#[derive(Default)]
pub(super) struct Replicas {
    pub(super) running: BTreeMap<GroupId, Hosted>,
    /// Those that are being started or stopped.
    busy: BTreeSet<GroupId>,
}

impl Board {
    pub(crate) fn new() -> Board {
        let (cluster, leads, hosted) =
            (watch::channel(None).0, watch::channel(Leads::new()).0, watch::channel(BTreeSet::new()).0);
        Board { cluster, leads, hosted }
    }

    /// A node that hosts the groups up to this one.
    #[cfg(test)]
    pub(crate) fn hosting(groups: u32) -> Board {
        let board = Board::new();
        board.hosted.send_replace((0..=groups).map(GroupId).collect());
        board
    }

    fn lead(&self, group: GroupId, lead: Lead) {
        self.leads.send_if_modified(|leads| leads.insert(group, lead) != Some(lead));
    }

    fn gone(&self, group: GroupId) {
        self.leads.send_if_modified(|leads| leads.remove(&group).is_some());
        self.hosted.send_if_modified(|hosted| hosted.remove(&group));
    }
}

impl Core {
    pub(super) fn serve_hosting(self: &Rc<Self>, group: GroupId, request: HostingRequest) {
        let core = self.clone();
        spawn_local(async move {
            match request {
                HostingRequest::Host(reply) => drop(reply.send(core.host(group).await.map_err(|error| {
                    error!(%group, %error, "a replica cannot be started");
                    Error::Unavailable
                }))),
                HostingRequest::Forget(reply) => drop(reply.send(core.forget(group).await.map_err(|error| {
                    error!(%group, %error, "a replica cannot be forgotten");
                    Error::Unavailable
                }))),
                HostingRequest::Status(reply) => {
                    if let Some(group) = core.group(group) {
                        drop(reply.send(status(&group)));
                    }
                }
                HostingRequest::Command(command, reply) => drop(reply.send(match core.group(group) {
                    Some(group) => obey(&group, command).await,
                    None => Err(Error::NOT_HERE),
                })),
            }
        });
    }

    /// The group, if it is hosted here.
    pub(super) fn group(&self, group: GroupId) -> Option<Rc<Group>> {
        self.replicas.borrow().running.get(&group).map(|hosted| hosted.group.clone())
    }

    /// All groups that are hosted here.
    pub(super) fn groups(&self) -> Vec<(Rc<Group>, Rc<Courier>)> {
        let replicas = self.replicas.borrow();
        replicas.running.values().map(|hosted| (hosted.group.clone(), hosted.courier.clone())).collect()
    }

    /// Starts the replica of a group, if it is not there.
    pub(super) async fn host(&self, id: GroupId) -> io::Result<()> {
        if self.group(id).is_some() {
            return Ok(());
        }
        let _busy = Busy::mark(&self.replicas, id)?;
        let hosted = self.start_replica(id).await?;
        self.replicas.borrow_mut().running.insert(id, hosted);
        self.board.hosted.send_if_modified(|hosted| hosted.insert(id));
        Ok(())
    }

    async fn start_replica(&self, id: GroupId) -> io::Result<Hosted> {
        let (mut state, storage) = match &self.log {
            None => (GroupState::in_memory(id, self.data_groups, self.hot.clone(), self.clock.now()), Storage::Memory),
            Some(Log { dir, journal, archive }) => {
                let found = self.found.borrow_mut().remove(&id);
                if found.is_none() {
                    // A process that ended while it forgot the group may have left the checkpoint.
                    let dir = dir.clone();
                    crate::runtime::blocking(move || dir.remove_checkpoint(id)).await?;
                }
                let (dir, journal, archive) = (dir.clone(), journal.clone(), archive.clone());
                let state = GroupState::on_disk(id, self.data_groups, self.hot.clone(), archive.clone());
                (state, Storage::Disk { dir, journal, archive, found: found.unwrap_or_default() })
            }
        };
        if id == GroupId::META {
            state.publish_to(self.board.cluster.clone());
        }
        let state = Rc::new(RefCell::new(state));
        let replica = Replica::start(id, state.clone(), storage, self.peers.clone()).await?;
        let dir = self.log.as_ref().map(|log| log.dir.clone());
        let group = Rc::new(Group::new(id, state, replica, dir, self.clock.clone(), self.metrics.clone()));
        let courier = Courier::new(group.clone(), self.directory.clone());
        let proposing = {
            let (group, courier) = (group.clone(), courier.clone());
            spawn_local(async move { group.run(|| courier.send_new()).await }).abort_handle()
        };
        let telling = spawn_local(tell_leads(group.clone(), self.board.clone())).abort_handle();
        Ok(Hosted { group, courier, tasks: [proposing, telling] })
    }

    /// Stops the replica of a group, if it is there, and forgets everything about it.
    async fn forget(&self, id: GroupId) -> io::Result<()> {
        let _busy = Busy::mark(&self.replicas, id)?;
        let Some(hosted) = self.replicas.borrow_mut().running.remove(&id) else { return Ok(()) };
        let Hosted { group, tasks, .. } = hosted;
        self.board.gone(id);
        group.replica.stop().await;
        group.close();
        tasks.iter().for_each(AbortHandle::abort);
        group.state.borrow_mut().clear();
        if let Some(Log { dir, journal, .. }) = &self.log {
            journal.forget_group(id);
            journal.sync().await?;
            let dir = dir.clone();
            crate::runtime::blocking(move || dir.remove_checkpoint(id)).await?;
        }
        info!(group = %id, "replica forgotten");
        Ok(())
    }

    /// Stops all replicas.
    pub(super) async fn stop(&self) {
        for (group, _) in self.groups() {
            group.replica.stop().await;
        }
    }
}

/// Marks a group while it is started or stopped, so that nobody else does it at the same time.
struct Busy<'a> {
    replicas: &'a RefCell<Replicas>,
    group: GroupId,
}

impl Busy<'_> {
    fn mark(replicas: &RefCell<Replicas>, group: GroupId) -> io::Result<Busy<'_>> {
        if replicas.borrow_mut().busy.insert(group) {
            return Ok(Busy { replicas, group });
        }
        Err(io::Error::other("it is being started or stopped already"))
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.replicas.borrow_mut().busy.remove(&self.group);
    }
}

/// Tells the board who leads, for as long as the replica runs.
async fn tell_leads(group: Rc<Group>, board: Board) {
    let mut known = group.replica.leader();
    let mut lead = Lead::default();
    loop {
        lead = match known {
            Some((node, term)) => Lead { term, leader: Some(node) },
            None => Lead { leader: None, ..lead },
        };
        board.lead(group.id, lead);
        match group.replica.leader_other_than(known).await {
            Ok(next) => known = next,
            Err(_) => return,
        }
    }
}

fn status(group: &Group) -> ReplicaStatus {
    let Status { leader, term, leads, last_log, applied, voters, learners, matched, .. } = group.replica.status();
    let (me, heard) = (group.replica.node(), group.replica.heard());
    let role = match leader {
        _ if leads => Role::Leader,
        _ if learners.contains(&me) => Role::Learner,
        Some(_) => Role::Follower,
        None => Role::Candidate,
    };
    let progress = |(node, matched): (NodeId, Option<u64>)| {
        (node, Progress { matched: matched.unwrap_or_default(), silent: heard.get(&node).copied() })
    };
    ReplicaStatus {
        group: group.id,
        role,
        lead: Lead { term, leader },
        last: last_log.unwrap_or_default(),
        applied: applied.unwrap_or_default(),
        pristine: voters.is_empty() && last_log.is_none() && term == 0,
        voters,
        learners,
        progress: matched.into_iter().filter(|_| leads).map(progress).collect(),
    }
}

async fn obey(group: &Group, command: ReplicaCommand) -> Result<(), Error> {
    let replica = &group.replica;
    let done = match &command {
        ReplicaCommand::Initialize(voters) => replica.initialize(voters.iter().copied()).await,
        ReplicaCommand::AddLearner(node) => replica.add_learner(*node).await,
        ReplicaCommand::ChangeVoters(voters) => replica.change_voters(voters).await,
        ReplicaCommand::RemoveLearners(nodes) => replica.remove_learners(nodes).await,
        ReplicaCommand::TransferLeader(node) => replica.transfer_leader(*node).await,
    };
    done.map_err(|error| {
        warn!(group = %group.id, %error, ?command, "the members of a group could not be changed");
        Error::ClusterRefused { reason: error.to_string().into() }
    })
}
