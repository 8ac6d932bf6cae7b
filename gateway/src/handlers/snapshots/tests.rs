//! Snapshots on their way through a gateway, against a node that the test plays.

mod publish;
mod read;

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use tower::ServiceExt;
use ursula_common::Offset;
use ursula_common::clock::ManualClock;
use ursula_proto::v1;

use crate::app::Gateway;
use crate::config::GatewayConfig;
use crate::tests::{FakeNode, Stored};

const BYTES_MAX: u64 = 12 << 20;

struct World {
    gateway: Gateway,
    node: FakeNode,
    stream: Arc<Stored>,
}

impl World {
    /// With a stream of three records.
    fn new() -> World {
        let node = FakeNode::new();
        let stream = node.store("stream", "text/plain");
        [&b"one "[..], b"two ", b"three"].into_iter().for_each(|record| stream.append(record));
        let config = GatewayConfig { snapshot_bytes_max: BYTES_MAX, ..GatewayConfig::default() };
        let gateway = Gateway::start(config, vec![node.seed()], Arc::new(ManualClock::default())).expect("a gateway");
        World { gateway, node, stream }
    }

    fn ask(&self, request: Request<Body>) -> impl Future<Output = Response<Body>> + use<> {
        let gateway = self.gateway.clone();
        async move { gateway.app().public_routes().oneshot(request).await.expect("an answer") }
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let request = Request::get(format!("/v1/stream/stream{path}")).header("host", "here");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.ask(request.body(Body::empty()).expect("a request")).await
    }

    /// The stream has this snapshot, whose bytes are these pieces.
    fn publish(&self, upload: u64, at: u64, pieces: &[&[u8]]) -> Arc<Stored> {
        let companion = self.node.store(&companion(upload), "application/octet-stream");
        pieces.iter().for_each(|piece| companion.append(piece));
        let whole = pieces.concat();
        let digest = Bytes::copy_from_slice(&Sha256::digest(&whole));
        let content_type = "application/json".to_owned();
        self.stream.publish(v1::Snapshot { at, upload, content_type, bytes: whole.len() as u64, digest });
        companion
    }

    fn metric(&self, name: &str) -> usize {
        let text = self.gateway.render_metrics();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no metric {name}"))
    }
}

fn companion(upload: u64) -> String {
    format!("stream//{upload:016x}")
}

fn path(at: u64) -> String {
    format!("/snapshot/{}", Offset(at))
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().expect("ASCII"))
}

async fn text(body: Body) -> String {
    let bytes = body.collect().await.expect("a whole body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// The status and the code of an error.
async fn refused(response: Response<Body>) -> (u16, String) {
    let status = response.status().as_u16();
    let text = text(response.into_body()).await;
    (status, text.split('"').nth(5).unwrap_or_default().to_owned())
}
