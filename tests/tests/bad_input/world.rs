//! The streams and buckets that the requests of the table meet, and a look at all of them at once.

use ursula_tests::{Http, eventually};

pub(crate) const TEXT: &str = "/v1/stream/bad/text";
pub(crate) const JSON: &str = "/v1/stream/bad/json";
pub(crate) const BYTES: &str = "/v1/stream/bad/bytes";
pub(crate) const EMPTY: &str = "/v1/stream/bad/empty";
pub(crate) const CLOSED: &str = "/v1/stream/bad/closed";
pub(crate) const CLOSED_JSON: &str = "/v1/stream/bad/closed-json";
/// Closed by sequence 1 of the producer `p` in epoch 5.
pub(crate) const CLOSED_BY: &str = "/v1/stream/bad/closed-by";
/// Deleted, and kept for its fork.
pub(crate) const GONE: &str = "/v1/stream/bad/gone";
pub(crate) const GONE_FORK: &str = "/v1/stream/bad/gone-fork";
/// Its time was over when it was created.
pub(crate) const EXPIRED: &str = "/v1/stream/bad/expired";
/// The producer `p` is in epoch 5, at sequence 2.
pub(crate) const PRODUCER: &str = "/v1/stream/bad/producer";
/// The last `Stream-Seq` was `2`.
pub(crate) const SEQ: &str = "/v1/stream/bad/seq";
pub(crate) const TTL: &str = "/v1/stream/bad/ttl";
pub(crate) const EXPIRES: &str = "/v1/stream/bad/expires";
/// Knows as many producers as a stream may.
pub(crate) const CROWDED: &str = "/v1/stream/bad/crowded";
/// Has a snapshot behind the first of its two records.
pub(crate) const SNAPPED: &str = "/v1/stream/bad/snapped";
/// Streams and a bucket that nothing but a row that fails may change.
pub(crate) const SPARE: &str = "/v1/stream/bad/spare";
pub(crate) const OTHER_SPARE: &str = "/v1/stream/bad/other-spare";
pub(crate) const SPARE_BUCKET: &str = "/bad-spare";
/// Never created.
pub(crate) const MISSING: &str = "/v1/stream/bad/missing";

/// A bucket with streams.
pub(crate) const BUCKET: &str = "/bad-input";
pub(crate) const BUCKET_STREAM: &str = "/bad-input/held";
/// A bucket that was never created.
pub(crate) const MISSING_BUCKET: &str = "/bad-missing";

pub(crate) const PLAIN: &str = "Content-Type: text/plain";
pub(crate) const AS_JSON: &str = "Content-Type: application/json";
pub(crate) const FAR_DATE: &str = "2100-01-31T12:00:00Z";

/// Stored bytes in [`TEXT`], in two records of which the first has so many.
pub(crate) const TEXT_BYTES: u64 = 11;
pub(crate) const TEXT_FIRST: u64 = 6;
/// Stored bytes in [`JSON`]: `1,{"a":[2,3]},` and `3,`.
pub(crate) const JSON_BYTES: u64 = 16;
pub(crate) const JSON_FIRST: u64 = 14;

/// Stored bytes in [`SNAPPED`] before its snapshot, and the tag of that.
pub(crate) const SNAPPED_FIRST: u64 = 4;
pub(crate) const SNAPPED_TAG: &str = "\"09f5ffef28309853265c4a98d0e56e1be522b6b402d8193594fd05103064fc6a\"";

/// Producers that one stream remembers, and forks of forks; see the limits in the documentation.
pub(crate) const PRODUCERS_MAX: usize = 4096;
pub(crate) const FORK_DEPTH_MAX: usize = 64;

/// An offset as the server writes it.
pub(crate) fn offset(bytes: u64) -> String {
    format!("{:016}_{bytes:016}", 0)
}

/// A well-formed offset that no stream of the world has.
pub(crate) const ELSEWHERE: &str = "0000000000001843_0000000000000006";

/// The stream at the end of the longest chain of forks.
pub(crate) fn deepest_fork() -> String {
    chain(FORK_DEPTH_MAX)
}

fn chain(depth: usize) -> String {
    format!("/bad-chain/fork-{depth:02}")
}

