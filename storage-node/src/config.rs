//! The settings of a storage node.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use ursula_common::config::Settings;

/// The settings of a storage node. Every key can stand in a TOML file, in the environment as
/// `URSULA_NODE_<KEY>`, and on the command line as `--<key>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Identity of this node in its cluster.
    pub node_id: u64,
    /// Where gateways reach the gRPC services.
    pub listen: SocketAddr,
    /// Where `/metrics`, `/health` and `/ready` are served.
    pub operations_listen: SocketAddr,
    /// Threads that own groups.
    pub cores: usize,
    /// Groups that hold streams, on all cores together. Fixed for the life of a cluster.
    pub groups: u32,
    /// Memory for the bytes of streams, on all cores together.
    pub ring_bytes: usize,
}

/// Settings that were given on the command line.
#[derive(Debug, Default, clap::Args, Serialize)]
pub struct NodeFlags {
    /// Identity of this node in its cluster.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    node_id: Option<u64>,
    /// Where gateways reach the gRPC services.
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<SocketAddr>,
    /// Where /metrics, /health and /ready are served.
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    operations_listen: Option<SocketAddr>,
    /// Threads that own groups.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    cores: Option<usize>,
    /// Groups that hold streams, on all cores together. Fixed for the life of a cluster.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<u32>,
    /// Memory for the bytes of streams, on all cores together.
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    ring_bytes: Option<usize>,
}

/// More groups cost throughput: each has its own log entries and timers.
const GROUPS_MAX: u32 = 256;
const CORES_MAX: usize = 256;
/// Less than this for a core may not hold an append of the largest size.
const RING_BYTES_MIN: usize = 32 << 20;

impl Default for NodeConfig {
    fn default() -> Self {
        NodeConfig {
            node_id: 1,
            listen: SocketAddr::from(([127, 0, 0, 1], 4438)),
            operations_listen: SocketAddr::from(([127, 0, 0, 1], 4439)),
            cores: std::thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2)),
            groups: 8,
            ring_bytes: 2 << 30,
        }
    }
}

impl Settings for NodeConfig {
    const ENV_PREFIX: &'static str = "URSULA_NODE_";

    fn check(&self) -> Result<(), String> {
        let rules = [
            (self.node_id > 0, "node_id must be at least 1".to_owned()),
            ((1..=CORES_MAX).contains(&self.cores), format!("cores must be 1 to {CORES_MAX}")),
            ((1..=GROUPS_MAX).contains(&self.groups), format!("groups must be 1 to {GROUPS_MAX}")),
            (
                self.ring_bytes / self.cores.max(1) >= RING_BYTES_MIN,
                format!("ring_bytes must be at least {RING_BYTES_MIN} (32 MiB) for each core"),
            ),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, rule)| Err(rule))
    }
}
