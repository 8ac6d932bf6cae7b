//! HTTP/1.1 itself: request lines, headers, and where a body ends. Most of these never become a request; the
//! HTTP library refuses them without a body, and closes.

use crate::row::{NO_ANSWER, NO_CODE, Request, Row, ask, raw, row};
use crate::world::{MISSING, PLAIN, TEXT};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(REQUESTS.map(|(what, text)| row(what, raw(text), 400, NO_CODE).closes()));
    rows.extend(HEADERS.map(|(what, line)| row(what, ask("GET", TEXT).with(line), 400, NO_CODE).closes()));
    rows.extend(LENGTHS.map(|(what, lines)| row(what, append().with(lines).followed_by("x"), 400, NO_CODE).closes()));
    rows.extend(CHUNKS.map(|(what, chunks)| row(what, append().chunked(chunks), 400, "invalid_body").closes()));
    rows.extend(
        INCOMPLETE
            .map(|(what, chunks)| row(what, append().chunked(chunks).half_close(), 400, "body_incomplete").closes()),
    );
    rows.extend(hosts());
    rows.extend(codings());
    rows.extend(ends());
    rows.extend(other_protocols());
    rows
}

fn append() -> Request {
    ask("POST", TEXT).with(PLAIN)
}

/// Which host is meant must be clear, and a request to several is one that somebody on the way read otherwise.
fn hosts() -> [Row; 6] {
    let get = |lines: &str| raw(format!("GET {TEXT} HTTP/1.1\r\n{lines}\r\n"));
    [
        row("no Host", get(""), 400, "invalid_header"),
        row(
            "no Host for an append",
            raw(format!("POST {TEXT} HTTP/1.1\r\n{PLAIN}\r\nContent-Length: 1\r\n\r\nx")),
            400,
            "invalid_header",
        ),
        row("two hosts", get("Host: 127.0.0.1\r\nHost: example.com\r\n"), 400, "repeated_header"),
        row("the same host twice", get("Host: 127.0.0.1\r\nHost: 127.0.0.1\r\n"), 400, "repeated_header"),
        row("a host with a path", get("Host: 127.0.0.1/bad\r\n"), 400, "invalid_header"),
        row("a host in Latin-1", raw(b"GET / HTTP/1.1\r\nHost: caf\xe9\r\n\r\n"), 400, "invalid_header"),
    ]
}

/// What a body is coded in besides chunks would be stored as if it were the body.
fn codings() -> Vec<Row> {
    let chunks = "1\r\nx\r\n0\r\n\r\n";
    let coded = |lines: &str| append().with(lines).followed_by(chunks);
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked";
    let both = "Content-Length: 1\r\nTransfer-Encoding: chunked";
    let both_in_turn = "Transfer-Encoding: chunked\r\nContent-Length: 1";
    vec![
        row("a transfer coding within chunks", coded("Transfer-Encoding: gzip, chunked"), 400, "invalid_header")
            .closes(),
        row("chunks within chunks", coded("Transfer-Encoding: chunked, chunked"), 400, "invalid_header").closes(),
        row("Transfer-Encoding twice", coded(twice), 400, "repeated_header").closes(),
        row("a transfer coding around chunks", coded("Transfer-Encoding: chunked, gzip"), 400, NO_CODE).closes(),
        row("a transfer coding without chunks", coded("Transfer-Encoding: gzip"), 400, NO_CODE).closes(),
        row("an unknown transfer coding", coded("Transfer-Encoding: bad"), 400, NO_CODE).closes(),
        row("an empty transfer coding", coded("Transfer-Encoding:"), 400, NO_CODE).closes(),
        row("a transfer coding in quotes", coded("Transfer-Encoding: \"chunked\""), 400, NO_CODE).closes(),
        row(
            "chunks in HTTP/1.0",
            raw(format!("POST {TEXT} HTTP/1.0\r\n{PLAIN}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")),
            400,
            NO_CODE,
        )
        .closes(),
        // Chunks decide, and whoever believed the length gets no further.
        row(
            "a length before chunks",
            ask("POST", MISSING).with(PLAIN).with(both).followed_by(chunks),
            404,
            "stream_not_found",
        )
        .closes(),
        row(
            "a length after chunks",
            ask("POST", MISSING).with(PLAIN).with(both_in_turn).followed_by(chunks),
            404,
            "stream_not_found",
        )
        .closes(),
    ]
}

