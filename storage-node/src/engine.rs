//! The engine of a node as its cluster side sees it: cores, links to other nodes, the data directory.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};
use tracing::warn;
use ursula_common::cluster::{Cluster, ClusterOp};
use ursula_common::verb::{Op, OpResult};
use ursula_common::{ClusterId, Error, GroupId, NodeId};
use ursula_proto::NodeChannel;

use crate::cluster::{Hosting, Identity, Leads, Peer, ReplicaCommand, ReplicaStatus};
use crate::core::RequestKind;
use crate::core::hosting::{Board, HostingRequest};
use crate::data_dir::{DataDir, StoredPeer};
use crate::directory::Directory;
use crate::peers::{PeerAddress, Peers};
use crate::runtime;

/// See the module.
pub(crate) struct Engine {
    identity: Mutex<Identity>,
    dir: Option<DataDir>,
    directory: Directory,
    peers: Peers,
    board: Board,
    remembered: Mutex<Vec<Peer>>,
    connected: Mutex<BTreeMap<NodeId, Connected>>,
}

struct Connected {
    peer: Peer,
    channel: NodeChannel,
}

impl Engine {
    pub(crate) fn new(
        identity: Identity,
        dir: Option<DataDir>,
        directory: Directory,
        peers: Peers,
        board: Board,
    ) -> Engine {
        let stored = dir.as_ref().map(|dir| dir.identity().peers).unwrap_or_default();
        let remembered = stored.into_iter().map(|peer| Peer {
            node: NodeId(peer.node),
            address: peer.address.into(),
            incarnation: peer.incarnation,
        });
        let remembered = Mutex::new(remembered.collect());
        Engine { identity: Mutex::new(identity), dir, directory, peers, board, remembered, connected: Mutex::default() }
    }

    async fn ask<T>(
        &self,
        group: GroupId,
        request: impl FnOnce(oneshot::Sender<T>) -> HostingRequest,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.directory.send_always(group, RequestKind::Hosting(request(reply))).await?;
        answer.await.map_err(|_| Error::Unavailable)
    }

    /// Writes to the data directory, if there is one.
    async fn store(&self, write: impl FnOnce(&DataDir) -> io::Result<()> + Send + 'static) -> io::Result<()> {
        match self.dir.clone() {
            Some(dir) => runtime::blocking(move || write(&dir)).await,
            None => Ok(()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[tonic::async_trait]
impl Hosting for Engine {
    fn identity(&self) -> Identity {
        lock(&self.identity).clone()
    }

    async fn claim(&self, cluster: ClusterId) -> io::Result<()> {
        let own = self.identity().cluster;
        if let Some(own) = own.filter(|own| *own != cluster) {
            return Err(io::Error::other(format!("this node belongs to cluster {own}")));
        }
        let name = cluster.to_string();
        self.store(move |dir| dir.join(&name)).await?;
        self.peers.join(cluster.0);
        lock(&self.identity).cluster = Some(cluster);
        Ok(())
    }

    fn remembered(&self) -> Vec<Peer> {
        lock(&self.remembered).clone()
    }

    async fn remember(&self, peers: Vec<Peer>) -> io::Result<()> {
        let stored = peers.iter().map(|peer| StoredPeer {
            node: peer.node.0,
            address: peer.address.to_string(),
            incarnation: peer.incarnation,
        });
        let stored = stored.collect();
        self.store(move |dir| dir.remember(stored)).await?;
        *lock(&self.remembered) = peers;
        Ok(())
    }

    fn connect(&self, peers: &[Peer]) {
        let mut connected = lock(&self.connected);
        let gone: Vec<NodeId> =
            connected.keys().filter(|node| !peers.iter().any(|peer| peer.node == **node)).copied().collect();
        for node in gone {
            connected.remove(&node);
            self.peers.remove(node);
        }
        for peer in peers {
            if connected.get(&peer.node).is_some_and(|known| known.peer == *peer) {
                continue;
            }
            let address = PeerAddress::remote(&peer.address, peer.incarnation);
            match (address, ursula_proto::remote(&peer.address)) {
                (Ok(address), Ok(channel)) => {
                    self.peers.set(peer.node, address);
                    connected.insert(peer.node, Connected { peer: peer.clone(), channel });
                }
                _ => warn!(node = %peer.node, address = %peer.address, "the address of a node cannot be used"),
            }
        }
    }

    fn channel(&self, node: NodeId) -> Option<NodeChannel> {
        lock(&self.connected).get(&node).map(|connected| connected.channel.clone())
    }

    fn cluster(&self) -> watch::Receiver<Option<Arc<Cluster>>> {
        self.board.cluster.subscribe()
    }

    fn leads(&self) -> watch::Receiver<Leads> {
        self.board.leads.subscribe()
    }

    fn stored(&self) -> BTreeSet<GroupId> {
        // What the directory holds, the cores have started.
        self.hosted()
    }

    async fn host(&self, group: GroupId) -> Result<(), Error> {
        self.ask(group, HostingRequest::Host).await?
    }

    async fn forget(&self, group: GroupId) -> Result<(), Error> {
        self.ask(group, HostingRequest::Forget).await?
    }

    fn hosted(&self) -> BTreeSet<GroupId> {
        self.board.hosted.borrow().clone()
    }

    async fn status(&self, group: GroupId) -> Option<ReplicaStatus> {
        self.ask(group, HostingRequest::Status).await.ok()
    }

    async fn command(&self, group: GroupId, command: ReplicaCommand) -> Result<(), Error> {
        self.ask(group, |reply| HostingRequest::Command(command, reply)).await?
    }

    async fn propose(&self, op: ClusterOp) -> OpResult {
        self.directory.propose_here(GroupId::META, Op::Cluster(Box::new(op))).await
    }
}
