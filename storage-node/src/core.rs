//! One core: a thread with a single-threaded runtime that owns some groups. The mailbox is the only
//! way in, and nothing is shared with other cores on the way of an append.

mod hosts;
mod trim;
mod upkeep;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, spawn_local};
use ursula_common::verb::{Ack, Op, PublishSnapshot, ReadFrom, StreamInfo, Trim};
use ursula_common::{BucketName, Clock, Error, GroupId, Offset, StreamId, StreamKey, StreamName};
use ursula_proto::peer::v1::refused::Reason;
use ursula_wal::RecoveredGroup;

use crate::archive::Archive;
use crate::cold::Cold;
use crate::data_dir::DataDir;
use crate::directory::Directory;
use crate::group::courier::Courier;
use crate::group::{Group, Proposal};
use crate::hot::{Hot, Range};
use crate::journal::Journal;
use crate::metrics::{Metrics, ReplicaGauges};
use crate::peers::{Inbound, InboundSnapshot, Peers};
use crate::reads;
use crate::tails::Waiter;
pub(crate) use hosts::{Notices, Order};

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
    /// About the replica itself.
    Host(Order),
    /// Questions of another node to any of this core's groups.
    Peers(Vec<Inbound>),
    /// A snapshot that another node sends.
    Install(InboundSnapshot),
    /// Whether a bucket exists.
    DescribeBucket { bucket: BucketName, reply: oneshot::Sender<Result<Ack, Error>> },
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
    /// Whether a replica may answer that cannot prove that it leads.
    pub(crate) applied_is_enough: bool,
}

/// A range that was read.
#[derive(Debug)]
pub(crate) struct ReadDone {
    pub(crate) info: StreamInfo,
    pub(crate) start: Offset,
    pub(crate) range: Range,
    /// Whether `info` is certainly the newest.
    pub(crate) proven: bool,
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
    /// Groups that hold streams, in the whole cluster.
    pub(crate) data_groups: u32,
    pub(crate) ring_bytes: usize,
    pub(crate) disk: Option<CoreDisk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) peers: Peers,
    pub(crate) notices: Notices,
    /// Where the history of its groups goes, if the node has a place for it.
    pub(crate) cold: Option<Cold>,
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
    data_groups: u32,
    groups: RefCell<BTreeMap<GroupId, Hosted>>,
    /// Groups whose replica is being started or stopped.
    changing: RefCell<BTreeSet<GroupId>>,
    changed: Notify,
    found: RefCell<BTreeMap<GroupId, RecoveredGroup>>,
    hot: Rc<RefCell<Hot>>,
    log: Option<Log>,
    directory: Directory,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    peers: Peers,
    notices: Notices,
    cold: Option<Cold>,
}

/// A group that has a replica on this core.
#[derive(Clone)]
struct Hosted {
    group: Rc<Group>,
    courier: Rc<Courier>,
    tasks: Rc<Vec<AbortHandle>>,
    gauges: Rc<ReplicaGauges>,
}

/// The log of this core's groups on disk.
#[derive(Clone)]
struct Log {
    dir: DataDir,
    journal: Journal,
    archive: Archive,
}

impl Core {
    /// A core without groups. Needs a local task set.
    ///
    /// # Errors
    /// If the thread of its log cannot be started.
    pub(crate) fn start(config: CoreConfig, directory: Directory) -> std::io::Result<Rc<Core>> {
        let CoreConfig { index, data_groups, ring_bytes, disk, clock, metrics, peers, notices, cold } = config;
        let (hot, log, found) = match disk {
            None => (Hot::new(ring_bytes), None, BTreeMap::new()),
            Some(CoreDisk { dir, found, failed }) => {
                let (runtime, log, heard) = (dir.runtime().clone(), dir.log().clone(), notices.clone());
                let on_damage = Box::new(move |group, what: &std::io::Error| heard.blame(group, what));
                let journal =
                    Journal::start(runtime, log, index as u32, failed, on_damage, metrics.log_sync_seconds.clone())?;
                let archive = Archive::new(journal.clone());
                (Hot::evicting(ring_bytes), Some(Log { dir, journal, archive }), found)
            }
        };
        let core = Rc::new(Core {
            index,
            data_groups,
            groups: RefCell::default(),
            changing: RefCell::default(),
            changed: Notify::new(),
            found: RefCell::new(found),
            hot: Rc::new(RefCell::new(hot)),
            log,
            directory,
            clock,
            metrics,
            peers,
            notices,
            cold,
        });
        spawn_local(core.clone().keep_log());
        Ok(core)
    }

