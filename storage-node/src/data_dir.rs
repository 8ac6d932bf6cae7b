//! The directory of a node: whose it is, its log, and the checkpoints of its groups. Owns how it is opened; each of
//! the things in it has a file of its own below.
//!
//! Opening judges everything before it changes anything: a directory that is not this node's, or that this
//! version cannot read, is left as it is.

mod checkpoints;
mod files;
mod identity;
mod judge;
mod peers;
mod upkeep;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use ursula_common::GroupId;
use ursula_wal::io::Lock;
use ursula_wal::{Io, LogDir, OpenError, Options, RecoveredGroup, SegmentId, Space};

use crate::config::NodeConfig;
use crate::node::Formation;
use crate::platform::{Platform, Sizes};
use crate::runtime::Runtime;
pub(crate) use checkpoints::TemporaryFile;
pub(crate) use files::read_all;
use identity::{FORMAT, Identity};
pub(crate) use identity::{Forgotten, Standing};
pub(crate) use upkeep::Needs;

const LOCK: &str = "lock";
const LOG: &str = "log";

/// A directory that is open. Cheap to clone.
#[derive(Clone)]
pub(crate) struct DataDir(Arc<Inner>);

struct Inner {
    io: Arc<dyn Io>,
    runtime: Runtime,
    sizes: Sizes,
    path: PathBuf,
    identity: Mutex<Identity>,
    log: LogDir,
    /// Of each core, once it has told.
    needs: Mutex<Vec<Option<Needs>>>,
    full: AtomicBool,
    space: Mutex<Option<Space>>,
    lock: Mutex<Option<Box<dyn Lock>>>,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    #[error("cannot use the data directory {path}: {error}")]
    Io { path: String, error: io::Error },
    #[error("another process uses the data directory {0}: stop it, or choose another directory")]
    Locked(String),
    #[error(
        "{0} is not empty and has no identity.toml, so it is not a data directory: choose an empty one, or the right one"
    )]
    Foreign(String),
    #[error(
        "{0} holds the data of a node, but no identity.toml: restore that from a copy, or put a new node in the place of \
         this one (`ursula cluster replace-node`)"
    )]
    NoIdentity(String),
    #[error(
        "{path}/identity.toml cannot be understood ({reason}): restore it from a copy, or put a new node in \
             the place of this one (`ursula cluster replace-node`)"
    )]
    Identity { path: String, reason: String },
    #[error("the data directory {path} has format {found}, this version knows {FORMAT}: use the version that wrote it")]
    Format { path: String, found: u32 },
    #[error("the data directory {path} belongs to node {stored}, but node_id is {configured}: correct one of the two")]
    OtherNode { path: String, stored: u64, configured: u64 },
    #[error(
        "the data directory {path} was made with {stored} groups, but groups is {configured}: streams would not be found; \
         set groups to {stored}"
    )]
    OtherGroups { path: String, stored: u32, configured: u32 },
    #[error(
        "the data directory {path} belongs to a node of cluster {cluster}, which has others: start it with \
         `ursula-storage-node`"
    )]
    OfSeveral { path: String, cluster: String },
    #[error(
        "the data directory {path} belongs to `ursula dev`, a cluster within one process that nobody else can reach: \
         start it with `ursula dev`"
    )]
    OfOne { path: String },
    #[error(
        "the node of the data directory {path} was taken out of cluster {cluster} for ever: delete the directory, and add \
         the node with an empty one under a new id"
    )]
    Removed { path: String, cluster: String },
    #[error(
        "{path} has format {found}, which this version does not know: use the version that wrote it, or a later one"
    )]
    NewerCheckpoint { path: String, found: u8 },
    #[error(
        "{path} is not there, and all that the node had acknowledged was in it: restore it, or put a new node in the \
         place of this one (`ursula cluster replace-node`)"
    )]
    NoLog { path: String },
    #[error("{path} is damaged ({reason}): restore the file; there is no other copy")]
    Checkpoint { path: String, reason: String },
    #[error("{path} cannot be understood ({reason}): remove it; the cluster tells it again")]
    Peers { path: String, reason: String },
    #[error(transparent)]
    Log(#[from] OpenError),
}

