//! Paths: routes that are not there, percent-encoding, names of buckets and streams.

use crate::row::{NO_CODE, Row, ask, raw, row};
use crate::world::PLAIN;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(NOWHERE.map(|path| row(format!("no route: {path}"), ask("GET", path), 404, "not_found")));
    rows.extend(UNDECODABLE.map(|(what, path)| row(what, ask("GET", path), 400, "invalid_path")));
    rows.extend(BUCKET_NAMES.map(|(what, path)| row(what, ask("PUT", path), 400, "invalid_name")));
    rows.extend(STREAM_NAMES.map(|(what, path)| row(what, create(path), 400, "invalid_name")));
    rows.extend(CONTROL_ROUTES.map(|(method, path)| {
        row(format!("a control route: {method} {path}"), ask(method, path), 501, "not_implemented")
    }));
    rows.extend(NO_TARGETS.map(|(what, target)| {
        let request = raw(format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"));
        row(what, request, 400, NO_CODE).closes()
    }));
    rows.extend([
        row("a bucket name of 65 characters", ask("PUT", format!("/{}", "b".repeat(65))), 400, "invalid_name"),
        row("a stream name of 1025 bytes", create(&name(1025)), 400, "invalid_name"),
        row(
            "a stream name of 1026 bytes in 513 characters",
            create(&format!("/v1/stream/{}", "%C3%A9".repeat(513))),
            400,
            "invalid_name",
        ),
        row("a stream name of 60 000 bytes", create(&name(60_000)), 400, "invalid_name"),
        row("a stream name of 1024 bytes, not there", ask("GET", name(1024)), 404, "stream_not_found"),
        row("a path in plain UTF-8, not there", ask("GET", "/v1/stream/bad/\u{e9}"), 404, "stream_not_found"),
        row("a path in Latin-1", raw(b"GET /v1/stream/bad/\xe9 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"), 400, NO_CODE)
            .closes(),
    ]);
    rows
}

fn create(path: &str) -> crate::row::Request {
    ask("PUT", path).with(PLAIN).body("refused")
}

fn name(bytes: usize) -> String {
    format!("/v1/stream/{}", "n".repeat(bytes))
}

const NOWHERE: [&str; 8] =
    ["/", "/?offset=-1", "/v1", "/v1/", "/v1/streams/bad/text", "/v1/streambad", "/v1/STREAM/bad/text", "/v1/bad/text"];

const UNDECODABLE: [(&str, &str); 10] = [
    ("a percent sign at the end", "/v1/stream/bad%"),
    ("a percent sign and one digit", "/v1/stream/bad%2"),
    ("a percent sign and no hexadecimal digits", "/v1/stream/bad%zz"),
    ("a percent sign and a sign", "/v1/stream/bad%+1"),
    ("a percent sign and a space that is encoded", "/v1/stream/bad%%20"),
    ("an encoding of JavaScript", "/v1/stream/bad%u0041"),
    ("percent-encoded bytes that are not UTF-8", "/v1/stream/bad%FF"),
    ("an overlong form of a slash", "/v1/stream/bad%C0%AF"),
    ("a surrogate in UTF-8", "/v1/stream/bad%ED%A0%80"),
    ("a bucket that cannot be decoded", "/bad%FF/text"),
];

const BUCKET_NAMES: [(&str, &str); 17] = [
    ("a bucket name of one character", "/b"),
    ("a bucket name in capitals", "/Bad-input"),
    ("a bucket name with a dot", "/bad.input"),
    ("a bucket name that begins with a hyphen", "/-bad"),
    ("a bucket name that begins with an underscore", "/_bad"),
    ("a bucket name with a space", "/bad%20input"),
    ("a bucket name with an encoded slash", "/bad%2Finput"),
    ("a bucket name with a NUL", "/bad%00"),
    ("a bucket name that is not ASCII", "/b%C3%A9d"),
    ("a bucket name of two dots", "/.."),
    ("an empty bucket name", "//text"),
    ("a stream in a bucket with a bad name", "/Bad/text"),
    ("a reserved bucket name: metrics", "/metrics"),
    ("a reserved bucket name: console", "/console"),
    ("a stream in a reserved bucket: metrics", "/metrics/text"),
    ("a stream in a reserved bucket: health", "/health/text"),
    ("a reserved bucket name behind an encoding: v1", "/%761"),
];

const STREAM_NAMES: [(&str, &str); 16] = [
    ("no stream name", "/v1/stream"),
    ("an empty stream name", "/v1/stream/"),
    ("an empty stream name in a bucket", "/bad-input/"),
    ("a stream name that begins with a slash", "/v1/stream//text"),
    ("a stream name that ends with a slash", "/v1/stream/bad/"),
    ("a stream name with an empty segment", "/v1/stream/bad//text"),
    ("a stream name with an empty segment behind an encoding", "/v1/stream/bad%2F%2Ftext"),
    ("a stream name of a dot", "/v1/stream/."),
    ("a stream name with a dot as a segment", "/v1/stream/bad/./text"),
    ("a stream name with two dots as a segment", "/v1/stream/bad/../text"),
    ("a stream name with two dots behind an encoding", "/v1/stream/bad/%2E%2E/text"),
    ("a stream name with a NUL", "/v1/stream/bad%00"),
    ("a stream name with a line feed", "/v1/stream/bad%0Atext"),
    ("a stream name with carriage return and line feed", "/v1/stream/bad%0D%0AStream-Closed:%20true"),
    ("a stream name with DEL", "/v1/stream/bad%7F"),
    ("a stream name with a control character beyond ASCII", "/v1/stream/bad%C2%85"),
];

/// The protocol keeps these for subscriptions.
const CONTROL_ROUTES: [(&str, &str); 7] = [
    ("GET", "/v1/stream/__ds"),
    ("GET", "/v1/stream/__ds/jwks.json"),
    ("HEAD", "/v1/stream/__ds/jwks.json"),
    ("PUT", "/v1/stream/__ds/subscriptions/bad"),
    ("DELETE", "/v1/stream/__ds/subscriptions/bad"),
    ("POST", "/v1/stream/%5F%5Fds/subscriptions/bad/claim"),
    ("PUT", "/bad-input/__ds/subscriptions/bad"),
];

const NO_TARGETS: [(&str, &str); 8] = [
    ("a path without its first slash", "v1/stream/bad/text"),
    ("a query without a path", "?offset=-1"),
    ("a space within the path", "/v1/stream/bad text"),
    ("a tab within the path", "/v1/stream/bad\ttext"),
    ("a NUL within the path", "/v1/stream/bad\0text"),
    ("DEL within the path", "/v1/stream/bad\x7ftext"),
    ("quotes and angle brackets within the path", "/v1/stream/\"<bad>\""),
    ("a URL without a host", "http:///v1/stream/bad/text"),
];
