//! The names of the protocol's headers, and how a header with one value is read.

use http::{HeaderMap, HeaderName};

use crate::Rejection;

macro_rules! names {
    ($($constant:ident = $text:literal;)*) => {
        $(#[doc = concat!("`", $text, "`")] pub const $constant: HeaderName = HeaderName::from_static($text);)*
    };
}

names! {
    CONTENT_DIGEST = "content-digest";
    BUCKET_ACK = "bucket-ack";
    CROSS_ORIGIN_RESOURCE_POLICY = "cross-origin-resource-policy";
    LAST_EVENT_ID = "last-event-id";
    PRODUCER_EPOCH = "producer-epoch";
    PRODUCER_EXPECTED_SEQ = "producer-expected-seq";
    PRODUCER_ID = "producer-id";
    PRODUCER_RECEIVED_SEQ = "producer-received-seq";
    PRODUCER_SEQ = "producer-seq";
    REPR_DIGEST = "repr-digest";
    STREAM_CLOSED = "stream-closed";
    STREAM_CURSOR = "stream-cursor";
    STREAM_EARLIEST_OFFSET = "stream-earliest-offset";
    STREAM_EXPECTED_OFFSET = "stream-expected-offset";
    STREAM_EXPIRES_AT = "stream-expires-at";
    STREAM_FORKED_FROM = "stream-forked-from";
    STREAM_FORK_OFFSET = "stream-fork-offset";
    STREAM_FORK_SUB_OFFSET = "stream-fork-sub-offset";
    STREAM_NEXT_OFFSET = "stream-next-offset";
    STREAM_RETENTION_MAX_AGE = "stream-retention-max-age";
    STREAM_RETENTION_MAX_BYTES = "stream-retention-max-bytes";
    STREAM_RETENTION_SNAPSHOT = "stream-retention-snapshot";
    STREAM_SEQ = "stream-seq";
    STREAM_SNAPSHOT_OFFSET = "stream-snapshot-offset";
    STREAM_SSE_DATA_ENCODING = "stream-sse-data-encoding";
    STREAM_TTL = "stream-ttl";
    STREAM_UP_TO_DATE = "stream-up-to-date";
    X_ACCEL_BUFFERING = "x-accel-buffering";
}

/// The text of a header that may come at most once.
pub(crate) fn single(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Rejection> {
    let mut values = headers.get_all(&name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Rejection::RepeatedHeader(name));
    }
    match value.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(invalid(name, "must be plain ASCII text")),
    }
}

/// A value that is not allowed.
pub(crate) fn invalid(name: HeaderName, problem: &'static str) -> Rejection {
    Rejection::InvalidHeader { name, problem }
}

/// Whether `Stream-Closed` says `true`, in any case; other values are as good as none.
pub(crate) fn closed(headers: &HeaderMap) -> Result<bool, Rejection> {
    Ok(single(headers, STREAM_CLOSED)?.is_some_and(|text| text.eq_ignore_ascii_case("true")))
}

/// Digits and nothing else, within a `u64`.
pub(crate) fn digits(text: &str) -> Option<u64> {
    // `parse` alone would take a sign.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Digits without leading zeros, within a `u64`.
pub(crate) fn canonical_digits(text: &str) -> Option<u64> {
    digits(text).filter(|_| text.len() == 1 || !text.starts_with('0'))
}
