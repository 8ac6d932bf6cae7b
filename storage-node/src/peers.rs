//! The other nodes of the cluster: who they are, where they are, and the links to them.
//!
//! Knows nothing of Raft beyond the messages it carries: groups ask and answer, cores own groups.

mod address;
mod error;
mod exchange;
mod inbound;
mod link;
mod service;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::runtime::Handle;
use tonic::metadata::MetadataMap;
use tracing::warn;
use ursula_common::{Error, NodeId};
use ursula_proto::{Introduction, NodeChannel, PROTOCOL, PROTOCOL_MIN, PeerClient};

pub(crate) use address::PeerAddress;
pub(crate) use error::PeerError;
pub(crate) use inbound::{Inbound, InboundSnapshot, Part, Reply};
pub(crate) use link::{Answer, Link, Priority, Room};
pub(crate) use service::PeerService;

use crate::metrics::Metrics;

/// Who this node is, and the address book of the others. One for each node; a clone is the same.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Inner>);

struct Inner {
    node: NodeId,
    incarnation: u64,
    /// Links are tasks of the runtime that serves connections, not of a core.
    runtime: Handle,
    metrics: Arc<Metrics>,
    book: RwLock<Book>,
    /// What was said last to callers that were refused, by their numbers.
    refused: Mutex<BTreeMap<u64, String>>,
}

/// Callers whose refusal is remembered.
const REFUSED_MAX: usize = 64;

#[derive(Default)]
struct Book {
    cluster: Option<u128>,
    /// Counts changes.
    version: u64,
    peers: BTreeMap<NodeId, Peer>,
}

struct Peer {
    address: PeerAddress,
    urgent: Link,
    bulk: Link,
    /// For single calls.
    calls: Option<NodeChannel>,
    /// Both links end when this is dropped.
    _running: tokio::sync::watch::Sender<()>,
}

impl Peers {
    /// A node that knows nobody yet. `incarnation` names its data directory; `cluster` is none for a node
    /// that waits to be told. Needs a runtime with I/O, which will run the links.
    pub(crate) fn new(node: NodeId, incarnation: u64, cluster: Option<u128>, metrics: Arc<Metrics>) -> Peers {
        let book = RwLock::new(Book { cluster, ..Book::default() });
        Peers(Arc::new(Inner {
            node,
            incarnation,
            runtime: Handle::current(),
            metrics,
            book,
            refused: Mutex::default(),
        }))
    }

    /// The id of this node.
    pub(crate) fn node(&self) -> NodeId {
        self.0.node
    }

    /// The cluster that this node belongs to, from now on.
    pub(crate) fn join(&self, cluster: u128) {
        let mut book = self.write();
        book.cluster = Some(cluster);
        book.version += 1;
    }

    /// Where a node is, from now on. Links to where it was before are cut; nothing happens if it is there
    /// already.
    pub(crate) fn set(&self, node: NodeId, address: PeerAddress) {
        let mut book = self.write();
        if node == self.0.node || book.peers.get(&node).is_some_and(|peer| peer.address == address) {
            return;
        }
        let (running, stop) = tokio::sync::watch::channel(());
        let start = |priority| Link::start(&self.0, node, address.clone(), priority, stop.clone());
        let calls = {
            let _runtime = self.0.runtime.enter();
            address.connect()
        };
        let (urgent, bulk) = (start(Priority::Urgent), start(Priority::Bulk));
        let peer = Peer { urgent, bulk, calls, address, _running: running };
        book.peers.insert(node, peer);
        book.version += 1;
    }

    /// Forgets a node: links are cut, and it is a stranger if it calls.
    pub(crate) fn remove(&self, node: NodeId) {
        let mut book = self.write();
        book.peers.remove(&node);
        book.version += 1;
    }

    /// The link to a node.
    ///
    /// # Errors
    /// If nobody knows where it is.
    pub(crate) fn link(&self, node: NodeId, priority: Priority) -> Result<Link, PeerError> {
        let book = self.read();
        let peer = book.peers.get(&node).ok_or_else(|| unknown(node))?;
        Ok(match priority {
            Priority::Urgent => peer.urgent.clone(),
            Priority::Bulk => peer.bulk.clone(),
        })
    }

    /// The runtime that carries what goes to other nodes.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    /// A client for single calls to a node, if it is known where it is.
    pub(crate) fn client(&self, node: NodeId) -> Option<PeerClient> {
        Some(ursula_proto::peer_client(self.read().peers.get(&node)?.calls.clone()?))
    }

