//! The operations listener: `/metrics`, `/health`, `/ready` and `/settings`.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tracing::debug;
use ursula_common::metrics::CONTENT_TYPE as METRICS;

use crate::node::Node;

/// How long a client may take to send its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after the system refused a connection, for want of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves operators on `listener` until it is dropped.
pub async fn serve(node: Node, listener: TcpListener) {
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let node = node.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(node.clone(), request));
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).keep_alive(false);
            if let Err(error) = server.serve_connection(TokioIo::new(socket), service).await {
                debug!(%error, "an operations connection failed");
            }
        });
    }
}

async fn answer(node: Node, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match request.uri().path() {
        "/metrics" => (StatusCode::OK, node.render_metrics()),
        "/health" => (StatusCode::OK, "ok\n".to_owned()),
        "/ready" if node.is_ready() => (StatusCode::OK, "ok\n".to_owned()),
        "/ready" => (StatusCode::SERVICE_UNAVAILABLE, node.is_waiting_for()),
        "/settings" => (StatusCode::OK, node.settings().to_owned()),
        _ => (StatusCode::NOT_FOUND, "try /metrics, /health, /ready or /settings\n".to_owned()),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let text = if request.uri().path() == "/metrics" { METRICS } else { "text/plain; charset=utf-8" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(text));
    Ok(response)
}
