//! Replies as they go over the wire.

use ursula_common::Millis;
use ursula_common::verb::{Retention, SnapshotInfo};

use super::*;

pub(super) const AT: &str = "0000000000000000_0000000000000042";
const CORS: [&str; 4] = [
    "access-control-allow-origin",
    "access-control-expose-headers",
    "cross-origin-resource-policy",
    "x-content-type-options",
];

/// The status, and the headers but those that all responses have, as lines in the order of names.
pub(super) fn lines<B>(response: &Response<B>) -> (u16, Vec<String>) {
    let headers = response.headers();
    CORS.iter().for_each(|name| assert!(headers.contains_key(*name), "{name}"));
    let own = headers.iter().filter(|(name, _)| !CORS.contains(&name.as_str()));
    let mut own: Vec<_> = own.map(|(n, v)| format!("{n}: {}", v.to_str().expect("ASCII"))).collect();
    own.sort();
    (response.status().as_u16(), own)
}

pub(super) fn head_of_page() -> PageHead {
    PageHead {
        group: GroupId(1),
        stream: StreamId(2),
        content_type: ContentType::parse("text/plain"),
        from: ReadFrom::Start,
        start: Offset(0),
        next: Offset(42),
        up_to_date: false,
        closed: false,
        earliest: Offset(0),
        cursor: None,
    }
}

pub(super) fn if_none_match(tag: &'static str) -> IfNoneMatch {
    IfNoneMatch::from_headers(&HeaderMap::from_iter([(http::header::IF_NONE_MATCH, HeaderValue::from_static(tag))]))
}

#[test]
fn creates() {
    let reply = |new, closed| Created { new, tail: Offset(42), closed, content_type: ContentType::parse("text/plain") };
    let location = Some(HeaderValue::from_static("http://h/v1/stream/a"));
    let new = lines(&created(&reply(true, true), location.clone()));
    let headers = ["content-type: text/plain", "location: http://h/v1/stream/a", "stream-closed: true"];
    assert_eq!(new, (201, [&headers.map(String::from)[..], &[format!("stream-next-offset: {AT}")]].concat()));
    let old = lines(&created(&reply(false, false), location));
    assert_eq!(old, (200, vec!["content-type: text/plain".into(), format!("stream-next-offset: {AT}")]));
}

#[test]
fn locations() {
    let locate = |base, scheme, uri: &str, host: Option<&'static str>| {
        let host = host.map(|host| (HOST, HeaderValue::from_static(host)));
        let location = location(base, scheme, &uri.parse().expect("a URI"), &HeaderMap::from_iter(host));
        location.expect("a location").to_str().expect("ASCII").to_owned()
    };
    assert_eq!(locate(None, None, "/v1/stream/a%2Fb?x=y", Some("h:4437")), "http://h:4437/v1/stream/a%2Fb");
    assert_eq!(locate(None, None, "https://h2.example/logs/a", None), "https://h2.example/logs/a");
    assert_eq!(locate(None, None, "/logs/a", None), "/logs/a");
    assert_eq!(locate(None, Some("https"), "/logs/a", Some("h")), "https://h/logs/a");
    assert_eq!(locate(None, Some("https"), "http://h2.example/logs/a", None), "https://h2.example/logs/a");
    assert_eq!(
        locate(Some("https://s.example/base/"), Some("http"), "/logs/a", Some("h")),
        "https://s.example/base/logs/a"
    );
}

#[test]
fn appends() {
    let reply = Appended { tail: Offset(42), closed: false, duplicate: false, producer: None };
    assert_eq!(lines(&appended(&reply, Context::default())), (204, vec![format!("stream-next-offset: {AT}")]));
    let reply = Appended { closed: true, producer: Some((3, 9)), ..reply };
    let headers = ["producer-epoch: 3", "producer-seq: 9", "stream-closed: true"].map(String::from);
    let headers = [&headers[..], &[format!("stream-next-offset: {AT}")]].concat();
    assert_eq!(lines(&appended(&reply, Context::default())), (200, headers.clone()));
    assert_eq!(lines(&appended(&Appended { duplicate: true, ..reply }, Context::default())), (204, headers));
}

