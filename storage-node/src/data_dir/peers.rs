//! The other nodes of the cluster, as they were known last: who starts again finds them before anybody told it.

use std::io;

use serde::{Deserialize, Serialize};
use ursula_common::NodeId;

use super::{DataDir, files};
use crate::cluster::Peer;

const FILE: &str = "peers.toml";

impl DataDir {
    /// The other nodes of the cluster, as they were kept last.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(crate) fn read_peers(&self) -> io::Result<Vec<Peer>> {
        let path = self.0.path.join(FILE);
        let Some(bytes) = files::read(&*self.0.io, &path)? else { return Ok(Vec::new()) };
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
        files::write(&*self.0.io, &self.0.path, FILE, text.as_bytes())
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
