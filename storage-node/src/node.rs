//! A storage node: its cores, and how to reach them.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use ursula_common::traces::Traces;
use ursula_common::{Clock, ClusterId, GroupId, NodeId};
use ursula_proto::NodeChannel;
use ursula_wal::RecoveredGroup;

use crate::admin::AdminService;
use crate::cluster::{ClusterSide, Identity, Leads};
use crate::cold::{Cold, Place};
use crate::config::NodeConfig;
use crate::core::{Core, CoreConfig, CoreDisk, MAILBOX_REQUESTS_MAX, Notices, Request};
use crate::data_dir::DataDir;
use crate::directory::{Directory, core_of};
use crate::elsewhere::Elsewhere;
use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::peers::{PeerService, Peers};
use crate::platform::Platform;
use crate::runtime::{self, Ended};
use crate::service::{NodeService, of_this_cluster};

/// A running storage node. Cheap to clone; every clone is the same node.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    directory: Directory,
    metrics: Arc<Metrics>,
    peers: Peers,
    notices: Notices,
    cluster: ClusterSide,
    stop: watch::Sender<bool>,
    log_failed: watch::Sender<bool>,
    cores: Mutex<Vec<Ended>>,
    dir: Option<DataDir>,
    traces: Traces,
    cold: Option<Cold>,
    settings: String,
}

/// How a node comes to belong to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Formation {
    /// It is a cluster of its own.
    Alone,
    /// It goes on with the cluster that its data directory belongs to, or waits to be claimed by one.
    Member,
}

/// How long a node that is alone may take to lead all its groups: what it applies again takes time.
const LEAD_TIMEOUT: Duration = Duration::from_secs(600);

impl Node {
    /// Starts a node on this machine; see [`Node::start_on`].
    ///
    /// # Errors
    /// If the data directory cannot be used, or a thread or a group cannot be started.
    pub async fn start(config: &NodeConfig, formation: Formation, clock: Arc<dyn Clock>) -> io::Result<Node> {
        let mut platform = Platform::system(clock);
        platform.sizes.checkpoint_log_bytes = config.checkpoint_bytes;
        platform.sizes.entries_kept = config.entries_kept;
        let opened = open(config, formation, &platform).await?;
        platform.store = Place::open(config, formation).await.map_err(io::Error::other)?;
        Node::start_in(config, formation, platform, opened).await
    }

    /// Starts the cores, and the groups that belong here. A node that is alone is ready when this returns.
    ///
    /// # Errors
    /// If the data directory cannot be used, or a thread or a group cannot be started.
    pub async fn start_on(config: &NodeConfig, formation: Formation, platform: Platform) -> io::Result<Node> {
        let opened = open(config, formation, &platform).await?;
        Node::start_in(config, formation, platform, opened).await
    }