#[test]
fn heads() {
    let info = |lifetime, closed| StreamInfo {
        id: StreamId(1),
        content_type: ContentType::parse("text/plain"),
        earliest: Offset(0),
        retention: Retention::default(),
        tail: Offset(42),
        closed,
        lifetime,
        snapshot: None,
        fork: None,
        cold: None,
    };
    let expected = |more: &[&str]| {
        let mut all = vec!["cache-control: no-store".into(), "content-type: text/plain".into()];
        all.extend(more.iter().map(|line| (*line).to_owned()));
        all.push(format!("stream-next-offset: {AT}"));
        all.sort();
        (200, all)
    };
    assert_eq!(lines(&head(&info(Lifetime::Forever, false))), expected(&[]));
    assert_eq!(lines(&head(&info(Lifetime::Ttl(60), true))), expected(&["stream-closed: true", "stream-ttl: 60"]));
    let text = "2030-01-31T13:00:00+01:00";
    let expires = Lifetime::ExpiresAt { text: text.into(), at: Millis(1) };
    assert_eq!(lines(&head(&info(expires, false))), expected(&["stream-expires-at: 2030-01-31T13:00:00+01:00"]));
    let retention = Retention { max_age: Some(60), max_bytes: Some(100), snapshot: true };
    let digest = [7; 32];
    let content_type = ContentType::default();
    let snapshot = SnapshotInfo { at: Offset(9), upload: 1, content_type, bytes: 5, digest };
    let snapshot = Some(Box::new(snapshot));
    let kept = StreamInfo { retention, earliest: Offset(7), snapshot, ..info(Lifetime::Forever, false) };
    let lines_of_kept = [
        "stream-earliest-offset: 0000000000000000_0000000000000007",
        "stream-retention-max-age: 60",
        "stream-retention-max-bytes: 100",
        "stream-retention-snapshot: true",
        "stream-snapshot-offset: 0000000000000000_0000000000000009",
    ];
    assert_eq!(lines(&head(&kept)), expected(&lines_of_kept));
}

#[test]
fn what_was_trimmed_says_where_it_begins() {
    let line = "stream-earliest-offset: 0000000000000001_0000000000000007";
    let at = Offset(Offset::first_of(1).0 + 7);
    assert_eq!(lines(&trimmed(at)), (204, vec![line.into()]));
    let response = page(&PageHead { earliest: at, ..head_of_page() }, &IfNoneMatch::default(), &[]);
    assert!(lines(&response).1.contains(&line.to_owned()));
    let response = page(&PageHead { earliest: at.first(), ..head_of_page() }, &IfNoneMatch::default(), &[]);
    assert!(!response.headers().contains_key("stream-earliest-offset"), "it has all that it ever had");
}

#[test]
fn a_page_in_the_middle() {
    let response = page(&head_of_page(), &IfNoneMatch::default(), &[Bytes::from_static(b"abc")]);
    let expected = [
        "cache-control: public, max-age=60, stale-while-revalidate=300",
        "content-type: text/plain",
        "etag: \"1.2:0:42\"",
        "stream-next-offset: 0000000000000000_0000000000000042",
    ];
    assert_eq!(lines(&response), (200, expected.map(String::from).into()));
    assert_eq!(response.body(), &["abc"]);
}

#[test]
fn the_last_page_of_a_closed_stream() {
    let head = PageHead { up_to_date: true, closed: true, cursor: Some(17), ..head_of_page() };
    let response = page(&head, &IfNoneMatch::default(), &[]);
    let expected = [
        "cache-control: public, max-age=60, stale-while-revalidate=300",
        "content-type: text/plain",
        "etag: \"1.2:0:42:c\"",
        "stream-closed: true",
        "stream-cursor: 17",
        "stream-next-offset: 0000000000000000_0000000000000042",
        "stream-up-to-date: true",
    ];
    assert_eq!(lines(&response), (200, expected.map(String::from).into()));
}

#[test]
fn reads_from_now_are_not_kept() {
    let content_type = ContentType::parse("application/json");
    let head = PageHead { from: ReadFrom::Now, up_to_date: true, content_type, ..head_of_page() };
    let response = page(&head, &if_none_match("*"), &[]);
    let expected = [
        "cache-control: no-store",
        "content-type: application/json",
        "stream-next-offset: 0000000000000000_0000000000000042",
        "stream-up-to-date: true",
    ];
    assert_eq!(lines(&response), (200, expected.map(String::from).into()));
    assert_eq!(response.body(), &["[", "]"]);
}

