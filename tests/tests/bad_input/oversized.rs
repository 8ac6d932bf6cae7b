//! Requests with more of something than anybody needs, and requests that do not come to their end.

use crate::row::{NO_ANSWER, NO_CODE, Row, ask, raw, row};
use crate::world::{PLAIN, TEXT, offset};

/// The largest head, and the most headers.
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 100;

pub(crate) fn rows() -> Vec<Row> {
    let long = "x".repeat(HEAD_BYTES_MAX);
    let get = || ask("GET", TEXT);
    // One of them is `Host`.
    let many = |count: usize| vec!["Bad: bad"; count - 1].join("\r\n");
    let append = || ask("POST", TEXT).with(PLAIN);
    let chunk = "1\r\nx\r\n0\r\n";
    let too_large = |what: &str, request| row(what, request, 431, NO_CODE).closes();
    vec![
        too_large("a path of 64 KiB", ask("GET", format!("/v1/stream/{long}"))),
        too_large("a query of 64 KiB", ask("GET", format!("{TEXT}?{long}"))),
        too_large("a method of 64 KiB", ask(&long, TEXT)),
        too_large("a header of 64 KiB", get().with(format!("Bad: {long}"))),
        too_large("a name of a header of 64 KiB", get().with(format!("{long}: bad"))),
        too_large("two headers of 32 KiB", get().with(format!("Bad: {0}\r\nBad: {0}", &long[..HEAD_BYTES_MAX / 2]))),
        too_large("a Producer-Id of 64 KiB", append().with(format!("Producer-Id: {long}"))),
        too_large("a header that does not end", raw(format!("GET / HTTP/1.1\r\nBad: {}", long.repeat(4)))),
        too_large("a request line that does not end", raw(long.repeat(4))),
        too_large("64 KiB of empty lines", raw("\r\n".repeat(HEAD_BYTES_MAX))),
        too_large("101 headers", get().with(many(HEADERS_MAX + 1))),
        too_large("10 000 headers", get().with(many(5000)).with(many(5000))),
        // The library reports the number that is too large as a head that is.
        too_large("a length of 2^64 - 1", append().with("Content-Length: 18446744073709551615")),
        row("100 headers are taken", get().with(many(HEADERS_MAX)), 200, NO_CODE),
        row("a path of 60 KiB", ask("GET", format!("/{}", &long[..60 << 10])), 400, "invalid_name"),
        row("an offset of 60 KiB", ask("GET", format!("{TEXT}?offset={}", &long[..60 << 10])), 400, "invalid_query"),
        row("10 000 offsets", ask("GET", format!("{TEXT}?{}", "offset&".repeat(8000))), 400, "invalid_query"),
        row(
            "a fork offset of 60 KiB",
            ask("PUT", "/v1/stream/bad/new")
                .with(format!("Stream-Forked-From: {TEXT}\r\nStream-Fork-Offset: {}", &long[..60 << 10])),
            400,
            "invalid_header",
        ),
        row(
            "If-Match of 60 KiB",
            append().with(format!("If-Match: \"{}{}\"", offset(0), &long[..60 << 10])).body("x"),
            400,
            "invalid_header",
        ),
        row(
            "an extension of a chunk of 64 KiB",
            append().chunked(format!("1;bad={long}\r\nx\r\n0\r\n\r\n")),
            400,
            "invalid_body",
        )
        .closes(),
        row(
            "a size of a chunk of 64 KiB",
            append().chunked(format!("1{}\r\nx\r\n0\r\n\r\n", "0".repeat(HEAD_BYTES_MAX))),
            400,
            "invalid_body",
        )
        .closes(),
        row("a trailer of 128 KiB", append().chunked(format!("{chunk}Bad: {long}{long}\r\n\r\n")), 400, "invalid_body")
            .closes(),
        row(
            "1000 trailers",
            append().chunked(format!("{chunk}{}\r\n", "Bad: bad\r\n".repeat(1000))),
            400,
            "invalid_body",
        )
        .closes(),
        // The server has been told to wait for two seconds.
        row("a body that does not come", append().with("Content-Length: 1"), 408, "body_timeout").closes(),
        row("a body that stops", append().with("Content-Length: 2").followed_by("x").late(), 408, "body_timeout")
            .closes(),
        row("chunks that stop", append().chunked("1\r\nx\r\n"), 408, "body_timeout").closes(),
        row("a head that stops", raw("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"), NO_ANSWER, NO_CODE).closes(),
    ]
}
