//! One core: a thread with a single-threaded runtime that owns some groups. The mailbox is the only
//! way in, and nothing is shared with other cores on the way of an append.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_local;
use tracing::error;
use ursula_common::verb::{Op, ReadFrom, StreamInfo};
use ursula_common::{BucketName, Clock, Error, GroupId, NodeId, Offset, StreamId, StreamKey, StreamName};
use ursula_wal::RecoveredGroup;

use crate::archive::Archive;
use crate::data_dir::DataDir;
use crate::directory::Directory;
use crate::group::courier::Courier;
use crate::group::state::GroupState;
use crate::group::{Group, Proposal};
use crate::hot::{Hot, Range};
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::peers::{Inbound, InboundSnapshot, Peers};
use crate::raft::{Replica, Storage};
use crate::reads;
use crate::tails::Waiter;
use ursula_proto::peer::v1::refused::Reason;

/// Requests that may wait in the mailbox of a core. Each lane frame is one, with up to
/// `FRAME_BYTES_MAX` of bodies.
pub(crate) const MAILBOX_REQUESTS_MAX: usize = 128;
/// How often expiry, lost messages and abandoned tails are looked after, and gauges are set.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_millis(100);

/// What a core is asked to do, and for which of its groups.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) group: GroupId,
    pub(crate) kind: RequestKind,
}

/// See [`Request`].
#[derive(Debug)]
pub(crate) enum RequestKind {
    /// Ops of any of this core's groups.
    Propose(Vec<Proposal>),
    /// Everything about a stream but its bytes.
    Describe {
        key: StreamKey,
        inherited: Option<StreamId>,
        touch: bool,
        reply: oneshot::Sender<Result<StreamInfo, Error>>,
    },
    /// A range of stored bytes.
    Read { read: Read, reply: oneshot::Sender<Result<ReadDone, Error>> },
    /// The next page of a tail.
    Wait { key: StreamKey, waiter: Waiter },
    /// The record around an offset, for a fork.
    Record { key: StreamKey, id: StreamId, at: Offset, until: Offset, reply: oneshot::Sender<RecordResult> },
    /// Streams of a bucket.
    List { list: List, reply: oneshot::Sender<Result<Vec<(StreamName, StreamInfo)>, Error>> },
    /// Questions of another node to any of this core's groups.
    Peers(Vec<Inbound>),
    /// A snapshot that another node sends.
    Install(InboundSnapshot),
    /// Whether a bucket exists.
    DescribeBucket { bucket: BucketName, reply: oneshot::Sender<Result<(), Error>> },
}

/// The start and the bytes of a record, if it is stored.
pub(crate) type RecordResult = Result<Option<(Offset, Bytes)>, Error>;

/// A range to read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) key: StreamKey,
    pub(crate) inherited: Option<StreamId>,
    pub(crate) from: ReadFrom,
    pub(crate) until: Option<Offset>,
    pub(crate) bytes_max: usize,
    pub(crate) touch: bool,
}

/// A range that was read.
#[derive(Debug)]
pub(crate) struct ReadDone {
    pub(crate) info: StreamInfo,
    pub(crate) start: Offset,
    pub(crate) range: Range,
}

/// A page of names to list.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) bucket: BucketName,
    pub(crate) prefix: String,
    pub(crate) after: String,
    pub(crate) limit: usize,
}

/// What a core is started with.
pub(crate) struct CoreConfig {
    pub(crate) index: usize,
    pub(crate) node: NodeId,
    pub(crate) groups: Vec<GroupId>,
    /// Groups that hold streams, on all cores.
    pub(crate) data_groups: u32,
    pub(crate) ring_bytes: usize,
    pub(crate) disk: Option<CoreDisk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) peers: Peers,
}

/// What a core keeps on disk, if it does.
pub(crate) struct CoreDisk {
    pub(crate) dir: DataDir,
    /// What was found of this core's groups.
    pub(crate) found: BTreeMap<GroupId, RecoveredGroup>,
    /// Told when the log can no longer be written.
    pub(crate) failed: watch::Sender<bool>,
}

