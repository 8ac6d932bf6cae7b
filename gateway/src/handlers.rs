//! Requests of clients: the dialect takes them apart, the cluster carries them out, the dialect puts the
//! answers together.

mod buckets;
mod live;
mod read;
mod snapshots;
mod streams;
pub(crate) mod upload;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use bytes::Bytes;
use http::{HeaderValue, Response, Version};
use tokio::time::Instant;
use ursula_common::Error;
use ursula_common::metrics::OpenGauge;
use ursula_common::traces::TRACEPARENT;
use ursula_protocol::{self as protocol, Context, ErrorCode, Rejection, Request, respond};

use crate::app::App;
use crate::failures::Asked;
use crate::requests::Operation;
use crate::traced;

/// A complete answer, or why there is none.
type Answer = Result<Response<Bytes>, Response<Bytes>>;

/// The same of a page, in pieces.
type PageAnswer = Result<Response<Body>, Response<Bytes>>;

/// Serves one request of a client.
pub(crate) async fn serve(gateway: &Arc<App>, request: HttpRequest) -> Response<Body> {
    let since = Instant::now();
    let _under_way = OpenGauge::new(gateway.metrics.requests_under_way.clone());
    let (head, body) = request.into_parts();
    let asked = Asked::new(&gateway.trusted, &head);
    let host = if head.version == Version::HTTP_11 { protocol::check_host(&head.headers) } else { Ok(()) };
    let parsed = host.and_then(|()| protocol::parse(&head.method, &head.uri, &head.headers));
    let operation = Operation::of(&parsed);
    let traceparent = head.headers.get(TRACEPARENT).and_then(|parent| parent.to_str().ok());
    let span = gateway.traces.request(operation.name(), traceparent);
    let answer = answer(gateway, parsed, head, body);
    let response = match span {
        None => answer.await,
        Some(mut span) => {
            let response = Box::pin(traced::scope(span.traceparent(), answer)).await;
            span.note("http.response.status_code", i64::from(protocol::status_number(response.status())));
            if response.status().is_server_error() {
                span.fail(response.extensions().get::<ErrorCode>().map_or("unknown", |code| code.0));
            }
            response
        }
    };
    gateway.metrics.answered(operation, response.status(), since);
    // That it is not ready is no failure, and whoever asks does so again and again.
    if operation == Operation::Probe { response } else { gateway.failures.note(asked, since, response) }
}

async fn answer(
    gateway: &Arc<App>,
    parsed: Result<Request, Rejection>,
    head: http::request::Parts,
    body: Body,
) -> Response<Body> {
    match parsed {
        Ok(Request::Append(parts)) => streams::append(gateway, parts, body).await.map(Body::from),
        Ok(Request::Create(parts)) => streams::create(gateway, parts, &head, body).await.map(Body::from),
        Ok(Request::PublishSnapshot(parts)) => snapshots::publish(gateway, parts, &head, body).await.map(Body::from),
        without_body => {
            let skipped = upload::skip(&head.headers, body, gateway.config.body_timeout()).await;
            let response = match without_body {
                Err(rejection) => protocol::rejection(&rejection).map(Body::from),
                Ok(Request::Read(parts)) => read::serve(gateway, parts, head).await,
                Ok(Request::ReadSnapshot(parts)) => snapshots::read(gateway, parts, &head).await,
                Ok(Request::Bootstrap(key)) => snapshots::bootstrap(gateway, key).await,
                Ok(request) => whole(small(gateway, request, &head).await).map(Body::from),
            };
            if skipped { response } else { upload::closing(response) }
        }
    }
}

/// Serves `/health` and `/ready` on the operations listener.
pub(crate) async fn serve_probe(State(gateway): State<Arc<App>>, request: HttpRequest) -> Response<Body> {
    let (head, _) = request.into_parts();
    let response = match protocol::parse(&head.method, &head.uri, &head.headers) {
        Ok(request @ (Request::Health | Request::Ready)) => whole(small(&gateway, request, &head).await),
        Ok(_) => protocol::rejection(&Rejection::NotFound),
        Err(rejection) => protocol::rejection(&rejection),
    };
    response.map(Body::from)
}

/// Requests without a body and with a small answer.
async fn small(gateway: &App, request: Request, head: &http::request::Parts) -> Answer {
    match request {
        Request::Health => Ok(respond::health()),
        Request::Ready => Ok(respond::ready(gateway.cluster.is_ready() && !gateway.is_leaving())),
        Request::Preflight => Ok(respond::preflight()),
        Request::CreateBucket(bucket, ack) => buckets::create(gateway, bucket, ack, head).await,
        Request::DescribeBucket(bucket) => buckets::describe(gateway, bucket).await,
        Request::DeleteBucket(bucket) => buckets::delete(gateway, bucket).await,
        Request::List(list) => buckets::list(gateway, list).await,
        Request::Delete(key) => streams::delete(gateway, key).await,
        Request::Trim(trim) => streams::trim(gateway, trim).await,
        Request::Head(key) => streams::head(gateway, key).await,
        Request::RemoveSnapshot(remove) => snapshots::remove(gateway, remove).await,
        Request::HeadSnapshot(parts) => snapshots::head(gateway, &parts, head).await,
        // Handled where their bodies are.
        Request::Create(_)
        | Request::Append(_)
        | Request::Read(_)
        | Request::PublishSnapshot(_)
        | Request::ReadSnapshot(_)
        | Request::Bootstrap(_) => Err(protocol::rejection(&Rejection::NotFound)),
    }
}

fn whole(answer: Answer) -> Response<Bytes> {
    answer.unwrap_or_else(|response| response)
}

/// The URL of what was created.
fn location(gateway: &App, head: &http::request::Parts) -> Option<HeaderValue> {
    let scheme = gateway.trusted.scheme(head.extensions.get().copied(), &head.headers);
    respond::location(gateway.config.public_url.as_deref(), scheme, &head.uri, &head.headers)
}

/// The response to a request that failed; `context` is only of interest for appends.
fn failed(error: &Error) -> Response<Bytes> {
    protocol::error(error, Context::default())
}
