//! Reads: offsets, live modes, cursors and `Last-Event-ID`; and listings.

use crate::row::{NO_CODE, Request, Row, ask, row};
use crate::world::{BUCKET, CLOSED, ELSEWHERE, EXPIRED, GONE, MISSING, MISSING_BUCKET, TEXT, TEXT_BYTES, offset};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(OFFSETS.map(|(what, text)| row(what, read(&format!("offset={text}")), 400, "invalid_query")));
    rows.extend(REPEATED.map(|query| row(format!("repeated: {query}"), read(query), 400, "invalid_query")));
    rows.extend(LIVE.map(|(what, query)| row(what, read(query), 400, "invalid_query")));
    rows.extend(
        IGNORED.map(|(what, path, query, status)| row(what, ask("GET", format!("{path}?{query}")), status, NO_CODE)),
    );
    rows.extend(LAST_EVENT_IDS.map(|(what, line)| row(what, events().with(line), 400, "invalid_header")));
    rows.extend(
        LISTINGS.map(|(what, query)| row(what, ask("GET", format!("{BUCKET}?list&{query}")), 400, "invalid_query")),
    );
    rows.extend(NOT_THERE.map(|(what, method, path, status, code)| row(what, ask(method, path), status, code)));
    rows.extend([
        row("Last-Event-ID twice", events().with("Last-Event-ID: 0").with("Last-Event-ID: 0"), 400, "repeated_header"),
        row("Last-Event-ID in Latin-1", events().with(b"Last-Event-ID: \xe9"), 400, "invalid_header"),
        row(
            "an offset beyond the tail is read as the tail",
            read(&format!("offset={}", offset(TEXT_BYTES + 1))),
            200,
            NO_CODE,
        )
        .telling("stream-next-offset", offset(TEXT_BYTES)),
        row("an offset of another stream", read(&format!("offset={ELSEWHERE}")), 410, "offset_gone")
            .telling("stream-earliest-offset", offset(0)),
        row(
            "Last-Event-ID of another stream",
            events().with(format!("Last-Event-ID: {ELSEWHERE}")),
            410,
            "offset_gone",
        ),
        row(
            "a long poll on a stream that is not there",
            ask("GET", format!("{MISSING}?offset=-1&live=long-poll")),
            404,
            "stream_not_found",
        ),
        row(
            "events of a stream that is not there",
            ask("GET", format!("{MISSING}?offset=-1&live=sse")),
            404,
            "stream_not_found",
        ),
        row("events of a stream that is gone", ask("GET", format!("{GONE}?offset=-1&live=sse")), 410, "stream_gone"),
        row(
            "a bad offset is told before a missing stream",
            ask("GET", format!("{MISSING}?offset=bad")),
            400,
            "invalid_query",
        ),
    ]);
    rows
}

fn read(query: &str) -> Request {
    ask("GET", format!("{TEXT}?{query}"))
}

fn events() -> Request {
    read("offset=-1&live=sse")
}

const OFFSETS: [(&str, &str); 20] = [
    ("no offset", ""),
    ("an offset of one digit", "0"),
    ("an offset below -1", "-2"),
    ("NOW in capitals", "NOW"),
    ("a word", "latest"),
    ("an offset that is too short", "0000000000000000_000000000000000"),
    ("an offset that is too long", "0000000000000000_00000000000000000"),
    ("an offset without its middle", "000000000000000000000000000000000"),
    ("an offset with another middle", "0000000000000000-0000000000000000"),
    ("an offset with a number too large", "0000000000001844_0000000000000000"),
    ("a hexadecimal offset", "0000000000000000_000000000000000a"),
    ("a negative offset", "0000000000000000_-000000000000001"),
    ("an offset with a plus, which is a space", "0000000000000000_+000000000000001"),
    ("an offset with spaces around", "%200000000000000000_0000000000000000%20"),
    ("two offsets with a comma", "-1,-1"),
    ("an offset with a slash", "../0000000000000000_0000000000000000"),
    ("an offset with a NUL", "-1%00"),
    ("an offset with carriage return and line feed", "-1%0D%0A"),
    (
        "an offset in digits beyond ASCII",
        "%D9%A0%D9%A0%D9%A0%D9%A0%D9%A0%D9%A0%D9%A0%D9%A0_%D9%A0%D9%A0%D9%A0%D9%A0%D9%A0%D9%A0%D9%A0%D9%A0",
    ),
    ("an offset that cannot be decoded", "%FF%"),
];