/// A core that runs.
pub(crate) struct Core {
    index: usize,
    groups: BTreeMap<GroupId, (Rc<Group>, Rc<Courier>)>,
    hot: Rc<RefCell<Hot>>,
    log: Option<Log>,
    directory: Directory,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// The log of this core's groups on disk.
#[derive(Clone)]
struct Log {
    dir: DataDir,
    journal: Journal,
    archive: Archive,
}

impl Core {
    /// Starts the groups of this core. Needs a local task set.
    ///
    /// # Errors
    /// If a group cannot be started.
    pub(crate) async fn start(config: CoreConfig, directory: Directory) -> std::io::Result<Core> {
        let CoreConfig { index, node, groups: ids, data_groups, ring_bytes, disk, clock, metrics, peers } = config;
        let (hot, log, mut found) = match disk {
            None => (Hot::new(ring_bytes), None, BTreeMap::new()),
            Some(CoreDisk { dir, found, failed }) => {
                let journal = Journal::start(dir.log().clone(), index as u32, failed)?;
                let archive = Archive::new(journal.clone());
                (Hot::evicting(ring_bytes), Some(Log { dir, journal, archive }), found)
            }
        };
        let hot = Rc::new(RefCell::new(hot));
        let mut groups = BTreeMap::new();
        for id in ids {
            let (state, storage) = match &log {
                None => (GroupState::in_memory(id, data_groups, hot.clone(), clock.now()), Storage::Memory),
                Some(Log { dir, journal, archive }) => {
                    let (dir, journal) = (dir.clone(), journal.clone());
                    let found = found.remove(&id).unwrap_or_default();
                    let state = GroupState::on_disk(id, data_groups, hot.clone(), archive.clone());
                    (state, Storage::Disk { dir, journal, archive: archive.clone(), found })
                }
            };
            let state = Rc::new(RefCell::new(state));
            let replica = Replica::start(id, state.clone(), storage, peers.clone()).await?;
            replica.initialize([node]).await?;
            let dir = log.as_ref().map(|log| log.dir.clone());
            let group = Rc::new(Group::new(id, state, replica, dir, clock.clone(), metrics.clone()));
            let courier = Courier::new(group.clone(), directory.clone());
            groups.insert(id, (group, courier));
        }
        for (group, courier) in groups.values() {
            group.replica.wait_for_leadership().await?;
            let (group, courier) = (group.clone(), courier.clone());
            spawn_local(async move { group.run(|| courier.send_new()).await });
        }
        let core = Core { index, groups, hot, log, directory, clock, metrics };
        core.keep_log();
        Ok(core)
    }

    /// Looks after what lies on disk, for as long as the core runs.
    fn keep_log(&self) {
        let Some(Log { dir, journal, archive }) = self.log.clone() else { return };
        let index = self.index;
        let groups: Vec<Rc<Group>> = self.groups.values().map(|(group, _)| group.clone()).collect();
        spawn_local(async move {
            loop {
                tokio::time::sleep(HOUSEKEEPING_INTERVAL).await;
                journal.mark_if_idle();
                let is_settled =
                    |segment| dir.is_full(segment) && groups.iter().all(|group| group.replica.is_settled(segment));
                if let Err(error) = archive.index_oldest(is_settled).await {
                    error!(%error, "the index of a segment cannot be written; it is tried again");
                }
                for group in &groups {
                    group.replica.keep_house().await;
                }
                dir.release_before(index, archive.oldest());
                if index == 0
                    && let Err(error) = dir.keep_house().await
                {
                    error!(%error, "the files of the log cannot be looked after; it is tried again");
                }
            }
        });
    }

