//! Methods that a path does not take, on every route, and what it does take.

use crate::row::{NO_CODE, Row, ask, raw, row};
use crate::world::{BUCKET, PLAIN, TEXT};

const SNAPSHOT: &str = "/v1/stream/bad/text/snapshot/0000000000000000_0000000000000000";
const NEWEST_SNAPSHOT: &str = "/v1/stream/bad/text/snapshot";
const BOOTSTRAP: &str = "/v1/stream/bad/text/bootstrap";

const PROBE: &str = "GET, HEAD, OPTIONS";
const BUCKETS: &str = "GET, HEAD, PUT, DELETE, OPTIONS";
const STREAMS: &str = "GET, HEAD, PUT, POST, DELETE, OPTIONS";

pub(crate) fn rows() -> Vec<Row> {
    let refused = |(method, path, allow)| {
        row(format!("{method} {path}"), ask(method, path), 405, "method_not_allowed").telling("allow", allow)
    };
    let mut rows: Vec<Row> = REFUSED.map(refused).into();
    rows.extend([
        row("a method with a body", ask("PATCH", TEXT).with(PLAIN).body("x"), 405, "method_not_allowed"),
        row(
            "a method with a body that comes later",
            ask("PATCH", TEXT).with(PLAIN).body("x").late(),
            405,
            "method_not_allowed",
        ),
        row("a method of 5000 characters", ask(&"M".repeat(5000), TEXT), 405, "method_not_allowed"),
        row("CONNECT to another host", ask("CONNECT", "example.com:443"), 404, "not_found"),
        row("a method on all paths", ask("GET", "*"), 404, "not_found"),
        row("a method with a character that none has", ask("P@ST", TEXT), 400, NO_CODE).closes(),
        row("no method", raw(format!(" {TEXT} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")), 400, NO_CODE).closes(),
        row("a write on the operations listener", ask("POST", "/metrics").operations(), 405, NO_CODE),
        row("a stream on the operations listener", ask("GET", TEXT).operations(), 404, "not_found"),
        row(
            "a probe with a wrong method on the operations listener",
            ask("POST", "/ready").operations(),
            405,
            "method_not_allowed",
        )
        .telling("allow", PROBE),
        row("nothing on the operations listener", ask("GET", "/").operations(), 404, "not_found"),
    ]);
    rows
}

const SNAPSHOTS: &str = "GET, HEAD, PUT, DELETE, OPTIONS";
const READ_ONLY: &str = "GET, HEAD, OPTIONS";

const REFUSED: [(&str, &str, &str); 25] = [
    ("POST", "/health", PROBE),
    ("PUT", "/health", PROBE),
    ("DELETE", "/health", PROBE),
    ("POST", "/ready", PROBE),
    ("PATCH", "/ready", PROBE),
    ("TRACE", "/ready", PROBE),
    ("POST", BUCKET, BUCKETS),
    ("PATCH", BUCKET, BUCKETS),
    ("TRACE", BUCKET, BUCKETS),
    ("CONNECT", BUCKET, BUCKETS),
    ("LIST", BUCKET, BUCKETS),
    ("PATCH", TEXT, STREAMS),
    ("TRACE", TEXT, STREAMS),
    ("CONNECT", TEXT, STREAMS),
    ("PROPFIND", TEXT, STREAMS),
    ("get", TEXT, STREAMS),
    ("Post", TEXT, STREAMS),
    ("PRI", TEXT, STREAMS),
    ("POST", SNAPSHOT, SNAPSHOTS),
    ("PATCH", SNAPSHOT, SNAPSHOTS),
    ("POST", NEWEST_SNAPSHOT, READ_ONLY),
    ("DELETE", NEWEST_SNAPSHOT, READ_ONLY),
    ("POST", BOOTSTRAP, READ_ONLY),
    ("DELETE", BOOTSTRAP, READ_ONLY),
    ("PATCH", BOOTSTRAP, READ_ONLY),
];