    async fn start_in(
        config: &NodeConfig,
        formation: Formation,
        platform: Platform,
        opened: Option<Opened>,
    ) -> io::Result<Node> {
        let metrics = Metrics::new(config.cores)?;
        let traces = Traces::start("ursula-storage-node", config.otlp_endpoint.as_deref(), 0.0)?;
        let (mailboxes, receivers): (Vec<_>, Vec<_>) =
            (0..config.cores).map(|_| mpsc::channel(MAILBOX_REQUESTS_MAX)).unzip();
        let directory = Directory::new(config.groups, mailboxes);
        let (dir, mut found) = opened.unzip();
        let stored = found.iter().flatten().map(|(group, _)| *group).collect();
        let identity = identity(config, dir.as_ref())?;
        let cluster = identity.cluster.map(|cluster| cluster.0);
        let peers = Peers::new(identity.node, identity.incarnation, cluster, metrics.clone());
        let notices = Notices::new();
        let outside = platform.runtime.outside();
        let cold = platform.store.map(|store| Cold::new(store, config, notices.cluster.subscribe(), outside));
        let (stop, log_failed) = (watch::channel(false).0, watch::channel(false).0);
        let mut cores = Vec::with_capacity(config.cores);
        let mut started = Vec::with_capacity(config.cores);
        for (index, mailbox) in receivers.into_iter().enumerate() {
            let owned = |group: GroupId| core_of(group, config.cores) == index;
            let core = CoreConfig {
                index,
                data_groups: config.groups,
                ring_bytes: config.ring_bytes / config.cores,
                disk: dir.clone().map(|dir| CoreDisk {
                    dir,
                    found: take_owned(found.get_or_insert_default(), owned),
                    failed: log_failed.clone(),
                }),
                clock: platform.clock.clone(),
                metrics: metrics.clone(),
                peers: peers.clone(),
                notices: notices.clone(),
                cold: cold.clone(),
            };
            let (report, reported) = oneshot::channel();
            let (directory, stop) = (directory.clone(), stop.subscribe());
            let work = move || run_core(core, directory, mailbox, stop, report);
            cores.push(platform.runtime.spawn_core(format!("core-{index}"), work)?);
            started.push(reported);
        }
        for reported in started {
            reported.await.unwrap_or_else(|_| Err(io::Error::other("a core ended while it started")))?;
        }
        let engine = Engine::new(
            identity,
            dir.clone(),
            stored,
            directory.clone(),
            peers.clone(),
            notices.clone(),
            platform.connect,
        )?;
        let cluster = ClusterSide::start(Arc::new(engine));
        directory.connect(Elsewhere::new(peers.clone(), cluster.downgrade()));
        let cores = Mutex::new(cores);
        let settings = ursula_common::config::shown(config);
        let node = Node(Arc::new(Inner {
            directory,
            metrics,
            peers,
            notices,
            cluster,
            stop,
            log_failed,
            cores,
            dir,
            traces,
            cold,
            settings,
        }));
        if formation == Formation::Alone {
            node.be_alone().await?;
        }
        Ok(node)
    }

    async fn be_alone(&self) -> io::Result<()> {
        let id = ClusterId(u128::from(runtime::random()) << 64 | u128::from(runtime::random()));
        self.0.cluster.form_alone(id, "").await.map_err(io::Error::other)?;
        let mut refused = self.0.notices.refused.subscribe();
        let ready = async {
            let (mut cluster, mut leads) = (self.0.notices.cluster.subscribe(), self.0.notices.leads.subscribe());
            let known = cluster.wait_for(Option::is_some).await.ok()?.clone()?;
            leads.wait_for(|leads| known.groups.keys().all(|group| is_led(leads, *group))).await.ok().map(drop)
        };
        // There is no other replica: a group that does not start now never will.
        let refused = async {
            let refused = refused.wait_for(|refused| !refused.is_empty()).await.ok()?;
            refused.values().next().map(|sentence| io::Error::other(sentence.as_ref().to_owned()))
        };
        let late = || io::Error::other("the groups have no leader yet; see the messages before");
        tokio::select! {
            biased;
            refused = refused => Err(refused.unwrap_or_else(late)),
            ready = tokio::time::timeout(LEAD_TIMEOUT, ready) => ready.ok().flatten().ok_or_else(late),
        }
    }

    /// What keeps it from serving, for people.
    pub(crate) fn is_waiting_for(&self) -> String {
        let refused: Vec<String> =
            self.0.notices.refused.borrow().values().map(|sentence| format!("{sentence}\n")).collect();
        match self.0.cluster.hosting().identity().cluster {
            None => "not in a cluster yet: see `ursula cluster init` and `ursula cluster add-node`\n".to_owned(),
            Some(_) if !refused.is_empty() => refused.concat(),
            Some(_) => "waiting for the leaders of its groups\n".to_owned(),
        }
    }

