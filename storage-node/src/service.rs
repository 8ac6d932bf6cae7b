//! The gRPC services: takes messages apart, asks the core of the group, puts answers together.

mod lane;
mod tail;

use std::collections::VecDeque;
use std::iter;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};
use ursula_common::limits::{LIST_ITEMS_MAX, PAGE_BYTES_MAX};
use ursula_common::traces::{Span, TRACEPARENT, Traces};
use ursula_common::wire::encode_ack;
use ursula_common::{BucketName, Error, GroupId, Offset, StreamId, pieces};
use ursula_proto::{TargetRef, read_from, to_status, v1};

use crate::cluster::{self, ClusterSide};
use crate::core::{List, Read, ReadDone, RequestKind};
use crate::directory::Directory;
use crate::metrics::Metrics;

/// Bytes in one message of a read. Each is encoded and decoded in memory of its own: with its head it fits into 64 KiB, above
/// which an allocator keeps much more of what was given back.
const CHUNK_BYTES: usize = 60 << 10;
/// Smaller pieces are joined: each costs some memory of its own wherever it goes.
const PIECE_BYTES_MIN: usize = 4 << 10;

/// One node's services. Cheap to clone.
#[derive(Clone)]
pub(crate) struct NodeService {
    directory: Directory,
    cluster: ClusterSide,
    metrics: Arc<Metrics>,
    traces: Traces,
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl NodeService {
    pub(crate) fn new(
        directory: Directory,
        cluster: ClusterSide,
        metrics: Arc<Metrics>,
        traces: Traces,
    ) -> NodeService {
        NodeService { directory, cluster, metrics, traces }
    }

    /// A part of the trace of whoever asks, if there is one.
    fn part<T>(&self, name: &'static str, request: &Request<T>) -> Option<Span> {
        self.traces.part(name, request.metadata().get(TRACEPARENT)?.to_str().ok())
    }

    /// Asks a core for something that changes nothing: a lost answer only means that it has stopped.
    async fn ask<T>(
        &self,
        group: GroupId,
        kind: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> RequestKind,
    ) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        self.directory.send(group, kind(reply)).await.map_err(to_status)?;
        answer.await.unwrap_or(Err(Error::Unavailable)).map_err(to_status)
    }
}

#[tonic::async_trait]
impl v1::node_server::Node for NodeService {
    type LaneStream = Messages<v1::ReplyBatch>;
    type ReadStream = Messages<v1::ReadChunk>;
    type TailStream = Messages<v1::TailEvent>;
    type WatchTopologyStream = Messages<v1::Topology>;

    async fn lane(&self, request: Request<Streaming<v1::OpBatch>>) -> Result<Response<Self::LaneStream>, Status> {
        let frames = request.into_inner();
        Ok(Response::new(lane::open(frames, self.directory.clone(), self.metrics.clone(), self.traces.clone())))
    }

