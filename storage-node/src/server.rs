//! Serves a node on its sockets until it is told to stop.

use std::io;
use std::time::Duration;

use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::{Connected, TcpIncoming};

use crate::node::Node;
use crate::ops;

/// HTTP/2 windows: see the client's in `ursula-proto`.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// Calls on one connection of a gateway: its lane, its tails and its reads.
const CALLS_MAX: u32 = 100_000;
/// After the signal to stop, lanes and tails of gateways are cut after so long.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// Serves gRPC on `listener` and operations on `operations`; stops the node when `shutdown` is done.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    node: Node,
    listener: TcpListener,
    operations: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let operations = tokio::spawn(ops::serve(node.clone(), operations));
    // The builder's own setting is only for listeners that it makes itself.
    let ended = serve_on(node, TcpIncoming::from(listener).with_nodelay(Some(true)), shutdown).await;
    operations.abort();
    ended
}

/// Serves gRPC on connections, however they come; stops the node when `shutdown` is done, or its log has failed.
///
/// # Errors
/// If no more connections can come, or the log failed.
pub async fn serve_on<S>(
    node: Node,
    incoming: impl Stream<Item = io::Result<S>>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let (drain, drained) = tokio::sync::oneshot::channel::<()>();
    let server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(CALLS_MAX)
        .add_routes(node.routes())
        .serve_with_incoming_shutdown(incoming, async { drop(drained.await) });
    tokio::pin!(server);
    let ended = tokio::select! {
        ended = &mut server => ended,
        () = shutdown => {
            drop(drain);
            tokio::time::timeout(DRAIN_TIMEOUT, server).await.unwrap_or(Ok(()))
        }
        // Whoever waits for an answer must not wait for a node that cannot give one.
        () = node.log_failed() => Ok(()),
    };
    node.stop().await?;
    ended.map_err(io::Error::other)
}
