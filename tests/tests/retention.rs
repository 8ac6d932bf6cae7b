//! Streams that lose their beginning, as clients of the whole see them.

use ursula_tests::Server;

const JSON: (&str, &str) = ("Content-Type", "application/json");
const STREAM: &str = "/v1/stream/kept/events";

/// Every way to read from an offset.
fn reads(offset: &str) -> [String; 3] {
    ["", "&live=long-poll", "&live=sse"].map(|live| format!("{STREAM}?offset={offset}{live}"))
}

#[test]
fn a_trimmed_stream_says_where_it_begins() {
    let server = Server::tiers();
    let first = server.request("PUT", STREAM, &[JSON], "[1,2]");
    let second = first.header("stream-next-offset").expect("an offset").to_owned();
    let third = server.request("POST", STREAM, &[JSON], "[3]").header("stream-next-offset").expect("one").to_owned();
    server.request("POST", STREAM, &[JSON], "[4]");
    assert_eq!(server.request("HEAD", STREAM, &[], "").header("stream-earliest-offset"), None);

    let trimmed = server.request("DELETE", &format!("{STREAM}?before={second}"), &[], "");
    assert_eq!((trimmed.status, trimmed.header("stream-earliest-offset")), (204, Some(&*second)));
    for from in ["-1", &second] {
        let page = server.request("GET", &format!("{STREAM}?offset={from}"), &[], "");
        assert_eq!((page.status, page.text().as_str()), (200, "[3,4]"), "from {from}");
        assert_eq!(page.header("stream-earliest-offset"), Some(&*second));
    }
    for read in reads("0000000000000000_0000000000000002") {
        let gone = server.request("GET", &read, &[], "");
        assert!(gone.status == 410 && gone.has_code("offset_gone"), "{read}");
        assert_eq!(gone.header("stream-earliest-offset"), Some(&*second), "{read}");
    }
    let forked = [("Stream-Forked-From", STREAM)];
    assert_eq!(server.request("PUT", "/v1/stream/kept/fork", &forked, "").status, 201);
    assert_eq!(server.request("DELETE", &format!("{STREAM}?before={third}"), &[], "").status, 204);
    assert_eq!(server.request("GET", STREAM, &[], "").text(), "[4]");
    assert_eq!(server.request("GET", "/v1/stream/kept/fork", &[], "").text(), "[3,4]");
}

#[test]
fn a_retention_is_told_and_kept() {
    let server = Server::dev();
    let limits = [JSON, ("Stream-Retention-Max-Bytes", "4"), ("Stream-Retention-Max-Age", "3600")];
    assert_eq!(server.request("PUT", STREAM, &limits, "").status, 201);
    assert_eq!(server.request("PUT", STREAM, &limits, "").status, 200);
    assert_eq!(server.request("PUT", STREAM, &limits[..2], "").status, 409);
    for n in 0..10 {
        assert_eq!(server.request("POST", STREAM, &[JSON], format!("[{n}]")).status, 204);
    }
    let head = server.request("HEAD", STREAM, &[], "");
    assert_eq!(head.header("stream-retention-max-bytes"), Some("4"));
    assert_eq!(head.header("stream-retention-max-age"), Some("3600"));
    assert_eq!(head.header("stream-earliest-offset"), Some("0000000000000000_0000000000000016"));
    assert_eq!(server.request("GET", STREAM, &[], "").text(), "[8,9]");
}
