//! Appends: the headers of producers, `Stream-Seq`, `Stream-Closed`, expected offsets and types.

use crate::row::{Request, Row, ask, row};
use crate::world::{EMPTY, PLAIN, TEXT, offset};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(PRODUCERS.map(|(what, id, epoch, seq)| {
        let lines = [("Producer-Id", id), ("Producer-Epoch", epoch), ("Producer-Seq", seq)];
        let sent = lines.into_iter().filter_map(|(name, value)| Some(format!("{name}: {}", value?)));
        row(what, sent.fold(append(), Request::with), 400, "invalid_header")
    }));
    rows.extend(INVALID.map(|(what, line)| row(what, append().with(line), 400, "invalid_header")));
    rows.extend(
        SINGLE.map(|line| row(format!("twice: {line}"), produced().with(line).with(line), 400, "repeated_header")),
    );
    rows.extend(NOT_ASCII.map(|name| {
        let line = [name.as_bytes(), b": caf\xe9"].concat();
        row(format!("{name} in Latin-1"), produced_but(name).with(line), 400, "invalid_header")
    }));
    rows.extend(
        NO_TYPES.map(|(what, line)| row(what, ask("POST", TEXT).with(line).body("x"), 400, "missing_content_type")),
    );
    let long = |name: &str, length| format!("{name}: {}", "x".repeat(length));
    rows.extend([
        row(
            "a Producer-Id of 257 bytes",
            produced_but("Producer-Id").with(long("Producer-Id", 257)),
            400,
            "invalid_header",
        ),
        row(
            "a Producer-Id of 30 000 bytes",
            produced_but("Producer-Id").with(long("Producer-Id", 30_000)),
            400,
            "invalid_header",
        ),
        row("a Stream-Seq of 257 bytes", append().with(long("Stream-Seq", 257)), 400, "invalid_header"),
        row(
            "a Content-Type of 257 bytes",
            ask("POST", TEXT).with(format!("Content-Type: text/plain; a={}", "x".repeat(243))).body("x"),
            400,
            "invalid_header",
        ),
        row("no Content-Type", ask("POST", TEXT).body("x"), 400, "missing_content_type"),
        row("no body and no Content-Length", ask("POST", TEXT).with(PLAIN), 400, "empty_body"),
        row("an empty body", ask("POST", TEXT).with(PLAIN).body(""), 400, "empty_body"),
        row("an empty body in chunks", ask("POST", TEXT).with(PLAIN).chunked("0\r\n\r\n"), 400, "empty_body"),
        row("an empty body from a producer", produced().body(""), 400, "empty_body"),
        row("an empty body for an empty stream", ask("POST", EMPTY).with(PLAIN).body(""), 400, "empty_body"),
        row(
            "an empty body, and Stream-Closed: false",
            ask("POST", TEXT).with("Stream-Closed: false"),
            400,
            "empty_body",
        ),
        row("an empty body, and Stream-Closed: 1", ask("POST", TEXT).with("Stream-Closed: 1"), 400, "empty_body"),
        row(
            "an empty body, and Stream-Closed: true, true",
            ask("POST", TEXT).with("Stream-Closed: true, true"),
            400,
            "empty_body",
        ),
        row("If-Match and Stream-Expected-Offset", both_offsets(), 400, "invalid_header"),
        row("a producer is checked before its body", ask("POST", TEXT).with("Producer-Id: p"), 400, "invalid_header"),
        row(
            "headers are checked before the stream",
            ask("POST", "/v1/stream/bad/missing").with("Producer-Id: p"),
            400,
            "invalid_header",
        ),
        row(
            "an append to all streams of a bucket",
            ask("POST", "/bad-input/").with(PLAIN).body("x"),
            400,
            "invalid_name",
        ),
    ]);
    rows
}

fn append() -> Request {
    ask("POST", TEXT).with(PLAIN).body("x")
}

/// The head of an append that lacks nothing, with every header that may come once.
fn produced() -> Request {
    produced_but("")
}

fn produced_but(name: &str) -> Request {
    let lines = SINGLE.into_iter().take(4).filter(|line| !line.starts_with(&format!("{name}:")));
    lines.fold(ask("POST", TEXT), Request::with)
}

fn both_offsets() -> Request {
    append().with(format!("If-Match: \"{}\"", offset(0))).with(format!("Stream-Expected-Offset: {}", offset(0)))
}

