//! Events, byte by byte.

use proptest::prelude::*;

use super::*;

const AT: Offset = Offset(42);
const ID: &str = "\nid:0000000000000000_0000000000000042\n\n";

fn text(kind: DataKind, stored: &[u8]) -> String {
    let event = data(kind, stored, AT);
    let event = std::str::from_utf8(&event).expect("events are UTF-8");
    let event = event.strip_prefix("event: data\n").expect("a data event");
    event.strip_suffix(ID).expect("the offset after the data").to_owned()
}

#[test]
fn data_events() {
    let table: [(DataKind, &[u8], &str); 12] = [
        (DataKind::Text, b"hello", "data:hello"),
        (DataKind::Text, b" two spaces ", "data: two spaces "),
        (DataKind::Text, b"line1\nline2\r\nline3\rline4", "data:line1\ndata:line2\ndata:line3\ndata:line4"),
        (DataKind::Text, b"\r\n\r\n", "data:\ndata:\ndata:"),
        (
            DataKind::Text,
            b"a\n\nevent: control\ndata: {}\n\n",
            "data:a\ndata:\ndata:event: control\ndata:data: {}\ndata:\ndata:",
        ),
        (DataKind::Text, b"\n\r", "data:\ndata:\ndata:"),
        (DataKind::Text, b"\xc3\xa4\xff!", "data:\u{e4}\u{fffd}!"),
        (DataKind::Json, b"1,{\"a\":[2,3]},", "data:[1,{\"a\":[2,3]}]"),
        (DataKind::Json, b"\"\\r\\n\",", "data:[\"\\r\\n\"]"),
        (DataKind::Base64, b"Hello", "data:SGVsbG8="),
        (DataKind::Base64, b"\xff\xfe\xfd", "data://79"),
        (DataKind::Base64, b"\n\r", "data:Cg0="),
    ];
    for (kind, stored, expected) in table {
        assert_eq!(text(kind, stored), expected);
    }
}

#[test]
fn control_events() {
    let table = [
        (control(AT, Some(17), true, false), r#","streamCursor":"17","upToDate":true"#),
        (control(AT, Some(17), false, false), r#","streamCursor":"17""#),
        (control(AT, None, true, false), r#","upToDate":true"#),
        (control(AT, None, false, false), ""),
        (control(AT, Some(17), true, true), r#","upToDate":true,"streamClosed":true"#),
        (control(AT, None, false, true), r#","upToDate":true,"streamClosed":true"#),
    ];
    for (event, rest) in table {
        let start = "event: control\ndata:{\"streamNextOffset\":\"0000000000000000_0000000000000042\"";
        assert_eq!(event, format!("{start}{rest}}}{ID}"));
    }
    assert_eq!(HEARTBEAT, ":\n\n");
}

#[test]
fn an_event_is_one_allocation() {
    // The most that each kind can grow: every byte a line end, a replaced byte, or a padded one.
    for (kind, stored) in [
        (DataKind::Text, vec![b'\n'; 1000]),
        (DataKind::Text, vec![0xff; 1000]),
        (DataKind::Json, b"\"a\",".repeat(250)),
        (DataKind::Base64, vec![0; 1000]),
    ] {
        let event = data(kind, &stored, AT);
        let grown = event.try_into_mut().expect("nobody else has it");
        assert!(grown.capacity() <= grown.len() + FRAME_BYTES, "{kind:?}: {} for {}", grown.capacity(), grown.len());
    }
}

#[test]
fn kinds_of_types() {
    let table = [
        ("text/plain", DataKind::Text),
        ("TEXT/html; charset=utf-8", DataKind::Text),
        ("application/json", DataKind::Json),
        ("Application/JSON; x=y", DataKind::Json),
        ("application/x-ndjson", DataKind::Base64),
        ("image/png", DataKind::Base64),
        ("application/octet-stream", DataKind::Base64),
    ];
    for (content_type, kind) in table {
        assert_eq!(DataKind::of(&ContentType::parse(content_type)), kind, "{content_type}");
    }
}

#[test]
fn heads_of_event_streams() {
    for kind in [DataKind::Text, DataKind::Json, DataKind::Base64] {
        let response = response(kind);
        let headers = response.headers();
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(headers[CONTENT_TYPE], "text/event-stream");
        assert_eq!(headers[CACHE_CONTROL], "no-cache");
        assert_eq!(headers[X_ACCEL_BUFFERING], "no");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers.contains_key(STREAM_SSE_DATA_ENCODING), kind == DataKind::Base64);
    }
}

#[test]
fn text_is_cut_between_characters() {
    let table: [(&[u8], usize); 15] = [
        (b"", 0),
        (b"abc", 3),
        ("\u{e4}".as_bytes(), 2),
        (b"a\xc3", 1),
        ("a\u{20ac}".as_bytes(), 4),
        (b"a\xe2\x82", 1),
        (b"a\xe2", 1),
        ("\u{1f600}".as_bytes(), 4),
        (b"\xf0\x9f\x98", 0),
        (b"xx\xf0\x9f", 2),
        // No byte can make these valid.
        (b"\xff", 1),
        (b"\x80\x80\x80\x80", 4),
        (b"\xc0", 1),
        (b"\xe2\xe2", 1),
        (b"\xf0\x80\x80", 3),
    ];
    for (stored, boundary) in table {
        assert_eq!(text_boundary(stored), boundary, "{stored:?}");
    }
}

/// What a reader makes of an event: its lines, each without its field name and one space.
fn received(event: &str) -> String {
    let lines = event.split('\n').map(|line| line.strip_prefix("data:").expect("only data lines"));
    lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

proptest! {
    #[test]
    fn text_arrives(sent in "[a-c \\r\\n:\u{e4}]{0,40}") {
        // A space after the field name is not part of the data, by the rules of the format.
        let lines: Vec<String> = sent.replace("\r\n", "\n").replace('\r', "\n").split('\n').map(String::from).collect();
        let expected: Vec<&str> = lines.iter().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        prop_assert_eq!(received(&text(DataKind::Text, sent.as_bytes())), expected.join("\n"));
    }

    #[test]
    fn binary_arrives(stored in proptest::collection::vec(any::<u8>(), 1..100)) {
        let event = text(DataKind::Base64, &stored);
        let encoded = event.strip_prefix("data:").expect("one line");
        prop_assert_eq!(encoded.len() % 4, 0);
        prop_assert_eq!(STANDARD.decode(encoded).expect("base64"), stored);
    }

    #[test]
    fn cut_text_arrives_whole(sent in "\\PC{0,20}", at in any::<prop::sample::Index>()) {
        let bytes = sent.as_bytes();
        let cut = at.index(bytes.len() + 1);
        let boundary = text_boundary(&bytes[..cut]);
        prop_assert!(sent.is_char_boundary(boundary) && cut - boundary < 4);
    }

    #[test]
    fn no_bytes_panic(stored in proptest::collection::vec(any::<u8>(), 0..60)) {
        for kind in [DataKind::Text, DataKind::Json, DataKind::Base64] {
            _ = data(kind, &stored, AT);
        }
        prop_assert!(text_boundary(&stored) <= stored.len());
    }
}
