//! Snapshots as they go over the wire.

use ursula_common::ContentType;

use super::*;
use crate::respond::tests::{AT, head_of_page, if_none_match, lines};

const TAG: &str = "\"0707070707070707070707070707070707070707070707070707070707070707\"";

fn info() -> SnapshotInfo {
    let content_type = ContentType::parse("text/plain");
    SnapshotInfo { at: Offset(42), upload: 1, content_type, bytes: 5, digest: [7; 32] }
}

fn as_lines(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<_> = headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().expect("ASCII"))).collect();
    lines.sort();
    lines
}

#[test]
fn publications() {
    let location = || Some(HeaderValue::from_static("http://h/logs/a/snapshot/x"));
    let (tag, at) = (format!("etag: {TAG}"), format!("stream-snapshot-offset: {AT}"));
    let new = vec![tag.clone(), "location: http://h/logs/a/snapshot/x".into(), at.clone()];
    assert_eq!(lines(&published(true, Offset(42), &[7; 32], location())), (201, new));
    assert_eq!(lines(&published(false, Offset(42), &[7; 32], location())), (200, vec![tag, at]));
}

#[test]
fn heads_of_snapshots() {
    let part = [
        "content-length: 5".to_owned(),
        "content-type: text/plain".into(),
        format!("etag: {TAG}"),
        "repr-digest: sha-256=:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=:".into(),
        format!("stream-next-offset: {AT}"),
        format!("stream-snapshot-offset: {AT}"),
    ];
    assert_eq!(as_lines(&snapshot_part(&info())), part);
    let at_offset = snapshot(&info(), &IfNoneMatch::default(), None);
    assert_eq!(lines(&at_offset), (200, [&["cache-control: no-cache".to_owned()][..], &part].concat()));
    let location = HeaderValue::from_static("http://h/logs/a/snapshot");
    let newest = snapshot(&info(), &if_none_match("\"another\""), Some(&location));
    assert_eq!(newest.headers()[CONTENT_LOCATION], format!("http://h/logs/a/snapshot/{AT}"));
    for tags in [TAG, "*"] {
        let known = snapshot(&info(), &if_none_match(tags), Some(&location));
        assert_eq!((known.status().as_u16(), known.headers().get(CONTENT_LENGTH)), (304, None));
        assert_eq!((&known.headers()[ETAG], &known.headers()[STREAM_NEXT_OFFSET]), (&part_tag(), &offset(Offset(42))));
    }
}

fn part_tag() -> HeaderValue {
    HeaderValue::from_static(TAG)
}

#[test]
fn a_page_as_a_part() {
    let content_type = ContentType::parse("application/json");
    let head = PageHead { content_type, up_to_date: true, closed: true, earliest: Offset(7), ..head_of_page() };
    let (headers, body) = page_part(&head, &[Bytes::from_static(b"1,"), Bytes::from_static(b"2,")]);
    assert_eq!(body.concat(), b"[1,2]");
    let expected = [
        "content-length: 5".to_owned(),
        "content-type: application/json".into(),
        "stream-closed: true".into(),
        "stream-earliest-offset: 0000000000000000_0000000000000007".into(),
        format!("stream-next-offset: {AT}"),
        "stream-up-to-date: true".into(),
    ];
    assert_eq!(as_lines(&headers), expected);
}
