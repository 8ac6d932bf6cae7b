//! Who is in a group and who leads it: what operators, the reconciler and gateways want to know and change.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::impls::EmptyNode;
use tokio::time::timeout;
use tracing::info;
use ursula_common::{Error, NodeId};

use super::config::TRANSFER_TIMEOUT;
use super::types::TypeConfig;
use super::{Replica, StateMachine};
use crate::cluster::Role;

/// How a replica stands at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    /// Who leads, as far as this replica knows.
    pub(crate) leader: Option<NodeId>,
    pub(crate) term: u64,
    pub(crate) role: Role,
    /// Whether it has never heard of its group: no entry, no vote, no snapshot.
    pub(crate) pristine: bool,
    pub(crate) last_log: Option<u64>,
    pub(crate) committed: Option<u64>,
    pub(crate) applied: Option<u64>,
    /// Sets of voters; two while they change.
    pub(crate) voters: Vec<BTreeSet<NodeId>>,
    pub(crate) learners: BTreeSet<NodeId>,
    /// The index of the entry that tells of these members.
    pub(crate) members_at: Option<u64>,
    /// How far the log of each member agrees with that of the leader; empty for others.
    pub(crate) matched: BTreeMap<NodeId, Option<u64>>,
    /// How long ago the question was sent that each other member answered last; empty for others than leaders.
    pub(crate) silent: BTreeMap<NodeId, Duration>,
}

impl Status {
    /// Whether it is this replica that leads.
    pub(crate) fn leads(&self) -> bool {
        self.role == Role::Leader
    }
}

impl<M: StateMachine> Replica<M> {
    /// Makes a group of these voters, of which this replica is one. The others have to be there, but need not
    /// know. Nothing happens if the group exists.
    ///
    /// # Errors
    /// If the voters are none, or this replica is not one of them.
    pub(crate) async fn initialize(&self, voters: impl IntoIterator<Item = NodeId>) -> io::Result<()> {
        if self.raft.is_initialized().await.map_err(io::Error::other)? {
            return Ok(());
        }
        let voters: BTreeMap<u64, EmptyNode> = voters.into_iter().map(|node| (node.0, EmptyNode {})).collect();
        let several = voters.len() > 1;
        self.raft.initialize(voters).await.map_err(io::Error::other)?;
        if several {
            // Nobody else stands yet, so there is no reason to wait.
            self.raft.trigger().elect(false).await.map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Who leads, and in which term, as far as this replica knows.
    pub(crate) fn leader(&self) -> Option<(NodeId, u64)> {
        let server = self.raft.server_metrics();
        let server = server.borrow_watched();
        server.current_leader.map(|node| (NodeId(node), server.vote.leader_id.term))
    }

    /// Waits until who leads is no longer `known`, and says who it is.
    ///
    /// # Errors
    /// If the replica has stopped.
    pub(crate) async fn leader_other_than(&self, known: Option<(NodeId, u64)>) -> io::Result<Option<(NodeId, u64)>> {
        let mut server = self.raft.server_metrics();
        loop {
            let leader = self.leader();
            if leader != known {
                return Ok(leader);
            }
            server.changed().await.map_err(|_| io::Error::other("the replica has stopped"))?;
        }
    }

    /// Adds a member that has no vote; it gets the log or a snapshot. Returns when the group knows.
    ///
    /// # Errors
    /// If this replica does not lead, or the members are being changed.
    pub(crate) async fn add_learner(&self, node: NodeId) -> Result<(), Error> {
        self.changed(self.raft.add_learner(node.0, EmptyNode {}, false).await)
    }

    /// Makes these the voters, by way of a joint majority. New ones must be learners that have caught up; those
    /// that lose their vote follow on as learners. Returns when it is done; a leader that is not among them
    /// leads on until it hands over.
    ///
    /// # Errors
    /// If this replica does not lead, a voter is no learner yet, or the members are being changed.
    pub(crate) async fn change_voters(&self, voters: &BTreeSet<NodeId>) -> Result<(), Error> {
        let voters: BTreeSet<u64> = voters.iter().map(|node| node.0).collect();
        self.changed(self.raft.change_membership(voters, true).await)
    }

    /// Drops learners from the group.
    ///
    /// # Errors
    /// If this replica does not lead, or the members are being changed.
    pub(crate) async fn remove_learners(&self, nodes: &BTreeSet<NodeId>) -> Result<(), Error> {
        let nodes: BTreeSet<u64> = nodes.iter().map(|node| node.0).collect();
        let change = openraft::ChangeMembers::RemoveNodes(nodes);
        self.changed(self.raft.change_membership(change, true).await)
    }

    /// What became of a change of members, for whoever wanted it and may want it again.
    fn changed<T>(&self, change: Result<T, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>) -> Result<(), Error> {
        match change {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Err(self.not_leader()),
            Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) | RaftError::Fatal(_)) => {
                Err(Error::OutcomeUnknown)
            }
            Err(refused) => {
                info!(reason = %refused, "members were not changed");
                Err(Error::Unavailable)
            }
        }
    }

    /// Hands the group over to another voter and waits until it leads. Proposals fail meanwhile.
    ///
    /// # Errors
    /// If it does not lead in time: then the voters elect whom they will.
    pub(crate) async fn transfer_leader(&self, to: NodeId) -> Result<(), Error> {
        if !self.leads() {
            return Err(self.not_leader());
        }
        self.raft.trigger().transfer_leader(to.0).await.map_err(|_| Error::Unavailable)?;
        let handed_over = async {
            let mut known = self.leader();
            while known.map(|(leader, _)| leader) != Some(to) {
                known = self.leader_other_than(known).await?;
            }
            io::Result::Ok(())
        };
        match timeout(TRANSFER_TIMEOUT, handed_over).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Error::Unavailable),
        }
    }

    /// How this replica stands.
    pub(crate) fn status(&self) -> Status {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let index = |id: &openraft::alias::LogIdOf<TypeConfig>| id.index;
        let nodes = |ids: &BTreeSet<u64>| ids.iter().copied().map(NodeId).collect();
        let matched = metrics.replication.iter().flatten();
        Status {
            leader: metrics.current_leader.map(NodeId),
            term: metrics.current_term,
            role: role(metrics.state),
            pristine: metrics.last_log_index.is_none() && metrics.snapshot.is_none() && metrics.current_term == 0,
            last_log: metrics.last_log_index,
            committed: metrics.local_committed.as_ref().map(index),
            applied: metrics.last_applied.as_ref().map(index),
            voters: membership.get_joint_config().iter().map(nodes).collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
            members_at: metrics.membership_config.log_id().as_ref().map(index),
            matched: matched.map(|(node, id)| (NodeId(*node), id.as_ref().map(index))).collect(),
            silent: self.acks.silent(metrics.vote.leader_id),
        }
    }

    /// Waits until the entry at `index` is applied here.
    ///
    /// # Errors
    /// If the replica has stopped.
    pub(crate) async fn wait_applied(&self, index: u64) -> io::Result<()> {
        let wait = self.raft.wait(None);
        wait.applied_index_at_least(Some(index), "applied").await.map(drop).map_err(io::Error::other)
    }
}

fn role(state: ServerState) -> Role {
    match state {
        ServerState::Leader => Role::Leader,
        ServerState::Candidate => Role::Candidate,
        ServerState::Follower => Role::Follower,
        ServerState::Learner | ServerState::Shutdown => Role::Learner,
    }
}
