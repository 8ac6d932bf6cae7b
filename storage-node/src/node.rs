//! A storage node: its cores, and how to reach them.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot, watch};
use ursula_common::{Clock, GroupId, Millis, NodeId};
use ursula_proto::NodeChannel;
use ursula_wal::RecoveredGroup;
use ursula_wal::io::SystemIo;

use crate::config::NodeConfig;
use crate::core::{Core, CoreConfig, CoreDisk, MAILBOX_REQUESTS_MAX, Request};
use crate::data_dir::DataDir;
use crate::directory::{Directory, core_of};
use crate::metrics::Metrics;
use crate::peers::{PeerService, Peers};
use crate::runtime::{self, spawn_core};
use crate::service::NodeService;

/// A running storage node. Cheap to clone; every clone is the same node.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    id: NodeId,
    started_at: Millis,
    directory: Directory,
    metrics: Arc<Metrics>,
    peers: Peers,
    stop: watch::Sender<bool>,
    log_failed: watch::Sender<bool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Node {
    /// Starts the cores and waits until every group has a leader.
    ///
    /// # Errors
    /// If a thread or a group cannot be started.
    pub async fn start(config: &NodeConfig, clock: Arc<dyn Clock>) -> io::Result<Node> {
        let id = NodeId(config.node_id);
        let started_at = clock.now();
        let metrics = Metrics::new(config.cores)?;
        let (mailboxes, receivers): (Vec<_>, Vec<_>) =
            (0..config.cores).map(|_| mpsc::channel(MAILBOX_REQUESTS_MAX)).unzip();
        let directory = Directory::new(config.groups, mailboxes);
        let peers = Peers::new(id, 0, None, metrics.clone());
        let (stop, _) = watch::channel(false);
        let log_failed = watch::channel(false).0;
        let (dir, mut found) = open(config).await?.unzip();
        let mut threads = Vec::with_capacity(config.cores);
        let mut started = Vec::with_capacity(config.cores);
        for (index, mailbox) in receivers.into_iter().enumerate() {
            let owned = |group: GroupId| core_of(group, config.cores) == index;
            let core = CoreConfig {
                index,
                node: id,
                groups: directory.groups().filter(|group| owned(*group)).collect(),
                data_groups: config.groups,
                ring_bytes: config.ring_bytes / config.cores,
                disk: dir.clone().map(|dir| CoreDisk {
                    dir,
                    found: take_owned(found.get_or_insert_default(), owned),
                    failed: log_failed.clone(),
                }),
                clock: clock.clone(),
                metrics: metrics.clone(),
                peers: peers.clone(),
            };
            let (report, reported) = oneshot::channel();
            let (directory, stop) = (directory.clone(), stop.subscribe());
            let work = move || run_core(core, directory, mailbox, stop, report);
            threads.push(spawn_core(format!("core-{index}"), work)?);
            started.push(reported);
        }
        for reported in started {
            reported.await.unwrap_or_else(|_| Err(io::Error::other("a core ended while it started")))?;
        }
        let threads = Mutex::new(threads);
        Ok(Node(Arc::new(Inner { id, started_at, directory, metrics, peers, stop, log_failed, threads })))
    }

    /// The way to this node from within the process.
    pub fn channel(&self) -> NodeChannel {
        ursula_proto::local(ursula_proto::node_server(self.service()))
    }

    /// The metrics of this node in the text format of Prometheus.
    pub fn render_metrics(&self) -> String {
        self.0.metrics.registry.render()
    }

    /// Returns when the log can no longer be written: the process must end, and what was not acknowledged may
    /// be gone.
    pub async fn log_failed(&self) {
        let mut failed = self.0.log_failed.subscribe();
        if failed.wait_for(|failed| *failed).await.is_err() {
            std::future::pending().await
        }
    }

    /// Stops the cores; requests under way are dropped.
    ///
    /// # Errors
    /// If the log had failed.
    pub async fn stop(&self) -> io::Result<()> {
        let _ = self.0.stop.send(true);
        let threads = std::mem::take(&mut *self.0.threads.lock().unwrap_or_else(PoisonError::into_inner));
        // A join blocks, and a core that panicked has said so already.
        let joined = tokio::task::spawn_blocking(|| threads.into_iter().for_each(|thread| drop(thread.join())));
        drop(joined.await);
        match *self.0.log_failed.borrow() {
            true => Err(io::Error::other("the log could not be written any more")),
            false => Ok(()),
        }
    }

    pub(crate) fn service(&self) -> NodeService {
        let Inner { id, started_at, directory, metrics, .. } = &*self.0;
        NodeService::new(*id, started_at.0.max(1), directory.clone(), metrics.clone())
    }

    pub(crate) fn peer_service(&self) -> PeerService {
        PeerService::new(self.0.peers.clone(), self.0.directory.clone())
    }
}

/// The data directory, if the node has one, and what was found in its log.
async fn open(config: &NodeConfig) -> io::Result<Option<(DataDir, BTreeMap<GroupId, RecoveredGroup>)>> {
    let Some(path) = config.data_dir.clone() else { return Ok(None) };
    let config = config.clone();
    let open = move || DataDir::open(Arc::new(SystemIo), &path, &config, runtime::random).map_err(io::Error::other);
    runtime::blocking(open).await.map(Some)
}

fn take_owned(
    found: &mut BTreeMap<GroupId, RecoveredGroup>,
    owned: impl Fn(GroupId) -> bool,
) -> BTreeMap<GroupId, RecoveredGroup> {
    let (own, rest) = std::mem::take(found).into_iter().partition(|(group, _)| owned(*group));
    *found = rest;
    own
}

async fn run_core(
    config: CoreConfig,
    directory: Directory,
    mailbox: mpsc::Receiver<Request>,
    stop: watch::Receiver<bool>,
    report: oneshot::Sender<io::Result<()>>,
) {
    match Core::start(config, directory).await {
        Ok(core) => {
            drop(report.send(Ok(())));
            core.run(mailbox, stop).await;
        }
        Err(error) => drop(report.send(Err(error))),
    }
}
