//! What is taken apart on the way: events, arrays of messages, names in paths.

use super::live::{Event, Events};
use super::read::Kind;
use super::sink::lines_of;
use super::*;

const SENT: &[u8] = b":\n\nevent: data\ndata:[1,\ndata:2]\nid:7\n\r\nevent: control\r\ndata: {\"x\":1}\r\n\r\n: again\n\nevent: data\ndata:cut";

#[test]
fn events_come_whole_wherever_the_network_cuts_them() {
    let event = |kind: &[u8], data: &[u8]| Event { kind: kind.to_vec(), data: data.to_vec() };
    let expected = [event(b"data", b"[1,\n2]"), event(b"control", b"{\"x\":1}")];
    for size in 1..=SENT.len() {
        let (mut events, mut seen) = (Events::default(), Vec::new());
        for part in SENT.chunks(size) {
            events.push(part).expect("it is short");
            seen.extend(std::iter::from_fn(|| events.next()));
        }
        assert_eq!(seen, expected, "in parts of {size}");
    }
}

#[test]
fn an_event_that_does_not_end_is_given_up() {
    let mut events = Events::default();
    let mebibyte = vec![b'x'; 1 << 20];
    assert!((0..=64).any(|_| events.push(&mebibyte).is_err()));
}

#[test]
fn messages_are_lines_with_their_own_text() {
    let lines = lines_of(b"[ {\"a\" : 1.0e5},\n\"\\n\" ,[1,\r\n2]]").expect("an array");
    assert_eq!(String::from_utf8_lossy(&lines), "{\"a\" : 1.0e5}\n\"\\n\"\n[1,  2]\n");
    assert_eq!(lines_of(b"[]").expect("an array"), b"");
    assert!(lines_of(b"{}").is_err() && lines_of(b"[1").is_err());
}

#[test]
fn types_are_told_apart_as_the_server_does() {
    let of =
        ["application/json; charset=utf-8", "Application/JSON", "text/plain", "application/x-ndjson", ""].map(Kind::of);
    assert_eq!(of, [Kind::Json, Kind::Json, Kind::Text, Kind::Binary, Kind::Binary]);
}

#[test]
fn any_name_fits_into_a_path() {
    let path =
        |bucket: Option<&str>, name: &str| Place { bucket: bucket.map(str::to_owned), name: name.to_owned() }.path();
    assert_eq!(path(None, "a/b c?d#e%é"), "/v1/stream/a/b%20c%3Fd%23e%25%C3%A9");
    assert_eq!(path(Some("bucket"), "x-_.~"), "/bucket/x-_.~");
}