impl DataDir {
    /// Lets others have the directory. Whoever calls this knows that nobody uses it any more.
    pub(crate) fn release(&self) {
        drop(self.0.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.0.log.release();
    }

    /// Opens the directory of `config`, making it if it is not there, and what its log has of each group.
    ///
    /// # Errors
    /// If it cannot be used; then it was not changed.
    pub(crate) fn open(
        platform: &Platform,
        path: &Path,
        config: &NodeConfig,
        formation: Formation,
        random: impl Fn() -> u64,
    ) -> Result<(DataDir, BTreeMap<GroupId, RecoveredGroup>), DataDirError> {
        let (io, name) = (platform.io.clone(), || path.display().to_string());
        let failed = |error| DataDirError::Io { path: name(), error };
        io.create_dir(path).map_err(failed)?;
        let stored = files::read(&*io, &path.join(identity::FILE)).map_err(failed)?;
        let is_new = stored.is_none();
        if is_new && !io.list(path).map_err(failed)?.iter().all(|file| is_ours_half_made(file)) {
            return Err(DataDirError::Foreign(name()));
        }
        // The identity is written before these are made.
        if is_new && [LOG, checkpoints::DIR].iter().any(|folder| io.list(&path.join(folder)).is_ok()) {
            return Err(DataDirError::NoIdentity(name()));
        }
        let lock = io.lock(&path.join(LOCK)).map_err(failed)?.ok_or_else(|| DataDirError::Locked(name()))?;
        let identity = match stored {
            Some(bytes) => Identity::parse(&bytes, path)?,
            None => Identity::new(config, random()),
        };
        identity.check(config, formation, path)?;
        judge::log_is_there(&*io, path, &identity)?;
        judge::checkpoint_files(&*io, path, formation)?;
        peers::stored(&*io, path)?;
        if is_new {
            files::write(&*io, path, identity::FILE, identity.to_toml().as_bytes()).map_err(failed)?;
        }
        io.create_dir(&path.join(checkpoints::DIR)).map_err(failed)?;
        let options = Options {
            segment_bytes: u32::try_from(config.segment_bytes).unwrap_or(u32::MAX),
            record_bytes_max: RECORD_BYTES_MAX.min((config.segment_bytes / 12 * 11) as u32),
            groups_max: config.groups + 1,
            identity: identity.incarnation,
            salt: random(),
            free_bytes_min: config.disk_reserve_bytes,
            // Each core may need one at the same moment.
            reserve: (config.cores as u32).max(2),
            spares: (config.cores as u32).max(2) + 1,
            ..Options::default()
        };
        // A group whose checkpoint cannot be read says so when it starts.
        let applied = |group| checkpoints::applied(&*io, path, group).ok().flatten();
        let applied: BTreeMap<GroupId, u64> =
            (0..=config.groups).map(GroupId).filter_map(|group| Some((group, applied(group)?))).collect();
        let applied = |group| applied.get(&group).copied();
        let against = |found: &_| judge::log(&identity, formation, found);
        let (log, recovered) = LogDir::open_after(io.clone(), &path.join(LOG), options, &applied, &against)?;
        let needs = Mutex::new(vec![None; config.cores]);
        let (runtime, sizes) = (platform.runtime.clone(), platform.sizes);
        let (path, identity, full) = (path.to_owned(), Mutex::new(identity), AtomicBool::new(false));
        let inner = Inner {
            io,
            runtime,
            sizes,
            path,
            identity,
            log,
            needs,
            full,
            space: Mutex::new(None),
            lock: Mutex::new(Some(lock)),
        };
        Ok((DataDir(Arc::new(inner)), recovered.groups))
    }

    /// Runs what blocks outside of the core that asks.
    ///
    /// # Errors
    /// Those of `work`.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.0.runtime.blocking(work).await
    }

    /// How much of the log of each group is kept where.
    pub(crate) fn sizes(&self) -> Sizes {
        self.0.sizes
    }

    /// What runs its cores and its log.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.0.runtime
    }

    /// The log of all cores.
    pub(crate) fn log(&self) -> &LogDir {
        &self.0.log
    }

    /// Whether nothing more will be written to a segment.
    pub(crate) fn is_full(&self, segment: SegmentId) -> bool {
        self.0.log.is_complete(segment)
    }
}

/// The largest entry: a batch is closed at 4 MiB, and the op that closes it may have 16 MiB.
const RECORD_BYTES_MAX: u32 = 22 << 20;

/// What a process that ended while it made the directory may have left.
fn is_ours_half_made(file: &str) -> bool {
    file == LOCK || file == files::temporary(identity::FILE)
}

#[cfg(test)]
mod tests;
