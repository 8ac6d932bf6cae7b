//! The directory of a node: whose it is, its log, and the checkpoints of its groups.
//!
//! Opening judges everything before it changes anything: a directory that is not this node's, or that this
//! version cannot read, is left as it is.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use ursula_common::{GroupId, NodeId};
use ursula_wal::io::Lock;
use ursula_wal::{File, Io, LogDir, OpenError, Options, RecoveredGroup, SegmentId};

use crate::cluster::Peer;
use crate::config::NodeConfig;
use crate::platform::{Platform, Sizes};
use crate::runtime::Runtime;

/// Persisted: the version of the layout of the directory.
const FORMAT: u32 = 1;
const IDENTITY: &str = "identity.toml";
const PEERS: &str = "peers.toml";
const LOCK: &str = "lock";
const LOG: &str = "log";
const CHECKPOINTS: &str = "checkpoints";

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
    /// The oldest segment that has bytes of streams of each core.
    needed: Mutex<Vec<SegmentId>>,
    full: AtomicBool,
    _lock: Box<dyn Lock>,
}

/// A file that is removed when it is dropped.
pub(crate) struct TemporaryFile {
    io: Arc<dyn Io>,
    runtime: Runtime,
    path: PathBuf,
    file: Arc<dyn File>,
}

impl TemporaryFile {
    pub(crate) fn file(&self) -> Arc<dyn File> {
        self.file.clone()
    }

    /// What runs calls that block.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // What stays behind goes when the next one is made.
        drop(self.io.remove(&self.path));
    }
}

/// Whose directory it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    format: u32,
    /// The number of the node in its cluster.
    pub(crate) node_id: u64,
    /// Drawn when the directory was made: another directory is another node, whatever its number.
    #[serde(with = "hex")]
    pub(crate) incarnation: u64,
    /// Groups that hold streams, in the whole cluster.
    pub(crate) groups: u32,
    /// The cluster, once the node belongs to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cluster: Option<String>,
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
    #[error("{path}/identity.toml cannot be understood ({reason}): restore it from a backup, or replace the node")]
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
    #[error(transparent)]
    Log(#[from] OpenError),
}