    /// A request to a node, with an introduction of this one.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if nobody knows where it is.
    pub(crate) fn request<T>(&self, node: NodeId, message: T) -> Result<tonic::Request<T>, Error> {
        let address = self.read().peers.get(&node).map(|peer| peer.address.clone()).ok_or(Error::Unavailable)?;
        let introduction = self.introduction(node, &address).map_err(|_| Error::Unavailable)?;
        let mut request = tonic::Request::new(message);
        introduction.write(request.metadata_mut());
        Ok(request)
    }

    fn read(&self) -> RwLockReadGuard<'_, Book> {
        self.0.book.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Book> {
        self.0.book.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts changes to the book: a caller that was admitted is looked at again after each.
    fn version(&self) -> u64 {
        self.read().version
    }

    /// How this node introduces itself to `to`.
    ///
    /// # Errors
    /// If it belongs to no cluster yet.
    fn introduction(&self, to: NodeId, address: &PeerAddress) -> Result<Introduction, PeerError> {
        let Some(cluster) = self.read().cluster else {
            return Err(PeerError::unreachable("this node has not joined a cluster yet"));
        };
        Ok(Introduction {
            version: PROTOCOL.into(),
            version_min: PROTOCOL_MIN.into(),
            cluster,
            from: self.0.node.0,
            from_incarnation: self.0.incarnation,
            to: to.0,
            to_incarnation: address.incarnation(),
        })
    }

    /// Who calls, if it may.
    ///
    /// # Errors
    /// A sentence for the caller and for whoever reads its log.
    fn admit(&self, metadata: &MetadataMap) -> Result<Introduction, String> {
        let caller = Introduction::read(metadata).ok_or("the caller does not introduce itself as a storage node")?;
        match self.check(&caller) {
            Ok(()) => Ok(caller),
            Err(reason) => {
                // Until it is claimed, the others know of it before it knows of them.
                if self.read().cluster.is_some() || caller.to_incarnation != self.0.incarnation {
                    self.note_refusal(caller.from, &reason);
                }
                Err(reason)
            }
        }
    }

    /// Logs what is new: whoever is refused tries again and again.
    fn note_refusal(&self, from: u64, reason: &str) {
        let mut refused = self.0.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.get(&from).is_some_and(|before| before == reason) {
            return;
        }
        // Anybody can call under any number.
        if refused.len() >= REFUSED_MAX {
            refused.clear();
        }
        refused.insert(from, reason.to_owned());
        warn!(peer = from, "a call is refused: {reason}");
    }

    fn check(&self, caller: &Introduction) -> Result<(), String> {
        let Introduction { version, version_min, cluster, from, from_incarnation, to, to_incarnation } = *caller;
        let own = self.0.node.0;
        let book = self.read();
        if version < PROTOCOL_MIN.into() || version_min > PROTOCOL.into() {
            return Err(format!(
                "node {own} speaks versions {PROTOCOL_MIN} to {PROTOCOL} of the peer protocol, node {from} speaks \
                 {version_min} to {version}: bring both to versions of the program that are one apart at most"
            ));
        }
        if let Some(ours) = book.cluster.filter(|ours| *ours != cluster) {
            return Err(format!("node {own} belongs to cluster {ours:032x}, not to {cluster:032x}"));
        }
        if to == own && to_incarnation != self.0.incarnation {
            return Err(format!(
                "node {own} has incarnation {:016x}, the caller expects {to_incarnation:016x}: a node with a new data \
                 directory joins under a new id (`ursula cluster replace-node`)",
                self.0.incarnation
            ));
        }
        if book.cluster.is_none() {
            return Err(format!("node {own} has not joined a cluster yet"));
        }
        if to != own {
            return Err(format!("this is node {own}, not node {to}: check the address"));
        }
        if from == own {
            return Err(format!("a node with the id of this one, {own}, calls: ids must differ"));
        }
        match book.peers.get(&NodeId(from)).map(|peer| peer.address.incarnation()) {
            Some(known) if known != from_incarnation => Err(format!(
                "node {from} has incarnation {from_incarnation:016x}, the cluster knows it as {known:016x}: a node with \
                 a new data directory joins under a new id (`ursula cluster replace-node`)"
            )),
            Some(_) | None => Ok(()),
        }
    }
}

fn unknown(node: NodeId) -> PeerError {
    PeerError::unreachable(format!("nobody has said where node {node} is"))
}

#[cfg(test)]
mod tests;