    fn group(&self, group: GroupId) -> Option<Rc<Group>> {
        self.groups.borrow().get(&group).map(|hosted| hosted.group.clone())
    }

    fn all_hosted(&self) -> Vec<Hosted> {
        self.groups.borrow().values().cloned().collect()
    }

    /// Serves the mailbox until every sender is gone or `stop` says so, then stops the groups.
    pub(crate) async fn run(
        self: Rc<Self>,
        mut mailbox: mpsc::Receiver<Request>,
        mut stop: tokio::sync::watch::Receiver<bool>,
    ) {
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
        for hosted in self.all_hosted() {
            hosted.group.replica.stop().await;
        }
    }

    fn serve(self: &Rc<Self>, request: Request) {
        let Request { group, kind } = request;
        let kind = match kind {
            RequestKind::Peers(questions) => return questions.into_iter().for_each(|question| self.answer(question)),
            RequestKind::Install(snapshot) => return self.install(snapshot),
            RequestKind::Propose(proposals) => return proposals.into_iter().for_each(|each| self.propose(each)),
            RequestKind::Host(order) => return self.take_order(group, order),
            kind => kind,
        };
        // Without a replica here the reply is dropped, which is an answer too: not here.
        let Some(group) = self.group(group) else { return };
        let now = self.clock.now();
        match kind {
            RequestKind::Describe { key, inherited, touch, reply } => {
                spawn_local(reads::describe(group, key, inherited, touch, now, reply));
            }
            RequestKind::Read { read, reply } => {
                spawn_local(reads::read(group, read, now, reply));
            }
            RequestKind::Wait { key, waiter } => {
                let behind = group.state.borrow_mut().wait(&key, now, waiter);
                if let Some((waiter, info)) = behind {
                    spawn_local(async move { group.answer_behind(&key.bucket, waiter, info).await });
                }
            }
            RequestKind::Record { key, id, at, until, reply } => {
                let directory = self.directory.clone();
                spawn_local(async move {
                    // Another leader may know of a stream that this replica has not heard of yet.
                    let found = match group.replica.confirm_leadership().await {
                        Ok(()) => group.inherited_record(&key, id, at, until, &directory).await,
                        Err(error) => Err(error),
                    };
                    drop(reply.send(found));
                });
            }
            RequestKind::List { list, reply } => {
                spawn_local(reads::list(group, list, now, reply));
            }
            RequestKind::DescribeBucket { bucket, reply } => {
                spawn_local(reads::describe_bucket(group, bucket, reply));
            }
            RequestKind::Peers(_) | RequestKind::Install(_) | RequestKind::Propose(_) | RequestKind::Host(_) => {}
        }
    }

    fn answer(&self, question: Inbound) {
        match self.group(question.group) {
            Some(group) => group.replica.answer(question),
            None => question.reply.refuse(Reason::NotHere, not_here(question.group)),
        }
    }

    fn install(&self, snapshot: InboundSnapshot) {
        match self.group(snapshot.group) {
            Some(group) => group.replica.install(snapshot),
            None => drop(snapshot.reply.send(Err(not_here(snapshot.group)))),
        }
    }

    fn propose(&self, mut proposal: Proposal) {
        let Some(group) = self.group(proposal.group) else {
            return proposal.reply.send(Err(Error::NOT_HERE));
        };
        match &proposal.op {
            Op::AcquireFork(acquire) if acquire.offset.is_some() || acquire.sub_offset > 0 => {}
            Op::Trim(_) | Op::PublishSnapshot(_) => {}
            _ => return group.enqueue(proposal),
        }
        let directory = self.directory.clone();
        spawn_local(async move {
            // What is found is said in the op, which is no longer as it came.
            proposal.encoded = None;
            let found = match &mut proposal.op {
                Op::AcquireFork(acquire) => group.find_cut(acquire, &directory).await,
                Op::Trim(Trim { key, to: at, cut }) | Op::PublishSnapshot(PublishSnapshot { key, at, cut, .. }) => {
                    group.find_record(key, *at, &directory).await.map(|found| *cut = found)
                }
                _ => Ok(()),
            };
            match found {
                Ok(()) => group.enqueue(proposal),
                Err(error) => proposal.reply.send(Err(error)),
            }
        });
    }
}

fn not_here(group: GroupId) -> String {
    format!("group {group} has no replica here")
}
