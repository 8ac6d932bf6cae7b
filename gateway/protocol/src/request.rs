//! From the head of a request to what is asked. Bodies come later.

use http::header::{CONTENT_LENGTH, HOST, IF_MATCH, IF_NONE_MATCH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Uri};
use ursula_common::limits::{APPEND_BYTES_MAX, LIST_ITEMS_MAX};
use ursula_common::verb::{Ack, RemoveSnapshot, Trim};
use ursula_common::{BucketName, StreamKey};

use crate::{AppendParts, CreateParts, PublishParts, ReadParts, Rejection, Route, SnapshotParts};
use crate::{headers, query, route, snapshot};

/// What a request asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Whether the process lives.
    Health,
    /// Whether it can serve.
    Ready,
    /// What browsers ask before they send a request to another origin.
    Preflight,
    /// Create a bucket.
    CreateBucket(BucketName, Ack),
    /// Does the bucket exist?
    DescribeBucket(BucketName),
    /// Remove an empty bucket.
    DeleteBucket(BucketName),
    /// The names of the streams in a bucket.
    List(ListParts),
    /// Create a stream; the body is its first content.
    Create(CreateParts),
    /// Append the body to a stream, or close it, or both.
    Append(AppendParts),
    /// Delete a stream.
    Delete(StreamKey),
    /// Let the beginning of a stream go.
    Trim(Trim),
    /// Everything about a stream but its bytes.
    Head(StreamKey),
    /// Read a stream.
    Read(ReadParts),
    /// Make the body the snapshot of a stream.
    PublishSnapshot(PublishParts),
    /// Remove the snapshot of a stream.
    RemoveSnapshot(RemoveSnapshot),
    /// Everything about a snapshot but its bytes.
    HeadSnapshot(SnapshotParts),
    /// Read a snapshot.
    ReadSnapshot(SnapshotParts),
    /// Read the newest snapshot of a stream, and the page after it.
    Bootstrap(StreamKey),
}

/// A page of the names in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListParts {
    /// The bucket.
    pub bucket: BucketName,
    /// Only names that start so.
    pub prefix: String,
    /// Only names that come after this one.
    pub after: Option<String>,
    /// At most so many names, 1 to [`LIST_ITEMS_MAX`].
    pub limit: u32,
}

const ALLOW_PROBE: &str = "GET, HEAD, OPTIONS";
const ALLOW_BUCKET: &str = "GET, HEAD, PUT, DELETE, OPTIONS";
const ALLOW_SNAPSHOT: &str = "GET, HEAD, PUT, DELETE, OPTIONS";
const ALLOW_NEWEST: &str = "GET, HEAD, OPTIONS";
const ALLOW_STREAM: &str = "GET, HEAD, PUT, POST, DELETE, OPTIONS";

