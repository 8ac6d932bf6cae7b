//! Creates: lifetimes, types, and forks.

use crate::row::{Request, Row, ask, row};
use crate::world::{
    AS_JSON, BYTES, ELSEWHERE, EMPTY, EXPIRED, GONE, JSON, JSON_BYTES, JSON_FIRST, MISSING, PLAIN, TEXT, TEXT_BYTES,
    TEXT_FIRST, deepest_fork, offset,
};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(LIFETIMES.map(|(what, line)| row(what, create().with(line), 400, "invalid_header")));
    rows.extend(SINGLE.map(|line| {
        row(
            format!("twice for a new stream: {line}"),
            ask("PUT", MISSING).with(line).with(line),
            400,
            "repeated_header",
        )
    }));
    rows.extend(NOT_ASCII.map(|name| {
        let line = [name.as_bytes(), b": caf\xe9"].concat();
        let request = if name.starts_with("Stream-Fork-") { fork(TEXT) } else { ask("PUT", MISSING) };
        row(format!("{name} in Latin-1 for a new stream"), request.with(line), 400, "invalid_header")
    }));
    rows.extend(SOURCES.map(|(what, source)| row(what, fork(source), 400, "invalid_header")));
    rows.extend(FORKS.map(|(what, line)| row(what, fork(TEXT).with(line), 400, "invalid_header")));
    rows.extend(places());
    rows.extend([
        row(
            "a bucket that waits for a store, where there is none",
            ask("PUT", "/bad-offloaded").with("Bucket-Ack: offloaded"),
            409,
            "store_missing",
        ),
        row("a bucket that waits for nobody", ask("PUT", "/bad-ack").with("Bucket-Ack: never"), 400, "invalid_header"),
        row(
            "a bucket that waits twice",
            ask("PUT", "/bad-ack").with("Bucket-Ack: quorum").with("Bucket-Ack: quorum"),
            400,
            "repeated_header",
        ),
        row(
            "a lifetime of both kinds",
            create().with("Stream-TTL: 60").with("Stream-Expires-At: 2100-01-31T12:00:00Z"),
            400,
            "invalid_header",
        ),
        row(
            "a Stream-Expires-At of 30 000 bytes",
            create().with(format!("Stream-Expires-At: 2100-01-31T12:00:00.{}Z", "0".repeat(30_000))),
            400,
            "invalid_header",
        ),
        row(
            "a Content-Type of 257 bytes for a new stream",
            ask("PUT", MISSING).with(format!("Content-Type: text/plain; a={}", "x".repeat(243))),
            400,
            "invalid_header",
        ),
        row(
            "a create in a bucket that is not there",
            ask("PUT", "/bad-missing/text").with(PLAIN),
            404,
            "bucket_not_found",
        ),
        row("a fork in a bucket that is not there", forked_to("/bad-missing/text", TEXT), 404, "bucket_not_found"),
        row("a fork offset without a source", create().with(fork_offset(0)), 400, "invalid_header"),
        row("a sub-offset without a source", create().with("Stream-Fork-Sub-Offset: 0"), 400, "invalid_header"),
        row("a fork of what is not there", fork(MISSING), 404, "fork_source_not_found"),
        row("a fork of itself", forked_to("/v1/stream/bad/new", "/v1/stream/bad/new"), 404, "fork_source_not_found"),
        row(
            "a fork with content of what is not there",
            fork("/v1/stream/bad/nothing").body("x"),
            404,
            "fork_source_not_found",
        ),
        row("a fork from a bucket that is not there", fork("/bad-missing/text"), 404, "fork_source_not_found"),
        row("a fork of what has expired", fork(EXPIRED), 404, "fork_source_not_found"),
        row("a fork of what is gone", fork(GONE), 409, "fork_source_gone"),
        row("a fork with content of what is gone", fork(GONE).body("x"), 409, "fork_source_gone"),
        row("a fork of another type", fork(TEXT).with(AS_JSON), 409, "fork_content_type_mismatch"),
        row("a fork of a fork, too deep", fork(&deepest_fork()), 409, "too_many_forks"),
        row("a fork of a JSON stream with text", fork(JSON).body("hello"), 400, "invalid_json"),
    ]);
    rows
}

