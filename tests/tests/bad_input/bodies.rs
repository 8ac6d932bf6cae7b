//! Bodies: what is not JSON, what is too large, and bodies of requests that are refused for their head.

use crate::row::{Request, Row, ask, row};
use crate::world::{AS_JSON, JSON, MISSING, PLAIN, TEXT};

/// The largest body of an append.
const BODY_BYTES_MAX: usize = 16 << 20;
/// How deep a message may be nested.
const DEPTH_MAX: usize = 126;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(NOT_JSON.map(|(what, body)| row(what, append(body), 400, "invalid_json")));
    rows.extend(NOT_UTF8.map(|(what, body)| row(what, append(body), 400, "invalid_json")));
    rows.extend(EMPTY_ARRAYS.map(|(what, body)| row(what, append(body), 400, "empty_array")));
    rows.extend(nested());
    rows.extend(large());
    rows.extend(unread());
    rows.extend([
        row("a new stream of what is not JSON", create("{"), 400, "invalid_json"),
        row("a new stream of what is not UTF-8", create(b"\"\xff\""), 400, "invalid_json"),
        row("a new stream that is nested too deeply", create(arrays(DEPTH_MAX + 2)), 400, "invalid_json"),
        row(
            "JSON that is compressed",
            append(b"\x1f\x8b\x08\0\0\0\0\0").with("Content-Encoding: gzip"),
            400,
            "invalid_json",
        ),
        row(
            "JSON in chunks that is not JSON",
            ask("POST", JSON).with(AS_JSON).chunked("1\r\n{\r\n0\r\n\r\n"),
            400,
            "invalid_json",
        ),
    ]);
    rows
}

fn append(body: impl AsRef<[u8]>) -> Request {
    ask("POST", JSON).with(AS_JSON).body(body)
}

fn create(body: impl AsRef<[u8]>) -> Request {
    ask("PUT", MISSING).with(AS_JSON).body(body)
}

