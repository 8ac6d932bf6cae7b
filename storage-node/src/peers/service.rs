//! The gRPC service that other nodes call.

use std::pin::Pin;

use futures_util::Stream;
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status, Streaming};
use tracing::warn;
use ursula_common::{GroupId, NodeId};
use ursula_proto::peer::v1;
use ursula_proto::peer::v1::snapshot_part;
use ursula_proto::{Introduction, refusal};

use super::{InboundSnapshot, Part, Peers, exchange};
use crate::directory::Directory;

/// Parts of a snapshot that wait for their replica.
const PARTS_MAX: usize = 4;

pub(super) type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PeerService {
    peers: Peers,
    directory: Directory,
}

impl PeerService {
    pub(crate) fn new(peers: Peers, directory: Directory) -> PeerService {
        PeerService { peers, directory }
    }

    fn admit<T>(&self, request: &Request<T>) -> Result<Introduction, Status> {
        self.peers.admit(request.metadata()).map_err(refusal)
    }
}

#[tonic::async_trait]
impl v1::peer_server::Peer for PeerService {
    type ExchangeStream = Messages<v1::Frame>;

    async fn exchange(&self, request: Request<Streaming<v1::Frame>>) -> Result<Response<Messages<v1::Frame>>, Status> {
        let caller = self.admit(&request)?;
        let (peers, directory) = (self.peers.clone(), self.directory.clone());
        Ok(Response::new(exchange::open(request.into_inner(), caller, peers, directory)))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<v1::SnapshotPart>>,
    ) -> Result<Response<v1::SnapshotDone>, Status> {
        let caller = self.admit(&request)?;
        let mut sent = request.into_inner();
        let Some(snapshot_part::Part::Head(head)) = next(&mut sent).await? else {
            return Err(refusal("a snapshot begins with its head"));
        };
        let group = GroupId(head.group);
        let (parts, received) = mpsc::channel(PARTS_MAX);
        let (reply, answer) = oneshot::channel();
        let snapshot = InboundSnapshot { from: NodeId(caller.from), group, head, parts: received, reply };
        self.directory.install(snapshot).await;
        forward(&mut sent, &parts).await?;
        drop(parts);
        match answer.await {
            Ok(Ok(vote)) => Ok(Response::new(v1::SnapshotDone { vote: Some(vote) })),
            Ok(Err(reason)) => {
                warn!(%group, peer = caller.from, %reason, "a snapshot was not taken");
                Err(refusal(reason))
            }
            Err(_) => Err(refusal("the replica stopped while it took the snapshot")),
        }
    }
}

async fn next(sent: &mut Streaming<v1::SnapshotPart>) -> Result<Option<snapshot_part::Part>, Status> {
    Ok(sent.message().await?.and_then(|message| message.part))
}

/// Hands the parts on until the end, as fast as the replica takes them. A replica that wants no more
/// answers why.
async fn forward(sent: &mut Streaming<v1::SnapshotPart>, parts: &mpsc::Sender<Part>) -> Result<(), Status> {
    let mut bytes = 0;
    loop {
        let part = match next(sent).await? {
            Some(snapshot_part::Part::Data(data)) => {
                bytes += data.len() as u64;
                Part::Data(data)
            }
            Some(snapshot_part::Part::End(end)) if end.bytes == bytes => Part::End,
            Some(snapshot_part::Part::End(_)) => return Err(refusal("bytes of a snapshot are missing")),
            Some(snapshot_part::Part::Head(_)) => return Err(refusal("a snapshot has one head")),
            None => return Err(refusal("a snapshot has no end")),
        };
        let last = matches!(part, Part::End);
        if parts.send(part).await.is_err() || last {
            return Ok(());
        }
    }
}
