//! Methods and routes, listings, and that nothing a client sends can panic.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use ursula_common::Offset;
use ursula_common::verb::ReadFrom;

use super::*;
use crate::Live;

fn ask(method: &str, uri: &str) -> Result<Request, Rejection> {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    parse(&method, &uri.parse().expect("a URI"), &HeaderMap::new())
}

fn bucket() -> BucketName {
    BucketName::parse("logs").expect("a bucket name")
}

fn key() -> StreamKey {
    StreamKey::parse("logs", "a").expect("a valid key")
}

#[test]
fn methods_on_routes() {
    let table = [
        ("GET", "/health", Request::Health),
        ("HEAD", "/health", Request::Health),
        ("GET", "/ready?x", Request::Ready),
        ("PUT", "/logs", Request::CreateBucket(bucket(), Ack::Quorum)),
        ("GET", "/logs", Request::DescribeBucket(bucket())),
        ("HEAD", "/logs?list", Request::DescribeBucket(bucket())),
        ("DELETE", "/logs", Request::DeleteBucket(bucket())),
        ("HEAD", "/logs/a", Request::Head(key())),
        ("DELETE", "/logs/a", Request::Delete(key())),
        ("OPTIONS", "/", Request::Preflight),
        ("OPTIONS", "*", Request::Preflight),
        ("OPTIONS", "/logs/%zz", Request::Preflight),
        ("OPTIONS", "/v1/stream/__ds/x", Request::Preflight),
    ];
    for (method, uri, expected) in table {
        assert_eq!(ask(method, uri), Ok(expected), "{method} {uri}");
    }
    assert!(matches!(ask("PUT", "/logs/a"), Ok(Request::Create(parts)) if parts.key == key()));
    assert!(matches!(ask("POST", "/logs/a"), Ok(Request::Append(parts)) if parts.key == key()));
    let at: Offset = "0000000000000000_0000000000000042".parse().expect("an offset");
    let snapshot = format!("/logs/a/snapshot/{at}");
    assert!(
        matches!(ask("PUT", &snapshot), Ok(Request::PublishSnapshot(parts)) if parts.key == key() && parts.at == at)
    );
    assert!(matches!(ask("DELETE", &snapshot), Ok(Request::RemoveSnapshot(remove)) if remove.key == key()));
    let read = |at| SnapshotParts { key: key(), at, if_none_match: Default::default() };
    assert_eq!(ask("GET", &snapshot), Ok(Request::ReadSnapshot(read(Some(at)))));
    assert_eq!(ask("HEAD", &snapshot), Ok(Request::HeadSnapshot(read(Some(at)))));
    assert_eq!(ask("GET", "/logs/a/snapshot"), Ok(Request::ReadSnapshot(read(None))));
    assert_eq!(ask("HEAD", "/logs/a/snapshot"), Ok(Request::HeadSnapshot(read(None))));
    assert_eq!(ask("GET", "/logs/a/bootstrap"), Ok(Request::Bootstrap(key())));
    let Ok(Request::Read(read)) = ask("GET", "/logs/a?live=sse&offset=now") else { panic!("a read") };
    assert_eq!((read.key, read.from, read.live), (key(), ReadFrom::Now, Live::Sse));
}

#[test]
fn methods_that_a_route_does_not_take() {
    let table = [
        ("POST", "/health", ALLOW_PROBE),
        ("DELETE", "/ready", ALLOW_PROBE),
        ("POST", "/logs", ALLOW_BUCKET),
        ("PATCH", "/logs", ALLOW_BUCKET),
        ("PATCH", "/logs/a", ALLOW_STREAM),
        ("get", "/logs/a", ALLOW_STREAM),
        ("TRACE", "/v1/stream/a", ALLOW_STREAM),
        ("POST", "/logs/a/snapshot/0000000000000000_0000000000000042", ALLOW_SNAPSHOT),
        ("POST", "/logs/a/snapshot", ALLOW_NEWEST),
        ("DELETE", "/logs/a/snapshot", ALLOW_NEWEST),
        ("POST", "/logs/a/bootstrap", ALLOW_NEWEST),
    ];
    for (method, uri, allow) in table {
        assert_eq!(ask(method, uri), Err(Rejection::Method { allow }), "{method} {uri}");
    }
    assert_eq!(ask("GET", "/"), Err(Rejection::NotFound));
    for path in ["/logs/a/snapshot", "/logs/a/snapshot/x", "/logs/a/bootstrap"] {
        assert_eq!(ask("PUT", path), Err(Rejection::SnapshotPath), "{path}");
    }
}

#[test]
fn a_bucket_says_when_its_ops_are_acknowledged() {
    let put = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("bucket-ack", http::HeaderValue::from_static(value));
        }
        parse(&Method::PUT, &Uri::from_static("/logs"), &headers)
    };
    for (values, ack) in [(&[][..], Ack::Quorum), (&["quorum"], Ack::Quorum), (&["offloaded"], Ack::Offloaded)] {
        assert_eq!(put(values), Ok(Request::CreateBucket(bucket(), ack)), "{values:?}");
    }
    for values in [&[""][..], &["Offloaded"], &["all"]] {
        let refused = put(values).expect_err("no ack");
        assert!(matches!(&refused, Rejection::InvalidHeader { name, .. } if name == "bucket-ack"), "{values:?}");
    }
    assert!(matches!(put(&["quorum", "quorum"]), Err(Rejection::RepeatedHeader(_))));
}

