//! The settings of a storage node.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use ursula_common::config::Settings;

use crate::cold::Place;
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
    /// Where the parts of traces go that gateways begin, over OTLP with gRPC, such as `http://127.0.0.1:4317`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
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
    /// Where the history of streams goes: `s3://BUCKET` or `s3://BUCKET/PREFIX`; for a node that is alone also
    /// `file:///DIRECTORY`, or `local`, a folder of `data_dir`. Without it, or with `none`, everything stays in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// The address of the server of S3's protocol, if it is not that of AWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_endpoint: Option<String>,
    /// The region of the bucket, if the environment does not name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_region: Option<String>,
    /// Whether the bucket stands in the path of requests and not in the name of the host.
    pub store_path_style: bool,
    /// How the server keeps objects secret: `sse-s3`, `sse-kms` or `sse-kms:KEY`. Without it as the bucket says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_encryption: Option<String>,
    /// Log that is kept in `data_dir` although `store` has its bytes, so that they need not be fetched. Without it see
    /// [`NodeConfig::log_bytes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<u64>,
    /// A group stores a pack when so many bytes wait for one...
    pub pack_bytes: u64,
    /// ...or so long after the one before.
    pub pack_interval_ms: u64,
    /// Memory for packs on their way to the store, of all groups together.
    pub pack_memory_bytes: usize,
    /// Memory for what was fetched from the store.
    pub cache_bytes: usize,
    /// GETs for readers under way at a time; for those of one bucket half as many.
    pub store_gets_max: usize,
    /// Small objects in the store become one of so many bytes.
    pub store_object_bytes: u64,
    /// For so long an object stays in the store that counts no more. Without it see [`NodeConfig::store_grace_ms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_grace_ms: Option<u64>,
    /// Between two looks at all objects for what nobody needs.
    pub store_clean_ms: u64,
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
    /// Where the history of streams goes: s3://BUCKET, s3://BUCKET/PREFIX or none; for a node that is alone also
    /// file:///DIRECTORY or local.
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    /// The address of the server of S3's protocol, if it is not that of AWS.
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    store_endpoint: Option<String>,
    /// The region of the bucket, if the environment does not name it.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    store_region: Option<String>,
    /// Whether the bucket stands in the path of requests and not in the name of the host.
    #[arg(long, value_name = "BOOLEAN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    store_path_style: Option<bool>,
    /// How the server keeps objects secret: sse-s3, sse-kms or sse-kms:KEY. Without it as the bucket says.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    store_encryption: Option<String>,
    /// Log that is kept although the store has its bytes, so that they need not be fetched.
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_bytes: Option<u64>,
    /// A group stores a pack when so many bytes wait for one...
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pack_bytes: Option<u64>,
    /// ...or so long after the one before.
    #[arg(long, value_name = "MILLISECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pack_interval_ms: Option<u64>,
    /// Memory for packs on their way to the store, of all groups together.
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pack_memory_bytes: Option<usize>,
    /// Memory for what was fetched from the store.
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_bytes: Option<usize>,
    /// GETs for readers under way at a time; for those of one bucket half as many.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    store_gets_max: Option<usize>,
    /// Small objects in the store become one of so many bytes.
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    store_object_bytes: Option<u64>,
    /// For so long an object stays in the store that counts no more.
    #[arg(long, value_name = "MILLISECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    store_grace_ms: Option<u64>,
    /// Between two looks at all objects for what nobody needs.
    #[arg(long, value_name = "MILLISECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    store_clean_ms: Option<u64>,
}

/// More groups cost throughput: each has its own log entries and timers.
const GROUPS_MAX: u32 = 256;
const CORES_MAX: usize = 256;
/// Less than this for a core may not hold an append of the largest size.
const RING_BYTES_MIN: usize = 32 << 20;
/// A file of the log must hold an entry of the largest size, and its places are numbers of 32 bits.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 24 << 20..=1 << 30;

/// Most bytes that wait for a pack before it is stored.
const PACK_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=64 << 20;
/// A pack lies in memory twice while it is made, and the largest record comes on top.
const PACK_MEMORY_FACTOR: u64 = 3;
/// Places in an object are numbers of 32 bits, and two of them are in memory while objects are merged.
const STORE_OBJECT_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=512 << 20;
const CACHE_BYTES_MIN: usize = 16 << 20;
/// One for each of two buckets; and sockets are not for nothing.
const STORE_GETS: std::ops::RangeInclusive<usize> = 2..=1024;
/// Files of the log are removed whole, and some are always in use.
const LOG_SEGMENTS_MIN: u64 = 4;
/// Log that is kept unless somebody says how much, and the store is elsewhere.
const LOG_BYTES: u64 = 4 << 30;
/// Unless somebody says how long: in a store that is elsewhere, and in one on the disk that has the log.
const STORE_GRACE_MS: u64 = 3_600_000;
const LOCAL_GRACE_MS: u64 = 60_000;
/// Checkpoints cost writes as well.
const CHECKPOINT_BYTES_MIN: u64 = 64 << 10;

