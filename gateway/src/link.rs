//! The way to one storage node, and the calls that only read.

use std::sync::Arc;

use bytes::Bytes;
use tonic::{Request, Streaming};
use ursula_common::traces::TRACEPARENT;
use ursula_common::verb::{Ack, ReadFrom, StreamInfo};
use ursula_common::{BucketName, ClusterId, Error, GroupId, Offset, StreamId, StreamName, wire};
use ursula_proto::{NodeChannel, NodeClient, TargetRef, from_status, node_client, v1};

use crate::traced;

/// The way to one node. Cheap to clone; the connection is closed with the last clone.
#[derive(Debug, Clone)]
pub(crate) struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: String,
    channel: NodeChannel,
    client: NodeClient,
}

/// A range of stored bytes, and the stream as it was then.
#[derive(Debug)]
pub(crate) struct ReadRange {
    pub(crate) info: StreamInfo,
    pub(crate) start: Offset,
    pub(crate) next: Offset,
    pub(crate) pieces: Vec<Bytes>,
    /// Whether `info` says all there was. If not, there may be more than its tail.
    pub(crate) proven: bool,
}

/// A range to read.
#[derive(Debug, Clone)]
pub(crate) struct RangeRequest {
    pub(crate) target: TargetRef,
    pub(crate) from: ReadFrom,
    pub(crate) until: Option<Offset>,
    pub(crate) bytes_max: usize,
    pub(crate) touch: bool,
    /// Whether a replica may answer that does not lead.
    pub(crate) applied_is_enough: bool,
}

impl Link {
    pub(crate) fn new(address: String, channel: NodeChannel) -> Link {
        Link(Arc::new(Inner { address, client: node_client(channel.clone()), channel }))
    }

    pub(crate) fn address(&self) -> &str {
        &self.0.address
    }

    /// The same way for one who means a node of this cluster, and no other one that may be there.
    pub(crate) fn in_cluster(&self, cluster: ClusterId) -> Link {
        let channel = ursula_proto::in_cluster(self.0.channel.clone(), cluster);
        Link::new(self.0.address.clone(), channel)
    }

    pub(crate) fn client(&self) -> NodeClient {
        self.0.client.clone()
    }

    /// Whether both are the same way.
    pub(crate) fn is(&self, other: &Link) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) async fn describe(&self, target: TargetRef, touch: bool) -> Result<StreamInfo, Error> {
        let request = v1::DescribeRequest { target: Some(target.into()), touch };
        self.client().describe(traced(request)).await.map_err(|status| from_status(&status))?.into_inner().try_into()
    }

    pub(crate) async fn read(&self, range: RangeRequest) -> Result<ReadRange, Error> {
        let request = v1::ReadRequest {
            target: Some(range.target.into()),
            from: Some(range.from.into()),
            bytes_max: range.bytes_max as u64,
            until: range.until.map(|until| until.0),
            touch: range.touch,
            applied_is_enough: range.applied_is_enough,
        };
        let answer = self.client().read(traced(request)).await.map_err(|status| from_status(&status))?;
        let mut chunks = answer.into_inner();
        let first = next(&mut chunks).await?.ok_or(Error::Unavailable)?;
        let head = first.head.ok_or(Error::Malformed)?;
        let mut pieces = first.pieces;
        while let Some(chunk) = next(&mut chunks).await? {
            pieces.extend(chunk.pieces);
        }
        pieces.retain(|piece| !piece.is_empty());
        Ok(ReadRange {
            info: head.info.ok_or(Error::Malformed)?.try_into()?,
            start: Offset(head.start),
            next: Offset(head.next),
            pieces,
            proven: head.proven,
        })
    }

    pub(crate) async fn tail(
        &self,
        target: TargetRef,
        stream: StreamId,
        from: Offset,
        tell_up_to_date: bool,
    ) -> Result<Streaming<v1::TailEvent>, Error> {
        let request =
            v1::TailRequest { target: Some(target.into()), from: from.0, stream_id: stream.0, tell_up_to_date };
        Ok(self.client().tail(request).await.map_err(|status| from_status(&status))?.into_inner())
    }

    pub(crate) async fn list(
        &self,
        group: GroupId,
        bucket: &BucketName,
        prefix: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<StreamName>, Error> {
        let request = v1::ListRequest {
            group: group.0,
            bucket: bucket.to_string(),
            prefix: prefix.to_owned(),
            after: after.to_owned(),
            limit,
        };
        let listed = self.client().list(request).await.map_err(|status| from_status(&status))?.into_inner();
        listed.items.iter().map(|item| StreamName::parse(&item.name).map_err(|_| Error::Malformed)).collect()
    }

    pub(crate) async fn describe_bucket(&self, bucket: &BucketName) -> Result<Ack, Error> {
        let request = v1::DescribeBucketRequest { bucket: bucket.to_string() };
        let described = self.client().describe_bucket(request).await.map_err(|status| from_status(&status))?;
        wire::decode_ack(described.into_inner().ack)
    }

    pub(crate) async fn watch_topology(&self, have_version: u64) -> Result<Streaming<v1::Topology>, Error> {
        let request = v1::WatchTopologyRequest { have_version };
        Ok(self.client().watch_topology(request).await.map_err(|status| from_status(&status))?.into_inner())
    }
}

/// The request, as a part of the trace within which it is made.
fn traced<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(parent) = traced::parent().and_then(|parent| parent.parse().ok()) {
        request.metadata_mut().insert(TRACEPARENT, parent);
    }
    request
}

async fn next<T>(stream: &mut Streaming<T>) -> Result<Option<T>, Error> {
    stream.message().await.map_err(|status| from_status(&status))
}
