//! Connections of the simulated network, as gRPC wants them.

use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Stream, stream};
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;
use tower::service_fn;
use turmoil::net::{TcpListener, TcpStream};
use ursula_proto::{ChannelError, NodeChannel};

/// Where storage nodes and gateways listen.
pub(crate) const PORT: u16 = 4438;

/// The address of a host.
pub(crate) fn address(host: &str) -> String {
    format!("{host}:{PORT}")
}

/// A channel to `address`, with the limits of the real one.
pub(crate) fn connect(address: &str) -> Result<NodeChannel, ChannelError> {
    let connector = service_fn(|uri: Uri| async move {
        let authority = uri.authority().map_or("", |authority| authority.as_str()).to_owned();
        TcpStream::connect(authority).await.map(TokioIo::new)
    });
    Ok(ursula_proto::over(ursula_proto::endpoint(address)?.connect_with_connector_lazy(connector)))
}

/// A listener of this host.
pub(crate) async fn listen() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await
}

/// What a listener accepts.
pub(crate) fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<Accepted>> {
    stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(socket, _)| Accepted(socket));
        Some((accepted, listener))
    })
}

/// A connection that was accepted.
pub(crate) struct Accepted(TcpStream);

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
