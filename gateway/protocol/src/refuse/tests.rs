//! Errors as they go over the wire.

use ursula_common::{ContentType, Offset};

use super::*;
use crate::headers::CROSS_ORIGIN_RESOURCE_POLICY;

const AT: &str = "0000000000000000_0000000000000042";

/// The status, the code, and the headers that only this response has, in the order of their names.
fn summary(response: &Response<Bytes>) -> (u16, String, Vec<(String, String)>) {
    let body: serde_json::Value = serde_json::from_slice(response.body()).expect("JSON");
    let common = respond::response(status::OK, ());
    let own = response.headers().iter().filter(|(name, _)| !common.headers().contains_key(*name));
    let mut own: Vec<_> = own.map(|(n, v)| (n.to_string(), v.to_str().expect("ASCII").to_owned())).collect();
    own.retain(|(name, _)| name != "content-type" && name != "cache-control");
    own.sort();
    (response.status().as_u16(), body["error"]["code"].as_str().expect("a code").to_owned(), own)
}

#[test]
fn the_one_form() {
    let response = error(&Error::StreamNotFound, Context::default());
    let body = r#"{"error":{"code":"stream_not_found","message":"the stream does not exist: create it with PUT","retry":"no"}}"#;
    assert_eq!(response.body(), body);
    let headers = response.headers();
    assert_eq!(headers[CONTENT_TYPE], "application/json");
    assert_eq!(headers[CACHE_CONTROL], "no-store");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers[CROSS_ORIGIN_RESOURCE_POLICY], "cross-origin");
    assert_eq!(headers["access-control-allow-origin"], "*");
}

#[test]
fn text_of_clients_is_escaped() {
    let expected = ContentType::parse("text/plain; x=\"\\\"");
    let body = error(&Error::ContentTypeMismatch { expected }, Context::default()).into_body();
    let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert!(body["error"]["message"].as_str().expect("a text").contains("x=\"\\\""));
}

#[test]
fn headers_of_errors() {
    let tail = Offset(42);
    type Row = (Error, u16, &'static str, &'static [(&'static str, &'static str)]);
    let table: [Row; 16] = [
        (Error::StreamClosed { tail }, 409, "stream_closed", &[("stream-closed", "true"), ("stream-next-offset", AT)]),
        // A client takes a conflict with `Stream-Closed` for the answer to an append.
        (Error::StreamExists { tail, closed: true }, 409, "stream_exists", &[("stream-next-offset", AT)]),
        (Error::StreamSeqConflict { tail }, 409, "stream_seq_conflict", &[("stream-next-offset", AT)]),
        (Error::OffsetMismatch { tail }, 409, "offset_mismatch", &[("stream-next-offset", AT)]),
        (Error::OffsetGone { earliest: tail }, 410, "offset_gone", &[("stream-earliest-offset", AT)]),
        (Error::StaleEpoch { current: 7 }, 403, "producer_epoch_stale", &[("producer-epoch", "7")]),
        (
            Error::ProducerGap { expected: 3, received: 5 },
            409,
            "producer_gap",
            &[("producer-expected-seq", "3"), ("producer-received-seq", "5")],
        ),
        (Error::SnapshotStale { newest: tail }, 409, "snapshot_stale", &[("stream-snapshot-offset", AT)]),
        (Error::SnapshotMismatch { current: None }, 412, "snapshot_mismatch", &[]),
        (
            Error::SnapshotMismatch { current: Some([7; 32]) },
            412,
            "snapshot_mismatch",
            &[("etag", "\"0707070707070707070707070707070707070707070707070707070707070707\"")],
        ),
        (Error::MemoryFull, 503, "memory_full", &[("retry-after", "1")]),
        (Error::DiskFull, 503, "disk_full", &[("retry-after", "1")]),
        (Error::TooManyProducers, 429, "too_many_producers", &[("retry-after", "1")]),
        (Error::OutcomeUnknown, 504, "outcome_unknown", &[]),
        (Error::StreamGone, 410, "stream_gone", &[]),
        (Error::Malformed, 502, "malformed_message", &[]),
    ];
    for (failure, status, code, headers) in table {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!(summary(&error(&failure, Context::default())), (status, code.to_owned(), headers));
    }
}

#[test]
fn a_refused_method_names_the_others() {
    let refused = rejection(&Rejection::Method { allow: "GET, PUT" });
    let allow = vec![("allow".to_owned(), "GET, PUT".to_owned())];
    assert_eq!(summary(&refused), (405, "method_not_allowed".to_owned(), allow));
}