#[test]
fn what_the_client_has_is_not_sent_again() {
    let stored = [Bytes::from_static(b"abc")];
    let response = page(&head_of_page(), &if_none_match("\"1.2:0:42\""), &stored);
    assert_eq!((response.status().as_u16(), response.body().len()), (304, 0));
    assert_eq!(response.headers()[ETAG], "\"1.2:0:42\"");
    let closed = PageHead { closed: true, ..head_of_page() };
    assert_eq!(page(&closed, &if_none_match("\"1.2:0:42\""), &stored).status().as_u16(), 200);
}

#[test]
fn the_end_of_a_long_poll() {
    let expected = |closed: &[&str]| {
        let mut all = vec!["cache-control: no-store".to_owned()];
        all.extend(closed.iter().map(|line| (*line).to_owned()));
        all.extend(["stream-cursor: 17".into(), format!("stream-next-offset: {AT}"), "stream-up-to-date: true".into()]);
        (204, all)
    };
    assert_eq!(lines(&nothing_new(Offset(42), 17, false)), expected(&[]));
    assert_eq!(lines(&nothing_new(Offset(42), 17, true)), expected(&["stream-closed: true"]));
}

#[test]
fn buckets_and_probes() {
    let logs = BucketName::parse("logs").expect("a bucket name");
    let names = ["a", "b/\"c\""].map(|name| StreamName::parse(name).expect("a stream name"));
    let table = [
        (bucket_created(&logs, Ack::Quorum, true, None), 201, r#"{"bucket":"logs","ack":"quorum"}"#),
        (bucket_created(&logs, Ack::Quorum, false, None), 200, r#"{"bucket":"logs","ack":"quorum"}"#),
        (bucket(&logs, Ack::Offloaded), 200, r#"{"bucket":"logs","ack":"offloaded"}"#),
        (list(&logs, &[], false), 200, r#"{"bucket":"logs","streams":[]}"#),
        (list(&logs, &names, false), 200, r#"{"bucket":"logs","streams":[{"name":"a"},{"name":"b/\"c\""}]}"#),
        (list(&logs, &names[..1], true), 200, r#"{"bucket":"logs","streams":[{"name":"a"}],"next":"a"}"#),
        (health(), 200, r#"{"status":"ok"}"#),
        (ready(true), 200, r#"{"status":"ready"}"#),
        (ready(false), 503, r#"{"status":"starting"}"#),
    ];
    for (response, status, body) in table {
        // When its ops are acknowledged stands in a header too: HEAD has no body.
        let ack = body.split_once(r#""ack":""#).map(|(_, ack)| format!("bucket-ack: {}", ack.trim_end_matches("\"}")));
        let mut expected: Vec<String> = ack.into_iter().collect();
        expected.extend(["cache-control: no-store".into(), "content-type: application/json".into()]);
        assert_eq!(lines(&response), (status, expected));
        assert_eq!(response.body(), body);
    }
    assert_eq!(lines(&deleted()), (204, vec![]));
}

#[test]
fn browsers_may_send_and_see_every_header_of_the_protocol() {
    let response = preflight();
    assert_eq!(response.status().as_u16(), 204);
    let list = |name| -> Vec<&str> { response.headers()[name].to_str().expect("ASCII").split(", ").collect() };
    assert_eq!(list(ACCESS_CONTROL_ALLOW_METHODS), ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]);
    assert_eq!(list(ACCESS_CONTROL_MAX_AGE), ["86400"]);
    let sent = [
        "content-type",
        "authorization",
        "if-none-match",
        "if-match",
        "last-event-id",
        "stream-seq",
        "stream-ttl",
        "stream-expires-at",
        "stream-closed",
        "producer-id",
        "producer-epoch",
        "producer-seq",
        "stream-forked-from",
        "stream-fork-offset",
        "stream-fork-sub-offset",
        "stream-expected-offset",
    ];
    let seen = [
        "stream-next-offset",
        "stream-cursor",
        "stream-up-to-date",
        "stream-closed",
        "producer-epoch",
        "producer-seq",
        "producer-expected-seq",
        "producer-received-seq",
        "etag",
        "content-type",
        "content-encoding",
        "vary",
        "location",
        "stream-sse-data-encoding",
        "stream-earliest-offset",
        "retry-after",
    ];
    let (allowed, exposed) = (list(ACCESS_CONTROL_ALLOW_HEADERS), list(ACCESS_CONTROL_EXPOSE_HEADERS));
    sent.iter().for_each(|name| assert!(allowed.contains(name), "{name}"));
    seen.iter().for_each(|name| assert!(exposed.contains(name), "{name}"));
}