/// Tells what a request asks, as far as its head says.
///
/// # Errors
/// The first rule that the request breaks.
pub fn parse(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Request, Rejection> {
    if method == Method::OPTIONS {
        return Ok(Request::Preflight);
    }
    check_framing(headers)?;
    let route = route(uri.path())?;
    if matches!(*method, Method::PUT | Method::DELETE) {
        let on_tags = [IF_MATCH, IF_NONE_MATCH].into_iter().filter(|_| !matches!(route, Route::Snapshot(..)));
        for name in on_tags.chain([headers::STREAM_EXPECTED_OFFSET]) {
            if headers.contains_key(&name) {
                return Err(headers::invalid(name, "is not kept here: only appends take conditions on the offset"));
            }
        }
    }
    match route {
        Route::Health => probe(method, Request::Health),
        Route::Ready => probe(method, Request::Ready),
        Route::Bucket(bucket) => match *method {
            Method::PUT => Ok(Request::CreateBucket(bucket, ack(headers)?)),
            Method::GET => describe_or_list(bucket, uri.query()),
            Method::HEAD => Ok(Request::DescribeBucket(bucket)),
            Method::DELETE => Ok(Request::DeleteBucket(bucket)),
            _ => Err(Rejection::Method { allow: ALLOW_BUCKET }),
        },
        Route::Stream(key) => match *method {
            Method::POST => AppendParts::parse(key, headers).map(Request::Append),
            Method::GET => ReadParts::parse(key, uri.query(), headers).map(Request::Read),
            Method::PUT => CreateParts::parse(key, headers).map(Request::Create),
            Method::HEAD => Ok(Request::Head(key)),
            Method::DELETE => delete_or_trim(key, uri.query()),
            _ => Err(Rejection::Method { allow: ALLOW_STREAM }),
        },
        Route::Snapshot(key, at) => match *method {
            Method::PUT => PublishParts::parse(key, at, headers).map(Request::PublishSnapshot),
            Method::GET => Ok(Request::ReadSnapshot(SnapshotParts::new(key, Some(at), headers))),
            Method::HEAD => Ok(Request::HeadSnapshot(SnapshotParts::new(key, Some(at), headers))),
            Method::DELETE => snapshot::remove(key, at, headers).map(Request::RemoveSnapshot),
            _ => Err(Rejection::Method { allow: ALLOW_SNAPSHOT }),
        },
        Route::NewestSnapshot(key) => match *method {
            Method::GET => Ok(Request::ReadSnapshot(SnapshotParts::new(key, None, headers))),
            Method::HEAD => Ok(Request::HeadSnapshot(SnapshotParts::new(key, None, headers))),
            Method::PUT => Err(Rejection::SnapshotPath),
            _ => Err(Rejection::Method { allow: ALLOW_NEWEST }),
        },
        Route::Bootstrap(key) => match *method {
            Method::GET | Method::HEAD => Ok(Request::Bootstrap(key)),
            Method::PUT => Err(Rejection::SnapshotPath),
            _ => Err(Rejection::Method { allow: ALLOW_NEWEST }),
        },
    }
}

/// When ops in a bucket are to be acknowledged.
fn ack(headers: &HeaderMap) -> Result<Ack, Rejection> {
    let Some(text) = headers::single(headers, headers::BUCKET_ACK)? else { return Ok(Ack::default()) };
    let named = [Ack::Quorum, Ack::Offloaded].into_iter().find(|ack| ack.as_str() == text);
    named.ok_or_else(|| headers::invalid(headers::BUCKET_ACK, "must be quorum or offloaded"))
}

fn probe(method: &Method, request: Request) -> Result<Request, Rejection> {
    match *method {
        Method::GET | Method::HEAD => Ok(request),
        _ => Err(Rejection::Method { allow: ALLOW_PROBE }),
    }
}

fn delete_or_trim(key: StreamKey, text: Option<&str>) -> Result<Request, Rejection> {
    let wrong = |problem| Err(Rejection::InvalidQuery { name: "before", problem });
    let mut before = query::pairs(text).filter(|(name, _)| name == "before");
    match (before.next(), before.next()) {
        (None, _) => Ok(Request::Delete(key)),
        (Some(_), Some(_)) => wrong("must be given only once"),
        (Some((_, offset)), None) => match offset.parse() {
            Ok(to) => Ok(Request::Trim(Trim { key, to, cut: None })),
            Err(_) => wrong("must be an offset that the stream returned"),
        },
    }
}

fn describe_or_list(bucket: BucketName, text: Option<&str>) -> Result<Request, Rejection> {
    let mut list = ListParts { bucket, prefix: String::new(), after: None, limit: LIST_ITEMS_MAX };
    let mut is_list = false;
    for (name, value) in query::pairs(text) {
        match &*name {
            "list" => is_list = true,
            "limit" => {
                let problem = "must be a number from 1 on";
                let wanted = headers::digits(&value).filter(|limit| *limit > 0);
                let wanted = wanted.ok_or(Rejection::InvalidQuery { name: "limit", problem })?;
                list.limit = u32::try_from(wanted).unwrap_or(LIST_ITEMS_MAX).min(LIST_ITEMS_MAX);
            }
            _ => {}
        }
    }
    list.prefix = query::text(text, "prefix")?.unwrap_or_default();
    list.after = query::text(text, "after")?;
    Ok(if is_list { Request::List(list) } else { Request::DescribeBucket(list.bucket) })
}

/// What HTTP/1.1 requires, and the HTTP library does not look at.
fn check_framing(headers: &HeaderMap) -> Result<(), Rejection> {
    match headers::single(headers, TRANSFER_ENCODING)? {
        None => Ok(()),
        Some(coding) if coding.eq_ignore_ascii_case("chunked") => Ok(()),
        Some(_) => Err(headers::invalid(TRANSFER_ENCODING, "must be chunked, and nothing else")),
    }
}

/// The host that a request is for.
///
/// # Errors
/// If there is not exactly one.
pub fn check_host(headers: &HeaderMap) -> Result<(), Rejection> {
    let host = headers::single(headers, HOST)?.ok_or_else(|| headers::invalid(HOST, "is missing"))?;
    let valid = host.is_empty() || (host.parse::<http::uri::Authority>().is_ok() && !host.contains('@'));
    if valid { Ok(()) } else { Err(headers::invalid(HOST, "must be a host and a port")) }
}

/// Refuses a body that says beforehand that it is too large.
pub(crate) fn check_length(headers: &HeaderMap) -> Result<(), Rejection> {
    match headers::single(headers, CONTENT_LENGTH)?.map(headers::digits) {
        None => Ok(()),
        Some(Some(length)) if length <= APPEND_BYTES_MAX as u64 => Ok(()),
        Some(_) => Err(Rejection::BodyTooLarge),
    }
}

#[cfg(test)]
mod tests;
