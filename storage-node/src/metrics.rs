//! What a storage node counts.

mod replicas;

use std::sync::Arc;

use metrics::{Counter, Gauge, Histogram};
use ursula_common::GroupId;
use ursula_common::metrics::Registry;

use crate::cold::ColdMetrics;
pub(crate) use replicas::{ReplicaGauges, Standing};

/// Handles to every metric of one node.
pub(crate) struct Metrics {
    pub(crate) registry: Registry,
    pub(crate) batch_ops: Histogram,
    pub(crate) frame_ops: Histogram,
    pub(crate) refused_overloaded: Counter,
    pub(crate) refused_memory: Counter,
    pub(crate) refused_disk: Counter,
    pub(crate) refused_store: Counter,
    pub(crate) held_seconds: Histogram,
    pub(crate) log_sync_seconds: Histogram,
    pub(crate) log_bytes: Gauge,
    pub(crate) disk_free_bytes: Gauge,
    pub(crate) cold: ColdMetrics,
    pub(crate) lanes: Gauge,
    pub(crate) tails: Gauge,
    pub(crate) peer_links: Gauge,
    pub(crate) peer_queue_bytes: Gauge,
    pub(crate) peer_frame_messages: Histogram,
    pub(crate) cores: Vec<CoreGauges>,
}

/// What each core reports of itself; rendered with a label, so bounded by the number of cores.
pub(crate) struct CoreGauges {
    pub(crate) ring_used_bytes: Gauge,
    pub(crate) ring_budget_bytes: Gauge,
    pub(crate) queued_ops: Gauge,
    pub(crate) mailbox_requests: Gauge,
    pub(crate) held_answers: Gauge,
    pub(crate) waiting_tails: Gauge,
    pub(crate) streams: Gauge,
    pub(crate) sessions: Gauge,
    pub(crate) log_pending_bytes: Gauge,
    pub(crate) log_unindexed_records: Gauge,
    pub(crate) unpacked_bytes: Gauge,
    pub(crate) unpacked_streams: Gauge,
    pub(crate) store_objects: Gauge,
    pub(crate) store_bytes: Gauge,
    pub(crate) store_replaced: Gauge,
}

impl Metrics {
    /// Registers every metric, those of a core with the label `core`.
    ///
    /// # Errors
    /// If the registry refuses its own settings.
    pub(crate) fn new(cores: usize) -> std::io::Result<Arc<Metrics>> {
        let registry = Registry::new().map_err(std::io::Error::other)?;
        let core = |core: usize| {
            let core = core.to_string();
            let gauge = |name, help| registry.gauge_of(name, help, &[("core", &core)]);
            CoreGauges {
                ring_used_bytes: gauge("ursula_node_ring_used_bytes", "memory that holds stream bytes"),
                ring_budget_bytes: gauge("ursula_node_ring_budget_bytes", "memory that may hold stream bytes"),
                queued_ops: gauge("ursula_node_queued_ops", "ops that wait for their proposal"),
                mailbox_requests: gauge("ursula_node_mailbox_requests", "requests that wait for the core"),
                held_answers: gauge("ursula_node_held_answers", "answers that wait for a pack"),
                waiting_tails: gauge("ursula_node_waiting_tails", "tails that wait for more bytes"),
                streams: gauge("ursula_node_streams", "streams that exist"),
                sessions: gauge("ursula_node_sessions", "gateway sessions that are remembered"),
                log_pending_bytes: gauge("ursula_node_log_pending_bytes", "bytes that wait to be written to the log"),
                log_unindexed_records: gauge(
                    "ursula_node_log_unindexed_records",
                    "records whose place in the log is held in memory",
                ),
                unpacked_bytes: gauge("ursula_node_unpacked_bytes", "stream bytes of led groups that no pack has"),
                unpacked_streams: gauge("ursula_node_unpacked_streams", "streams of led groups that wait for a pack"),
                store_objects: gauge("ursula_node_store_objects", "objects in the store that count, of led groups"),
                store_bytes: gauge("ursula_node_store_bytes", "bytes of these objects"),
                store_replaced: gauge(
                    "ursula_node_store_replaced",
                    "objects of led groups that wait for their removal",
                ),
            }
        };
        let metrics = Metrics {
            batch_ops: registry.histogram("ursula_node_batch_ops", "ops in one Raft entry"),
            frame_ops: registry.histogram("ursula_node_frame_ops", "ops in one frame of a lane"),
            refused_overloaded: registry
                .counter("ursula_node_refused_overloaded_total", "ops refused because a queue was full"),
            refused_memory: registry
                .counter("ursula_node_refused_memory_total", "ops refused because the ring was full"),
            refused_disk: registry
                .counter("ursula_node_refused_disk_total", "ops refused because the disk was nearly full"),
            refused_store: registry
                .counter("ursula_node_refused_store_total", "ops refused that would wait for a store that is away"),
            held_seconds: registry.histogram("ursula_node_held_seconds", "time for which an answer waited for a pack"),
            log_sync_seconds: registry
                .histogram("ursula_node_log_sync_seconds", "time until a batch of the log was on disk"),
            log_bytes: registry.gauge("ursula_node_log_bytes", "bytes of the files of the log"),
            disk_free_bytes: registry.gauge("ursula_node_disk_free_bytes", "free bytes of the disk with the log"),
            cold: ColdMetrics::new(&registry),
            lanes: registry.gauge("ursula_node_lanes", "open lanes from gateways"),
            tails: registry.gauge("ursula_node_tails", "open tails of gateways"),
            peer_links: registry.gauge("ursula_node_peer_links", "open links to other nodes, two for each"),
            peer_queue_bytes: registry
                .gauge("ursula_node_peer_queue_bytes", "questions to other nodes that wait for their frame"),
            peer_frame_messages: registry
                .histogram("ursula_node_peer_frame_messages", "questions in one frame to another node"),
            cores: (0..cores).map(core).collect(),
            registry,
        };
        Ok(Arc::new(metrics))
    }

    /// Gauges for the replica of a group.
    pub(crate) fn replica(&self, group: GroupId) -> ReplicaGauges {
        ReplicaGauges::new(&self.registry, group)
    }
}
