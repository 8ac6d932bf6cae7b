//! What a POST may say, and what becomes of it.

use http::HeaderValue;
use ursula_common::limits::APPEND_BYTES_MAX;

use super::*;

const OFFSET: &str = "0000000000000000_0000000000000042";

fn key() -> StreamKey {
    StreamKey::parse("logs", "a").expect("a valid key")
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).expect("a header value");
    let mut headers = HeaderMap::new();
    pairs.iter().for_each(|(name, text)| _ = headers.append(*name, value(text)));
    headers
}

fn parse(pairs: &[(&'static str, &str)]) -> Result<AppendParts, Rejection> {
    AppendParts::parse(key(), &headers(pairs))
}

fn run(pairs: &[(&'static str, &str)], body: &'static str) -> Result<(Append, Context), Rejection> {
    let parts = parse(pairs)?;
    let stored = parts.store(Bytes::from_static(body.as_bytes()))?;
    let AppendOp { op: Op::Append(append), context } = parts.into_op(stored) else { panic!("a POST appends") };
    Ok((append, context))
}

const TEXT: (&str, &str) = ("content-type", "text/plain");

#[test]
fn a_plain_append() {
    let (append, context) = run(&[TEXT], "bytes").expect("valid");
    let expected = Append {
        key: key(),
        content_type: Some(ContentType::parse("text/plain")),
        body: "bytes".into(),
        close: false,
        producer: None,
        stream_seq: None,
        expected_offset: None,
    };
    assert_eq!(append, expected);
    assert_eq!(context, Context { if_match: false, close_only: false, repeatable: true });
}

#[test]
fn everything_at_once() {
    let pairs = [
        TEXT,
        ("stream-closed", "TRUE"),
        ("producer-id", "p"),
        ("producer-epoch", "007"),
        ("producer-seq", "9007199254740991"),
        ("stream-seq", "a1"),
        ("if-match", &format!("\"{OFFSET}\"")),
    ];
    let (append, context) = run(&pairs, "bytes").expect("valid");
    assert!(append.close);
    assert_eq!(append.producer, Some(Producer { id: "p".into(), epoch: 7, seq: PRODUCER_NUMBER_MAX }));
    assert_eq!(append.stream_seq.as_deref(), Some("a1"));
    assert_eq!(append.expected_offset, Some(Offset(42)));
    assert_eq!(context, Context { if_match: true, close_only: false, repeatable: false });
}

#[test]
fn close_only_has_no_type() {
    let (append, context) = run(&[TEXT, ("stream-closed", "true")], "").expect("valid");
    assert_eq!((append.close, append.content_type, append.body.len()), (true, None, 0));
    assert_eq!(context, Context { if_match: false, close_only: true, repeatable: false });
}

#[test]
fn what_makes_an_append_safe_to_repeat() {
    let guards: [&[(&str, &str)]; 5] = [
        &[("stream-closed", "true")],
        &[("producer-id", "p"), ("producer-epoch", "0"), ("producer-seq", "0")],
        &[("stream-seq", "1")],
        &[("if-match", &format!("\"{OFFSET}\""))],
        &[("stream-expected-offset", OFFSET)],
    ];
    for guard in guards {
        let pairs = [&[TEXT], guard].concat();
        assert!(!run(&pairs, "bytes").expect("valid").1.repeatable, "{guard:?}");
    }
    assert!(run(&[TEXT, ("stream-closed", "yes")], "bytes").expect("valid").1.repeatable);
}

#[test]
fn expected_offset_and_its_twin() {
    let (append, context) = run(&[TEXT, ("stream-expected-offset", OFFSET)], "x").expect("valid");
    assert_eq!((append.expected_offset, context.if_match), (Some(Offset(42)), false));
    let quoted = format!("\"{OFFSET}\"");
    let weak = format!("W/{quoted}");
    for bad in [OFFSET, "*", "\"", "\"\"", "\"-1\"", "\"now\"", &weak] {
        let refused = parse(&[("if-match", bad)]).expect_err(bad);
        assert!(matches!(refused, Rejection::InvalidHeader { name, .. } if name == IF_MATCH), "{bad}");
    }
    for bad in ["", "-1", "now", &quoted, "42"] {
        let refused = parse(&[("stream-expected-offset", bad)]).expect_err(bad);
        assert!(matches!(refused, Rejection::InvalidHeader { name, .. } if name == STREAM_EXPECTED_OFFSET), "{bad}");
    }
    assert!(parse(&[("if-match", &quoted), ("stream-expected-offset", OFFSET)]).is_err());
}

#[test]
fn producers_come_whole_or_not_at_all() {
    let whole = [("producer-id", "p"), ("producer-epoch", "0"), ("producer-seq", "0")];
    assert!(parse(&whole).is_ok());
    for mask in 1..7usize {
        let part: Vec<_> = whole.iter().enumerate().filter(|(at, _)| mask & 1 << at != 0).map(|(_, h)| *h).collect();
        assert!(parse(&part).is_err(), "{part:?}");
    }
    let long = "p".repeat(257);
    assert!(parse(&[("producer-id", &long[1..]), whole[1], whole[2]]).is_ok());
    for id in ["", &long, "\u{e4}"] {
        assert!(parse(&[("producer-id", id), whole[1], whole[2]]).is_err(), "{id}");
    }
    for number in ["", "-1", "+1", "1.0", "1e3", " 1", "0x1", "9007199254740992", "99999999999999999999", "\u{663}"] {
        let epoch = parse(&[whole[0], ("producer-epoch", number), whole[2]]).expect_err(number);
        assert!(matches!(epoch, Rejection::InvalidHeader { name, .. } if name == PRODUCER_EPOCH), "{number}");
        let seq = parse(&[whole[0], whole[1], ("producer-seq", number)]).expect_err(number);
        assert!(matches!(seq, Rejection::InvalidHeader { name, .. } if name == PRODUCER_SEQ), "{number}");
    }
}

#[test]
fn errors_of_producers_come_first() {
    let pairs = [("producer-id", "p"), ("content-length", "999999999"), ("stream-seq", "")];
    assert!(matches!(parse(&pairs), Err(Rejection::InvalidHeader { name, .. }) if name == PRODUCER_ID));
}

#[test]
fn stream_seq_is_short_text() {
    let long = "s".repeat(257);
    assert!(parse(&[("stream-seq", &long[1..])]).is_ok());
    for bad in ["", &long, "\u{e4}"] {
        assert!(parse(&[("stream-seq", bad)]).is_err(), "{bad}");
    }
}

#[test]
fn headers_come_once() {
    let names = [
        "content-type",
        "content-length",
        "if-match",
        "producer-id",
        "producer-epoch",
        "producer-seq",
        "stream-closed",
        "stream-expected-offset",
        "stream-seq",
    ];
    for name in names {
        let refused = parse(&[(name, "1"), (name, "1")]).expect_err(name);
        assert_eq!(refused, Rejection::RepeatedHeader(HeaderName::from_static(name)));
    }
}

#[test]
fn bodies_and_their_types() {
    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
    assert_eq!(run(&[TEXT], ""), Err(Rejection::EmptyBody));
    assert_eq!(run(&[], ""), Err(Rejection::EmptyBody));
    assert_eq!(run(&[("stream-closed", "false")], ""), Err(Rejection::EmptyBody));
    assert_eq!(run(&[], "x"), Err(Rejection::MissingContentType));
    assert_eq!(run(&[("content-type", "")], "x"), Err(Rejection::MissingContentType));
    assert_eq!(run(&[("content-type", "text")], "x"), Err(Rejection::MissingContentType));
    assert_eq!(run(&[JSON], "[ ]"), Err(Rejection::EmptyArray));
    assert!(matches!(run(&[JSON], "{"), Err(Rejection::InvalidJson(_))));
    assert_eq!(run(&[JSON], "[1, 2]").expect("valid").0.body, "1,2,");
    assert_eq!(run(&[TEXT], "[1, 2]").expect("valid").0.body, "[1, 2]");
}

#[test]
fn large_bodies_are_refused_before_and_after_they_come() {
    let length = |length: usize| parse(&[("content-length", &length.to_string())]);
    assert!(length(APPEND_BYTES_MAX).is_ok());
    assert_eq!(length(APPEND_BYTES_MAX + 1), Err(Rejection::BodyTooLarge));
    assert_eq!(parse(&[("content-length", "99999999999999999999999")]), Err(Rejection::BodyTooLarge));
    let parts = parse(&[TEXT]).expect("valid");
    assert!(parts.store(vec![0; APPEND_BYTES_MAX].into()).is_ok());
    assert_eq!(parts.store(vec![0; APPEND_BYTES_MAX + 1].into()), Err(Rejection::BodyTooLarge));
}
