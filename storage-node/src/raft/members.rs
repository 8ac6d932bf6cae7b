//! Who is in a group and who leads it: what operators, the reconciler and gateways want to know and change.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::impls::EmptyNode;
use openraft::{Instant, ServerState};
use tokio::time::timeout;
use ursula_common::NodeId;

use super::config::TRANSFER_TIMEOUT;
use super::{Replica, StateMachine};
use crate::cluster::{Lead, Role};
use crate::metrics::Standing;

/// How a replica stands at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    /// Who leads, as far as this replica knows.
    pub(crate) leader: Option<NodeId>,
    pub(crate) term: u64,
    pub(crate) role: Role,
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
    /// How long ago each member answered the leader; empty for others.
    pub(crate) silent: BTreeMap<NodeId, Duration>,
}

fn role(state: ServerState) -> Role {
    match state {
        ServerState::Leader => Role::Leader,
        ServerState::Candidate => Role::Candidate,
        ServerState::Learner => Role::Learner,
        ServerState::Follower | ServerState::Shutdown => Role::Follower,
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
    pub(crate) fn lead(&self) -> Lead {
        let server = self.raft.server_metrics();
        let server = server.borrow_watched();
        Lead { term: server.vote.leader_id.term, leader: server.current_leader.map(NodeId) }
    }

    /// Whether this replica leads, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.raft.server_metrics().borrow_watched().state == ServerState::Leader
    }

    /// The term in which this replica leads, once it has applied an entry of that term, and so all that was committed before.
    pub(crate) fn led_term(&self) -> Option<u64> {
        let server = self.raft.server_metrics();
        let server = server.borrow_watched();
        let applied = self.raft.data_metrics().borrow_watched().last_applied;
        let term = server.vote.leader_id.term;
        let is_own = applied.is_some_and(|id| id.committed_leader_id().term == term);
        (server.state == ServerState::Leader && is_own).then_some(term)
    }

    /// Waits until who leads is no longer `known`, and says who it is.
    ///
    /// # Errors
    /// If the replica has stopped.
    pub(crate) async fn lead_other_than(&self, known: Lead) -> io::Result<Lead> {
        let mut server = self.raft.server_metrics();
        loop {
            let lead = self.lead();
            if lead != known {
                return Ok(lead);
            }
            server.changed().await.map_err(|_| io::Error::other("the replica has stopped"))?;
        }
    }

    /// Adds a member that has no vote; it gets the log or a snapshot. Returns when the group knows.
    ///
    /// # Errors
    /// If this replica does not lead, or the members are being changed.
    pub(crate) async fn add_learner(&self, node: NodeId) -> io::Result<()> {
        self.raft.add_learner(node.0, EmptyNode {}, false).await.map(drop).map_err(io::Error::other)
    }

    /// Makes these the voters, by way of a joint majority. Those that lose their vote leave the group, unless
    /// they are to `follow_on` as learners; new ones must be learners that have caught up. Returns when it is
    /// done; a leader that is not among them hands over after that.
    ///
    /// # Errors
    /// If this replica does not lead, a voter is no learner yet, or the members are being changed.
    pub(crate) async fn change_voters(&self, voters: &BTreeSet<NodeId>, follow_on: bool) -> io::Result<()> {
        let voters: BTreeSet<u64> = voters.iter().map(|node| node.0).collect();
        self.raft.change_membership(voters, follow_on).await.map(drop).map_err(io::Error::other)
    }

    /// Drops learners from the group.
    ///
    /// # Errors
    /// If this replica does not lead, or the members are being changed.
    pub(crate) async fn remove_learners(&self, nodes: &BTreeSet<NodeId>) -> io::Result<()> {
        let nodes: BTreeSet<u64> = nodes.iter().map(|node| node.0).collect();
        let change = openraft::ChangeMembers::RemoveNodes(nodes);
        self.raft.change_membership(change, true).await.map(drop).map_err(io::Error::other)
    }

    /// Hands the group over to another voter and waits until it leads. Proposals fail meanwhile.
    ///
    /// # Errors
    /// If it does not lead in time: then the voters elect whom they will.
    pub(crate) async fn transfer_leader(&self, to: NodeId) -> io::Result<()> {
        let leader = self.raft.server_metrics().borrow_watched().vote.leader_id;
        self.acks.revoke(leader);
        self.raft.trigger().transfer_leader(to.0).await.map_err(io::Error::other)?;
        let handed_over = async {
            let mut known = self.lead();
            while known.leader != Some(to) {
                known = self.lead_other_than(known).await?;
            }
            Ok(())
        };
        let late = |_| io::Error::other(format!("node {to} did not take over within {TRANSFER_TIMEOUT:?}"));
        timeout(TRANSFER_TIMEOUT, handed_over).await.map_err(late)?
    }

    /// How this replica stands, in few numbers.
    pub(crate) fn standing(&self) -> Standing {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let last = metrics.last_log_index.map_or(0, |index| index + 1);
        let after = |id: Option<&openraft::alias::LogIdOf<super::types::TypeConfig>>| id.map_or(0, |id| id.index + 1);
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let matched = metrics.replication.iter().flatten().filter(|(node, _)| voters.contains(node));
        Standing {
            role: role(metrics.state),
            term: metrics.current_term,
            knows_leader: metrics.current_leader.is_some(),
            unapplied: last.saturating_sub(after(metrics.last_applied.as_ref())),
            behind: matched.map(|(_, id)| last.saturating_sub(after(id.as_ref()))).max().unwrap_or(0),
        }
    }

    /// How this replica stands.
    pub(crate) fn status(&self) -> Status {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let index = |id: &openraft::alias::LogIdOf<super::types::TypeConfig>| id.index;
        let nodes = |ids: &BTreeSet<u64>| ids.iter().copied().map(NodeId).collect();
        let matched = metrics.replication.iter().flatten();
        let answered = metrics.heartbeat.iter().flatten();
        Status {
            leader: metrics.current_leader.map(NodeId),
            term: metrics.current_term,
            role: role(metrics.state),
            last_log: metrics.last_log_index,
            committed: metrics.local_committed.as_ref().map(index),
            applied: metrics.last_applied.as_ref().map(index),
            voters: membership.get_joint_config().iter().map(nodes).collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
            members_at: metrics.membership_config.log_id().as_ref().map(index),
            matched: matched.map(|(node, id)| (NodeId(*node), id.as_ref().map(index))).collect(),
            silent: answered.filter_map(|(node, at)| Some((NodeId(*node), (*at)?.elapsed()))).collect(),
        }
    }
}
