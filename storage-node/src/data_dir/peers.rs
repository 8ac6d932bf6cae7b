//! The other nodes of the cluster, as they were known last: who starts again finds them before anybody told it.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use ursula_common::NodeId;
use ursula_wal::Io;

use super::{DataDir, DataDirError, files};
use crate::cluster::Peer;

const FILE: &str = "peers.toml";

impl DataDir {
    /// The other nodes of the cluster, as they were kept last.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(crate) fn read_peers(&self) -> io::Result<Vec<Peer>> {
        stored(&*self.0.io, &self.0.path).map_err(io::Error::other)
    }

    /// Keeps the other nodes of the cluster. Blocks.
    ///
    /// # Errors
    /// If they cannot be written; then those before are still there.
    pub(crate) fn write_peers(&self, peers: &[Peer]) -> io::Result<()> {
        let book = AddressBook { nodes: peers.iter().map(StoredPeer::from).collect() };
        let text = toml::to_string(&book).map_err(io::Error::other)?;
        files::write(&*self.0.io, &self.0.path, FILE, text.as_bytes())
    }
}

/// The other nodes, as the directory has them.
pub(super) fn stored(io: &dyn Io, path: &Path) -> Result<Vec<Peer>, DataDirError> {
    let path = path.join(FILE);
    let failed = |error| DataDirError::Io { path: path.display().to_string(), error };
    let Some(bytes) = files::read(io, &path).map_err(failed)? else { return Ok(Vec::new()) };
    let unclear = |reason: String| DataDirError::Peers { path: path.display().to_string(), reason };
    let text = String::from_utf8(bytes).map_err(|error| unclear(error.to_string()))?;
    let book: AddressBook = toml::from_str(&text).map_err(|error| unclear(error.message().to_owned()))?;
    Ok(book.nodes.into_iter().map(Peer::from).collect())
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
    #[serde(with = "super::identity::hex")]
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
