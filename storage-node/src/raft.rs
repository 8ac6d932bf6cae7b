//! Consensus for one group, behind an interface of our own: types of openraft stay in this module.
//!
//! Knows nothing of streams: it carries batches of commands to a [`StateMachine`] and answers back.

mod answer;
#[allow(dead_code, reason = "what only the log on disk reads and writes")]
pub(crate) mod codec;
mod config;
mod disk;
mod lease;
mod log;
mod machine;
mod members;
mod messages;
mod network;
mod orders;
mod snapshot;
mod types;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::raft::ReadPolicy;
use openraft::storage::RaftLogStorage;
use openraft::{Config, RaftLogReader, ServerState};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};
use tracing::error;
use ursula_common::{Error, GroupId, NodeId};
use ursula_stream_core::{Answer, Command, Proposed};
use ursula_wal::{RecoveredGroup, SegmentId};

#[allow(unused_imports, reason = "what only the log on disk and the cluster use")]
pub(crate) use {
    config::APPEND_BYTES_MAX,
    machine::damaged,
    members::Status,
    snapshot::{MemorySink, SnapshotData, SnapshotSink, SnapshotSource},
};

use crate::archive::{Archive, Places, Stored};
use crate::checkpoint::StateParts;
use crate::data_dir::{DataDir, Forgotten};
use crate::journal::Journal;
use crate::peers::Peers;
use config::{CONFIRM_TIMEOUT, READ_LEASE, RESTART_SILENCE, config};
use disk::DiskLog;
use lease::Acks;
use log::MemoryLog;
use machine::{Disk, Machine};
use network::Network;
use types::{Batch, Raft, TypeConfig};

/// What a group does with committed commands. Called on the group's core, never concurrently.
pub(crate) trait StateMachine: 'static {
    /// Applies the commands of one entry in order; one answer for each.
    ///
    /// `entry` tells where their bytes lie, if there is a log on disk: bodies are slices of it.
    fn apply(&mut self, commands: Vec<Command>, entry: Option<&Stored>) -> Vec<Answer>;
    /// The whole state as it is now, in the encoding of `stream-core`. Cheap: the encoding comes with the parts.
    fn freeze(&self) -> StateParts;
    /// Where the bytes are that the state speaks of.
    fn places(&self) -> Places;
    /// Replaces the state by that of a snapshot.
    ///
    /// # Errors
    /// If the bytes are not a snapshot of a version that is known.
    fn restore(&mut self, state: Bytes, places: Places) -> io::Result<()>;
}

/// This node's replica of one group.
pub(crate) struct Replica<M: StateMachine> {
    raft: Raft<M>,
    log: Log,
    acks: Rc<Acks>,
    /// Votes for nobody before that: it may have promised not to, and have forgotten.
    silent_until: Option<Instant>,
    /// What its log must have before it votes, until it has that.
    forgotten: Rc<Cell<Option<Forgotten>>>,
    /// It answers no question of others: it may be forgotten.
    held: Cell<bool>,
    /// Its references count the questions of others that are under way, and itself.
    questions: Rc<()>,
    /// Its references count the snapshots that arrive, and itself.
    installing: Rc<()>,
}

/// Where the log of a group is kept.
pub(crate) enum Storage {
    Memory,
    Disk { dir: DataDir, journal: Journal, archive: Archive, found: RecoveredGroup },
}

#[derive(Clone)]
enum Log {
    Memory(MemoryLog),
    Disk(Disk),
}

/// A log in memory is cut off after a snapshot when it holds so many bytes of commands, or so many entries:
/// a small body may keep the whole frame alive in which it came.
const LOG_BYTES_MAX: usize = 512 << 10;
const LOG_ENTRIES_MAX: usize = 128;
/// With several members the log is kept for those who are behind, up to so many times that.
const LOG_PATIENCE: usize = 16;

/// Between two looks at how far a log is. Each is news of the replica itself, so news cannot be waited for.
const REMEMBER_PAUSE: Duration = Duration::from_millis(50);

/// Lets a replica vote and stand again when its log has what one had that was forgotten.
async fn remember<M: StateMachine>(raft: Raft<M>, forgotten: Rc<Cell<Option<Forgotten>>>) {
    while let Some(wanted) = forgotten.get() {
        let last = raft.with_raft_state(|state| state.log_ids.last().copied()).await;
        let Ok(last) = last else { return };
        if last.is_some_and(|last| (last.committed_leader_id().term, last.index()) >= (wanted.term, wanted.last)) {
            forgotten.set(None);
            raft.runtime_config().elect(true);
        } else {
            sleep(REMEMBER_PAUSE).await;
        }
    }
}