impl DataDir {
    /// Opens the directory of `config`, making it if it is not there, and what its log has of each group.
    ///
    /// # Errors
    /// If it cannot be used; then it was not changed.
    pub(crate) fn open(
        platform: &Platform,
        path: &Path,
        config: &NodeConfig,
        random: impl Fn() -> u64,
    ) -> Result<(DataDir, BTreeMap<GroupId, RecoveredGroup>), DataDirError> {
        let (io, name) = (platform.io.clone(), || path.display().to_string());
        let failed = |error| DataDirError::Io { path: name(), error };
        io.create_dir(path).map_err(failed)?;
        let stored = read(&*io, &path.join(IDENTITY)).map_err(failed)?;
        let is_new = stored.is_none();
        if is_new && !io.list(path).map_err(failed)?.iter().all(|file| is_ours_half_made(file)) {
            return Err(DataDirError::Foreign(name()));
        }
        let lock = io.lock(&path.join(LOCK)).map_err(failed)?.ok_or_else(|| DataDirError::Locked(name()))?;
        let identity = match stored {
            Some(bytes) => Identity::parse(&bytes, path)?,
            None => Identity::new(config, random()),
        };
        identity.check(config, path)?;
        if is_new {
            write(&*io, path, IDENTITY, identity.to_toml().as_bytes()).map_err(failed)?;
        }
        io.create_dir(&path.join(CHECKPOINTS)).map_err(failed)?;
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
        let (log, recovered) = LogDir::open(io.clone(), &path.join(LOG), options)?;
        let needed = Mutex::new(vec![SegmentId::default(); config.cores]);
        let (runtime, sizes) = (platform.runtime.clone(), platform.sizes);
        let (path, identity, full) = (path.to_owned(), Mutex::new(identity), AtomicBool::new(false));
        let inner = Inner { io, runtime, sizes, path, identity, log, needed, full, _lock: lock };
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

    /// Whose directory it is.
    pub(crate) fn identity(&self) -> Identity {
        self.0.identity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the node a member of a cluster, for ever.
    ///
    /// # Errors
    /// If it belongs to another one, or the directory cannot be written.
    pub(crate) fn join(&self, cluster: &str) -> io::Result<()> {
        let mut identity = self.0.identity.lock().unwrap_or_else(PoisonError::into_inner);
        match &identity.cluster {
            Some(known) if known == cluster => Ok(()),
            Some(known) => Err(io::Error::other(format!("this node belongs to the cluster {known}"))),
            None => {
                let joined = Identity { cluster: Some(cluster.to_owned()), ..identity.clone() };
                write(&*self.0.io, &self.0.path, IDENTITY, joined.to_toml().as_bytes())?;
                *identity = joined;
                Ok(())
            }
        }
    }

    /// The other nodes of the cluster, as they were kept last.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(crate) fn read_peers(&self) -> io::Result<Vec<Peer>> {
        let path = self.0.path.join(PEERS);
        let Some(bytes) = read(&*self.0.io, &path)? else { return Ok(Vec::new()) };
        let unclear = |reason: String| {
            let path = path.display();
            io::Error::other(format!("{path} cannot be understood ({reason}): remove it, the cluster tells it again"))
        };
        let text = String::from_utf8(bytes).map_err(|error| unclear(error.to_string()))?;
        let book: AddressBook = toml::from_str(&text).map_err(|error| unclear(error.message().to_owned()))?;
        Ok(book.nodes.into_iter().map(Peer::from).collect())
    }

    /// Keeps the other nodes of the cluster. Blocks.
    ///
    /// # Errors
    /// If they cannot be written; then those before are still there.
    pub(crate) fn write_peers(&self, peers: &[Peer]) -> io::Result<()> {
        let book = AddressBook { nodes: peers.iter().map(StoredPeer::from).collect() };
        let text = toml::to_string(&book).map_err(io::Error::other)?;
        write(&*self.0.io, &self.0.path, PEERS, text.as_bytes())
    }

    /// The log of all cores.
    pub(crate) fn log(&self) -> &LogDir {
        &self.0.log
    }

    /// Whether nothing more will be written to a segment.
    pub(crate) fn is_full(&self, segment: SegmentId) -> bool {
        self.0.log.is_complete(segment)
    }

    /// Whether appends should be refused, so that the log can go on.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.0.full.load(Ordering::Relaxed)
    }

    /// The streams of a core have no bytes in segments before `oldest`, or none at all.
    pub(crate) fn release_before(&self, core: usize, oldest: Option<SegmentId>) {
        self.needed()[core] = oldest.unwrap_or(SegmentId(u64::MAX));
    }

    /// Removes segments that nobody needs, makes files for coming ones, and looks how full the disk is.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) async fn keep_house(&self) -> io::Result<()> {
        let oldest = self.needed().iter().min().copied().unwrap_or_default();
        let (log, inner) = (self.0.log.clone(), self.0.clone());
        self.blocking(move || {
            let space = log.space()?;
            if inner.full.swap(space.high_water, Ordering::Relaxed) != space.high_water {
                match space.high_water {
                    true => warn!(free_bytes = space.free, "the disk is nearly full: appends are refused"),
                    false => info!(free_bytes = space.free, "the disk has room again"),
                }
            }
            log.remove_before(oldest)?;
            // Also when it is nearly full: the reserve is made of these files.
            while log.prepare_spare()? {}
            Ok(())
        })
        .await
    }

    /// A file for a snapshot of a group that arrives. One that an earlier life left behind goes.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(crate) fn temporary_file(&self, group: GroupId) -> io::Result<TemporaryFile> {
        let path = self.0.path.join(CHECKPOINTS).join(format!("{}.incoming", checkpoint_name(group)));
        remove(&*self.0.io, &path)?;
        let (io, runtime) = (self.0.io.clone(), self.0.runtime.clone());
        Ok(TemporaryFile { file: io.create(&path)?, path, io, runtime })
    }

    /// Removes the checkpoint of a group. Blocks.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn remove_checkpoint(&self, group: GroupId) -> io::Result<()> {
        let dir = self.0.path.join(CHECKPOINTS);
        remove(&*self.0.io, &dir.join(checkpoint_name(group)))?;
        self.0.io.sync_dir(&dir)
    }

    fn needed(&self) -> std::sync::MutexGuard<'_, Vec<SegmentId>> {
        self.0.needed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The latest checkpoint of a group. Blocks.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn read_checkpoint(&self, group: GroupId) -> io::Result<Option<Bytes>> {
        Ok(read(&*self.0.io, &self.0.path.join(CHECKPOINTS).join(checkpoint_name(group)))?.map(Bytes::from))
    }

    /// Puts a checkpoint in the place of the one before. Blocks.
    ///
    /// # Errors
    /// If it cannot be written; then the one before is still there.
    pub(crate) fn write_checkpoint(&self, group: GroupId, bytes: &[u8]) -> io::Result<()> {
        write(&*self.0.io, &self.0.path.join(CHECKPOINTS), &checkpoint_name(group), bytes)
    }
}

