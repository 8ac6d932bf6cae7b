//! Snapshots: paths that lead to none, offsets and conditions that do not hold, bodies that are not what they should be.

use crate::row::{NO_CODE, Request, Row, ask, row};
use crate::world::{
    ELSEWHERE, GONE, JSON, MISSING, PLAIN, SNAPPED, SNAPPED_FIRST, SNAPPED_TAG, TEXT, TEXT_BYTES, TEXT_FIRST, offset,
};

/// One byte more than a gateway takes.
const TOO_MANY_BYTES: u64 = (64 << 20) + 1;
const OTHER_TAG: &str = "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"";

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = paths();
    rows.extend(places());
    rows.extend(conditions());
    rows.extend(heads());
    rows.extend(bodies());
    rows
}

fn at(stream: &str, bytes: u64) -> String {
    format!("{stream}/snapshot/{}", offset(bytes))
}

fn put(stream: &str, bytes: u64) -> Request {
    ask("PUT", at(stream, bytes)).with(PLAIN)
}

/// Streams cannot have names that lead to snapshots.
fn paths() -> Vec<Row> {
    let mut rows = Vec::new();
    for path in [
        "/v1/stream/bad/text/snapshot",
        "/v1/stream/bad/text/bootstrap",
        "/v1/stream/bad/text/snapshot/latest",
        "/v1/stream/bad/text/snapshot/snapshot",
        "/v1/stream/bad/text/snapshot/",
        "/v1/stream/bad/text%2Fsnapshot",
        "/bad-input/new/snapshot",
        "/bad-input/new/bootstrap",
    ] {
        let create = ask("PUT", path).with(PLAIN).body("refused");
        rows.push(row(format!("a stream of the name {path}"), create, 400, "invalid_name"));
    }
    for (method, offset) in [("GET", "-1"), ("GET", "now"), ("HEAD", "0_0"), ("DELETE", "x"), ("POST", "x")] {
        let request = ask(method, format!("{TEXT}/snapshot/{offset}"));
        rows.push(row(format!("{method} of a snapshot at {offset}"), request, 400, "invalid_name"));
    }
    let fork = |source: String| ask("PUT", MISSING).with(format!("Stream-Forked-From: {source}"));
    rows.extend([
        row("a fork of the newest snapshot", fork(format!("{SNAPPED}/snapshot")), 400, "invalid_header"),
        row("a fork of a snapshot", fork(at(SNAPPED, SNAPPED_FIRST)), 400, "invalid_header"),
        row("a companion", ask("GET", format!("{SNAPPED}//0000000000000001")), 400, "invalid_name"),
        row("the snapshot of a companion", ask("GET", format!("{SNAPPED}//1/snapshot")), 400, "invalid_name"),
        row("a snapshot of a control route", ask("GET", "/v1/stream/__ds/x/snapshot"), 501, "not_implemented"),
    ]);
    rows
}

/// Snapshots that are not there, or that cannot be.
fn places() -> Vec<Row> {
    let mut rows = Vec::new();
    for (stream, status, code) in
        [(MISSING, 404, "stream_not_found"), (GONE, 410, "stream_gone"), ("/bad-missing/text", 404, "bucket_not_found")]
    {
        let paths = [format!("{stream}/snapshot"), format!("{stream}/bootstrap"), at(stream, 0)];
        for path in paths {
            rows.push(row(format!("GET {path}"), ask("GET", &path), status, code));
            rows.push(row(format!("HEAD {path}"), ask("HEAD", &path), status, code));
        }
        rows.push(row(format!("DELETE {stream}/snapshot"), ask("DELETE", at(stream, 0)), status, code));
        rows.push(row(format!("PUT {stream}/snapshot"), put(stream, 0).body("x"), status, code));
    }
    let none = "snapshot_not_found";
    rows.extend([
        row("the newest of none", ask("GET", format!("{TEXT}/snapshot")), 404, none),
        row("the head of the newest of none", ask("HEAD", format!("{TEXT}/snapshot")), 404, none),
        row("one of none", ask("GET", at(TEXT, TEXT_FIRST)), 404, none),
        row("one of none is removed", ask("DELETE", at(TEXT, TEXT_FIRST)), 404, none),
        row("one at another offset", ask("GET", at(SNAPPED, 0)), 404, none),
        row("one at another offset is removed", ask("DELETE", at(SNAPPED, 0)), 404, none),
        row("a snapshot within a record", put(TEXT, TEXT_FIRST + 1).body("x"), 400, "offset_invalid"),
        row("a snapshot within a record of JSON", put(JSON, 2).body("x"), 400, "offset_invalid"),
        row("a snapshot beyond the tail", put(TEXT, TEXT_BYTES + 1).body("x"), 400, "offset_invalid"),
        row(
            "a snapshot at an offset of another stream",
            ask("PUT", format!("{TEXT}/snapshot/{ELSEWHERE}")).body("x"),
            410,
            "offset_gone",
        )
        .telling("stream-earliest-offset", offset(0)),
        row("a snapshot before the newest", put(SNAPPED, 0).body("x"), 409, "snapshot_stale")
            .telling("stream-snapshot-offset", offset(SNAPPED_FIRST)),
        row("other bytes at the newest", put(SNAPPED, SNAPPED_FIRST).body("other"), 409, "snapshot_differs"),
    ]);
    rows
}