impl<M: StateMachine> Replica<M> {
    /// Starts the replica. It takes part in its group as soon as it is a member of one: see
    /// [`Replica::initialize`]. Needs the local task set of a core.
    ///
    /// # Errors
    /// If the consensus library refuses its configuration or its storage, or this cannot be read.
    pub(crate) async fn start(
        group: GroupId,
        state: Rc<RefCell<M>>,
        storage: Storage,
        peers: Peers,
    ) -> io::Result<Self> {
        match storage {
            Storage::Memory => Replica::start_in_memory(group, state, MemoryLog::default(), peers).await,
            Storage::Disk { dir, journal, archive, found } => {
                let log = DiskLog::open(group, journal, dir.sizes(), found).await?;
                let disk = Disk { group, dir, archive, log };
                let machine = Machine::open(state, disk.clone()).await?;
                Replica::start_on(group, machine, disk.log.clone(), Log::Disk(disk), peers).await
            }
        }
    }

    async fn start_in_memory(group: GroupId, state: Rc<RefCell<M>>, log: MemoryLog, peers: Peers) -> io::Result<Self> {
        let machine = Machine::in_memory(state);
        Replica::start_on(group, machine, log.clone(), Log::Memory(log), peers).await
    }

    async fn start_on(
        group: GroupId,
        machine: Machine<M>,
        mut storage: impl RaftLogStorage<TypeConfig>,
        log: Log,
        peers: Peers,
    ) -> io::Result<Self> {
        let node = peers.node();
        let was_here = storage.get_log_reader().await.read_vote().await?.is_some();
        let forgotten = match &log {
            Log::Memory(_) => None,
            Log::Disk(disk) => disk.dir.forgotten(group),
        };
        let config = Config { enable_elect: forgotten.is_none(), ..config(group) };
        let config = Arc::new(config.validate().map_err(io::Error::other)?);
        let acks = Rc::new(Acks::default());
        let network = Network { group, peers, acks: acks.clone() };
        let raft = Raft::new(node.0, config, network, storage, machine).await.map_err(io::Error::other)?;
        let silent_until = was_here.then(|| Instant::now() + RESTART_SILENCE);
        let (questions, installing, forgotten) = (Rc::new(()), Rc::new(()), Rc::new(Cell::new(forgotten)));
        if forgotten.get().is_some() {
            spawn_local(remember(raft.clone(), forgotten.clone()));
        }
        let held = Cell::new(false);
        Ok(Replica { raft, log, acks, silent_until, forgotten, held, questions, installing })
    }

    /// Waits until this replica leads its group.
    #[cfg(test)]
    pub(crate) async fn wait_for_leadership(&self) -> io::Result<()> {
        let leads = |metrics: &openraft::RaftMetrics<TypeConfig>| metrics.current_leader == Some(metrics.id);
        self.raft.wait(None).metrics(leads, "this node leads").await.map(drop).map_err(io::Error::other)
    }

    #[cfg(test)]
    pub(crate) async fn propose(&self, commands: Vec<Command>) -> Result<Vec<Answer>, Error> {
        self.commit(commands.into_iter().map(Proposed::from).collect()).await
    }

