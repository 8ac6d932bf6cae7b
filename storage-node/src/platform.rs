//! What a node has around it: time, a disk, threads, and ways to other nodes. Decides nothing.

use std::fmt;
use std::sync::Arc;

use ursula_cold::store::Store;
use ursula_common::Clock;
use ursula_proto::{ChannelError, NodeChannel};
use ursula_wal::{Io, SystemIo};

use crate::runtime::Runtime;

/// Makes the way to the node at an address (`host:port`).
pub type Connect = dyn Fn(&str) -> Result<NodeChannel, ChannelError> + Send + Sync;

/// How much of a group's log is kept where, and in which parts a snapshot travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// A checkpoint is due after so many bytes of log.
    pub checkpoint_log_bytes: u64,
    /// Entries that stay when the log is purged. Memory holds 16 bytes for each.
    pub entries_kept: u64,
    /// Recent entries are kept in memory up to so many bytes, beyond those that are not on disk yet.
    pub recent_bytes: usize,
    /// A part of a snapshot has about so many bytes: less than a record of the log may have.
    pub section_bytes: usize,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes { checkpoint_log_bytes: 32 << 20, entries_kept: 32 << 10, recent_bytes: 1 << 20, section_bytes: 1 << 20 }
    }
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Platform {
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Where the data directory is.
    pub io: Arc<dyn Io>,
    /// What runs cores, logs and what blocks.
    pub runtime: Runtime,
    /// How other nodes are reached.
    pub connect: Arc<Connect>,
    /// How much of the log is kept where.
    pub sizes: Sizes,
    /// Where the history of streams goes, if it leaves the node.
    pub store: Option<Arc<dyn Store>>,
}

impl Platform {
    /// The machine that the process runs on, with another clock if need be.
    pub fn system(clock: Arc<dyn Clock>) -> Platform {
        let (io, connect) = (Arc::new(SystemIo), Arc::new(ursula_proto::remote));
        Platform { clock, io, runtime: Runtime::default(), connect, sizes: Sizes::default(), store: None }
    }
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Platform { clock, io, runtime, sizes, store, connect: _ } = self;
        f.debug_struct("Platform")
            .field("clock", clock)
            .field("io", io)
            .field("runtime", runtime)
            .field("sizes", sizes)
            .field("store", store)
            .finish_non_exhaustive()
    }
}