impl Default for NodeConfig {
    fn default() -> Self {
        let sizes = Sizes::default();
        NodeConfig {
            node_id: 1,
            listen: SocketAddr::from(([127, 0, 0, 1], 4438)),
            operations_listen: SocketAddr::from(([127, 0, 0, 1], 4439)),
            otlp_endpoint: None,
            data_dir: None,
            segment_bytes: 64 << 20,
            disk_reserve_bytes: 1 << 30,
            checkpoint_bytes: sizes.checkpoint_log_bytes,
            entries_kept: sizes.entries_kept,
            cores: std::thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2)),
            groups: 8,
            ring_bytes: 2 << 30,
            store: None,
            store_endpoint: None,
            store_region: None,
            store_path_style: false,
            store_encryption: None,
            log_bytes: None,
            pack_bytes: 8 << 20,
            pack_interval_ms: 5000,
            pack_memory_bytes: 64 << 20,
            cache_bytes: 256 << 20,
            store_gets_max: 64,
            store_object_bytes: 64 << 20,
            store_grace_ms: None,
            store_clean_ms: 86_400_000,
        }
    }
}

impl NodeConfig {
    /// The [`store`](NodeConfig::store) that is none, where there would be one otherwise.
    pub const STORE_NONE: &str = "none";
    /// The [`store`](NodeConfig::store) that is the folder of the same name in [`data_dir`](NodeConfig::data_dir).
    pub const STORE_LOCAL: &str = "local";

    /// Whether the history of streams leaves the log.
    pub fn has_store(&self) -> bool {
        self.store.as_deref().is_some_and(|store| store != Self::STORE_NONE)
    }

    /// Log that is kept although the store has its bytes. Those of a local one are on the same disk: to have them twice would
    /// make nothing faster.
    pub fn log_bytes(&self) -> u64 {
        let default = if self.has_local_store() { LOG_SEGMENTS_MIN * self.segment_bytes } else { LOG_BYTES };
        self.log_bytes.unwrap_or(default)
    }

    /// For so long an object stays in the store that counts no more. In a local one it takes the place of bytes that are there
    /// a second time.
    pub fn store_grace_ms(&self) -> u64 {
        self.store_grace_ms.unwrap_or(if self.has_local_store() { LOCAL_GRACE_MS } else { STORE_GRACE_MS })
    }

    fn has_local_store(&self) -> bool {
        self.store.as_deref() == Some(Self::STORE_LOCAL)
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
            (!self.has_store() || self.data_dir.is_some(), "store needs data_dir".to_owned()),
            (
                self.log_bytes() >= LOG_SEGMENTS_MIN * self.segment_bytes,
                format!("log_bytes must be at least {LOG_SEGMENTS_MIN} times segment_bytes"),
            ),
            (
                PACK_BYTES.contains(&self.pack_bytes),
                format!("pack_bytes must be {} (64 KiB) to {} (64 MiB)", PACK_BYTES.start(), PACK_BYTES.end()),
            ),
            (self.pack_interval_ms >= 1, "pack_interval_ms must be at least 1".to_owned()),
            (
                self.pack_memory_bytes as u64 >= PACK_MEMORY_FACTOR * self.pack_bytes,
                format!("pack_memory_bytes must be at least {PACK_MEMORY_FACTOR} times pack_bytes"),
            ),
            (self.cache_bytes >= CACHE_BYTES_MIN, format!("cache_bytes must be at least {CACHE_BYTES_MIN} (16 MiB)")),
            (
                STORE_GETS.contains(&self.store_gets_max),
                format!("store_gets_max must be {} to {}", STORE_GETS.start(), STORE_GETS.end()),
            ),
            (
                STORE_OBJECT_BYTES.contains(&self.store_object_bytes),
                format!(
                    "store_object_bytes must be {} (1 MiB) to {} (512 MiB)",
                    STORE_OBJECT_BYTES.start(),
                    STORE_OBJECT_BYTES.end()
                ),
            ),
            (self.store_clean_ms >= 1, "store_clean_ms must be at least 1".to_owned()),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, rule)| Err(rule))?;
        Place::of(self).map(drop)
    }
}
