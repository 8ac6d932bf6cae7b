//! [`NodeChannel`]: the way to a storage node, in this process or another, with one type for both.

use std::convert::Infallible;
use std::time::Duration;

use http::HeaderValue;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tower::{Service, ServiceExt};
use ursula_common::ClusterId;
use ursula_common::limits::MESSAGE_BYTES_MAX;

use crate::apart::Apart;
use crate::v1::node_client;
use crate::v1::node_server::{Node, NodeServer};

type Request = http::Request<Body>;
type Response = http::Response<Body>;

/// A boxed service that takes gRPC requests to one node. Cheap to clone.
pub type NodeChannel = tower::util::BoxCloneSyncService<Request, Response, ChannelError>;

/// Why a request did not get to the node, or its answer not back.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ChannelError(#[from] tonic::transport::Error);

/// The client half of the contract over any channel.
pub type NodeClient = node_client::NodeClient<NodeChannel>;

/// Which cluster a caller means.
pub(crate) const CLUSTER: &str = "ursula-cluster";
/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection that carries a call is probed so often, and given up after [`KEEP_ALIVE_TIMEOUT`]: a process that
/// stands still keeps its connections, and nothing else tells that of a tail on which nothing comes.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// HTTP/2 windows: room for one page of a read on a stream, and for several on a connection.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;

/// The server half of the contract with its limits, for the listener and for [`local`] alike.
pub fn node_server<N: Node>(node: N) -> NodeServer<N> {
    NodeServer::new(node).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// A client with the contract's limits.
pub fn node_client(channel: NodeChannel) -> NodeClient {
    NodeClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// A channel to a node in this process: no socket, the same code.
pub fn local<S>(server: S) -> NodeChannel
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let apart = |response: Response| response.map(|body| Body::new(Apart::new(body)));
    NodeChannel::new(server.map_response(apart).map_err(|never| match never {}))
}

/// The same channel for one who means a node of this cluster, and no other one that may be there.
pub fn in_cluster(channel: NodeChannel, cluster: ClusterId) -> NodeChannel {
    let name = HeaderValue::try_from(cluster.to_string()).expect("invariant: digits are a value");
    NodeChannel::new(channel.map_request(move |mut request: Request| {
        request.headers_mut().insert(CLUSTER, name.clone());
        request
    }))
}

/// The cluster that the caller means, if it says so.
pub fn meant_cluster(metadata: &MetadataMap) -> Option<ClusterId> {
    metadata.get(CLUSTER)?.to_str().ok()?.parse().ok()
}

/// Whether [`remote`] will take `address`.
///
/// # Errors
/// If `address` is not a host and a port.
pub fn check_address(address: &str) -> Result<(), ChannelError> {
    Endpoint::from_shared(format!("http://{address}"))?;
    Ok(())
}

/// A channel to `address` (`host:port`); connects on first use and again after a loss.
///
/// # Errors
/// If `address` is not a host and a port.
pub fn remote(address: &str) -> Result<NodeChannel, ChannelError> {
    Ok(over(endpoint(address)?.connect_lazy()))
}

/// What [`remote`] connects to, with its limits, for whoever connects in another way.
///
/// # Errors
/// If `address` is not a host and a port.
pub fn endpoint(address: &str) -> Result<Endpoint, ChannelError> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES))
}

/// A channel over a connection to an [`endpoint`].
pub fn over(channel: Channel) -> NodeChannel {
    NodeChannel::new(channel.map_err(ChannelError))
}