/// Headers that say one thing; the first four make a valid append.
const SINGLE: [&str; 8] = [
    "Content-Type: text/plain",
    "Producer-Id: bad",
    "Producer-Epoch: 0",
    "Producer-Seq: 0",
    "Stream-Seq: 1",
    "Stream-Closed: true",
    "If-Match: \"0000000000000000_0000000000000000\"",
    "Stream-Expected-Offset: 0000000000000000_0000000000000000",
];

const NOT_ASCII: [&str; 8] = [
    "Content-Type",
    "Producer-Id",
    "Producer-Epoch",
    "Producer-Seq",
    "Stream-Seq",
    "Stream-Closed",
    "If-Match",
    "Stream-Expected-Offset",
];

type Value = Option<&'static str>;

/// What is wrong, and `Producer-Id`, `Producer-Epoch` and `Producer-Seq`.
const PRODUCERS: [(&str, Value, Value, Value); 21] = [
    ("a producer with an id alone", Some("p"), None, None),
    ("a producer with an epoch alone", None, Some("0"), None),
    ("a producer with a sequence alone", None, None, Some("0")),
    ("a producer without an id", None, Some("0"), Some("0")),
    ("a producer without an epoch", Some("p"), None, Some("0")),
    ("a producer without a sequence", Some("p"), Some("0"), None),
    ("a producer with an empty id", Some(""), Some("0"), Some("0")),
    ("a producer with a blank id", Some("   "), Some("0"), Some("0")),
    ("a producer with an empty epoch", Some("p"), Some(""), Some("0")),
    ("a producer with an empty sequence", Some("p"), Some("0"), Some("")),
    ("a negative epoch", Some("p"), Some("-1"), Some("0")),
    ("a negative sequence", Some("p"), Some("0"), Some("-1")),
    ("an epoch with a sign", Some("p"), Some("+1"), Some("0")),
    ("a sequence with a fraction", Some("p"), Some("0"), Some("0.0")),
    ("a sequence with an exponent", Some("p"), Some("0"), Some("1e3")),
    ("a hexadecimal sequence", Some("p"), Some("0"), Some("0x0")),
    ("a sequence that is no number", Some("p"), Some("0"), Some("first")),
    ("an epoch of 2^53", Some("p"), Some("9007199254740992"), Some("0")),
    ("a sequence of 2^53", Some("p"), Some("0"), Some("9007199254740992")),
    ("an epoch of 2^64", Some("p"), Some("18446744073709551616"), Some("0")),
    ("a sequence of 40 digits", Some("p"), Some("0"), Some("9999999999999999999999999999999999999999")),
];

const INVALID: [(&str, &str); 18] = [
    ("an empty Stream-Seq", "Stream-Seq:"),
    ("a blank Stream-Seq", "Stream-Seq:   "),
    ("an empty If-Match", "If-Match:"),
    ("If-Match with an empty tag", "If-Match: \"\""),
    ("If-Match without quotes", "If-Match: 0000000000000000_0000000000000011"),
    ("If-Match with one quote", "If-Match: \"0000000000000000_0000000000000011"),
    ("If-Match with a weak tag", "If-Match: W/\"0000000000000000_0000000000000011\""),
    ("If-Match with anything", "If-Match: *"),
    (
        "If-Match with two tags",
        "If-Match: \"0000000000000000_0000000000000011\", \"0000000000000000_0000000000000012\"",
    ),
    ("If-Match with a reserved offset", "If-Match: \"now\""),
    ("If-Match with another tag", "If-Match: \"33a64df5\""),
    ("an empty Stream-Expected-Offset", "Stream-Expected-Offset:"),
    ("Stream-Expected-Offset in quotes", "Stream-Expected-Offset: \"0000000000000000_0000000000000011\""),
    ("Stream-Expected-Offset: -1", "Stream-Expected-Offset: -1"),
    ("Stream-Expected-Offset: now", "Stream-Expected-Offset: now"),
    ("Stream-Expected-Offset: a number", "Stream-Expected-Offset: 11"),
    ("Stream-Expected-Offset: a number too large", "Stream-Expected-Offset: 0000000000001844_0000000000000011"),
    ("Stream-Expected-Offset: too long", "Stream-Expected-Offset: 0000000000000000_00000000000000011"),
];

const NO_TYPES: [(&str, &str); 5] = [
    ("an empty Content-Type", "Content-Type:"),
    ("a Content-Type of one word", "Content-Type: text"),
    ("a Content-Type without a subtype", "Content-Type: text/"),
    ("a Content-Type without a type", "Content-Type: /plain"),
    ("a Content-Type of a list", "Content-Type: text, text/plain"),
];
