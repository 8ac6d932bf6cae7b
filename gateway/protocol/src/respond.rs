//! Replies as responses.

mod snapshot;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, HOST, LOCATION,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};
use serde::Serialize;
use ursula_common::verb::{Ack, Appended, Created, Lifetime, ReadFrom, StreamInfo};
use ursula_common::{BucketName, ContentType, GroupId, Offset, StreamId, StreamName};

use crate::headers::{
    BUCKET_ACK, CROSS_ORIGIN_RESOURCE_POLICY, PRODUCER_EPOCH, PRODUCER_SEQ, STREAM_CLOSED, STREAM_CURSOR,
    STREAM_EARLIEST_OFFSET, STREAM_EXPIRES_AT, STREAM_NEXT_OFFSET, STREAM_RETENTION_MAX_AGE,
    STREAM_RETENTION_MAX_BYTES, STREAM_RETENTION_SNAPSHOT, STREAM_SNAPSHOT_OFFSET, STREAM_TTL, STREAM_UP_TO_DATE,
};
use crate::{Context, IfNoneMatch, body, etag, status};

pub use snapshot::{page_part, published, snapshot, snapshot_part};

pub(crate) const TRUE: HeaderValue = HeaderValue::from_static("true");
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(crate) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// Bytes before the tail never change, so that any cache may keep them.
const CACHEABLE: HeaderValue = HeaderValue::from_static("public, max-age=60, stale-while-revalidate=300");

const EXPOSED: HeaderValue = HeaderValue::from_static(
    "stream-next-offset, stream-cursor, stream-up-to-date, stream-closed, stream-earliest-offset, stream-ttl, \
     stream-expires-at, stream-retention-max-age, stream-retention-max-bytes, stream-retention-snapshot, \
     stream-snapshot-offset, stream-sse-data-encoding, producer-epoch, producer-seq, producer-expected-seq, \
     producer-received-seq, etag, repr-digest, content-type, content-encoding, content-location, vary, location, \
     retry-after, bucket-ack, x-request-id",
);
const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, DELETE, HEAD, OPTIONS");
const ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static(
    "content-type, authorization, if-none-match, if-match, last-event-id, stream-seq, stream-ttl, stream-expires-at, \
     stream-retention-max-age, stream-retention-max-bytes, stream-retention-snapshot, stream-closed, \
     stream-expected-offset, stream-forked-from, stream-fork-offset, stream-fork-sub-offset, producer-id, \
     producer-epoch, producer-seq, content-digest, repr-digest, bucket-ack, traceparent, x-request-id",
);
const PREFLIGHT_MAX_AGE_SECONDS: u32 = 86_400;

/// A response with the headers that all have.
pub(crate) fn response<B>(status: StatusCode, body: B) -> Response<B> {
    let mut headers = HeaderMap::with_capacity(12);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

pub(crate) fn offset(offset: Offset) -> HeaderValue {
    HeaderValue::try_from(offset.to_string()).expect("digits and an underscore are valid in a header")
}

fn content_type(content_type: &ContentType) -> HeaderValue {
    HeaderValue::from_str(content_type.as_str()).unwrap_or(HeaderValue::from_static(ContentType::DEFAULT))
}

/// The answer to a preflight request.
pub fn preflight() -> Response<Bytes> {
    let mut response = response(status::NO_CONTENT, Bytes::new());
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE_SECONDS.into());
    response
}

/// The process lives.
pub fn health() -> Response<Bytes> {
    json(status::OK, &State { status: "ok" })
}

/// Whether the process can serve.
pub fn ready(ready: bool) -> Response<Bytes> {
    json(status::ready(ready), &State { status: if ready { "ready" } else { "starting" } })
}