/// Everything that can be looked at.
const STREAMS: [&str; 18] = [
    TEXT,
    JSON,
    BYTES,
    EMPTY,
    CLOSED,
    CLOSED_JSON,
    CLOSED_BY,
    GONE_FORK,
    PRODUCER,
    SEQ,
    TTL,
    EXPIRES,
    CROWDED,
    SNAPPED,
    "/v1/stream/bad/snapped/snapshot",
    SPARE,
    OTHER_SPARE,
    BUCKET_STREAM,
];
const LISTINGS: [&str; 5] = [
    "/default?list",
    "/bad-input?list",
    "/bad-spare?list",
    // Rows that should be refused would create these.
    "/bad-missing?list",
    "/bad-chain?list",
];

type Header<'a> = (&'a str, &'a str);

/// Makes the world.
pub(crate) fn build(http: &mut Http) {
    let plain = ("Content-Type", "text/plain");
    let json = ("Content-Type", "application/json");
    let forked_from = |path| ("Stream-Forked-From", path);
    let p = |seq| [plain, ("Producer-Id", "p"), ("Producer-Epoch", "5"), ("Producer-Seq", seq)];
    let closed = ("Stream-Closed", "true");
    #[rustfmt::skip]
    let steps: &[(u16, &str, &str, &[Header], &str)] = &[
        (201, "PUT", TEXT, &[plain], "hello "),
        (204, "POST", TEXT, &[plain], "world"),
        (201, "PUT", JSON, &[json], "[1, {\"a\": [2, 3]}]"),
        (204, "POST", JSON, &[json], "3"),
        (201, "PUT", BYTES, &[], "0123"),
        (201, "PUT", EMPTY, &[plain], ""),
        (201, "PUT", CLOSED, &[plain, closed], "the end"),
        (201, "PUT", CLOSED_JSON, &[json, closed], "[0]"),
        (201, "PUT", CLOSED_BY, &[plain], ""),
        (200, "POST", CLOSED_BY, &p("0"), "0"),
        (200, "POST", CLOSED_BY, &[&p("1")[..], &[closed]].concat(), "1"),
        (201, "PUT", GONE, &[plain], "gone"),
        (201, "PUT", GONE_FORK, &[forked_from(GONE)], ""),
        (204, "DELETE", GONE, &[], ""),
        (201, "PUT", EXPIRED, &[plain, ("Stream-TTL", "0")], ""),
        (201, "PUT", PRODUCER, &[plain], ""),
        (200, "POST", PRODUCER, &p("0"), "0"),
        (200, "POST", PRODUCER, &p("1"), "1"),
        (200, "POST", PRODUCER, &p("2"), "2"),
        (201, "PUT", SEQ, &[plain], ""),
        (204, "POST", SEQ, &[plain, ("Stream-Seq", "2")], "2"),
        (201, "PUT", TTL, &[plain, ("Stream-TTL", "3600")], ""),
        (201, "PUT", EXPIRES, &[plain, ("Stream-Expires-At", FAR_DATE)], ""),
        (201, "PUT", CROWDED, &[plain], ""),
        (201, "PUT", SNAPPED, &[plain], "1+2="),
        (204, "POST", SNAPPED, &[plain], "3+4="),
        (201, "PUT", &format!("{SNAPPED}/snapshot/{}", offset(SNAPPED_FIRST)), &[plain], "sum"),
        (201, "PUT", BUCKET, &[], ""),
        (201, "PUT", BUCKET_STREAM, &[plain], "held"),
        (201, "PUT", SPARE_BUCKET, &[], ""),
        (201, "PUT", SPARE, &[plain], "spare"),
        (201, "PUT", OTHER_SPARE, &[plain], "spare"),
        (201, "PUT", "/bad-chain", &[], ""),
        (201, "PUT", &chain(0), &[plain], "chain"),
    ];
    for (status, method, path, headers, body) in steps {
        let made = http.request(method, path, headers, body);
        assert_eq!(made.status, *status, "{method} {path} {headers:?}: {}", made.text());
    }
    for depth in 1..=FORK_DEPTH_MAX {
        let source = chain(depth - 1);
        let made = http.request("PUT", &chain(depth), &[("Stream-Forked-From", &source)], "");
        assert_eq!(made.status, 201, "fork {depth}: {}", made.text());
    }
    crowd(http);
}

