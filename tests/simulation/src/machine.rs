//! A machine of a storage node: what of it survives a crash, and what runs on it.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;
use ursula_cold::store::Store;
use ursula_storage_node::{Formation, Node, NodeConfig, Platform, Runtime, Sizes, Work, serve_on};
use ursula_wal::io::FaultIo;

use crate::clock::SimulatedClock;
use crate::network;
use crate::objects::Objects;
use crate::plan::Plan;

/// Its log has records of 240 KiB at most.
const SECTION_BYTES: usize = 64 << 10;
/// How often metrics are looked at, and one of them.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);
const UNPACKED: &str = "ursula_node_unpacked_streams{";
/// Room on its disk.
const DISK_BYTES: u64 = 256 << 20;

/// See the module.
pub(crate) struct Machine {
    pub(crate) host: String,
    pub(crate) disk: FaultIo,
    pub(crate) clock: Arc<SimulatedClock>,
    disk_max_us: Arc<AtomicU64>,
    log_us: Arc<AtomicU64>,
    config: NodeConfig,
    sizes: Sizes,
    /// Where the history of its groups goes, if it leaves the nodes.
    objects: Option<Arc<Objects>>,
    /// Streams of groups that this node leads which no pack has as they are.
    unpacked: AtomicU64,
    ended: Mutex<Option<io::Result<()>>>,
}

impl Machine {
    pub(crate) fn new(plan: &Plan, host: String, id: u64, objects: Arc<Objects>) -> Arc<Machine> {
        let mut config = NodeConfig {
            node_id: id,
            data_dir: Some(PathBuf::from("/data")),
            segment_bytes: plan.segment_bytes,
            disk_reserve_bytes: 0,
            cores: plan.cores,
            groups: plan.groups,
            ring_bytes: plan.ring_bytes * plan.cores,
            ..NodeConfig::default()
        };
        if let Some(packs) = plan.packs {
            config.pack_bytes = packs.bytes;
            config.pack_interval_ms = packs.interval.as_millis() as u64;
            config.store_object_bytes = 1 << 20;
            let grace_ms = 20 * config.pack_interval_ms;
            config.store_grace_ms = Some(grace_ms);
            config.store_clean_ms = 2 * grace_ms;
            config.log_bytes = Some(packs.log_segments * plan.segment_bytes);
            config.cache_bytes = packs.cache_bytes;
        }
        let sizes = Sizes {
            checkpoint_log_bytes: plan.checkpoint_log_bytes,
            entries_kept: plan.entries_kept,
            recent_bytes: plan.recent_bytes,
            section_bytes: SECTION_BYTES,
        };
        let machine = Machine {
            host,
            disk: FaultIo::new(DISK_BYTES),
            clock: Arc::default(),
            disk_max_us: Arc::default(),
            log_us: Arc::default(),
            config,
            sizes,
            objects: plan.packs.map(|_| objects),
            unpacked: AtomicU64::new(0),
            ended: Mutex::default(),
        };
        machine.set_disk_max(plan.disk_max);
        Arc::new(machine)
    }

    /// How long calls of the disk take from now on, at most.
    pub(crate) fn set_disk_max(&self, time: Duration) {
        self.disk_max_us.store(time.as_micros() as u64, Ordering::Relaxed);
        self.log_us.store(0, Ordering::Relaxed);
    }

    /// How long writes of the log take from now on, while other calls are as fast as they were.
    pub(crate) fn set_log(&self, time: Duration) {
        self.log_us.store(time.as_micros() as u64, Ordering::Relaxed);
    }

    /// How much fits on the disk from now on; all of it, or nothing more.
    pub(crate) fn set_disk_full(&self, full: bool) {
        self.disk.set_capacity(if full { 0 } else { DISK_BYTES });
    }

    /// How the node ended, if it did by itself. Told once.
    pub(crate) fn take_end(&self) -> Option<io::Result<()>> {
        self.end().take()
    }

    /// How many streams wait for a pack, as its leader told last.
    pub(crate) fn unpacked(&self) -> u64 {
        self.unpacked.load(Ordering::Relaxed)
    }

    fn end(&self) -> MutexGuard<'_, Option<io::Result<()>>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What runs on it, from its start on. Never fails: how it ended is noted.
    pub(crate) async fn run(self: Arc<Self>) {
        let ended = self.serve().await;
        *self.end() = Some(ended);
    }

    async fn serve(&self) -> io::Result<()> {
        let (disk_max_us, log_us) = (self.disk_max_us.clone(), self.log_us.clone());
        let takes = move |work| {
            let time = rand::random_range(50..=disk_max_us.load(Ordering::Relaxed).max(51));
            let log = if work == Work::Log { log_us.load(Ordering::Relaxed) } else { 0 };
            Duration::from_micros(time.max(log))
        };
        let platform = Platform {
            clock: self.clock.clone(),
            io: Arc::new(self.disk.clone()),
            runtime: Runtime::Tasks(Arc::new(takes)),
            connect: Arc::new(network::connect),
            sizes: self.sizes,
            store: self.objects.clone().map(|objects| objects as Arc<dyn Store>),
        };
        let node = Node::start_on(&self.config, Formation::Member, platform).await?;
        let listener = network::listen().await?;
        tokio::select! {
            ended = serve_on(node.clone(), network::incoming(listener), std::future::pending()) => ended,
            never = self.look_at(&node), if self.objects.is_some() => never,
        }
    }

    /// Notes what the node tells of itself.
    async fn look_at(&self, node: &Node) -> io::Result<()> {
        loop {
            sleep(LOOK_EVERY).await;
            let metrics = node.render_metrics();
            let of_cores = metrics.lines().filter(|line| line.starts_with(UNPACKED));
            let streams = of_cores.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>();
            self.unpacked.store(streams as u64, Ordering::Relaxed);
        }
    }
}
