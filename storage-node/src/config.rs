//! The settings of a storage node.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use ursula_common::config::Settings;

use crate::platform::Sizes;

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
    /// Where everything is kept across restarts. Without it the node is alone and in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Size of one file of the log in `data_dir`.
    pub segment_bytes: u64,
    /// Appends are refused while the disk of `data_dir` has less than this free.
    pub disk_reserve_bytes: u64,
    /// A group gets a checkpoint after so many bytes of log.
    pub checkpoint_bytes: u64,
    /// Entries of each group that stay in the log for replicas that are behind.
    pub entries_kept: u64,
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
    /// Where everything is kept across restarts. Without it the node is alone and in memory.
    #[arg(long, value_name = "DIRECTORY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,
    /// Size of one file of the log.
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_bytes: Option<u64>,
    /// Appends are refused while the disk has less than this free.
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_reserve_bytes: Option<u64>,
    /// A group gets a checkpoint after so many bytes of log.
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint_bytes: Option<u64>,
    /// Entries of each group that stay in the log for replicas that are behind.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    entries_kept: Option<u64>,
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
/// A file of the log must hold an entry of the largest size, and its places are numbers of 32 bits.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 24 << 20..=1 << 30;

/// Checkpoints cost writes as well.
const CHECKPOINT_BYTES_MIN: u64 = 64 << 10;

impl Default for NodeConfig {
    fn default() -> Self {
        let sizes = Sizes::default();
        NodeConfig {
            node_id: 1,
            listen: SocketAddr::from(([127, 0, 0, 1], 4438)),
            operations_listen: SocketAddr::from(([127, 0, 0, 1], 4439)),
            data_dir: None,
            segment_bytes: 64 << 20,
            disk_reserve_bytes: 1 << 30,
            checkpoint_bytes: sizes.checkpoint_log_bytes,
            entries_kept: sizes.entries_kept,
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
                SEGMENT_BYTES.contains(&self.segment_bytes),
                format!("segment_bytes must be {} (24 MiB) to {} (1 GiB)", SEGMENT_BYTES.start(), SEGMENT_BYTES.end()),
            ),
            (
                self.checkpoint_bytes >= CHECKPOINT_BYTES_MIN,
                format!("checkpoint_bytes must be at least {CHECKPOINT_BYTES_MIN}"),
            ),
            (self.entries_kept >= 1, "entries_kept must be at least 1".to_owned()),
            (
                self.ring_bytes / self.cores.max(1) >= RING_BYTES_MIN,
                format!("ring_bytes must be at least {RING_BYTES_MIN} (32 MiB) for each core"),
            ),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, rule)| Err(rule))
    }
}
