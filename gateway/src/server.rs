//! Serves a gateway on its sockets until it is told to stop, then lets requests under way finish.

mod proxy;
mod watchdog;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use http::header::CONNECTION;
use http::{HeaderValue, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::{Service, ServiceExt};
use tracing::{debug, info, warn};
use ursula_common::metrics::OpenGauge;

use crate::app::{App, Gateway};
use crate::origin::Peer;
use crate::pages::Held;
use watchdog::{Limits, Watched};

/// The largest head of a request, and headers in it.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 100;
/// Requests at a time on one HTTP/2 connection.
const HTTP2_STREAMS_MAX: u32 = 1000;
/// HTTP/2 connections are probed so often, and cut if they do not answer for as long.
const HTTP2_PING: Duration = Duration::from_secs(20);
/// Pause after the system refused a connection, for want of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What answers the requests of a connection.
pub(crate) trait Routes:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<S> Routes for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Serves clients on `listener` and operators on `operations` until `shutdown` is done.
///
/// # Errors
/// None at this time: a listener that fails is tried again.
pub async fn serve(
    gateway: Gateway,
    listener: TcpListener,
    operations: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let gateway = gateway.app();
    let operations = tokio::spawn(accept(gateway.clone(), operations, gateway.operations_routes(), None));
    let open = Arc::new(GracefulShutdown::new());
    let shutdown = async {
        shutdown.await;
        gateway.leaving.store(true, Ordering::Relaxed);
        tokio::time::sleep(gateway.config.drain_delay()).await;
    };
    tokio::select! {
        () = accept(gateway.clone(), listener, gateway.public_routes(), Some(open.clone())) => {}
        () = shutdown => {}
    }
    gateway.draining.send_replace(true);
    drain(gateway, open).await;
    gateway.traces.clone().stop().await;
    operations.abort();
    Ok(())
}

/// Lets connections finish their requests; live reads end by themselves when the gateway drains.
async fn drain(gateway: &App, open: Arc<GracefulShutdown>) {
    let Some(open) = Arc::into_inner(open) else { return };
    info!(connections = open.count(), "draining");
    let time = gateway.config.drain_timeout();
    if tokio::time::timeout(time, open.shutdown()).await.is_err() {
        warn!("connections were cut that did not end in time");
    }
}

async fn accept(gateway: Arc<App>, listener: TcpListener, routes: impl Routes, open: Option<Arc<GracefulShutdown>>) {
    let places = Arc::new(Semaphore::new(gateway.config.connections_max.min(Semaphore::MAX_PERMITS)));
    let server = Arc::new(server());
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (mut socket, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Small events must leave at once; a socket that refuses works all the same.
        let _ = socket.set_nodelay(true);
        // Operators come without a load balancer.
        let announced = open.is_some() && gateway.config.proxy_protocol && gateway.trusted.trusts(from.ip());
        let (gateway, server, routes) = (gateway.clone(), server.clone(), routes.clone());
        let watcher = open.as_deref().map(GracefulShutdown::watcher);
        let counted = OpenGauge::new(gateway.metrics.connections.clone());
        tokio::spawn(async move {
            let mut peer = Peer(from.ip());
            if announced {
                match proxy::take(&mut socket, gateway.config.header_timeout()).await {
                    Ok(client) => peer = client.map_or(peer, Peer),
                    Err(error) => {
                        debug!(%from, %error, "a connection without a header of the PROXY protocol");
                        gateway.metrics.unannounced.increment(1);
                        return;
                    }
                }
            }
            serve_connection(gateway, server, socket, Some(peer), routes, watcher).await;
            drop((place, counted));
        });
    }
}

fn server() -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().max_headers(HEADERS_MAX).max_buf_size(HEAD_BYTES_MAX).half_close(false);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PING)
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32);
    server
}

/// Serves clients on one connection, however it came, until it ends.
pub async fn serve_socket<S>(gateway: Gateway, socket: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let gateway = gateway.app();
    serve_connection(gateway.clone(), Arc::new(server()), socket, None, gateway.public_routes(), None).await;
}

async fn serve_connection<S, R: Routes>(
    gateway: Arc<App>,
    server: Arc<auto::Builder<TokioExecutor>>,
    socket: S,
    peer: Option<Peer>,
    routes: R,
    watcher: Option<Watcher>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = Limits {
        header: gateway.config.header_timeout(),
        idle: gateway.config.idle_timeout(),
        write: gateway.config.write_timeout(),
    };
    let (socket, watchdog) = Watched::new(socket, limits);
    let busy = watchdog.clone();
    let leaving = gateway.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (busy, gateway) = (busy.request(), leaving.clone());
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        let is_http1 = request.version() < Version::HTTP_2;
        let answer = routes.clone().oneshot(request.map(Body::new));
        async move {
            let mut response = answer.await.unwrap_or_else(|never: Infallible| match never {});
            if is_http1 && gateway.is_leaving() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            let held = response.extensions_mut().remove::<Arc<Held>>();
            Ok::<_, Infallible>(response.map(|body| busy.until_sent(body, held)))
        }
    });
    let connection = server.serve_connection(TokioIo::new(socket), service).into_owned();
    let served = async {
        match watcher {
            Some(watcher) => watcher.watch(connection).await,
            None => connection.await,
        }
    };
    tokio::select! {
        result = served => if let Err(error) = result {
            debug!(%error, "a connection failed");
        },
        () = watchdog.bites() => debug!("a connection did nothing for too long"),
    }
}