    /// Whether this node can serve: it belongs to a cluster, hosts every group that belongs here, and knows who leads
    /// those.
    pub(crate) fn is_ready(&self) -> bool {
        let leads = self.0.notices.leads.borrow();
        let hosted = self.0.notices.hosted();
        let Some(cluster) = self.0.notices.cluster.borrow().clone() else { return false };
        let me = self.0.cluster.hosting().identity().node;
        let mut belong_here = cluster.groups.keys().filter(|group| cluster.hosts(me, **group));
        self.0.notices.refused.borrow().is_empty()
            && !hosted.is_empty()
            && belong_here.all(|group| hosted.contains(group))
            && hosted.iter().all(|group| is_led(&leads, *group))
    }

    /// The way to this node from within the process.
    pub fn channel(&self) -> NodeChannel {
        ursula_proto::local(self.routes())
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

    /// The settings of this node, for people.
    pub(crate) fn settings(&self) -> &str {
        &self.0.settings
    }

    /// Stops the cores, and leaves the data directory to others; requests under way are dropped.
    ///
    /// # Errors
    /// If the log had failed.
    pub async fn stop(&self) -> io::Result<()> {
        self.0.cluster.stop();
        let _ = self.0.stop.send(true);
        let cores = std::mem::take(&mut *self.0.cores.lock().unwrap_or_else(PoisonError::into_inner));
        for ended in cores {
            // Nothing is ever sent; and a core that panicked has said so already.
            drop(ended.await);
        }
        if let Some(dir) = &self.0.dir {
            // What nobody waits for any more may still be writing.
            dir.runtime().finish().await;
            dir.release();
        }
        self.0.traces.clone().stop().await;
        match *self.0.log_failed.borrow() {
            true => Err(io::Error::other("the log could not be written any more")),
            false => Ok(()),
        }
    }

    /// The gRPC services of this node, for its listener and for [`Node::channel`] alike.
    pub(crate) fn routes(&self) -> Routes {
        let Inner { directory, metrics, peers, cluster, dir, cold, traces, .. } = &*self.0;
        let node = NodeService::new(directory.clone(), cluster.clone(), metrics.clone(), traces.clone());
        let for_us = of_this_cluster(cluster.clone());
        Routes::new(InterceptedService::new(ursula_proto::node_server(node), for_us))
            .add_service(ursula_proto::peer_server(PeerService::new(peers.clone(), directory.clone())))
            .add_service(ursula_proto::admin_server(AdminService::new(cluster.clone(), dir.clone(), cold.clone())))
    }
}

fn is_led(leads: &Leads, group: GroupId) -> bool {
    leads.get(&group).is_some_and(|lead| lead.leader.is_some())
}

/// Who the node is: as its data directory says, or for this life only.
fn identity(config: &NodeConfig, dir: Option<&DataDir>) -> io::Result<Identity> {
    let Some(dir) = dir else {
        let (node, incarnation) = (NodeId(config.node_id), runtime::random());
        return Ok(Identity { node, incarnation, groups: config.groups, cluster: None });
    };
    let stored = dir.identity();
    let cluster = stored.cluster.as_deref().map(str::parse).transpose().map_err(io::Error::other)?;
    let (node, incarnation) = (NodeId(stored.node_id), stored.incarnation);
    Ok(Identity { node, incarnation, groups: stored.groups, cluster })
}

/// A data directory, and what was found in its log.
type Opened = (DataDir, BTreeMap<GroupId, RecoveredGroup>);

/// The data directory, if the node has one.
async fn open(config: &NodeConfig, formation: Formation, platform: &Platform) -> io::Result<Option<Opened>> {
    let Some(path) = config.data_dir.clone() else { return Ok(None) };
    let (config, beneath) = (config.clone(), platform.clone());
    let open = move || DataDir::open(&beneath, &path, &config, formation, runtime::random).map_err(io::Error::other);
    platform.runtime.blocking(open).await.map(Some)
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
    match Core::start(config, directory) {
        Ok(core) => {
            drop(report.send(Ok(())));
            core.run(mailbox, stop).await;
        }
        Err(error) => drop(report.send(Err(error))),
    }
}
