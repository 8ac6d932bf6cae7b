//! Consensus for one group, behind an interface of our own: types of openraft stay in this module.
//!
//! Knows nothing of streams: it carries batches of commands to a [`StateMachine`] and answers back.

mod log;
mod machine;
mod network;
mod types;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::alias::LogIdOf;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::ReadPolicy;
use openraft::{Config, Instant, SnapshotPolicy};
use tracing::error;
use ursula_common::{Error, GroupId, NodeId};
use ursula_stream_core::{Answer, Command};

use log::MemoryLog;
use machine::Machine;
use network::NoPeers;
use types::{Batch, Raft, TypeConfig};

/// What a group does with committed commands. Called on the group's core, never concurrently.
pub(crate) trait StateMachine: 'static {
    /// Applies the commands of one entry in order; one answer for each.
    fn apply(&mut self, commands: Vec<Command>) -> Vec<Answer>;
    /// The whole state, in the encoding of `stream-core`.
    fn snapshot(&self) -> Vec<u8>;
    /// Replaces the state by that of a snapshot.
    ///
    /// # Errors
    /// If the bytes are not a snapshot of a version that is known.
    fn restore(&mut self, snapshot: Bytes) -> std::io::Result<()>;
}

/// This node's replica of one group.
pub(crate) struct Replica<M: StateMachine> {
    raft: Raft<M>,
    log: MemoryLog,
}

/// The log is cut off after a snapshot when it holds so many bytes of commands, or so many entries: a
/// small body may keep the whole frame alive in which it came.
const LOG_BYTES_MAX: usize = 512 << 10;
const LOG_ENTRIES_MAX: usize = 128;

impl<M: StateMachine> Replica<M> {
    /// Starts the replica, as the only voter of its group. Needs the local task set of a core.
    ///
    /// # Errors
    /// If the consensus library refuses its configuration or its storage.
    pub(crate) async fn start(node: NodeId, group: GroupId, machine: Rc<RefCell<M>>) -> std::io::Result<Self> {
        let log = MemoryLog::default();
        let config = Arc::new(config(group).validate().map_err(std::io::Error::other)?);
        let storage = (log.clone(), Machine::new(machine));
        let raft = Raft::new(node.0, config, NoPeers, storage.0, storage.1).await.map_err(std::io::Error::other)?;
        let voters = BTreeMap::from([(node.0, openraft::impls::EmptyNode {})]);
        raft.initialize(voters).await.map_err(std::io::Error::other)?;
        Ok(Replica { raft, log })
    }

    /// Waits until this replica leads its group.
    pub(crate) async fn wait_for_leadership(&self) -> std::io::Result<()> {
        let leads = |metrics: &openraft::RaftMetrics<TypeConfig>| metrics.current_leader == Some(metrics.id);
        self.raft.wait(None).metrics(leads, "this node leads").await.map(drop).map_err(std::io::Error::other)
    }

    /// Commits the commands as one entry and applies them; one answer for each.
    ///
    /// # Errors
    /// [`Error::NotLeader`] if nothing was proposed, [`Error::OutcomeUnknown`] if the replica stopped
    /// meanwhile.
    pub(crate) async fn propose(&self, commands: Vec<Command>) -> Result<Vec<Answer>, Error> {
        let written = self.raft.client_write(Batch::new(commands)).await;
        if self.log.bytes() > LOG_BYTES_MAX || self.log.entries() > LOG_ENTRIES_MAX {
            self.compact().await;
        }
        match written {
            Ok(response) => Ok(response.data.into_inner()),
            // Only this one says that nothing was proposed. An entry that was, and was discarded when another
            // leader took over, may be in that leader's log.
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Err(self.not_leader()),
            Err(failed) => {
                error!(error = %failed, "a proposal failed");
                Err(Error::OutcomeUnknown)
            }
        }
    }

    /// Returns once it is certain that no other replica led the group when this was called, so that
    /// the local state has every acknowledged command.
    ///
    /// # Errors
    /// [`Error::NotLeader`] if another may lead.
    pub(crate) async fn confirm_leadership(&self) -> Result<(), Error> {
        self.raft.ensure_linearizable(ReadPolicy::LeaseRead).await.map(drop).map_err(|_| self.not_leader())
    }

    /// A function that tells, without asking anybody, whether what this replica has applied is certainly all that
    /// was acknowledged: it leads, has applied an entry of its own term, and its lease runs.
    ///
    /// The function fails with [`Error::NotLeader`].
    pub(crate) fn prover(&self) -> impl Fn() -> Result<(), Error> + use<M> {
        let raft = self.raft.clone();
        let lease = Duration::from_millis(raft.config().election_timeout_max);
        move || {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            let own_term = |id: &LogIdOf<TypeConfig>| id.committed_leader_id().term == metrics.current_term;
            let leads = metrics.state.is_leader() && metrics.last_applied.as_ref().is_some_and(own_term);
            let alone = || metrics.membership_config.membership().voter_ids().eq([metrics.id]);
            let leased = || metrics.last_quorum_acked.is_some_and(|acked| acked.into_inner().elapsed() < lease);
            if leads && (alone() || leased()) { Ok(()) } else { Err(not_leader(&metrics)) }
        }
    }

    fn not_leader(&self) -> Error {
        not_leader(&self.raft.metrics().borrow_watched())
    }

    /// Stops the replica.
    pub(crate) async fn stop(&self) {
        // The only error is that the task has ended already.
        let _ = self.raft.shutdown().await;
    }

    /// Asks for a snapshot, and for the log before it to be dropped.
    async fn compact(&self) {
        let applied = self.raft.metrics().borrow_watched().last_applied.map(|id| id.index);
        // A replica that has stopped has nothing to compact.
        let _ = self.raft.trigger().snapshot().await;
        if let Some(applied) = applied {
            let _ = self.raft.trigger().purge_log(applied).await;
        }
    }
}

/// That a replica does not lead, and who does as far as it knows. One that has lost touch with the others may
/// still take itself for the leader: that is no news to whoever it cannot serve.
fn not_leader(metrics: &openraft::RaftMetrics<TypeConfig>) -> Error {
    let leader = metrics.current_leader.filter(|id| *id != metrics.id).map(NodeId);
    Error::NotLeader { leader, term: metrics.current_term }
}

/// Snapshots and purges are triggered by [`Replica::propose`], by size.
fn config(group: GroupId) -> Config {
    Config {
        cluster_name: format!("group-{group}"),
        heartbeat_interval: 250,
        heartbeat_min_interval: Some(100),
        election_timeout_min: 1000,
        election_timeout_max: 2000,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        purge_batch_size: 1,
        // One proposal of a group is in flight at a time, so its queues are short. The defaults
        // reserve megabytes for each group.
        api_channel_size: Some(64),
        api_batch_capacity: 64,
        notification_channel_size: Some(1024),
        state_machine_channel_size: Some(64),
        log_stage_capacity: Some(64),
        ..Config::default()
    }
}

#[cfg(test)]
mod tests;
