//! A storage node: its cores, and how to reach them.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot, watch};
use ursula_common::{Clock, GroupId, Millis, NodeId};
use ursula_proto::NodeChannel;

use crate::config::NodeConfig;
use crate::core::{Core, CoreConfig, MAILBOX_REQUESTS_MAX, Request};
use crate::directory::{Directory, core_of};
use crate::metrics::Metrics;
use crate::peers::{PeerService, Peers};
use crate::runtime::spawn_core;
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
        let mut threads = Vec::with_capacity(config.cores);
        let mut started = Vec::with_capacity(config.cores);
        for (index, mailbox) in receivers.into_iter().enumerate() {
            let owned = |group: &GroupId| core_of(*group, config.cores) == index;
            let core = CoreConfig {
                index,
                node: id,
                groups: directory.groups().filter(owned).collect(),
                data_groups: config.groups,
                ring_bytes: config.ring_bytes / config.cores,
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
        Ok(Node(Arc::new(Inner { id, started_at, directory, metrics, peers, stop, threads: Mutex::new(threads) })))
    }

    /// The way to this node from within the process.
    pub fn channel(&self) -> NodeChannel {
        ursula_proto::local(ursula_proto::node_server(self.service()))
    }

    /// The metrics of this node in the text format of Prometheus.
    pub fn render_metrics(&self) -> String {
        self.0.metrics.registry.render()
    }

    /// Stops the cores; requests under way are dropped.
    pub async fn stop(&self) {
        let _ = self.0.stop.send(true);
        let threads = std::mem::take(&mut *self.0.threads.lock().unwrap_or_else(PoisonError::into_inner));
        // A join blocks, and a core that panicked has said so already.
        let joined = tokio::task::spawn_blocking(|| threads.into_iter().for_each(|thread| drop(thread.join())));
        drop(joined.await);
    }

    pub(crate) fn service(&self) -> NodeService {
        let Inner { id, started_at, directory, metrics, .. } = &*self.0;
        NodeService::new(*id, started_at.0.max(1), directory.clone(), metrics.clone())
    }

    pub(crate) fn peer_service(&self) -> PeerService {
        PeerService::new(self.0.peers.clone(), self.0.directory.clone())
    }
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
