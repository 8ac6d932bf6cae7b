//! The engine as the cluster side of the node uses it: replicas on cores, links to peers, the data directory.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};
use tracing::warn;
use ursula_common::cluster::{Cluster, ClusterOp};
use ursula_common::verb::{Op, OpResult};
use ursula_common::{ClusterId, Error, GroupId, NodeId};
use ursula_proto::NodeChannel;

use crate::cluster::{Hosting, Identity, Leads, Peer, Refusals, ReplicaCommand, ReplicaStatus};
use crate::core::{Notices, Order, RequestKind};
use crate::data_dir::{DataDir, Forgotten, Standing};
use crate::directory::Directory;
use crate::peers::{PeerAddress, Peers};
use crate::platform::Connect;

/// See the module.
pub(crate) struct Engine {
    dir: Option<DataDir>,
    stored: BTreeSet<GroupId>,
    directory: Directory,
    peers: Peers,
    notices: Notices,
    connect: Arc<Connect>,
    state: Mutex<State>,
}

struct State {
    identity: Identity,
    remembered: Vec<Peer>,
    channels: BTreeMap<NodeId, (Arc<str>, NodeChannel)>,
}

impl Engine {
    /// `stored` are the groups of which something was found in `dir`.
    ///
    /// # Errors
    /// If the addresses of other nodes that were kept cannot be read.
    pub(crate) fn new(
        identity: Identity,
        dir: Option<DataDir>,
        stored: BTreeSet<GroupId>,
        directory: Directory,
        peers: Peers,
        notices: Notices,
        connect: Arc<Connect>,
    ) -> io::Result<Engine> {
        let remembered = dir.as_ref().map(DataDir::read_peers).transpose()?.unwrap_or_default();
        let state = Mutex::new(State { identity, remembered, channels: BTreeMap::new() });
        Ok(Engine { dir, stored, directory, peers, notices, connect, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn order(
        &self,
        group: GroupId,
        order: impl FnOnce(oneshot::Sender<Result<(), Error>>) -> Order,
    ) -> Result<(), Error> {
        let (reply, done) = oneshot::channel();
        self.directory.send(group, RequestKind::Host(order(reply))).await?;
        done.await.unwrap_or(Err(Error::Unavailable))
    }
}

#[tonic::async_trait]
impl Hosting for Engine {
    fn identity(&self) -> Identity {
        self.state().identity.clone()
    }

    async fn claim(&self, cluster: ClusterId, alone: bool) -> io::Result<()> {
        let known = self.state().identity.cluster;
        if let Some(known) = known.filter(|known| *known != cluster) {
            return Err(io::Error::other(format!("this node belongs to the cluster {known}")));
        }
        if let Some(dir) = self.dir.clone() {
            dir.clone().blocking(move || dir.join(&cluster.to_string(), alone)).await?;
        }
        self.state().identity.cluster = Some(cluster);
        self.peers.join(cluster.0);
        Ok(())
    }

    async fn stand(&self, standing: Standing) -> io::Result<()> {
        let Some(dir) = self.dir.clone() else { return Ok(()) };
        dir.clone().blocking(move || dir.stand(standing)).await
    }

    fn remembered(&self) -> Vec<Peer> {
        self.state().remembered.clone()
    }

    async fn remember(&self, peers: Vec<Peer>) -> io::Result<()> {
        if let Some(dir) = self.dir.clone() {
            let peers = peers.clone();
            dir.clone().blocking(move || dir.write_peers(&peers)).await?;
        }
        self.state().remembered = peers;
        Ok(())
    }

    fn connect(&self, peers: &[Peer]) {
        let mut channels = BTreeMap::new();
        let before = std::mem::take(&mut self.state().channels);
        for Peer { node, address, incarnation } in peers {
            let place = PeerAddress::remote(address, *incarnation, self.connect.clone());
            let channel = match before.get(node).filter(|(known, _)| known == address) {
                Some((_, channel)) => Ok(channel.clone()),
                None => (self.connect)(address).map_err(io::Error::other),
            };
            match (place, channel) {
                (Ok(place), Ok(channel)) => {
                    self.peers.set(*node, place);
                    channels.insert(*node, (address.clone(), channel));
                }
                (Err(error), _) | (_, Err(error)) => warn!(%node, %address, %error, "a node has no usable address"),
            }
        }
        for gone in before.keys().filter(|node| !channels.contains_key(node)) {
            self.peers.remove(*gone);
        }
        self.state().channels = channels;
    }

    fn channel(&self, node: NodeId) -> Option<NodeChannel> {
        self.state().channels.get(&node).map(|(_, channel)| channel.clone())
    }

    fn cluster(&self) -> watch::Receiver<Option<Arc<Cluster>>> {
        self.notices.cluster.subscribe()
    }

    fn leads(&self) -> watch::Receiver<Leads> {
        self.notices.leads.subscribe()
    }

    fn stored(&self) -> BTreeSet<GroupId> {
        self.stored.clone()
    }

    fn refused(&self) -> Refusals {
        self.notices.refused.borrow().clone()
    }

    async fn host(&self, group: GroupId) -> Result<(), Error> {
        self.order(group, Order::Host).await
    }

    async fn hold(&self, group: GroupId, held: bool) -> Result<(), Error> {
        self.order(group, |reply| Order::Hold(held, reply)).await
    }

    async fn forget(&self, forgotten: Forgotten) -> Result<(), Error> {
        self.order(GroupId(forgotten.group), |reply| Order::Forget(forgotten, reply)).await
    }

    fn hosted(&self) -> BTreeSet<GroupId> {
        self.notices.hosted()
    }

    async fn status(&self, group: GroupId) -> Option<ReplicaStatus> {
        let (reply, status) = oneshot::channel();
        self.directory.send(group, RequestKind::Host(Order::Status(reply))).await.ok()?;
        status.await.ok()
    }

    async fn command(&self, group: GroupId, command: ReplicaCommand) -> Result<(), Error> {
        self.order(group, |reply| Order::Command(command, reply)).await
    }

    async fn propose(&self, op: ClusterOp) -> OpResult {
        self.directory.propose_here(GroupId::META, Op::Cluster(Box::new(op))).await
    }

    async fn import(&self, group: GroupId, op: Op) -> OpResult {
        self.directory.propose(group, op).await
    }
}