/// The absolute URL of what was created: the path of the request below `public_url`, or, without one, below the host that the
/// client asked for, with the `scheme` that it used before it came through proxies.
pub fn location(public_url: Option<&str>, scheme: Option<&str>, uri: &Uri, headers: &HeaderMap) -> Option<HeaderValue> {
    let host = match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => headers.get(HOST).and_then(|host| host.to_str().ok()),
    };
    let text = match (public_url, host) {
        (Some(base), _) => format!("{}{}", base.trim_end_matches('/'), uri.path()),
        (None, Some(host)) => format!("{}://{host}{}", scheme.or(uri.scheme_str()).unwrap_or("http"), uri.path()),
        (None, None) => uri.path().to_owned(),
    };
    HeaderValue::try_from(text).ok()
}

/// The stream is there; `location` is sent if it is new.
pub fn created(reply: &Created, location: Option<HeaderValue>) -> Response<Bytes> {
    let mut response = response(status::created(reply.new), Bytes::new());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type(&reply.content_type));
    position(headers, reply.tail, reply.closed);
    if let Some(location) = location.filter(|_| reply.new) {
        headers.insert(LOCATION, location);
    }
    response
}

/// The append was accepted, or had been before.
pub fn appended(reply: &Appended, context: Context) -> Response<Bytes> {
    let mut response = response(status::appended(reply, context), Bytes::new());
    let headers = response.headers_mut();
    position(headers, reply.tail, reply.closed);
    if let Some((epoch, seq)) = reply.producer {
        headers.insert(PRODUCER_EPOCH, epoch.into());
        headers.insert(PRODUCER_SEQ, seq.into());
    }
    response
}

/// The stream or bucket is gone.
pub fn deleted() -> Response<Bytes> {
    response(status::NO_CONTENT, Bytes::new())
}

/// The stream begins here now.
pub fn trimmed(earliest: Offset) -> Response<Bytes> {
    let mut response = response(status::NO_CONTENT, Bytes::new());
    response.headers_mut().insert(STREAM_EARLIEST_OFFSET, offset(earliest));
    response
}

/// Everything about a stream but its bytes.
pub fn head(info: &StreamInfo) -> Response<Bytes> {
    let mut response = response(status::OK, Bytes::new());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type(&info.content_type));
    headers.insert(CACHE_CONTROL, NO_STORE);
    position(headers, info.tail, info.closed);
    beginning(headers, info.earliest);
    if let Some(seconds) = info.retention.max_age {
        headers.insert(STREAM_RETENTION_MAX_AGE, seconds.into());
    }
    if let Some(bytes) = info.retention.max_bytes {
        headers.insert(STREAM_RETENTION_MAX_BYTES, bytes.into());
    }
    if info.retention.snapshot {
        headers.insert(STREAM_RETENTION_SNAPSHOT, TRUE);
    }
    if let Some(snapshot) = &info.snapshot {
        headers.insert(STREAM_SNAPSHOT_OFFSET, offset(snapshot.at));
    }
    match &info.lifetime {
        Lifetime::Forever => {}
        Lifetime::Ttl(seconds) => {
            headers.insert(STREAM_TTL, (*seconds).into());
        }
        Lifetime::ExpiresAt { text, .. } => {
            if let Ok(text) = HeaderValue::from_str(text) {
                headers.insert(STREAM_EXPIRES_AT, text);
            }
        }
    }
    response
}

/// What a page of a stream is, besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageHead {
    /// The group of the stream.
    pub group: GroupId,
    /// The incarnation of the stream.
    pub stream: StreamId,
    /// The type of the stream.
    pub content_type: ContentType,
    /// What was asked for.
    pub from: ReadFrom,
    /// The offset of the first byte.
    pub start: Offset,
    /// The offset after the last byte.
    pub next: Offset,
    /// Whether the page reaches the tail.
    pub up_to_date: bool,
    /// Whether the page reaches the end of a closed stream.
    pub closed: bool,
    /// Where the stream begins.
    pub earliest: Offset,
    /// The cursor, for long-poll.
    pub cursor: Option<u64>,
}