    /// Commits the commands as one entry and applies them; one answer for each.
    ///
    /// # Errors
    /// [`Error::NotLeader`] if nothing was proposed, [`Error::OutcomeUnknown`] if the replica stopped or
    /// ceased to lead meanwhile.
    pub(crate) async fn commit(&self, proposed: Vec<Proposed>) -> Result<Vec<Answer>, Error> {
        let batch = match &self.log {
            Log::Memory(_) => Batch::new(proposed.into_iter().map(|proposed| proposed.command).collect()),
            // Its bodies are known by their place in its bytes.
            Log::Disk(_) => Batch::sealed(proposed),
        };
        let write = self.raft.client_write(batch);
        let written = if self.is_alone() {
            write.await
        } else {
            tokio::select! {
                biased;
                written = write => written,
                // The entry may be committed by the next leader, and this one may not hear of it for long.
                () = self.deposed() => return Err(Error::OutcomeUnknown),
            }
        };
        if let Log::Memory(log) = &self.log {
            compact(&self.raft, log).await;
        }
        match written {
            Ok(response) => Ok(response.data.into_inner()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Err(self.not_leader()),
            Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => Err(Error::OutcomeUnknown),
            Err(failed) => {
                error!(error = %failed, "a proposal failed");
                Err(Error::OutcomeUnknown)
            }
        }
    }

    /// Returns when the log of the core writes nothing. What is proposed while it does would not be written sooner, and
    /// what comes meanwhile would need an entry of its own.
    pub(crate) async fn log_idle(&self) {
        if let Log::Disk(disk) = &self.log {
            disk.log.idle().await;
        }
    }

    /// Returns once it is certain that no other replica led the group when this was called, so that
    /// the local state has every acknowledged command.
    ///
    /// # Errors
    /// [`Error::NotLeader`] if another may lead.
    pub(crate) async fn confirm_leadership(&self) -> Result<(), Error> {
        if self.is_alone() {
            return self.read_index(ReadPolicy::LeaseRead).await.map_err(|_| self.not_leader());
        }
        let confirmed = async {
            let asked = Instant::now();
            let in_lease = self.led_since().is_some_and(|since| asked < since + READ_LEASE);
            if in_lease && self.read_index(ReadPolicy::LeaseRead).await.is_ok() {
                return Ok(());
            }
            self.read_index(ReadPolicy::ReadIndex).await.map_err(|_| self.not_leader())?;
            loop {
                let next = self.acks.next();
                match self.led_since() {
                    Some(since) if since > asked => return Ok(()),
                    Some(_) | None => next.await,
                }
            }
        };
        timeout(CONFIRM_TIMEOUT, confirmed).await.unwrap_or_else(|_| Err(self.not_leader()))
    }

    /// Since when it is certain that no other replica leads, if this one leads.
    fn led_since(&self) -> Option<Instant> {
        led_since(&self.raft, &self.acks)
    }

    /// A function that tells, without asking anybody, whether what this replica has applied is certainly all that
    /// was acknowledged: it leads, has applied an entry of its own term, and its lease runs.
    ///
    /// The function fails with [`Error::NotLeader`].
    pub(crate) fn prover(&self) -> impl Fn() -> Result<(), Error> + use<M> {
        let (raft, acks) = (self.raft.clone(), self.acks.clone());
        move || {
            let term = raft.server_metrics().borrow_watched().vote.leader_id.term;
            let applied = raft.data_metrics().borrow_watched().last_applied;
            let own_term = applied.is_some_and(|id| id.committed_leader_id().term == term);
            let leads = led_since(&raft, &acks).is_some_and(|since| Instant::now() < since + READ_LEASE);
            if own_term && leads { Ok(()) } else { Err(not_leader(&raft)) }
        }
    }

    async fn read_index(
        &self,
        policy: ReadPolicy,
    ) -> Result<(), RaftError<TypeConfig, LinearizableReadError<TypeConfig>>> {
        self.raft.ensure_linearizable(policy).await.map(drop)
    }

    /// Whether this replica is the only voter, and the only member.
    fn is_alone(&self) -> bool {
        let server = self.raft.server_metrics();
        let server = server.borrow_watched();
        server.membership_config.membership().nodes().count() == 1
    }

    /// Returns when this replica leads no more, if it does now.
    async fn deposed(&self) {
        let mut server = self.raft.server_metrics();
        let led = {
            let now = server.borrow_watched();
            (now.state == ServerState::Leader).then_some(now.vote.leader_id)
        };
        if led.is_none() {
            return std::future::pending().await;
        }
        loop {
            if server.changed().await.is_err() {
                return std::future::pending().await;
            }
            let now = server.borrow_watched();
            if now.state != ServerState::Leader || Some(now.vote.leader_id) != led {
                return;
            }
        }
    }

    fn not_leader(&self) -> Error {
        not_leader(&self.raft)
    }

    /// Stops the replica.
    pub(crate) async fn stop(&self) {
        // The only error is that the task has ended already.
        let _ = self.raft.shutdown().await;
    }

    /// Asks for a checkpoint if one is due, and for the log to be purged as far as the last one allows.
    /// Does nothing in memory.
    pub(crate) async fn keep_house(&self) {
        let Log::Disk(Disk { log, .. }) = &self.log else { return };
        let checkpointed = self.checkpointed();
        if log.checkpoint_due() {
            self.checkpoint().await;
        }
        // A replica that has stopped has nothing to keep.
        if let Some(upto) = checkpointed.and_then(|index| log.purgeable(index)) {
            let _ = self.raft.trigger().purge_log(upto).await;
        }
    }

    /// The last entry that the state on disk has, now.
    pub(crate) fn applied(&self) -> Option<u64> {
        let Log::Disk(Disk { log, .. }) = &self.log else { return None };
        log.applied()
    }

    /// The last entry that a checkpoint has.
    pub(crate) fn checkpointed(&self) -> Option<u64> {
        self.raft.metrics().borrow_watched().snapshot.map(|id| id.index)
    }

    /// Asks for a checkpoint, due or not.
    pub(crate) async fn checkpoint(&self) {
        // A replica that has stopped has nothing to keep.
        let _ = self.raft.trigger().snapshot().await;
    }

    /// Asks for the entries up to a segment to be purged that a checkpoint has, whoever may want them.
    pub(crate) async fn purge(&self, segment: SegmentId) {
        let Log::Disk(Disk { log, .. }) = &self.log else { return };
        let last = log.last_in(segment).zip(self.checkpointed()).map(|(last, covered)| last.min(covered));
        if let Some(upto) = last {
            let _ = self.raft.trigger().purge_log(upto).await;
        }
    }

    /// Where the oldest entry lies, if there is one.
    pub(crate) fn oldest_entry(&self) -> Option<SegmentId> {
        let Log::Disk(Disk { log, .. }) = &self.log else { return None };
        log.oldest()
    }

    /// Whether everything of this group in the segment is applied, and in all before it.
    pub(crate) fn is_settled(&self, segment: SegmentId) -> bool {
        let Log::Disk(Disk { log, .. }) = &self.log else { return true };
        let next = log.applied().map_or(0, |index| index + 1);
        log.place(next).is_none_or(|place| place.segment > segment)
    }
}

/// The last entry that a checkpoint with this description has.
///
/// # Errors
/// If it is damaged.
pub(crate) fn applied_in(meta: Bytes) -> io::Result<Option<u64>> {
    Ok(codec::decode_snapshot_meta(meta)?.last_log_id.map(|id| id.index))
}

/// Asks for a snapshot, and for the log before it to be dropped, when a log in memory is large. What other
/// members may still need is kept for a while.
async fn compact<M: StateMachine>(raft: &Raft<M>, log: &MemoryLog) {
    let (bytes, entries) = (log.bytes(), log.entries());
    let larger_than = |times: usize| bytes > times * LOG_BYTES_MAX || entries > times * LOG_ENTRIES_MAX;
    if !larger_than(1) {
        return;
    }
    let metrics = raft.metrics().borrow_watched().clone();
    let applied = metrics.last_applied.map(|id| id.index);
    let matched = metrics.replication.iter().flatten().map(|(_, id)| id.map(|id| id.index));
    let needed = if larger_than(LOG_PATIENCE) { None } else { matched.min() };
    let Some(upto) = needed.map_or(applied, |needed| needed.min(applied)) else { return };
    if log.first().is_none_or(|first| first > upto) {
        return;
    }
    // A replica that has stopped has nothing to compact.
    let _ = raft.trigger().snapshot().await;
    let _ = raft.trigger().purge_log(upto).await;
}

/// Since when it is certain that no other replica leads, if this one leads.
fn led_since<M: StateMachine>(raft: &Raft<M>, acks: &Acks) -> Option<Instant> {
    let server = raft.server_metrics();
    let server = server.borrow_watched();
    let membership = server.membership_config.membership();
    let configs = membership.get_joint_config();
    // openraft lets a leader that is no member any more hand over by itself.
    let leads = server.state == ServerState::Leader && membership.get_node(&server.id).is_some();
    leads.then(|| acks.since(server.id, server.vote.leader_id, configs)).flatten()
}

/// That this replica does not lead, and who does as far as it knows. One that has lost touch with the
/// others may still take itself for the leader: that is no news to whoever it cannot serve.
fn not_leader<M: StateMachine>(raft: &Raft<M>) -> Error {
    let server = raft.server_metrics();
    let server = server.borrow_watched();
    let leader = server.current_leader.filter(|id| *id != server.id).map(NodeId);
    Error::NotLeader { leader, term: server.vote.leader_id.term }
}

#[cfg(test)]
mod tests;