#[test]
fn listings() {
    let list = |prefix: &str, after: Option<&str>, limit| {
        Request::List(ListParts { bucket: bucket(), prefix: prefix.into(), after: after.map(Into::into), limit })
    };
    let table = [
        ("list", list("", None, LIST_ITEMS_MAX)),
        ("list=", list("", None, LIST_ITEMS_MAX)),
        ("list&prefix=a%2Fb+c&after=%C3%A4&limit=10&x=y", list("a/b c", Some("\u{e4}"), 10)),
        ("limit=1&list", list("", None, 1)),
        ("list&limit=1001", list("", None, LIST_ITEMS_MAX)),
        ("list&limit=18446744073709551615", list("", None, LIST_ITEMS_MAX)),
        ("prefix=a", Request::DescribeBucket(bucket())),
    ];
    for (query, expected) in table {
        assert_eq!(ask("GET", &format!("/logs?{query}")), Ok(expected), "{query}");
    }
    for limit in ["", "0", "-1", "x", "1.0", "99999999999999999999"] {
        let refused = ask("GET", &format!("/logs?list&limit={limit}")).expect_err(limit);
        assert!(matches!(refused, Rejection::InvalidQuery { name: "limit", .. }), "{limit}");
    }
}

/// Every header that any verb reads.
const KNOWN: [&str; 21] = [
    "content-digest",
    "content-length",
    "content-range",
    "content-type",
    "if-match",
    "if-none-match",
    "last-event-id",
    "producer-epoch",
    "producer-id",
    "producer-seq",
    "repr-digest",
    "stream-closed",
    "stream-expected-offset",
    "stream-expires-at",
    "stream-fork-offset",
    "stream-fork-sub-offset",
    "stream-forked-from",
    "stream-retention-snapshot",
    "stream-seq",
    "stream-ttl",
    "host",
];

fn any_headers() -> impl Strategy<Value = HeaderMap> {
    let likely = prop_oneof![
        Just("0"),
        Just("true"),
        Just("application/json"),
        Just("0000000000000000_0000000000000001"),
        Just("/logs/a"),
        Just("\"0000000000000000_0000000000000001\""),
        Just("2030-01-31T12:00:00Z"),
    ];
    let value =
        prop_oneof![likely.prop_map(|text| text.as_bytes().to_vec()), prop::collection::vec(any::<u8>(), 0..40)];
    prop::collection::vec((prop::sample::select(&KNOWN[..]), value), 0..8).prop_map(|pairs| {
        let valid = |bytes: Vec<u8>| HeaderValue::from_bytes(&bytes).ok();
        let name = HeaderName::from_static;
        let pairs = pairs.into_iter().filter_map(|(known, bytes)| Some((name(known), valid(bytes)?)));
        let mut headers = HeaderMap::new();
        pairs.for_each(|(name, value)| _ = headers.append(name, value));
        headers
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_panics(
        method in prop::sample::select(&["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"][..]),
        path in prop_oneof![
            Just(b"logs/a".to_vec()),
            Just(b"logs/a/snapshot/0000000000000000_0000000000000001".to_vec()),
            prop::collection::vec(any::<u8>(), 0..30),
        ],
        query in prop::collection::vec(any::<u8>(), 0..30),
        headers in any_headers(),
        body in prop::collection::vec(any::<u8>(), 0..30),
    ) {
        let text = [b"/", path.as_slice(), b"?offset=", query.as_slice()].concat();
        let Ok(uri) = Uri::try_from(text) else { return Ok(()) };
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        match parse(&method, &uri, &headers) {
            Ok(Request::Append(parts)) => _ = parts.store(Bytes::from(body)).map(|stored| parts.into_op(stored)),
            Ok(Request::Create(parts)) => _ = parts.store(Bytes::from(body)).map(|stored| parts.into_op(stored)),
            Ok(Request::PublishSnapshot(parts)) => _ = parts.into_op(1, body.len() as u64, [0; 32]),
            Ok(_) => {}
            Err(rejection) => prop_assert!(crate::rejection(&rejection).status().is_client_error()
                || rejection == Rejection::Name(ursula_common::name::InvalidName::ReservedStream)),
        }
        _ = crate::respond::location(None, None, &uri, &headers);
    }
}

#[test]
fn a_delete_with_an_offset_trims() {
    let parse = |query: &str| {
        let uri = format!("/logs/a{query}").parse().expect("a path");
        super::parse(&Method::DELETE, &uri, &HeaderMap::new())
    };
    let at = Offset(Offset::first_of(3).0 + 12);
    let trim = Request::Trim(Trim { key: key(), to: at, cut: None });
    assert_eq!(parse("?before=0000000000000003_0000000000000012"), Ok(trim.clone()));
    assert_eq!(parse("?x=1&before=0000000000000003%5F0000000000000012"), Ok(trim));
    assert_eq!(parse("?x=1"), Ok(Request::Delete(key())));
    let offset = "0000000000000003_0000000000000012";
    let twice = format!("?before={offset}&before={offset}");
    // Never a delete: whoever says `before` does not mean the whole stream.
    for wrong in ["?before", "?before=", "?before=-1", "?before=now", "?before=12", &twice] {
        assert!(matches!(parse(wrong), Err(Rejection::InvalidQuery { name: "before", .. })), "{wrong}");
    }
}