fn conditions() -> Vec<Row> {
    let newest = || put(SNAPPED, SNAPPED_FIRST).body("other");
    let remove = || ask("DELETE", at(SNAPPED, SNAPPED_FIRST));
    let wrong = |what: &str, request| row(what, request, 412, "snapshot_mismatch").telling("etag", SNAPPED_TAG);
    let invalid = |what: &str, request| row(what, request, 400, "invalid_header");
    let other = format!("If-Match: {OTHER_TAG}");
    vec![
        wrong("a snapshot only if there is none", newest().with("If-None-Match: *")),
        wrong("a snapshot in the place of another", newest().with(&other)),
        wrong("another snapshot is removed", remove().with(&other)),
        row("a snapshot in the place of none", put(TEXT, TEXT_FIRST).with(&other).body("x"), 412, "snapshot_mismatch"),
        row("one of none is removed with a tag", ask("DELETE", at(TEXT, 0)).with(&other), 404, "snapshot_not_found"),
        invalid("a snapshot in the place of any", newest().with("If-Match: *")),
        invalid("a snapshot with an offset as its tag", newest().with(format!("If-Match: \"{}\"", offset(0)))),
        invalid("a snapshot with a weak tag", newest().with(format!("If-Match: W/{SNAPPED_TAG}"))),
        invalid("a snapshot with two tags", newest().with(format!("If-Match: {SNAPPED_TAG}, {OTHER_TAG}"))),
        invalid("a snapshot unless it is another", newest().with(format!("If-None-Match: {OTHER_TAG}"))),
        invalid("a snapshot with both conditions", newest().with(&other).with("If-None-Match: *")),
        invalid("a snapshot at a tail", newest().with(format!("Stream-Expected-Offset: {}", offset(0)))),
        invalid("a removal only if there is none", remove().with("If-None-Match: *")),
        invalid("a removal of any", remove().with("If-Match: *")),
        row("If-Match twice for a snapshot", newest().with(&other).with(&other), 400, "repeated_header"),
        row(
            "a snapshot that the client has",
            ask("GET", at(SNAPPED, SNAPPED_FIRST)).with(format!("If-None-Match: {SNAPPED_TAG}")),
            304,
            NO_CODE,
        ),
    ]
}

fn heads() -> Vec<Row> {
    let with = |line: &str| put(TEXT, TEXT_FIRST).with(line).body("x");
    let mut rows: Vec<Row> = [
        "Content-Digest: sha-256=",
        "Content-Digest: sha-256=:AAAA:",
        "Content-Digest: sha-256=:!:",
        "Repr-Digest: sha-512=:AAAA:, sha-256=\"x\"",
        "Content-Range: bytes 0-0/2",
    ]
    .map(|line| row(format!("a snapshot with {line}"), with(line), 400, "invalid_header"))
    .into();
    let long = format!("Content-Type: text/plain; a={}", "x".repeat(243));
    let long = ask("PUT", at(TEXT, TEXT_FIRST)).with(long).body("x");
    rows.extend([
        row("a Content-Type of 257 bytes for a snapshot", long, 400, "invalid_header"),
        row(
            "a Content-Digest twice",
            with("Content-Digest: md5=:AA:").with("Content-Digest: md5=:AA:"),
            400,
            "repeated_header",
        ),
    ]);
    rows
}

fn bodies() -> Vec<Row> {
    let put = || put(TEXT, TEXT_FIRST);
    let digest = "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:";
    vec![
        row(
            "a snapshot with another Content-Digest",
            put().with(format!("Content-Digest: {digest}")).body("x"),
            400,
            "digest_mismatch",
        ),
        row(
            "a snapshot with another Repr-Digest",
            put().with(format!("Repr-Digest: {digest}")).body("x"),
            400,
            "digest_mismatch",
        ),
        row(
            "a snapshot that says that it is too large",
            put().with(format!("Content-Length: {TOO_MANY_BYTES}")),
            413,
            "body_too_large",
        )
        .closes(),
        row("a snapshot that does not come", put().with("Content-Length: 1"), 408, "body_timeout").closes(),
        row("a snapshot that ends early", put().chunked("1\r\nx\r\n").half_close(), 400, "body_incomplete").closes(),
        row("a snapshot in chunks that are none", put().chunked("1\r\nxy\r\n"), 400, "invalid_body").closes(),
    ]
}
