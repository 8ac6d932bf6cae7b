//! Requests that are well-formed, and that the state of things does not allow; and conditions, which must not
//! be ignored where they cannot be kept.

use crate::row::{Request, Row, ask, row};
use crate::world::{
    AS_JSON, BUCKET, CLOSED, CLOSED_BY, CLOSED_JSON, CROWDED, ELSEWHERE, EXPIRED, EXPIRES, GONE, GONE_FORK, JSON,
    MISSING, MISSING_BUCKET, OTHER_SPARE, PLAIN, PRODUCER, SEQ, SPARE, SPARE_BUCKET, TEXT, TEXT_BYTES, TEXT_FIRST, TTL,
    offset,
};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(creates());
    rows.extend(appends());
    rows.extend(producers());
    rows.extend(conditions());
    rows.extend(trims());
    rows.extend([
        row("a bucket with streams is deleted", ask("DELETE", BUCKET), 409, "bucket_not_empty"),
        row("the default bucket is deleted", ask("DELETE", "/default"), 403, "bucket_protected"),
        row("a bucket that is not there is deleted", ask("DELETE", MISSING_BUCKET), 404, "bucket_not_found"),
    ]);
    rows
}

/// The name is taken by a stream with another configuration.
fn creates() -> Vec<Row> {
    let exists = |what: &str, request: Request| row(what, request, 409, "stream_exists");
    let tail = offset(TEXT_BYTES);
    vec![
        exists("another type", ask("PUT", TEXT).with(AS_JSON)).telling("stream-next-offset", &tail),
        exists("the default type, and another is there", ask("PUT", TEXT)).telling("stream-next-offset", &tail),
        exists("closed, and an open one is there", ask("PUT", TEXT).with(PLAIN).with("Stream-Closed: true")),
        exists("open, and a closed one is there", ask("PUT", CLOSED).with(PLAIN)),
        exists("a lifetime, and one without is there", ask("PUT", TEXT).with(PLAIN).with("Stream-TTL: 60")),
        exists("without a lifetime, and one with is there", ask("PUT", TTL).with(PLAIN)),
        exists("another lifetime", ask("PUT", TTL).with(PLAIN).with("Stream-TTL: 3601")),
        exists("a lifetime of the other kind", ask("PUT", EXPIRES).with(PLAIN).with("Stream-TTL: 60")),
        exists("a retention, and none is there", ask("PUT", TEXT).with(PLAIN).with("Stream-Retention-Max-Bytes: 60")),
        exists("a retention by snapshot", ask("PUT", TEXT).with(PLAIN).with("Stream-Retention-Snapshot: true")),
        exists("another end", ask("PUT", EXPIRES).with(PLAIN).with("Stream-Expires-At: 2100-01-31T12:00:01Z")),
        exists("a fork, and none is there", ask("PUT", TEXT).with(format!("Stream-Forked-From: {GONE_FORK}"))),
        exists("no fork, and one is there", ask("PUT", GONE_FORK).with(PLAIN)),
        exists("a fork of another source", ask("PUT", GONE_FORK).with(format!("Stream-Forked-From: {TEXT}"))),
        exists(
            "a fork at another offset",
            ask("PUT", GONE_FORK)
                .with(format!("Stream-Forked-From: {GONE}"))
                .with(format!("Stream-Fork-Offset: {}", offset(0))),
        ),
        exists("the name of a stream that is gone", ask("PUT", GONE).with(PLAIN)),
    ]
}

