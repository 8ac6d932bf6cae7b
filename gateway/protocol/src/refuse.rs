//! Errors and refusals as responses: one JSON form for all.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use ursula_common::error::{Error, Retry};

use crate::headers::{
    PRODUCER_EPOCH, PRODUCER_EXPECTED_SEQ, PRODUCER_RECEIVED_SEQ, STREAM_CLOSED, STREAM_EARLIEST_OFFSET,
    STREAM_NEXT_OFFSET, STREAM_SNAPSHOT_OFFSET,
};
use crate::respond::{self, TRUE};
use crate::{Context, Rejection, etag, status};

#[derive(Serialize)]
struct Body<'a> {
    error: Detail<'a>,
}

#[derive(Serialize)]
struct Detail<'a> {
    code: &'a str,
    message: &'a str,
    retry: &'a str,
}

/// The code of an error, beside the response that says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode(pub &'static str);

/// The response to a request that failed.
pub fn error(error: &Error, context: Context) -> Response<Bytes> {
    let retry = error.retry();
    let mut response = refusal(status::error(error, context), error.code(), &error.to_string(), retry);
    let headers = response.headers_mut();
    if retry == Retry::Later {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    match error {
        Error::StreamClosed { tail } => {
            headers.insert(STREAM_CLOSED, TRUE);
            headers.insert(STREAM_NEXT_OFFSET, respond::offset(*tail));
        }
        Error::StreamExists { tail, .. } | Error::StreamSeqConflict { tail } | Error::OffsetMismatch { tail } => {
            headers.insert(STREAM_NEXT_OFFSET, respond::offset(*tail));
        }
        Error::OffsetGone { earliest } => {
            headers.insert(STREAM_EARLIEST_OFFSET, respond::offset(*earliest));
        }
        Error::HistoryDamaged { until, .. } => {
            headers.insert(STREAM_NEXT_OFFSET, respond::offset(*until));
        }
        Error::SnapshotStale { newest } => {
            headers.insert(STREAM_SNAPSHOT_OFFSET, respond::offset(*newest));
        }
        Error::SnapshotMismatch { current: Some(digest) } => {
            headers.insert(ETAG, etag::of_digest(digest));
        }
        Error::StaleEpoch { current } => {
            headers.insert(PRODUCER_EPOCH, HeaderValue::from(*current));
        }
        Error::ProducerGap { expected, received } => {
            headers.insert(PRODUCER_EXPECTED_SEQ, HeaderValue::from(*expected));
            headers.insert(PRODUCER_RECEIVED_SEQ, HeaderValue::from(*received));
        }
        _ => {}
    }
    response
}

/// The response to a request that makes no sense.
pub fn rejection(rejection: &Rejection) -> Response<Bytes> {
    let text = rejection.to_string();
    let mut response = refusal(status::rejection(rejection), rejection.code(), &text, retry(rejection));
    if let Rejection::Method { allow } = rejection {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}

/// Whether the same request may succeed later: only if it was not heard to its end.
pub(crate) fn retry(rejection: &Rejection) -> Retry {
    match rejection {
        Rejection::BodyTimeout | Rejection::BodyIncomplete => Retry::Later,
        _ => Retry::Useless,
    }
}

fn refusal(status: StatusCode, code: &'static str, message: &str, retry: Retry) -> Response<Bytes> {
    let retry = match retry {
        Retry::Useless => "no",
        Retry::Later => "later",
        Retry::OnlyIfIdempotent => "if_idempotent",
    };
    let body = Body { error: Detail { code, message, retry } };
    let body = serde_json::to_vec(&body).expect("texts are always valid in JSON");
    let mut response = respond::response(status, body.into());
    response.headers_mut().insert(CONTENT_TYPE, respond::JSON);
    response.headers_mut().insert(CACHE_CONTROL, respond::NO_STORE);
    response.extensions_mut().insert(ErrorCode(code));
    response
}

#[cfg(test)]
mod tests;