/// A page of a stream, or that the client has it already. `stored` begins and ends between messages;
/// the body is in pieces, too.
pub fn page(head: &PageHead, if_none_match: &IfNoneMatch, stored: &[Bytes]) -> Response<Vec<Bytes>> {
    // What is asked for by time and not by place must not be kept.
    let tag =
        (head.from != ReadFrom::Now).then(|| etag::etag(head.group, head.stream, head.start, head.next, head.closed));
    let known = tag.as_ref().is_some_and(|tag| if_none_match.matches(tag));
    let mut response = match known {
        true => response(status::NOT_MODIFIED, Vec::new()),
        false => response(status::OK, body::sent(&head.content_type, stored)),
    };
    let headers = response.headers_mut();
    place(headers, head);
    headers.insert(CACHE_CONTROL, if tag.is_some() { CACHEABLE } else { NO_STORE });
    if let Some(cursor) = head.cursor {
        headers.insert(STREAM_CURSOR, cursor.into());
    }
    if let Some(tag) = tag {
        headers.insert(ETAG, tag);
    }
    response
}

/// The end of a long poll that brought no data: its time is over, or the stream was closed.
pub fn nothing_new(tail: Offset, cursor: u64, closed: bool) -> Response<Bytes> {
    let mut response = response(status::NO_CONTENT, Bytes::new());
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(STREAM_UP_TO_DATE, TRUE);
    headers.insert(STREAM_CURSOR, cursor.into());
    position(headers, tail, closed);
    response
}

/// What a page is, and where.
fn place(headers: &mut HeaderMap, head: &PageHead) {
    headers.insert(CONTENT_TYPE, content_type(&head.content_type));
    position(headers, head.next, head.closed);
    beginning(headers, head.earliest);
    if head.up_to_date {
        headers.insert(STREAM_UP_TO_DATE, TRUE);
    }
}

fn position(headers: &mut HeaderMap, next: Offset, closed: bool) {
    headers.insert(STREAM_NEXT_OFFSET, offset(next));
    if closed {
        headers.insert(STREAM_CLOSED, TRUE);
    }
}

/// Where a stream begins, if it does not have all that it ever had.
fn beginning(headers: &mut HeaderMap, earliest: Offset) {
    if earliest > earliest.first() {
        headers.insert(STREAM_EARLIEST_OFFSET, offset(earliest));
    }
}

#[derive(Serialize)]
struct State {
    status: &'static str,
}

#[derive(Serialize)]
struct Bucket<'a> {
    bucket: &'a str,
    ack: &'static str,
}

#[derive(Serialize)]
struct Names<'a> {
    bucket: &'a str,
    streams: Vec<Name<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

#[derive(Serialize)]
struct Name<'a> {
    name: &'a str,
}

/// The bucket is there; `location` is sent if it is `new`.
pub fn bucket_created(bucket: &BucketName, ack: Ack, new: bool, location: Option<HeaderValue>) -> Response<Bytes> {
    let mut response = configured(status::created(new), bucket, ack);
    if let Some(location) = location.filter(|_| new) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// The bucket exists.
pub fn bucket(bucket: &BucketName, ack: Ack) -> Response<Bytes> {
    configured(status::OK, bucket, ack)
}

fn configured(status: StatusCode, bucket: &BucketName, ack: Ack) -> Response<Bytes> {
    let mut response = json(status, &Bucket { bucket: bucket.as_str(), ack: ack.as_str() });
    response.headers_mut().insert(BUCKET_ACK, HeaderValue::from_static(ack.as_str()));
    response
}

/// Names of streams in a bucket; `more` if others follow, which `after` the last one will bring.
pub fn list(bucket: &BucketName, names: &[StreamName], more: bool) -> Response<Bytes> {
    let streams = names.iter().map(|name| Name { name: name.as_str() }).collect();
    let next = names.last().filter(|_| more).map(StreamName::as_str);
    json(status::OK, &Names { bucket: bucket.as_str(), streams, next })
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Bytes> {
    let body = serde_json::to_vec(body).expect("texts are always valid in JSON");
    let mut response = response(status, body.into());
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}

#[cfg(test)]
mod tests;