/// A trim that is wrong deletes nothing.
fn trims() -> Vec<Row> {
    let trim = |path: &str, before: &str| ask("DELETE", format!("{path}?before={before}"));
    let first = offset(TEXT_FIRST);
    let twice = format!("{first}&before={first}");
    let queries = ["", "-1", "now", "6", "0_6", "%ff", &twice];
    let mut rows: Vec<_> = queries
        .iter()
        .map(|before| row(format!("a trim before={before}"), trim(TEXT, before), 400, "invalid_query"))
        .collect();
    rows.extend([
        row("a trim without an offset", ask("DELETE", format!("{TEXT}?before")), 400, "invalid_query"),
        row("a trim beyond the tail", trim(TEXT, &offset(TEXT_BYTES + 1)), 400, "offset_invalid"),
        row("a trim at an offset of another stream", trim(TEXT, ELSEWHERE), 410, "offset_gone")
            .telling("stream-earliest-offset", offset(0)),
        row("a trim of what is not there", trim(MISSING, &first), 404, "stream_not_found"),
        row("a trim of what is gone", trim(GONE, &first), 410, "stream_gone"),
        row("a trim with a condition", trim(TEXT, &first).with("If-Match: *"), 400, "invalid_header"),
    ]);
    rows
}

fn appends() -> Vec<Row> {
    let to = |path| ask("POST", path).with(PLAIN).body("x");
    let json = |path, body| ask("POST", path).with(AS_JSON).body(body);
    let closed = |what: &str, request: Request, path| {
        let end = if path == CLOSED { 7 } else { 2 };
        let row = row(what, request, 409, "stream_closed");
        row.telling("stream-closed", "true").telling("stream-next-offset", offset(end))
    };
    vec![
        row("an append to what is not there", to(MISSING), 404, "stream_not_found"),
        row("an append in a bucket that is not there", to("/bad-missing/text"), 404, "bucket_not_found"),
        row("an append to what has expired", to(EXPIRED), 404, "stream_not_found"),
        row("an append to what is gone", to(GONE), 410, "stream_gone"),
        row("a close of what is not there", ask("POST", MISSING).with("Stream-Closed: true"), 404, "stream_not_found"),
        row("a close of what is gone", ask("POST", GONE).with("Stream-Closed: true"), 410, "stream_gone"),
        closed("an append to what is closed", to(CLOSED), CLOSED),
        closed("an append that closes what is closed", to(CLOSED).with("Stream-Closed: true"), CLOSED),
        closed("an append of another type to what is closed", json(CLOSED, "1"), CLOSED),
        closed("an append with an offset to what is closed", to(CLOSED).with(expected(0)), CLOSED),
        closed("an append of a producer to what is closed", by(CLOSED, 0, 0), CLOSED),
        closed("an older append of the producer that closed it", by(CLOSED_BY, 5, 0), CLOSED_BY),
        closed("a later append of the producer that closed it", by(CLOSED_BY, 5, 2), CLOSED_BY),
        closed("what is no JSON, to what is closed", json(CLOSED_JSON, "{"), CLOSED_JSON),
        row("JSON to text", json(TEXT, "1"), 409, "content_type_mismatch"),
        row("text to JSON", to(JSON), 409, "content_type_mismatch"),
        row("what is no JSON, to text", json(TEXT, "{"), 409, "content_type_mismatch"),
        row("an empty array to text", json(TEXT, "[]"), 409, "content_type_mismatch"),
        row("what is no JSON, to what is not there", json(MISSING, "{"), 404, "stream_not_found"),
        row("what is no JSON, to what is gone", json(GONE, "{"), 410, "stream_gone"),
        row("the last Stream-Seq again", to(SEQ).with("Stream-Seq: 2"), 409, "stream_seq_conflict")
            .telling("stream-next-offset", offset(1)),
        row("a smaller Stream-Seq", to(SEQ).with("Stream-Seq: 1"), 409, "stream_seq_conflict"),
        row(
            "a Stream-Seq that is greater only as a number",
            to(SEQ).with("Stream-Seq: 10"),
            409,
            "stream_seq_conflict",
        ),
        row("If-Match before the tail", to(TEXT).with(format!("If-Match: \"{}\"", offset(6))), 412, "offset_mismatch")
            .telling("stream-next-offset", offset(TEXT_BYTES)),
        row("If-Match beyond the tail", to(TEXT).with(format!("If-Match: \"{}\"", offset(12))), 412, "offset_mismatch"),
        row("If-Match of another stream", to(TEXT).with(format!("If-Match: \"{ELSEWHERE}\"")), 412, "offset_mismatch")
            .telling("stream-next-offset", offset(TEXT_BYTES)),
        row("Stream-Expected-Offset before the tail", to(TEXT).with(expected(6)), 409, "offset_mismatch")
            .telling("stream-next-offset", offset(TEXT_BYTES)),
        row("Stream-Expected-Offset beyond the tail", to(TEXT).with(expected(12)), 409, "offset_mismatch"),
        row(
            "a close that expects another tail",
            ask("POST", TEXT).with("Stream-Closed: true").with(expected(6)),
            409,
            "offset_mismatch",
        ),
    ]
}