/// Offsets and sub-offsets that are well-formed, but no place in the source.
fn places() -> [Row; 15] {
    let beyond = |source, bytes| fork(source).with(fork_offset(bytes));
    let past = |source, bytes, sub: u64| beyond(source, bytes).with(format!("Stream-Fork-Sub-Offset: {sub}"));
    let (at, within) = ("fork_offset_invalid", "fork_sub_offset_invalid");
    [
        row("a fork beyond the tail", beyond(TEXT, TEXT_BYTES + 1), 400, at),
        row("a fork beyond the tail of nothing", beyond(EMPTY, 1), 400, at),
        row("a fork beyond the tail of JSON", beyond(JSON, JSON_BYTES + 1), 400, at),
        row("a fork at the end of all offsets", beyond(TEXT, 9_999_999_999_999_999), 400, at),
        row(
            "a fork at an offset of another stream",
            fork(TEXT).with(format!("Stream-Fork-Offset: {ELSEWHERE}")),
            400,
            at,
        ),
        row("a fork within a JSON message", beyond(JSON, 1), 400, at),
        row("a fork within the last JSON message", beyond(JSON, JSON_BYTES - 1), 400, at),
        row("a sub-offset past its record", past(TEXT, 0, TEXT_FIRST + 1), 400, within),
        row("a sub-offset past the last record", past(BYTES, 0, 5), 400, within),
        row("a sub-offset past the messages of its record", past(JSON, 0, 3), 400, within),
        row("a sub-offset past the last message", past(JSON, JSON_FIRST, 2), 400, within),
        row("a sub-offset at the tail", past(TEXT, TEXT_BYTES, 1), 400, within),
        row("a sub-offset in nothing", past(EMPTY, 0, 1), 400, within),
        row("a sub-offset without an offset", fork(TEXT).with("Stream-Fork-Sub-Offset: 1"), 400, within),
        row("a sub-offset of 2^64 - 1", past(TEXT, TEXT_FIRST, u64::MAX), 400, within),
    ]
}

fn create() -> Request {
    ask("PUT", MISSING).with(PLAIN)
}

fn fork(source: &str) -> Request {
    forked_to(MISSING, source)
}

fn forked_to(path: &str, source: &str) -> Request {
    ask("PUT", path).with(format!("Stream-Forked-From: {source}"))
}

fn fork_offset(bytes: u64) -> String {
    format!("Stream-Fork-Offset: {}", offset(bytes))
}

const LIFETIMES: [(&str, &str); 41] = [
    ("an empty Stream-Retention-Snapshot", "Stream-Retention-Snapshot:"),
    ("a Stream-Retention-Snapshot that is not", "Stream-Retention-Snapshot: false"),
    ("an empty Stream-Retention-Max-Age", "Stream-Retention-Max-Age:"),
    ("a Stream-Retention-Max-Age of nothing", "Stream-Retention-Max-Age: 0"),
    ("a Stream-Retention-Max-Age with a unit", "Stream-Retention-Max-Age: 1h"),
    ("a Stream-Retention-Max-Age of more than 100 years", "Stream-Retention-Max-Age: 3162240001"),
    ("a Stream-Retention-Max-Bytes of nothing", "Stream-Retention-Max-Bytes: 0"),
    ("a negative Stream-Retention-Max-Bytes", "Stream-Retention-Max-Bytes: -1"),
    ("a Stream-Retention-Max-Bytes with a leading zero", "Stream-Retention-Max-Bytes: 060"),
    ("a Stream-Retention-Max-Bytes of 2^53", "Stream-Retention-Max-Bytes: 9007199254740992"),
    ("an empty Stream-TTL", "Stream-TTL:"),
    ("a negative Stream-TTL", "Stream-TTL: -1"),
    ("a Stream-TTL with a sign", "Stream-TTL: +60"),
    ("a Stream-TTL with a leading zero", "Stream-TTL: 060"),
    ("a Stream-TTL of two zeros", "Stream-TTL: 00"),
    ("a Stream-TTL with a fraction", "Stream-TTL: 1.5"),
    ("a Stream-TTL with an exponent", "Stream-TTL: 1e3"),
    ("a hexadecimal Stream-TTL", "Stream-TTL: 0x10"),
    ("a Stream-TTL with a unit", "Stream-TTL: 60s"),
    ("a Stream-TTL with a space", "Stream-TTL: 6 0"),
    ("a Stream-TTL of a word", "Stream-TTL: forever"),
    ("a Stream-TTL of more than 100 years", "Stream-TTL: 3162240001"),
    ("a Stream-TTL of 2^64", "Stream-TTL: 18446744073709551616"),
    ("a Stream-TTL of 40 digits", "Stream-TTL: 9999999999999999999999999999999999999999"),
    ("an empty Stream-Expires-At", "Stream-Expires-At:"),
    ("a Stream-Expires-At of a word", "Stream-Expires-At: tomorrow"),
    ("a Stream-Expires-At of a number", "Stream-Expires-At: 4104907200"),
    ("a Stream-Expires-At without a time", "Stream-Expires-At: 2100-01-31"),
    ("a Stream-Expires-At without a zone", "Stream-Expires-At: 2100-01-31T12:00:00"),
    ("a Stream-Expires-At without seconds", "Stream-Expires-At: 2100-01-31T12:00Z"),
    ("a Stream-Expires-At in the form of HTTP", "Stream-Expires-At: Sun, 31 Jan 2100 12:00:00 GMT"),
    ("a Stream-Expires-At in a month 13", "Stream-Expires-At: 2100-13-01T12:00:00Z"),
    ("a Stream-Expires-At in a month 0", "Stream-Expires-At: 2100-00-01T12:00:00Z"),
    ("a Stream-Expires-At on 30 February", "Stream-Expires-At: 2100-02-30T12:00:00Z"),
    ("a Stream-Expires-At on 29 February of no leap year", "Stream-Expires-At: 2100-02-29T12:00:00Z"),
    ("a Stream-Expires-At in an hour 25", "Stream-Expires-At: 2100-01-31T25:00:00Z"),
    ("a Stream-Expires-At in a minute 60", "Stream-Expires-At: 2100-01-31T12:60:00Z"),
    ("a Stream-Expires-At in a zone 25", "Stream-Expires-At: 2100-01-31T12:00:00+25:00"),
    ("a Stream-Expires-At in a year of two digits", "Stream-Expires-At: 99-01-31T12:00:00Z"),
    ("a Stream-Expires-At in a year of five digits", "Stream-Expires-At: 10000-01-31T12:00:00Z"),
    ("a Stream-Expires-At with something after", "Stream-Expires-At: 2100-01-31T12:00:00Z, or later"),
];