const REPEATED: [&str; 3] = ["offset=-1&offset=-1", "offset=now&offset=-1", "offset=-1&live=sse&offset=-1"];

const LIVE: [(&str, &str); 4] = [
    ("a long poll without an offset", "live=long-poll"),
    ("events without an offset", "live=sse"),
    ("a long poll with an empty offset", "live=long-poll&offset="),
    ("events with a bad offset", "live=sse&offset=0"),
];

/// What does not make sense, but does no harm either; the reference server ignores it too.
const IGNORED: [(&str, &str, &str, u16); 8] = [
    ("an unknown live mode", TEXT, "offset=-1&live=websocket", 200),
    ("an empty live mode", TEXT, "offset=-1&live=", 200),
    ("a live mode in capitals", TEXT, "offset=-1&live=SSE", 200),
    ("an unknown parameter", TEXT, "offset=-1&limit=x&%FF", 200),
    ("a cursor that is no number", CLOSED, "offset=now&live=long-poll&cursor=x", 204),
    ("a negative cursor", CLOSED, "offset=now&live=long-poll&cursor=-1", 204),
    ("an empty cursor", CLOSED, "offset=now&live=long-poll&cursor=", 204),
    ("a cursor beyond all numbers", CLOSED, "offset=now&live=long-poll&cursor=99999999999999999999999999", 204),
];

const LAST_EVENT_IDS: [(&str, &str); 4] = [
    ("Last-Event-ID: a word", "Last-Event-ID: latest"),
    ("Last-Event-ID: -1", "Last-Event-ID: -1"),
    ("Last-Event-ID: a number", "Last-Event-ID: 42"),
    ("Last-Event-ID: a number too large", "Last-Event-ID: 0000000000001844_0000000000000000"),
];

const LISTINGS: [(&str, &str); 11] = [
    ("a limit of 0", "limit=0"),
    ("a limit of 00", "limit=00"),
    ("a negative limit", "limit=-1"),
    ("a limit with a sign", "limit=%2B1"),
    ("an empty limit", "limit="),
    ("a limit that is no number", "limit=all"),
    ("a limit with a fraction", "limit=1.5"),
    ("a limit beyond all numbers", "limit=99999999999999999999999999"),
    // Read as some other text, it would skip names or hide them.
    ("a prefix that is not UTF-8", "prefix=%FF"),
    ("a place to go on from that is not UTF-8", "after=held%FF"),
    ("a place to go on from with half an encoding", "after=held%2"),
];

const NOT_THERE: [(&str, &str, &str, u16, &str); 16] = [
    ("GET what is not there", "GET", MISSING, 404, "stream_not_found"),
    ("HEAD what is not there", "HEAD", MISSING, 404, "stream_not_found"),
    ("DELETE what is not there", "DELETE", MISSING, 404, "stream_not_found"),
    ("names are case sensitive", "GET", "/v1/stream/bad/TEXT", 404, "stream_not_found"),
    ("a stream of another bucket", "GET", "/bad-spare/held", 404, "stream_not_found"),
    ("GET in a bucket that is not there", "GET", "/bad-missing/text", 404, "bucket_not_found"),
    ("HEAD in a bucket that is not there", "HEAD", "/bad-missing/text", 404, "bucket_not_found"),
    ("DELETE in a bucket that is not there", "DELETE", "/bad-missing/text", 404, "bucket_not_found"),
    ("describe a bucket that is not there", "GET", MISSING_BUCKET, 404, "bucket_not_found"),
    ("HEAD of a bucket that is not there", "HEAD", MISSING_BUCKET, 404, "bucket_not_found"),
    ("list a bucket that is not there", "GET", "/bad-missing?list", 404, "bucket_not_found"),
    ("GET what has expired", "GET", EXPIRED, 404, "stream_not_found"),
    ("DELETE what has expired", "DELETE", EXPIRED, 404, "stream_not_found"),
    ("GET what is gone", "GET", GONE, 410, "stream_gone"),
    ("HEAD of what is gone", "HEAD", GONE, 410, "stream_gone"),
    ("DELETE what is gone", "DELETE", GONE, 410, "stream_gone"),
];