/// The client ends before its request does.
fn ends() -> [Row; 8] {
    let body =
        |length: &str, body: &str| append().with(format!("Content-Length: {length}")).followed_by(body).half_close();
    let partial = |text: &str| raw(text).half_close();
    [
        row("a body that ends before it begins", body("5", ""), 400, "body_incomplete").closes(),
        row("a body that ends early", body("5", "x"), 400, "body_incomplete").closes(),
        row("a body of 16 MiB that ends early", body("16777216", "x"), 400, "body_incomplete").closes(),
        row("a head that ends within a header", partial("GET / HTTP/1.1\r\nHost: 127"), NO_ANSWER, NO_CODE).closes(),
        row(
            "a head that ends before the empty line",
            partial("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"),
            NO_ANSWER,
            NO_CODE,
        )
        .closes(),
        row("a head that ends within the path", partial("GET /v1/str"), NO_ANSWER, NO_CODE).closes(),
        row("a connection that ends at once", partial(""), NO_ANSWER, NO_CODE).closes(),
        row("a connection that ends after an empty line", partial("\r\n"), NO_ANSWER, NO_CODE).closes(),
    ]
}

fn other_protocols() -> Vec<Row> {
    let mut rows = Vec::new();
    let hello = [&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], &[b'r'; 508]].concat();
    rows.extend([
        row("TLS", raw(hello), 400, NO_CODE).closes(),
        row("SSH", raw("SSH-2.0-OpenSSH_9.9\r\n"), 400, NO_CODE).closes(),
        row("SMTP", raw("EHLO example.com\r\n"), 400, NO_CODE).closes(),
        row("Redis", raw("*1\r\n$4\r\nPING\r\n"), 400, NO_CODE).closes(),
        row("a proxy that names its client", raw("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), 400, NO_CODE).closes(),
        row("a preface of HTTP/2 that goes wrong", raw("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"), 400, NO_CODE).closes(),
        row("a preface of HTTP/2 that ends", raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").half_close(), NO_ANSWER, NO_CODE)
            .closes(),
    ]);
    rows.extend(FRAMES.map(|(what, frame)| {
        let bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", frame].concat();
        row(what, raw(bytes), NO_ANSWER, NO_CODE).closes()
    }));
    rows
}

const REQUESTS: [(&str, &str); 12] = [
    ("garbage", "garbage garbage garbage\r\n\r\n"),
    ("binary garbage", "\0\u{1}\u{2}\u{3}\r\n\r\n"),
    ("JSON instead of HTTP", "{\"method\":\"GET\"}\r\n\r\n"),
    ("no version", "GET /v1/stream/bad/text\r\n\r\n"),
    ("a version of HTTP/0.9", "GET /v1/stream/bad/text HTTP/0.9\r\nHost: 127.0.0.1\r\n\r\n"),
    ("a version of HTTP/1.2", "GET /v1/stream/bad/text HTTP/1.2\r\nHost: 127.0.0.1\r\n\r\n"),
    ("a version of HTTP/2.0", "GET /v1/stream/bad/text HTTP/2.0\r\nHost: 127.0.0.1\r\n\r\n"),
    ("a version in small letters", "GET /v1/stream/bad/text http/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
    ("a version and more", "GET /v1/stream/bad/text HTTP/1.1 please\r\nHost: 127.0.0.1\r\n\r\n"),
    ("two spaces in the request line", "GET  /v1/stream/bad/text HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
    ("a tab in the request line", "GET\t/v1/stream/bad/text HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"),
    ("a line that ends in a carriage return", "GET /v1/stream/bad/text HTTP/1.1\rHost: 127.0.0.1\r\n\r\n"),
];

const HEADERS: [(&str, &str); 11] = [
    ("a header without a colon", "Bad"),
    ("a header without a name", ": bad"),
    ("a header with a space in its name", "Ba d: bad"),
    ("a header with a space before the colon", "Bad : bad"),
    ("a header with a NUL in its name", "Ba\0d: bad"),
    ("a header with a name that is not ASCII", "B\u{e4}d: bad"),
    ("a header with a NUL", "Bad: b\0d"),
    ("a header with a control character", "Bad: b\u{1}d"),
    ("a header with DEL", "Bad: b\u{7f}d"),
    ("a header with a carriage return", "Bad: b\rd"),
    ("a header that goes on in the next line", "Bad: b\r\n ad"),
];

const LENGTHS: [(&str, &str); 11] = [
    ("two lengths", "Content-Length: 1\r\nContent-Length: 2"),
    ("a list of lengths", "Content-Length: 1, 1"),
    ("an empty length", "Content-Length:"),
    ("a negative length", "Content-Length: -1"),
    ("a length with a sign", "Content-Length: +1"),
    ("a hexadecimal length", "Content-Length: 0x1"),
    ("a length with a fraction", "Content-Length: 1.0"),
    ("a length with a space", "Content-Length: 1 1"),
    ("a length of a word", "Content-Length: one"),
    ("a length of 2^64", "Content-Length: 18446744073709551616"),
    ("a length of 40 digits", "Content-Length: 9999999999999999999999999999999999999999"),
];

/// A client with these has a mistake in it: the same request fails again, unlike one that ended early.
const CHUNKS: [(&str, &str); 12] = [
    ("a chunk with a size that is no number", "zz\r\nx\r\n0\r\n\r\n"),
    ("a chunk with a negative size", "-1\r\nx\r\n0\r\n\r\n"),
    ("a chunk with a sign", "+1\r\nx\r\n0\r\n\r\n"),
    ("a chunk with a prefix", "0x1\r\nx\r\n0\r\n\r\n"),
    ("a chunk without a size", "\r\nx\r\n0\r\n\r\n"),
    ("a chunk of 2^64", "10000000000000000\r\nx\r\n0\r\n\r\n"),
    ("a chunk that is shorter than it says", "5\r\nx\r\n0\r\n\r\n"),
    ("a chunk that is longer than it says", "1\r\nxyz\r\n0\r\n\r\n"),
    ("a chunk with lines that end in a line feed", "1\nx\n0\n\n"),
    ("a chunk that is not one", "hello world\r\n"),
    ("a trailer without a colon", "1\r\nx\r\n0\r\nbad\r\n\r\n"),
    ("a second chunk with a size that is no number", "1\r\nx\r\nzz\r\nx\r\n0\r\n\r\n"),
];

const INCOMPLETE: [(&str, &str); 7] = [
    ("no chunk, and the end", ""),
    ("half a size, and the end", "1"),
    ("half a chunk, and the end", "5\r\nx"),
    ("a chunk, and the end", "1\r\nx\r\n"),
    ("half a last chunk, and the end", "1\r\nx\r\n0\r\n"),
    ("half a trailer, and the end", "1\r\nx\r\n0\r\nBad: b"),
    ("the greatest chunk, and the end", "ffffffffffffffff\r\nx"),
];

/// Frames of HTTP/2 that end a connection.
const FRAMES: [(&str, &[u8]); 7] = [
    ("HTTP/2: a frame that is too large", b"\xff\xff\xff\0\0\0\0\0\x01"),
    ("HTTP/2: data without a stream", b"\0\0\x01\0\0\0\0\0\0x"),
    ("HTTP/2: a request on an even stream", b"\0\0\x01\x01\x05\0\0\0\x02\x82"),
    ("HTTP/2: headers that go on without a beginning", b"\0\0\x01\x09\x04\0\0\0\x01\x82"),
    ("HTTP/2: headers that cannot be unpacked", b"\0\0\x06\x01\x05\0\0\0\x01\xff\xff\xff\xff\xff\x0f"),
    ("HTTP/2: settings of a wrong size", b"\0\0\x01\x04\0\0\0\0\0x"),
    ("HTTP/2: garbage", b"garbage garbage garbage"),
];