    async fn describe(&self, request: Request<v1::DescribeRequest>) -> Result<Response<v1::StreamInfo>, Status> {
        let _span = self.part("describe", &request);
        let v1::DescribeRequest { target, touch } = request.into_inner();
        let TargetRef { group, key, inherited } = target.try_into().map_err(to_status)?;
        let info = self.ask(group, |reply| RequestKind::Describe { key, inherited, touch, reply }).await?;
        Ok(Response::new(info.into()))
    }

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let _span = self.part("read", &request);
        let v1::ReadRequest { target, from, bytes_max, until, touch, applied_is_enough } = request.into_inner();
        let TargetRef { group, key, inherited } = target.try_into().map_err(to_status)?;
        let read = Read {
            key,
            inherited,
            from: read_from(from).map_err(to_status)?,
            until: until.map(Offset),
            bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX).min(PAGE_BYTES_MAX),
            touch,
            applied_is_enough,
        };
        let done = self.ask(group, |reply| RequestKind::Read { read, reply }).await?;
        Ok(Response::new(stream::iter(chunks(done).map(Ok)).boxed()))
    }

    async fn tail(&self, request: Request<v1::TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        let v1::TailRequest { target, from, stream_id, tell_up_to_date } = request.into_inner();
        let target: TargetRef = target.try_into().map_err(to_status)?;
        Ok(Response::new(tail::open(
            target,
            StreamId(stream_id),
            Offset(from),
            tell_up_to_date,
            self.directory.clone(),
            self.metrics.clone(),
        )))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListReply>, Status> {
        let v1::ListRequest { group, bucket, prefix, after, limit } = request.into_inner();
        let bucket = BucketName::parse(&bucket).map_err(|_| to_status(Error::Malformed))?;
        let list = List { bucket, prefix, after, limit: limit.min(LIST_ITEMS_MAX) as usize };
        let listed = self.ask(GroupId(group), |reply| RequestKind::List { list, reply }).await?;
        let item = |(name, info): (ursula_common::StreamName, ursula_common::verb::StreamInfo)| v1::ListItem {
            name: name.to_string(),
            info: Some(info.into()),
        };
        Ok(Response::new(v1::ListReply { items: listed.into_iter().map(item).collect() }))
    }

    async fn describe_bucket(
        &self,
        request: Request<v1::DescribeBucketRequest>,
    ) -> Result<Response<v1::DescribeBucketReply>, Status> {
        let bucket = BucketName::parse(&request.into_inner().bucket).map_err(|_| to_status(Error::Malformed))?;
        let ack = self.ask(GroupId::META, |reply| RequestKind::DescribeBucket { bucket, reply }).await?;
        Ok(Response::new(v1::DescribeBucketReply { ack: encode_ack(ack) }))
    }

    async fn watch_topology(
        &self,
        _: Request<v1::WatchTopologyRequest>,
    ) -> Result<Response<Self::WatchTopologyStream>, Status> {
        let topologies = cluster::watch_topology(&self.cluster).map_err(to_status)?;
        Ok(Response::new(topologies.map(Ok).boxed()))
    }
}

/// A read as messages.
fn chunks(done: ReadDone) -> impl Iterator<Item = v1::ReadChunk> {
    let ReadDone { info, start, range, proven } = done;
    let head = v1::ReadHead { info: Some(info.into()), start: start.0, next: range.next.0, proven };
    let mut parts = parts(range.pieces);
    let first = v1::ReadChunk { head: Some(head), pieces: parts.next().unwrap_or_default() };
    iter::once(first).chain(parts.map(|pieces| v1::ReadChunk { head: None, pieces }))
}

/// Parts of [`CHUNK_BYTES`] each, but for the last: large pieces are cut, small ones are joined. A part is made when it is
/// sent: a page need not be there twice.
fn parts(pieces: Vec<Bytes>) -> impl Iterator<Item = Vec<Bytes>> {
    let mut pieces = VecDeque::from(pieces);
    iter::from_fn(move || {
        let (mut part, mut room) = (Vec::new(), CHUNK_BYTES);
        while room > 0
            && let Some(mut piece) = pieces.pop_front()
        {
            if piece.len() > room {
                pieces.push_front(piece.split_off(room));
            } else if piece.len() < PIECE_BYTES_MIN {
                let mut bytes = piece.len();
                let mut group = vec![piece];
                while let Some(next) =
                    pieces.pop_front_if(|next| next.len() < PIECE_BYTES_MIN && bytes + next.len() <= room)
                {
                    bytes += next.len();
                    group.push(next);
                }
                piece = pieces::join(&group);
            }
            room -= piece.len();
            part.push(piece);
        }
        (!part.is_empty()).then_some(part)
    })
}

/// Lets calls pass that mean this cluster, or none in particular. A gateway that takes the node for another one must
/// not be served by it: it would be told that what is in its own cluster does not exist.
pub(crate) fn of_this_cluster(
    side: ClusterSide,
) -> impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static {
    move |request| match ursula_proto::meant_cluster(request.metadata()) {
        Some(meant) if side.hosting().identity().cluster != Some(meant) => Err(to_status(Error::NOT_HERE)),
        Some(_) | None => Ok(request),
    }
}
