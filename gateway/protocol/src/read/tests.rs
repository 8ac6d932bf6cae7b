//! What a GET may say.

use http::HeaderValue;
use ursula_common::Offset;

use super::*;

const OFFSET: &str = "0000000000000000_0000000000000042";
const AT: ReadFrom = ReadFrom::At(Offset(42));

fn parse(query: &str, headers: &HeaderMap) -> Result<ReadParts, Rejection> {
    let key = StreamKey::parse("logs", "a").expect("a valid key");
    ReadParts::parse(key, Some(query), headers)
}

#[test]
fn where_and_how() {
    let table = [
        ("", ReadFrom::Start, Live::No, None),
        ("offset=-1", ReadFrom::Start, Live::No, None),
        ("offset=now", ReadFrom::Now, Live::No, None),
        ("offset=0000000000000000_0000000000000042", AT, Live::No, None),
        ("offset=0000000000000000%5F0000000000000042", AT, Live::No, None),
        ("%6Fffset=now", ReadFrom::Now, Live::No, None),
        ("foo=bar&&offset=now&baz", ReadFrom::Now, Live::No, None),
        ("offset=-1&live=long-poll&cursor=17", ReadFrom::Start, Live::LongPoll, Some(17)),
        ("cursor=x&live=sse&offset=now", ReadFrom::Now, Live::Sse, None),
        ("offset=-1&live=true", ReadFrom::Start, Live::No, None),
        ("live=maybe", ReadFrom::Start, Live::No, None),
    ];
    for (query, from, live, cursor) in table {
        let parts = parse(query, &HeaderMap::new()).expect(query);
        assert_eq!((parts.from, parts.live, parts.cursor), (from, live, cursor), "{query}");
    }
}

#[test]
fn offsets_that_are_none() {
    let bad = [
        "offset",
        "offset=",
        "offset=a&offset=b",
        "offset=-1&offset=-1",
        "offset=0,1",
        "offset=0 1",
        "offset=0+1",
        "offset=-1%00",
        "offset=-1%0A",
        "offset=now%0D%0A",
        "offset=..%2F",
        "offset=NOW",
        "offset=-2",
        "offset=%",
        "offset=%FF",
        "offset=9999999999999999_9999999999999999",
        "offset=%2B0000000000000000_000000000000042",
    ];
    for query in bad {
        let refused = parse(query, &HeaderMap::new()).expect_err(query);
        assert!(matches!(refused, Rejection::InvalidQuery { name: "offset", .. }), "{query}");
    }
    for query in ["live=sse", "live=long-poll", "cursor=1&live=sse"] {
        let refused = parse(query, &HeaderMap::new()).expect_err(query);
        assert!(matches!(refused, Rejection::InvalidQuery { name: "live", .. }), "{query}");
    }
}

#[test]
fn a_browser_that_reconnects_goes_on_where_it_was() {
    let mut headers = HeaderMap::new();
    headers.insert(LAST_EVENT_ID, HeaderValue::from_static(OFFSET));
    assert_eq!(parse("offset=-1&live=sse", &headers).expect("valid").from, AT);
    assert_eq!(parse("offset=-1&live=long-poll", &headers).expect("valid").from, ReadFrom::Start);
    assert_eq!(parse("offset=-1", &headers).expect("valid").from, ReadFrom::Start);
    headers.insert(LAST_EVENT_ID, HeaderValue::from_static(""));
    assert_eq!(parse("offset=now&live=sse", &headers).expect("valid").from, ReadFrom::Now);
    headers.insert(LAST_EVENT_ID, HeaderValue::from_static("17"));
    assert!(parse("offset=-1&live=sse", &headers).is_err());
}