/// The largest entry: a batch is closed at 4 MiB, and the op that closes it may have 16 MiB.
const RECORD_BYTES_MAX: u32 = 22 << 20;

impl Identity {
    fn new(config: &NodeConfig, incarnation: u64) -> Identity {
        Identity { format: FORMAT, node_id: config.node_id, incarnation, groups: config.groups, cluster: None }
    }

    fn parse(bytes: &[u8], path: &Path) -> Result<Identity, DataDirError> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let name = || path.display().to_string();
        let unclear = |reason: String| DataDirError::Identity { path: name(), reason };
        let text = std::str::from_utf8(bytes).map_err(|error| unclear(error.to_string()))?;
        let Version { format } = toml::from_str(text).map_err(|error| unclear(error.message().to_owned()))?;
        if format != FORMAT {
            return Err(DataDirError::Format { path: name(), found: format });
        }
        toml::from_str(text).map_err(|error| unclear(error.message().to_owned()))
    }

    fn check(&self, config: &NodeConfig, path: &Path) -> Result<(), DataDirError> {
        let path = path.display().to_string();
        if self.node_id != config.node_id {
            return Err(DataDirError::OtherNode { path, stored: self.node_id, configured: config.node_id });
        }
        if self.groups != config.groups {
            return Err(DataDirError::OtherGroups { path, stored: self.groups, configured: config.groups });
        }
        Ok(())
    }

    fn to_toml(&self) -> String {
        toml::to_string(self).expect("invariant: an identity is plain values")
    }
}

/// Persisted: the other nodes, in `peers.toml`.
#[derive(Serialize, Deserialize)]
struct AddressBook {
    nodes: Vec<StoredPeer>,
}

#[derive(Serialize, Deserialize)]
struct StoredPeer {
    id: u64,
    address: String,
    #[serde(with = "hex")]
    incarnation: u64,
}

impl From<&Peer> for StoredPeer {
    fn from(peer: &Peer) -> StoredPeer {
        StoredPeer { id: peer.node.0, address: peer.address.to_string(), incarnation: peer.incarnation }
    }
}

impl From<StoredPeer> for Peer {
    fn from(stored: StoredPeer) -> Peer {
        Peer { node: NodeId(stored.id), address: stored.address.into(), incarnation: stored.incarnation }
    }
}

/// Numbers of 64 bits do not fit the integers of TOML.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(number: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format!("{number:016x}"))
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<u64, D::Error> {
        u64::from_str_radix(&String::deserialize(from)?, 16).map_err(serde::de::Error::custom)
    }
}

/// What a process that ended while it made the directory may have left.
fn is_ours_half_made(file: &str) -> bool {
    file == LOCK || file == temporary(IDENTITY)
}

fn checkpoint_name(group: GroupId) -> String {
    format!("{:08x}", group.0)
}

fn temporary(name: &str) -> String {
    format!("{name}.new")
}

fn read(io: &dyn Io, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match io.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
    file.read_at(&mut bytes, 0)?;
    Ok(Some(bytes))
}

/// Removes a file, if it is there.
fn remove(io: &dyn Io, path: &Path) -> io::Result<()> {
    match io.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a file so that it is there whole, or as it was before.
fn write(io: &dyn Io, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = dir.join(temporary(name));
    remove(io, &new)?;
    let file = io.create(&new)?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    io.rename(&new, &dir.join(name))?;
    io.sync_dir(dir)
}

#[cfg(test)]
mod tests;