    /// Serves the mailbox until every sender is gone or `stop` says so, then stops the groups.
    pub(crate) async fn run(self, mut mailbox: mpsc::Receiver<Request>, mut stop: tokio::sync::watch::Receiver<bool>) {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING_INTERVAL);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                _ = housekeeping.tick() => self.keep_house(mailbox.len()),
                request = mailbox.recv() => match request {
                    Some(request) => self.serve(request),
                    None => break,
                },
            }
        }
        for (group, _) in self.groups.values() {
            group.replica.stop().await;
        }
    }

    fn serve(&self, request: Request) {
        let Request { group, kind } = request;
        let kind = match kind {
            RequestKind::Peers(questions) => return questions.into_iter().for_each(|question| self.answer(question)),
            RequestKind::Install(snapshot) => return self.install(snapshot),
            kind => kind,
        };
        let Some((group, _)) = self.groups.get(&group) else {
            // The directory sends only what belongs here; a dropped reply is an error at the other end.
            error!(%group, "a request for a group of another core was dropped");
            return;
        };
        let now = self.clock.now();
        match kind {
            RequestKind::Propose(proposals) => proposals.into_iter().for_each(|proposal| self.propose(proposal)),
            RequestKind::Describe { key, inherited, touch, reply } => {
                spawn_local(reads::describe(group.clone(), key, inherited, touch, now, reply));
            }
            RequestKind::Read { read, reply } => {
                spawn_local(reads::read(group.clone(), read, now, reply));
            }
            RequestKind::Wait { key, waiter } => {
                let behind = group.state.borrow_mut().wait(&key, now, waiter);
                if let Some((waiter, info)) = behind {
                    let group = group.clone();
                    spawn_local(async move { group.answer_behind(waiter, info).await });
                }
            }
            RequestKind::Record { key, id, at, until, reply } => {
                let (group, directory) = (group.clone(), self.directory.clone());
                spawn_local(async move { reply.send(group.inherited_record(&key, id, at, until, &directory).await) });
            }
            RequestKind::List { list, reply } => {
                spawn_local(reads::list(group.clone(), list, now, reply));
            }
            RequestKind::DescribeBucket { bucket, reply } => {
                spawn_local(reads::describe_bucket(group.clone(), bucket, reply));
            }
            RequestKind::Peers(_) | RequestKind::Install(_) => {}
        }
    }

    fn answer(&self, question: Inbound) {
        match self.groups.get(&question.group) {
            Some((group, _)) => group.replica.answer(question),
            None => question.reply.refuse(Reason::NotHere, not_here(question.group)),
        }
    }

    fn install(&self, snapshot: InboundSnapshot) {
        match self.groups.get(&snapshot.group) {
            Some((group, _)) => group.replica.install(snapshot),
            None => drop(snapshot.reply.send(Err(not_here(snapshot.group)))),
        }
    }

    fn propose(&self, mut proposal: Proposal) {
        let Some((group, _)) = self.groups.get(&proposal.group) else {
            return proposal.reply.send(Err(Error::NOT_HERE));
        };
        let Op::AcquireFork(acquire) = &mut proposal.op else { return group.enqueue(proposal) };
        if acquire.offset.is_none() && acquire.sub_offset == 0 {
            return group.enqueue(proposal);
        }
        let (group, directory) = (group.clone(), self.directory.clone());
        spawn_local(async move {
            let Op::AcquireFork(acquire) = &mut proposal.op else { return };
            match group.find_cut(acquire, &directory).await {
                Ok(()) => group.enqueue(proposal),
                Err(error) => proposal.reply.send(Err(error)),
            }
        });
    }

    fn keep_house(&self, mailbox_requests: usize) {
        for (group, courier) in self.groups.values() {
            group.expire_if_due();
            courier.send_again();
            group.state.borrow_mut().forget_abandoned_tails();
            group.touch_tailed();
        }
        self.set_gauges(mailbox_requests);
    }

    fn set_gauges(&self, mailbox_requests: usize) {
        let gauges = &self.metrics.cores[self.index];
        let (used, budget) = self.hot.borrow().usage();
        let groups = || self.groups.values().map(|(group, _)| group);
        let sum = |count: fn(&Group) -> usize| groups().map(|group| count(group)).sum::<usize>() as f64;
        gauges.ring_used_bytes.set(used as f64);
        gauges.ring_budget_bytes.set(budget as f64);
        gauges.mailbox_requests.set(mailbox_requests as f64);
        gauges.queued_ops.set(sum(Group::queue_len));
        gauges.waiting_tails.set(sum(|group| group.state.borrow().waiting_tails()));
        gauges.streams.set(sum(|group| group.state.borrow().stats().streams));
        gauges.sessions.set(sum(|group| group.state.borrow().stats().sessions));
        if let Some(log) = &self.log {
            gauges.log_pending_bytes.set(log.journal.pending_bytes() as f64);
            gauges.log_unindexed_records.set(log.archive.unindexed_records() as f64);
        }
    }
}

fn not_here(group: GroupId) -> String {
    format!("group {group} has no replica here")
}
