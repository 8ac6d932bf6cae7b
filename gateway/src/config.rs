//! The settings of a gateway.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use ursula_common::config::Settings;
use ursula_common::limits::APPEND_BYTES_MAX;

use crate::origin::Trusted;
use crate::pages::PAGE_BUDGET_BYTES_MIN;

/// The settings of a gateway. Every key can stand in a TOML file, in the environment as
/// `URSULA_GATEWAY_<KEY>`, and, if it has a flag, on the command line as `--<key>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// Where clients are served.
    pub listen: SocketAddr,
    /// Where `/metrics`, `/health` and `/ready` are served.
    pub operations_listen: SocketAddr,
    /// gRPC listeners of storage nodes, as `host:port`; one that answers is enough.
    pub nodes: Vec<String>,
    /// Base of the URLs in `Location`, for a gateway behind a load balancer; without it the host that
    /// the client asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// How long an op may take, with all retries, until the client is told.
    pub op_timeout_ms: u64,
    /// How long a long poll waits for data.
    pub long_poll_timeout_ms: u64,
    /// Pause after which an event stream gets a comment, so that nobody takes it for dead.
    pub sse_heartbeat_ms: u64,
    /// After about so long an event stream ends, and the client connects again where it stopped.
    pub sse_lifetime_ms: u64,
    /// How long a client may take to send the head of a request.
    pub header_timeout_ms: u64,
    /// How long a client may take to send a body.
    pub body_timeout_ms: u64,
    /// How long a client may take no bytes while there are some to send.
    pub write_timeout_ms: u64,
    /// How long a connection may wait for its next request. Above the idle timeout of a load balancer.
    pub idle_timeout_ms: u64,
    /// After the signal to stop, requests are served as before for so long, while `/ready` says no and every answer asks
    /// its client to connect again: the time that a load balancer takes to notice.
    pub drain_delay_ms: u64,
    /// After that, connections are cut after so long.
    pub drain_timeout_ms: u64,
    /// Addresses and networks of proxies whose word on clients is taken: `X-Forwarded-For`, `X-Forwarded-Proto`, and the
    /// PROXY protocol.
    pub trusted_proxies: Vec<String>,
    /// Whether connections from trusted proxies begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Where traces go, over OTLP with gRPC, such as `http://127.0.0.1:4317`; without it there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// The share of requests without a `traceparent` that are traced, 0 to 1.
    pub trace_ratio: f64,
    /// Connections at a time; more wait in the backlog of the system.
    pub connections_max: usize,
    /// Memory for the bodies of requests under way; what would go beyond is refused.
    pub upload_bytes_max: usize,
    /// The largest snapshot that is taken.
    pub snapshot_bytes_max: u64,
    /// Memory for pages that are read and sent; more reads wait.
    pub page_bytes_max: usize,
    /// Memory for events that live readers have not taken yet; readers who need more read pages.
    pub tail_bytes_max: usize,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        GatewayConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 4437)),
            operations_listen: SocketAddr::from(([127, 0, 0, 1], 4436)),
            nodes: vec!["127.0.0.1:4438".to_owned()],
            public_url: None,
            op_timeout_ms: 10_000,
            long_poll_timeout_ms: 20_000,
            sse_heartbeat_ms: 15_000,
            sse_lifetime_ms: 60_000,
            header_timeout_ms: 10_000,
            body_timeout_ms: 30_000,
            write_timeout_ms: 30_000,
            idle_timeout_ms: 75_000,
            drain_delay_ms: 0,
            drain_timeout_ms: 10_000,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            otlp_endpoint: None,
            trace_ratio: 0.01,
            connections_max: 65_536,
            upload_bytes_max: 512 << 20,
            snapshot_bytes_max: 64 << 20,
            page_bytes_max: 512 << 20,
            tail_bytes_max: 256 << 20,
        }
    }
}

/// No timeout is longer than a day.
const TIMEOUT_MS_MAX: u64 = 24 * 3600 * 1000;

impl Settings for GatewayConfig {
    const ENV_PREFIX: &'static str = "URSULA_GATEWAY_";

    fn check(&self) -> Result<(), String> {
        let timeouts = [
            ("op_timeout_ms", self.op_timeout_ms),
            ("long_poll_timeout_ms", self.long_poll_timeout_ms),
            ("sse_heartbeat_ms", self.sse_heartbeat_ms),
            ("sse_lifetime_ms", self.sse_lifetime_ms),
            ("header_timeout_ms", self.header_timeout_ms),
            ("body_timeout_ms", self.body_timeout_ms),
            ("write_timeout_ms", self.write_timeout_ms),
            ("idle_timeout_ms", self.idle_timeout_ms),
            ("drain_timeout_ms", self.drain_timeout_ms),
        ];
        if let Some((name, _)) = timeouts.iter().find(|(_, ms)| !(1..=TIMEOUT_MS_MAX).contains(ms)) {
            return Err(format!("{name} must be 1 to {TIMEOUT_MS_MAX}"));
        }
        if self.drain_delay_ms > TIMEOUT_MS_MAX {
            return Err(format!("drain_delay_ms must be at most {TIMEOUT_MS_MAX}"));
        }
        if !(0.0..=1.0).contains(&self.trace_ratio) {
            return Err("trace_ratio must be from 0 to 1".to_owned());
        }
        Trusted::parse(&self.trusted_proxies)?;
        if self.proxy_protocol && self.trusted_proxies.is_empty() {
            return Err("proxy_protocol needs trusted_proxies: the addresses of the load balancer".to_owned());
        }
        if self.connections_max == 0 {
            return Err("connections_max must be at least 1".to_owned());
        }
        if self.upload_bytes_max < APPEND_BYTES_MAX {
            return Err(format!("upload_bytes_max must be at least {APPEND_BYTES_MAX}, the largest body"));
        }
        if self.page_bytes_max < PAGE_BUDGET_BYTES_MIN {
            return Err(format!("page_bytes_max must be at least {PAGE_BUDGET_BYTES_MIN}, the largest page"));
        }
        let valid = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        if !self.public_url.as_ref().is_none_or(valid) {
            return Err("public_url must start with http:// or https://".to_owned());
        }
        Ok(())
    }
}

impl GatewayConfig {
    pub(crate) fn op_timeout(&self) -> Duration {
        Duration::from_millis(self.op_timeout_ms)
    }

    pub(crate) fn long_poll_timeout(&self) -> Duration {
        Duration::from_millis(self.long_poll_timeout_ms)
    }

    pub(crate) fn sse_heartbeat(&self) -> Duration {
        Duration::from_millis(self.sse_heartbeat_ms)
    }

    pub(crate) fn sse_lifetime(&self) -> Duration {
        Duration::from_millis(self.sse_lifetime_ms)
    }

    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms)
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms)
    }

    pub(crate) fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms)
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    pub(crate) fn drain_delay(&self) -> Duration {
        Duration::from_millis(self.drain_delay_ms)
    }

    pub(crate) fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }
}

/// Settings that were given on the command line.
#[derive(Debug, Default, Clone, clap::Args, Serialize)]
pub struct GatewayFlags {
    /// Where clients are served.
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<SocketAddr>,
    /// Where /metrics, /health and /ready are served.
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    operations_listen: Option<SocketAddr>,
    /// gRPC listener of a storage node; may be given more than once.
    #[arg(long = "node", value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<String>,
    /// Base of the URLs in Location.
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    public_url: Option<String>,
    /// How long an op may take, with all retries.
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    op_timeout_ms: Option<u64>,
    /// How long a long poll waits for data.
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    long_poll_timeout_ms: Option<u64>,
}
