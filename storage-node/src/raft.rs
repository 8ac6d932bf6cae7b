//! Consensus for one group, behind an interface of our own: types of openraft stay in this module.
//!
//! Knows nothing of streams: it carries batches of commands to a [`StateMachine`] and answers back.

mod codec;
mod disk;
mod log;
mod machine;
mod network;
mod types;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::ReadPolicy;
use openraft::{Config, SnapshotPolicy};
use tracing::error;
use ursula_common::{Error, GroupId, NodeId};
use ursula_stream_core::{Answer, Command, encode_batch};
use ursula_wal::{RecoveredGroup, SegmentId};

use crate::archive::{Places, Stored};
use crate::data_dir::DataDir;
use crate::journal::Journal;
use disk::DiskLog;
use log::MemoryLog;
use machine::{Disk, Machine};
use network::NoPeers;
use types::{Batch, Raft};

/// What a group does with committed commands. Called on the group's core, never concurrently.
pub(crate) trait StateMachine: 'static {
    /// Applies the commands of one entry in order; one answer for each.
    ///
    /// `entry` tells where their bytes lie, if there is a log on disk: bodies are slices of it.
    fn apply(&mut self, commands: Vec<Command>, entry: Option<&Stored>) -> Vec<Answer>;
    /// The whole state, in the encoding of `stream-core`.
    fn snapshot(&self) -> Vec<u8>;
    /// Where the bytes are that the state speaks of.
    fn places(&self) -> Places;
    /// Replaces the state by that of a snapshot.
    ///
    /// # Errors
    /// If the bytes are not a snapshot of a version that is known.
    fn restore(&mut self, state: Bytes, places: Places) -> std::io::Result<()>;
}

/// This node's replica of one group.
pub(crate) struct Replica<M: StateMachine> {
    raft: Raft<M>,
    log: Log,
}

/// Where the log of a group is kept.
pub(crate) enum Storage {
    Memory,
    Disk { dir: DataDir, journal: Journal, found: RecoveredGroup },
}

enum Log {
    Memory(MemoryLog),
    Disk(DiskLog),
}

/// A log in memory is cut off after a snapshot when it holds so many bytes of commands, or so many entries:
/// a small body may keep the whole frame alive in which it came.
const LOG_BYTES_MAX: usize = 512 << 10;
const LOG_ENTRIES_MAX: usize = 128;

impl<M: StateMachine> Replica<M> {
    /// Starts the replica, as the only voter of its group. Needs the local task set of a core.
    ///
    /// # Errors
    /// If the consensus library refuses its configuration or its storage, or this cannot be read.
    pub(crate) async fn start(
        node: NodeId,
        group: GroupId,
        machine: Rc<RefCell<M>>,
        storage: Storage,
    ) -> std::io::Result<Self> {
        let config = Arc::new(config(group).validate().map_err(std::io::Error::other)?);
        let (raft, log) = match storage {
            Storage::Memory => {
                let log = MemoryLog::default();
                let machine = Machine::in_memory(machine);
                (Raft::new(node.0, config, NoPeers, log.clone(), machine).await, Log::Memory(log))
            }
            Storage::Disk { dir, journal, found } => {
                let log = DiskLog::open(group, journal, found).await?;
                let machine = Machine::open(machine, Disk { group, dir, log: log.clone() }).await?;
                (Raft::new(node.0, config, NoPeers, log.clone(), machine).await, Log::Disk(log))
            }
        };
        let raft = raft.map_err(std::io::Error::other)?;
        if !raft.is_initialized().await.map_err(std::io::Error::other)? {
            let voters = BTreeMap::from([(node.0, openraft::impls::EmptyNode {})]);
            raft.initialize(voters).await.map_err(std::io::Error::other)?;
        }
        Ok(Replica { raft, log })
    }

    /// Waits until this replica leads its group.
    pub(crate) async fn wait_for_leadership(&self) -> std::io::Result<()> {
        let leads = |metrics: &openraft::RaftMetrics<types::TypeConfig>| metrics.current_leader == Some(metrics.id);
        self.raft.wait(None).metrics(leads, "this node leads").await.map(drop).map_err(std::io::Error::other)
    }

    /// Commits the commands as one entry and applies them; one answer for each.
    ///
    /// # Errors
    /// [`Error::NotLeader`] if nothing was proposed, [`Error::OutcomeUnknown`] if the replica stopped
    /// meanwhile.
    pub(crate) async fn propose(&self, commands: Vec<Command>) -> Result<Vec<Answer>, Error> {
        let batch = match &self.log {
            Log::Memory(_) => Batch::new(commands),
            // Applied from its bytes, so that each body is known by its place in them.
            Log::Disk(_) => Batch::from_encoded(encode_batch(&commands).into()),
        };
        let written = self.raft.client_write(batch).await;
        if let Log::Memory(log) = &self.log
            && (log.bytes() > LOG_BYTES_MAX || log.entries() > LOG_ENTRIES_MAX)
        {
            self.compact().await;
        }
        match written {
            Ok(response) => Ok(response.data.into_inner()),
            Err(failed) if failed.forward_to_leader().is_some() => Err(self.not_leader()),
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

    /// That this replica does not lead, and who does as far as it knows. One that has lost touch with the
    /// others may still take itself for the leader: that is no news to whoever it cannot serve.
    fn not_leader(&self) -> Error {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leader = metrics.current_leader.filter(|id| *id != metrics.id).map(NodeId);
        Error::NotLeader { leader, term: metrics.current_term }
    }

    /// Stops the replica.
    pub(crate) async fn stop(&self) {
        // The only error is that the task has ended already.
        let _ = self.raft.shutdown().await;
    }

    /// Asks for a checkpoint if one is due, and for the log to be purged as far as the last one allows.
    /// Does nothing in memory.
    pub(crate) async fn keep_house(&self) {
        let Log::Disk(log) = &self.log else { return };
        let snapshot = self.raft.metrics().borrow_watched().snapshot.map(|id| id.index);
        // A replica that has stopped has nothing to keep.
        if log.checkpoint_due() {
            let _ = self.raft.trigger().snapshot().await;
        }
        if let Some(upto) = snapshot.and_then(|index| log.purgeable(index)) {
            let _ = self.raft.trigger().purge_log(upto).await;
        }
    }

    /// Whether everything of this group in the segment is applied, and in all before it.
    pub(crate) fn is_settled(&self, segment: SegmentId) -> bool {
        let Log::Disk(log) = &self.log else { return true };
        let next = self.raft.metrics().borrow_watched().last_applied.map_or(0, |id| id.index + 1);
        log.place(next).is_none_or(|place| place.segment > segment)
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
