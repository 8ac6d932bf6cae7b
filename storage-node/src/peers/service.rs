//! The gRPC service that other nodes call.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};
use ursula_common::verb::Op;
use ursula_common::{Error, GroupId, NodeId, Offset, StreamId, StreamKey, wire};
use ursula_proto::peer::v1;
use ursula_proto::peer::v1::snapshot_part;
use ursula_proto::{Introduction, refusal, to_status};

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

    async fn deliver(&self, request: Request<v1::Delivery>) -> Result<Response<v1::Delivered>, Status> {
        self.admit(&request)?;
        let v1::Delivery { group, op } = request.into_inner();
        let op = from_group(op).map_err(to_status)?;
        let outcome = self.directory.propose_here(GroupId(group), op).await;
        Ok(Response::new(v1::Delivered { outcome: wire::reply::encode(&outcome).into() }))
    }

    async fn record(&self, request: Request<v1::RecordRequest>) -> Result<Response<v1::Record>, Status> {
        self.admit(&request)?;
        let v1::RecordRequest { group, bucket, name, id, at, until } = request.into_inner();
        let key = StreamKey::parse(&bucket, &name).map_err(|_| to_status(Error::Malformed))?;
        let found = self.directory.record_here(GroupId(group), &key, StreamId(id), (Offset(at), Offset(until))).await;
        let (start, data) = found.map_err(to_status)?.unzip();
        Ok(Response::new(v1::Record { start: start.map(|start| start.0), data: data.unwrap_or_default() }))
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
        info!(%group, peer = caller.from, "a snapshot arrives");
        let (parts, received) = mpsc::channel(PARTS_MAX);
        let (reply, answer) = oneshot::channel();
        let snapshot = InboundSnapshot { from: NodeId(caller.from), group, head, parts: received, reply };
        self.directory.install(snapshot).await;
        forward(&mut sent, &parts).await?;
        drop(parts);
        match answer.await {
            Ok(Ok(vote)) => {
                info!(%group, peer = caller.from, "a snapshot was taken");
                Ok(Response::new(v1::SnapshotDone { vote: Some(vote) }))
            }
            Ok(Err(reason)) => {
                warn!(%group, peer = caller.from, %reason, "a snapshot was not taken");
                Err(refusal(reason))
            }
            Err(_) => Err(refusal("the replica stopped while it took the snapshot")),
        }
    }
}

/// What groups ask of each other. Anything else does not come this way.
fn from_group(op: Bytes) -> Result<Op, Error> {
    match wire::decode_op(op)? {
        op @ (Op::InstallBucket(_) | Op::DropBucket(_) | Op::AcquireFork(_) | Op::ReleaseFork(_)) => Ok(op),
        // Whoever restores asks any node, which asks the leader.
        op @ (Op::BeginImport(_) | Op::Import(_) | Op::EndImport(_) | Op::CreateBucket(..)) => Ok(op),
        Op::Create(_)
        | Op::Append(_)
        | Op::Delete(_)
        | Op::Trim(_)
        | Op::PublishSnapshot(_)
        | Op::RemoveSnapshot(_)
        | Op::Touch(_)
        | Op::DeleteBucket(_)
        | Op::Expire
        | Op::SagaStep(_)
        | Op::Cluster(_)
        | Op::BeginPacks
        | Op::CommitPack(_)
        | Op::MergePacks(_)
        | Op::SweepPacks(_) => Err(Error::Malformed),
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