/// One append of each of as many producers as a stream may know.
fn crowd(http: &mut Http) {
    const AT_A_TIME: usize = 256;
    let ids: Vec<String> = (0..PRODUCERS_MAX).map(|producer| format!("producer-{producer}")).collect();
    for ids in ids.chunks(AT_A_TIME) {
        let mut requests = Vec::new();
        for id in ids {
            let head = "POST /v1/stream/bad/crowded HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n";
            let producer = format!("Producer-Id: {id}\r\nProducer-Epoch: 0\r\nProducer-Seq: 0\r\n");
            requests.extend_from_slice(format!("{head}{producer}Content-Length: 1\r\n\r\n.").as_bytes());
        }
        http.send(requests);
        for id in ids {
            assert_eq!(http.response(false).status, 200, "the append of {id}");
        }
    }
}

/// What the server shows of the world, one line for each request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Snapshot(Vec<String>);

impl Snapshot {
    pub(crate) fn take(http: &mut Http) -> Snapshot {
        let streams = STREAMS.iter().flat_map(|path| [("HEAD", *path), ("GET", *path)]);
        let others = [("HEAD", GONE), ("HEAD", EXPIRED), ("HEAD", MISSING)];
        let requests: Vec<_> = streams.chain(others).chain(LISTINGS.map(|path| ("GET", path))).collect();
        for (method, path) in &requests {
            http.send_request(method, path, &[], "");
        }
        let mut lines = Vec::new();
        for (method, path) in requests {
            let shown = http.response(method == "HEAD");
            let headers = shown.head.headers.iter().filter(|(name, _)| name.starts_with("stream-"));
            let headers: Vec<_> = headers.map(|(name, value)| format!("{name}: {value}")).collect();
            let text = shown.text();
            let body = if text.len() > 300 { format!("{} bytes, {:?}", text.len(), &text[..300]) } else { text };
            lines.push(format!("{method} {path}: {} {headers:?} {body}", shown.status));
        }
        Snapshot(lines)
    }

    /// What differs; empty if nothing does.
    pub(crate) fn changes(&self, before: &Snapshot) -> String {
        let differing = before.0.iter().zip(&self.0).filter(|(old, new)| old != new);
        differing.map(|(old, new)| format!("\n    was {old}\n    now {new}")).collect()
    }
}

/// What no look shows: producers, `Stream-Seq` and references of forks are as they were, for the next valid
/// request of each kind succeeds. Takes the world down.
pub(crate) fn check_hidden_state(http: &mut Http) {
    let plain = ("Content-Type", "text/plain");
    let p = [plain, ("Producer-Id", "p"), ("Producer-Epoch", "5"), ("Producer-Seq", "3")];
    let tail = offset(TEXT_BYTES);
    let steps: [(u16, &str, &[Header]); 5] = [
        (200, PRODUCER, &p),
        (204, SEQ, &[plain, ("Stream-Seq", "3")]),
        (204, TEXT, &[plain, ("Stream-Expected-Offset", &tail), ("Stream-Seq", "0")]),
        (204, EMPTY, &[plain, ("Stream-Seq", "0")]),
        (204, BUCKET_STREAM, &[plain, ("Stream-Seq", "0")]),
    ];
    for (status, path, headers) in steps {
        let appended = http.request("POST", path, headers, "x");
        assert_eq!(appended.status, status, "{path}: {}", appended.text());
    }
    for source in [TEXT, JSON, BYTES, EMPTY, CLOSED, GONE_FORK] {
        assert_eq!(http.request("DELETE", source, &[], "").status, 204, "{source}");
        eventually("a deleted stream without forks to free its name", || {
            let head = http.request("HEAD", source, &[], "");
            (head.status == 404).then_some(())
        });
    }
    eventually("the name of a deleted stream to be free after its last fork", || {
        (http.request("HEAD", GONE, &[], "").status == 404).then_some(())
    });
}