fn producers() -> Vec<Row> {
    let gap = |what: &str, request, expected: &str, received: &str| {
        let row = row(what, request, 409, "producer_gap");
        row.telling("producer-expected-seq", expected).telling("producer-received-seq", received)
    };
    let stale = |what: &str, request| row(what, request, 403, "producer_epoch_stale").telling("producer-epoch", "5");
    let greatest = (1 << 53) - 1;
    vec![
        gap("a gap of one append", by(PRODUCER, 5, 4), "3", "4"),
        gap("the greatest gap", by(PRODUCER, 5, greatest), "3", "9007199254740991"),
        gap("a producer that does not begin with 0", by(TEXT, 0, 1), "0", "1"),
        gap("a gap before a close", by(PRODUCER, 5, 4).with("Stream-Closed: true"), "3", "4"),
        stale("an older epoch", by(PRODUCER, 4, 3)),
        stale("the oldest epoch", by(PRODUCER, 0, 0)),
        row("a new epoch that does not begin with 0", by(PRODUCER, 6, 3), 400, "producer_epoch_start"),
        row("the greatest epoch, not from 0", by(PRODUCER, greatest, 1), 400, "producer_epoch_start"),
        gap("a gap is told before Stream-Seq", by(PRODUCER, 5, 4).with("Stream-Seq: 0"), "3", "4"),
        gap("a gap is told before an offset", by(PRODUCER, 5, 4).with(expected(0)), "3", "4"),
        row("one producer too many", by(CROWDED, 0, 0), 429, "too_many_producers").telling("retry-after", "1"),
    ]
}

/// Only appends take conditions on the offset. Elsewhere a client that sends one relies on it: doing the
/// request all the same would be worse than refusing it.
fn conditions() -> Vec<Row> {
    let if_match = format!("If-Match: \"{}\"", offset(1));
    vec![
        row("a conditional delete", ask("DELETE", SPARE).with(&if_match), 400, "invalid_header"),
        row("a delete at an offset", ask("DELETE", OTHER_SPARE).with(expected(1)), 400, "invalid_header"),
        row("a conditional delete of a bucket", ask("DELETE", SPARE_BUCKET).with(&if_match), 400, "invalid_header"),
        row("a conditional create", ask("PUT", "/bad-spare/if-match").with(&if_match), 400, "invalid_header"),
        row("a create at an offset", ask("PUT", "/bad-spare/expected").with(expected(0)), 400, "invalid_header"),
        row(
            "a create only if there is none",
            ask("PUT", TEXT).with(PLAIN).with("If-None-Match: *"),
            400,
            "invalid_header",
        ),
    ]
}

fn by(path: &str, epoch: u64, seq: u64) -> Request {
    let producer = format!("Producer-Id: p\r\nProducer-Epoch: {epoch}\r\nProducer-Seq: {seq}");
    ask("POST", path).with(PLAIN).with(producer).body("x")
}

fn expected(bytes: u64) -> String {
    format!("Stream-Expected-Offset: {}", offset(bytes))
}
