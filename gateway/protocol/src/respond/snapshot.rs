//! Snapshots as responses, and as parts of one.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, ETAG, LOCATION};
use http::{HeaderMap, HeaderValue, Response};
use ursula_common::Offset;
use ursula_common::verb::SnapshotInfo;

use super::{PageHead, content_type, offset, place, response};
use crate::headers::{REPR_DIGEST, STREAM_NEXT_OFFSET, STREAM_SNAPSHOT_OFFSET};
use crate::{IfNoneMatch, body, etag, snapshot::repr_digest, status};

/// A cache may keep a snapshot, and has to ask whether it is still the one: it can be replaced at its offset.
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");

/// The snapshot is there; `location` is sent if it is `new`.
pub fn published(new: bool, at: Offset, digest: &[u8; 32], location: Option<HeaderValue>) -> Response<Bytes> {
    let mut response = response(status::created(new), Bytes::new());
    let headers = response.headers_mut();
    headers.insert(ETAG, etag::of_digest(digest));
    headers.insert(STREAM_SNAPSHOT_OFFSET, offset(at));
    if let Some(location) = location.filter(|_| new) {
        headers.insert(LOCATION, location);
    }
    response
}

/// The head of a snapshot, to which its bytes belong if it is a success; or that the client has it already. `location` is
/// where the newest one is, if that was asked for.
pub fn snapshot(info: &SnapshotInfo, if_none_match: &IfNoneMatch, location: Option<&HeaderValue>) -> Response<()> {
    let part = snapshot_part(info);
    let is_known = if_none_match.matches(&part[ETAG]);
    let mut response = response(if is_known { status::NOT_MODIFIED } else { status::OK }, ());
    let headers = response.headers_mut();
    headers.extend(part);
    headers.insert(CACHE_CONTROL, NO_CACHE);
    if let Some(location) = location
        && let Ok(location) = HeaderValue::from_bytes(&[location.as_bytes(), b"/", offset(info.at).as_bytes()].concat())
    {
        headers.insert(CONTENT_LOCATION, location);
    }
    if is_known {
        headers.remove(CONTENT_LENGTH);
    }
    response
}

/// What a snapshot is, and where the stream goes on after it.
pub fn snapshot_part(info: &SnapshotInfo) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, content_type(&info.content_type));
    headers.insert(CONTENT_LENGTH, info.bytes.into());
    headers.insert(ETAG, etag::of_digest(&info.digest));
    let digest = HeaderValue::try_from(repr_digest(&info.digest));
    headers.insert(REPR_DIGEST, digest.expect("base64 and colons are valid in a header"));
    headers.insert(STREAM_SNAPSHOT_OFFSET, offset(info.at));
    headers.insert(STREAM_NEXT_OFFSET, offset(info.at));
    headers
}

/// What a page is, and its body.
pub fn page_part(head: &PageHead, stored: &[Bytes]) -> (HeaderMap, Vec<Bytes>) {
    let body = body::sent(&head.content_type, stored);
    let mut headers = HeaderMap::new();
    place(&mut headers, head);
    headers.insert(CONTENT_LENGTH, body.iter().map(Bytes::len).sum::<usize>().into());
    (headers, body)
}

#[cfg(test)]
mod tests;