fn arrays(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

fn nested() -> [Row; 8] {
    let objects = |depth| "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
    let refused = |what: &str, body: String| row(what, append(body), 400, "invalid_json");
    [
        // The array around all messages does not count.
        refused("arrays that are nested too deeply by one", arrays(DEPTH_MAX + 2)),
        refused("objects that are nested too deeply by one", objects(DEPTH_MAX + 1)),
        refused("a second message that is nested too deeply", format!("[1,{}]", arrays(DEPTH_MAX + 1))),
        refused("100 000 arrays in each other", arrays(100_000)),
        refused("100 000 objects in each other", objects(100_000)),
        refused("100 000 arrays and objects in each other", "[{\"a\":".repeat(50_000) + "1" + &"}]".repeat(50_000)),
        refused("100 000 arrays that do not end", "[".repeat(100_000)),
        refused("100 000 arrays that did not begin", "]".repeat(100_000)),
    ]
}

fn large() -> Vec<Row> {
    let said = |what: &str, method, length: &str| {
        let head = ask(method, if method == "PUT" { MISSING } else { TEXT }).with(PLAIN);
        row(what, head.with(format!("Content-Length: {length}")).followed_by("x"), 413, "body_too_large").closes()
    };
    let one_more = format!("{:x}\r\n{}\r\n0\r\n\r\n", BODY_BYTES_MAX + 1, "x".repeat(BODY_BYTES_MAX + 1));
    let chunk = format!("100000\r\n{}\r\n", "x".repeat(1 << 20));
    let string = format!("\"{}\"", "x".repeat(BODY_BYTES_MAX - 2));
    vec![
        said("a body that is too large by one", "POST", "16777217"),
        said("a body of 100 GB", "POST", "100000000000"),
        said("a body of 2^63", "POST", "9223372036854775808"),
        said("a new stream that is too large by one", "PUT", "16777217"),
        row(
            "a chunk that is too large by one",
            ask("POST", TEXT).with(PLAIN).chunked(&one_more),
            413,
            "body_too_large",
        )
        .closes(),
        row("chunks that go on", ask("POST", TEXT).with(PLAIN).chunked(chunk.repeat(18)), 413, "body_too_large")
            .closes(),
        row(
            "a new stream of a chunk that is too large",
            ask("PUT", MISSING).with(PLAIN).chunked(&one_more),
            413,
            "body_too_large",
        )
        .closes(),
        row(
            "a body that is too large, and is asked for first",
            ask("POST", TEXT).with(PLAIN).with("Expect: 100-continue").with("Content-Length: 16777217"),
            413,
            "body_too_large",
        )
        .closes(),
        // The comma that divides messages makes it larger.
        row("JSON that is too large once it is stored", append(string), 413, "body_too_large"),
    ]
}

/// Requests that are refused for their head. Their body is not looked at, and still it must not be taken for
/// the next request, nor end the connection.
fn unread() -> Vec<Row> {
    let wrong = |body: &[u8]| ask("POST", TEXT).with(PLAIN).with("Producer-Id: p").body(body);
    let kib = [b'x'; 1024];
    let large = vec![b'x'; 1 << 20];
    vec![
        row("a body behind a wrong header", wrong(b"GET / HTTP/1.1\r\n\r\n"), 400, "invalid_header"),
        row("a body behind a wrong header, later", wrong(&kib).late(), 400, "invalid_header"),
        row("a body of 1 MiB behind a wrong header", wrong(&large), 400, "invalid_header"),
        row("a body behind a wrong path, later", ask("POST", "/v1/nowhere").body(kib).late(), 404, "not_found"),
        row("a body behind a wrong name, later", ask("PUT", "/v1/stream/").body(kib).late(), 400, "invalid_name"),
        row(
            "a new stream behind a wrong header, later",
            ask("PUT", MISSING).with("Stream-TTL: x").body(kib).late(),
            400,
            "invalid_header",
        ),
        // Whether the body will come after this answer cannot be known.
        row(
            "a body behind a wrong header that is asked for first",
            ask("POST", TEXT).with("Producer-Id: p").with("Expect: 100-continue").with("Content-Length: 5"),
            400,
            "invalid_header",
        )
        .closes(),
        row("a delete with a body, later", ask("DELETE", MISSING).body(kib).late(), 404, "stream_not_found"),
        row(
            "chunks behind a wrong header, later",
            ask("POST", TEXT).with("Producer-Id: p").chunked("1\r\nx\r\n0\r\n\r\n").late(),
            400,
            "invalid_header",
        ),
        row(
            "a body that comes to what is not there, later",
            ask("POST", MISSING).with(PLAIN).body(kib).late(),
            404,
            "stream_not_found",
        ),
    ]
}

const NOT_JSON: [(&str, &str); 50] = [
    ("JSON: white space", " \t\r\n "),
    ("JSON: a word", "hello"),
    ("JSON: half a word", "tru"),
    ("JSON: a word and a letter", "nulll"),
    ("JSON: a word in capitals", "True"),
    ("JSON: undefined", "undefined"),
    ("JSON: not a number", "NaN"),
    ("JSON: infinity", "Infinity"),
    ("JSON: minus infinity", "-Infinity"),
    ("JSON: a minus", "-"),
    ("JSON: a plus", "+1"),
    ("JSON: a leading zero", "01"),
    ("JSON: a minus and a leading zero", "-01"),
    ("JSON: no digit before the point", ".5"),
    ("JSON: no digit after the point", "5."),
    ("JSON: no exponent", "1e"),
    ("JSON: an exponent of a sign", "1e+"),
    ("JSON: a hexadecimal number", "0x10"),
    ("JSON: digits in groups", "1_000"),
    ("JSON: two values", "1 2"),
    ("JSON: two values and a comma", "1,2"),
    ("JSON: two arrays and a comma", "[1],[2]"),
    ("JSON: two lines", "{\"a\":1}\n{\"a\":2}\n"),
    ("JSON: a value and a NUL", "1\0"),
    ("JSON: a byte order mark", "\u{feff}1"),
    ("JSON: a comment", "1 // one"),
    ("JSON: a comment between", "[1, /* two */ 3]"),
    ("JSON: a string that does not end", "\"a"),
    ("JSON: a string that ends in an escape", "\"a\\\""),
    ("JSON: a string in single quotes", "'a'"),
    ("JSON: an unknown escape", "\"\\x41\""),
    ("JSON: half an escape", "\"\\u12\""),
    ("JSON: an escape of JavaScript", "\"\\u{41}\""),
    ("JSON: a line feed in a string", "\"a\nb\""),
    ("JSON: a tab in a string", "\"a\tb\""),
    ("JSON: a NUL in a string", "\"a\0b\""),
    ("JSON: an array that does not end", "[1, 2"),
    ("JSON: an array that did not begin", "1, 2]"),
    ("JSON: an array with a comma at the end", "[1, 2,]"),
    ("JSON: an array with a comma at the start", "[,1]"),
    ("JSON: an array with two commas", "[1,,2]"),
    ("JSON: an array without commas", "[1 2]"),
    ("JSON: an array that ends as an object", "[1}"),
    ("JSON: an object that does not end", "{\"a\":1"),
    ("JSON: an object with a comma at the end", "{\"a\":1,}"),
    ("JSON: an object without values", "{\"a\"}"),
    ("JSON: an object without a value", "{\"a\":}"),
    ("JSON: an object with a bare key", "{a:1}"),
    ("JSON: an object with a number as a key", "{1:1}"),
    ("JSON: an object without commas", "{\"a\":1 \"b\":2}"),
];

const NOT_UTF8: [(&str, &[u8]); 7] = [
    ("JSON: a byte that UTF-8 never has", b"\"\xff\""),
    ("JSON: a byte that UTF-8 never has, outside of strings", b"[1\xff]"),
    ("JSON: Latin-1", b"\"caf\xe9\""),
    ("JSON: an overlong form", b"\"\xc0\xaf\""),
    ("JSON: a lone surrogate", b"\"\xed\xa0\x80\""),
    ("JSON: half a character", b"\"\xe2\x82\""),
    ("JSON: UTF-16", b"\xff\xfe\"\0a\0\"\0"),
];

const EMPTY_ARRAYS: [(&str, &str); 2] = [("an empty array", "[]"), ("an empty array in white space", " [ \n ] ")];
