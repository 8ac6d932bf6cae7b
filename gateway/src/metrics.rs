//! What a gateway counts. No label without a bound, and never the name of a stream.

use std::sync::Arc;

use http::StatusCode;
use metrics::{Counter, Gauge, Histogram};
use tokio::time::Instant;
use ursula_common::metrics::Registry;

use crate::config::GatewayConfig;
use crate::requests::{Operation, Requests};

/// Handles to every metric of one gateway.
pub(crate) struct Metrics {
    pub(crate) registry: Registry,
    requests: Requests,
    pub(crate) requests_under_way: Gauge,
    pub(crate) unannounced: Counter,
    pub(crate) groups: Gauge,
    pub(crate) groups_leaderless: Gauge,
    pub(crate) appends: Counter,
    pub(crate) appended_bytes: Counter,
    pub(crate) delivered_bytes: Counter,
    pub(crate) connections: Gauge,
    pub(crate) upload_bytes: Gauge,
    pub(crate) page_bytes: Gauge,
    pub(crate) frame_ops: Histogram,
    pub(crate) window_ops: Gauge,
    pub(crate) window_bytes: Gauge,
    pub(crate) leaders_followed: Counter,
    pub(crate) resent_not_leader: Counter,
    pub(crate) resent_lane_lost: Counter,
    pub(crate) resent_moved: Counter,
    pub(crate) resent_undone: Counter,
    pub(crate) scouts: Counter,
    pub(crate) reads_not_leader: Counter,
    pub(crate) reads_unreachable: Counter,
    pub(crate) reads_hedged: Counter,
    pub(crate) tails_moved: Counter,
    pub(crate) tail_upstreams: Gauge,
    pub(crate) tail_upstreams_opened: Counter,
    pub(crate) tail_readers: Gauge,
    pub(crate) tail_frames: Counter,
    pub(crate) tail_frame_bytes: Gauge,
    pub(crate) tail_deliveries: Counter,
    pub(crate) tail_lagged: Counter,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// If the registry refuses its own settings.
    pub(crate) fn new(config: &GatewayConfig) -> std::io::Result<Arc<Metrics>> {
        let registry = Registry::new().map_err(std::io::Error::other)?;
        let counter = |name, help| registry.counter(name, help);
        let gauge = |name, help| registry.gauge(name, help);
        let metrics = Metrics {
            requests: Requests::new(),
            requests_under_way: gauge(
                "ursula_gateway_requests_under_way",
                "requests that wait for the head of an answer",
            ),
            unannounced: counter(
                "ursula_gateway_unannounced_total",
                "connections of trusted proxies without a header of the PROXY protocol, which were ended",
            ),
            appends: counter("ursula_gateway_appends_total", "appends that were accepted"),
            groups: gauge("ursula_gateway_groups", "groups of the cluster, as far as is known"),
            groups_leaderless: gauge("ursula_gateway_groups_leaderless", "groups of which no leader is known"),
            appended_bytes: counter("ursula_gateway_appended_bytes_total", "bytes of streams that were appended"),
            delivered_bytes: counter(
                "ursula_gateway_delivered_bytes_total",
                "bytes of streams in pages, and in events for each reader",
            ),
            connections: gauge("ursula_gateway_connections", "open connections of clients"),
            upload_bytes: gauge("ursula_gateway_upload_bytes", "memory that holds bodies of requests"),
            page_bytes: gauge("ursula_gateway_page_bytes", "memory that holds pages on their way to clients"),
            frame_ops: registry.histogram("ursula_gateway_frame_ops", "ops in one frame to a storage node"),
            window_ops: gauge("ursula_gateway_window_ops", "ops that wait for their answer"),
            window_bytes: gauge("ursula_gateway_window_bytes", "memory that holds ops that wait for their answer"),
            leaders_followed: counter(
                "ursula_gateway_leaders_followed_total",
                "times a group was found to be led by another node",
            ),
            resent_not_leader: counter(
                "ursula_gateway_resent_not_leader_total",
                "ops sent again because a node did not lead",
            ),
            resent_lane_lost: counter(
                "ursula_gateway_resent_lane_lost_total",
                "ops sent again because a node could not be reached",
            ),
            resent_moved: counter(
                "ursula_gateway_resent_moved_total",
                "ops sent again to a new leader before the old one answered",
            ),
            resent_undone: counter(
                "ursula_gateway_resent_undone_total",
                "ops sent again because a node could not say whether it did them",
            ),
            scouts: counter("ursula_gateway_scouts_total", "ops sent to find out who leads"),
            reads_not_leader: counter(
                "ursula_gateway_reads_not_leader_total",
                "reads that a node refused because it did not lead",
            ),
            reads_unreachable: counter(
                "ursula_gateway_reads_unreachable_total",
                "reads that did not get to a node or back",
            ),
            reads_hedged: counter(
                "ursula_gateway_reads_hedged_total",
                "reads put to another node as well because one was silent",
            ),
            tails_moved: counter("ursula_gateway_tails_moved_total", "tails opened again at another node"),
            tail_upstreams: gauge("ursula_gateway_tail_upstreams", "tails open at storage nodes"),
            tail_upstreams_opened: counter("ursula_gateway_tail_upstreams_opened_total", "tails ever opened"),
            tail_readers: gauge("ursula_gateway_tail_readers", "clients that follow a stream"),
            tail_frames: counter("ursula_gateway_tail_frames_total", "events framed, each once for all readers"),
            tail_frame_bytes: gauge("ursula_gateway_tail_frame_bytes", "memory that holds framed events"),
            tail_deliveries: counter("ursula_gateway_tail_deliveries_total", "events given to a reader"),
            tail_lagged: counter("ursula_gateway_tail_lagged_total", "times a reader fell behind the kept events"),
            registry,
        };
        let bounds = [
            ("ursula_gateway_connections_max", "connections that may be open", config.connections_max),
            ("ursula_gateway_upload_budget_bytes", "memory that may hold bodies of requests", config.upload_bytes_max),
            ("ursula_gateway_page_budget_bytes", "memory that may hold pages", config.page_bytes_max),
            ("ursula_gateway_tail_frame_budget_bytes", "memory that may hold framed events", config.tail_bytes_max),
            ("ursula_gateway_window_budget_bytes", "memory that may hold ops that wait", config.upload_bytes_max),
        ];
        for (name, help, max) in bounds {
            metrics.registry.gauge(name, help).set(max as f64);
        }
        Ok(Arc::new(metrics))
    }

    /// A request was answered that came at `since`.
    pub(crate) fn answered(&self, operation: Operation, status: StatusCode, since: Instant) {
        self.requests.answered(&self.registry, operation, status, since.elapsed());
    }
}