const SINGLE: [&str; 10] = [
    "Stream-Retention-Snapshot: true",
    "Stream-Retention-Max-Age: 60",
    "Stream-Retention-Max-Bytes: 60",
    "Content-Type: text/plain",
    "Stream-Closed: true",
    "Stream-TTL: 60",
    "Stream-Expires-At: 2100-01-31T12:00:00Z",
    "Stream-Forked-From: /v1/stream/bad/text",
    "Stream-Fork-Offset: 0000000000000000_0000000000000000",
    "Stream-Fork-Sub-Offset: 0",
];

const NOT_ASCII: [&str; 10] = [
    "Stream-Retention-Snapshot",
    "Stream-Retention-Max-Age",
    "Stream-Retention-Max-Bytes",
    "Content-Type",
    "Stream-Closed",
    "Stream-TTL",
    "Stream-Expires-At",
    "Stream-Forked-From",
    "Stream-Fork-Offset",
    "Stream-Fork-Sub-Offset",
];

const SOURCES: [(&str, &str); 14] = [
    ("an empty source", ""),
    ("a source without its first slash", "v1/stream/bad/text"),
    ("a source of a name", "text"),
    ("a source of a slash", "/"),
    ("a source of an asterisk", "*"),
    ("a bucket as a source", "/bad-input"),
    ("a source with an empty name", "/v1/stream/"),
    ("a source of no route", "/v1/streams/bad/text"),
    ("a probe as a source", "/health"),
    ("a control route as a source", "/v1/stream/__ds/text"),
    ("a source with two dots", "/v1/stream/bad/../text"),
    ("a source with a space", "/v1/stream/bad text"),
    ("a source that cannot be decoded", "/v1/stream/bad%FF"),
    ("a source in a bucket with a bad name", "/BAD/text"),
];

const FORKS: [(&str, &str); 13] = [
    ("an empty fork offset", "Stream-Fork-Offset:"),
    ("a fork offset of a number", "Stream-Fork-Offset: 6"),
    ("a fork offset of -1", "Stream-Fork-Offset: -1"),
    ("a fork offset of now", "Stream-Fork-Offset: now"),
    ("a fork offset in quotes", "Stream-Fork-Offset: \"0000000000000000_0000000000000006\""),
    ("a fork offset with a number too large", "Stream-Fork-Offset: 9999999999999999_9999999999999999"),
    ("an empty sub-offset", "Stream-Fork-Sub-Offset:"),
    ("a negative sub-offset", "Stream-Fork-Sub-Offset: -1"),
    ("a sub-offset with a sign", "Stream-Fork-Sub-Offset: +1"),
    ("a sub-offset with a leading zero", "Stream-Fork-Sub-Offset: 01"),
    ("a sub-offset with a fraction", "Stream-Fork-Sub-Offset: 1.0"),
    ("a sub-offset of a word", "Stream-Fork-Sub-Offset: last"),
    ("a sub-offset of 2^64", "Stream-Fork-Sub-Offset: 18446744073709551616"),
];
