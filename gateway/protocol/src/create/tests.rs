//! What a PUT may say, and what becomes of it.

use http::{HeaderName, HeaderValue};

use super::*;

fn key() -> StreamKey {
    StreamKey::parse("logs", "a").expect("a valid key")
}

fn parse(pairs: &[(&'static str, &str)]) -> Result<CreateParts, Rejection> {
    let mut headers = HeaderMap::new();
    for (name, text) in pairs {
        headers.append(*name, HeaderValue::from_bytes(text.as_bytes()).expect("a header value"));
    }
    CreateParts::parse(key(), &headers)
}

fn run(pairs: &[(&'static str, &str)], body: &'static str) -> Result<Create, Rejection> {
    let parts = parse(pairs)?;
    let stored = parts.store(Bytes::from_static(body.as_bytes()))?;
    let Op::Create(create) = parts.into_op(stored) else { panic!("a PUT creates") };
    Ok(create)
}

#[test]
fn a_bare_create() {
    let expected = Create {
        key: key(),
        content_type: None,
        lifetime: Lifetime::Forever,
        closed: false,
        body: Bytes::new(),
        fork: None,
        numbered: true,
        retention: Retention::default(),
    };
    assert_eq!(run(&[], ""), Ok(expected));
}

#[test]
fn types_are_kept_or_absent() {
    let types = [
        ("text/plain", Some("text/plain")),
        ("Application/JSON;charset=utf-8", Some("Application/JSON;charset=utf-8")),
        ("application/octet-stream", Some("application/octet-stream")),
        ("", None),
        ("text", None),
        ("/", None),
    ];
    for (text, expected) in types {
        let create = run(&[("content-type", text)], "").expect("valid");
        assert_eq!(create.content_type.as_ref().map(ContentType::as_str), expected, "{text}");
    }
    let long = format!("text/{}", "x".repeat(252));
    assert!(parse(&[("content-type", &long)]).is_err());
    assert!(parse(&[("content-type", &long[..256])]).is_ok());
}

#[test]
fn first_content_is_stored_by_type() {
    let json = ("content-type", "application/json");
    assert_eq!(run(&[json], "[]").expect("valid").body, "");
    assert_eq!(run(&[json], "[1,[2]]").expect("valid").body, "1,[2],");
    assert!(matches!(run(&[json], "nope"), Err(Rejection::InvalidJson(_))));
    assert_eq!(run(&[], "[1]").expect("valid").body, "[1]");
    assert!(run(&[("stream-closed", "True")], "x").expect("valid").closed);
    assert!(!run(&[("stream-closed", "1")], "x").expect("valid").closed);
}

#[test]
fn ttl_grammar() {
    let lifetime = |text| parse(&[("stream-ttl", text)]).map(|parts| parts.lifetime);
    let max = TTL_SECONDS_MAX.to_string();
    for (text, seconds) in [("0", 0), ("1", 1), ("3600", 3600), (&max, TTL_SECONDS_MAX)] {
        assert_eq!(lifetime(text), Ok(Lifetime::Ttl(seconds)), "{text}");
    }
    let over = (TTL_SECONDS_MAX + 1).to_string();
    for text in ["", "abc", "-1", "+60", "60.5", "1e3", "00060", "00", &over, "99999999999999999999"] {
        assert!(lifetime(text).is_err(), "{text}");
    }
}

#[test]
fn retention_grammar() {
    let retention = |name, text| parse(&[(name, text)]).map(|parts| parts.retention);
    let most = TTL_SECONDS_MAX.to_string();
    let (age, bytes) = ("stream-retention-max-age", "stream-retention-max-bytes");
    for (text, limit) in [("1", 1), ("86400", 86_400), (&most, TTL_SECONDS_MAX)] {
        assert_eq!(retention(age, text), Ok(Retention { max_age: Some(limit), ..Retention::default() }), "{text}");
        assert_eq!(retention(bytes, text), Ok(Retention { max_bytes: Some(limit), ..Retention::default() }), "{text}");
    }
    let (long, large) = ((TTL_SECONDS_MAX + 1).to_string(), (RETENTION_BYTES_MAX + 1).to_string());
    for text in ["", "0", "abc", "-1", "+60", "60.5", "1e3", "00060", "99999999999999999999"] {
        assert!(retention(age, text).is_err() && retention(bytes, text).is_err(), "{text}");
    }
    assert!(retention(age, &long).is_err() && retention(bytes, &large).is_err());
    assert!(parse(&[(age, "1"), (age, "1")]).is_err());
    let both = parse(&[(age, "5"), (bytes, "6")]).map(|parts| parts.retention);
    assert_eq!(both, Ok(Retention { max_age: Some(5), max_bytes: Some(6), snapshot: false }));
    let at_snapshot = |text| parse(&[("stream-retention-snapshot", text)]).map(|parts| parts.retention.snapshot);
    assert_eq!((at_snapshot("true"), at_snapshot("True")), (Ok(true), Ok(true)));
    for text in ["", "false", "1", "true, true"] {
        assert!(at_snapshot(text).is_err(), "{text}");
    }
}

#[test]
fn expires_at_grammar() {
    let lifetime = |text| parse(&[("stream-expires-at", text)]).map(|parts| parts.lifetime);
    let good = [
        ("2030-01-31T12:00:00Z", 1_896_091_200_000),
        ("2030-01-31T12:00:00.500Z", 1_896_091_200_500),
        ("2030-01-31T13:00:00+01:00", 1_896_091_200_000),
        ("2030-01-31T12:00:00.123456789-00:00", 1_896_091_200_123),
        ("1960-01-01T00:00:00Z", 0),
    ];
    for (text, at) in good {
        assert_eq!(lifetime(text), Ok(Lifetime::ExpiresAt { text: text.into(), at: Millis(at) }), "{text}");
    }
    let long = format!("2030-01-31T12:00:00.{}Z", "0".repeat(50));
    for text in
        ["", "not-a-timestamp", "2030-01-31", "2030-01-31T12:00:00", "2030-02-31T12:00:00Z", "1896091200", &long]
    {
        assert!(lifetime(text).is_err(), "{text}");
    }
    assert!(parse(&[("stream-ttl", "1"), ("stream-expires-at", good[0].0)]).is_err());
}

#[test]
fn fork_sources_are_paths_or_urls() {
    let source =
        |text| parse(&[("stream-forked-from", text)]).map(|parts| parts.fork.map(|fork| fork.source.to_string()));
    let good = [
        ("/v1/stream/a", "default/a"),
        ("/v1/stream/a%2Fb", "default/a/b"),
        ("/logs/a/b", "logs/a/b"),
        ("http://127.0.0.1:4437/v1/stream/a", "default/a"),
        ("https://example.org/logs/a?offset=-1", "logs/a"),
    ];
    for (text, key) in good {
        assert_eq!(source(text), Ok(Some(key.to_owned())), "{text}");
    }
    let bad = [
        "",
        "/",
        "a",
        "v1/stream/a",
        "/logs",
        "/health",
        "/logs/a%zz",
        "/logs/__ds/x",
        "http://example.org",
        "/logs/a b",
        "\u{e4}",
    ];
    for text in bad {
        let refused = source(text).expect_err(text);
        assert!(matches!(refused, Rejection::InvalidHeader { name, .. } if name == STREAM_FORKED_FROM), "{text}");
    }
}

#[test]
fn fork_offsets() {
    const FROM: (&str, &str) = ("stream-forked-from", "/v1/stream/a");
    const ZERO: (&str, &str) = ("stream-fork-offset", "0000000000000000_0000000000000000");
    let fork = |pairs: &[_]| parse(pairs).map(|parts| parts.fork.map(|fork| (fork.offset, fork.sub_offset)));
    assert_eq!(fork(&[FROM]), Ok(Some((None, 0))));
    assert_eq!(fork(&[FROM, ZERO, ("stream-fork-sub-offset", "3")]), Ok(Some((Some(Offset::ZERO), 3))));
    for bad in ["", "-1", "now", "9999999999999999_9999999999999999", "0"] {
        assert!(fork(&[FROM, ("stream-fork-offset", bad)]).is_err(), "{bad}");
    }
    for bad in ["", "-1", "abc", "1.5", "05", "+1", "99999999999999999999"] {
        assert!(fork(&[FROM, ZERO, ("stream-fork-sub-offset", bad)]).is_err(), "{bad}");
    }
    for alone in [ZERO, ("stream-fork-sub-offset", "0")] {
        let refused = fork(&[alone]).expect_err("no source");
        assert!(matches!(refused, Rejection::InvalidHeader { name, .. } if name == alone.0));
    }
}

#[test]
fn a_fork_with_content_and_no_type_asks_its_source() {
    const FROM: (&str, &str) = ("stream-forked-from", "/v1/stream/src");
    let body = Bytes::from_static(b"[1, 2]");
    let mut parts = parse(&[FROM, ("content-type", "nonsense")]).expect("valid");
    assert_eq!(parts.needs_source_type(&Bytes::new()), None);
    assert_eq!(parts.needs_source_type(&body).map(ToString::to_string).as_deref(), Some("default/src"));
    parts.set_content_type(ContentType::parse("application/json"));
    assert_eq!(parts.needs_source_type(&body), None);
    assert_eq!(parts.store(body.clone()).expect("valid").into_bytes(), "1,2,");

    assert_eq!(parse(&[]).expect("valid").needs_source_type(&body), None);
    let typed = parse(&[FROM, ("content-type", "text/plain")]).expect("valid");
    assert_eq!(typed.needs_source_type(&body), None);
}

#[test]
fn headers_come_once() {
    let names = [
        "content-type",
        "content-length",
        "stream-ttl",
        "stream-expires-at",
        "stream-closed",
        "stream-forked-from",
        "stream-fork-offset",
        "stream-fork-sub-offset",
    ];
    for name in names {
        let refused = parse(&[(name, "1"), (name, "1")]).expect_err(name);
        assert_eq!(refused, Rejection::RepeatedHeader(HeaderName::from_static(name)));
    }
}
