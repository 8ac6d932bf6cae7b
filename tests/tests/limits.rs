//! Limits hold, and say so: memory for stream bytes, and the time that a client may take.

use std::io::ErrorKind;

use tempfile::TempDir;
use ursula_tests::{Http, Server, eventually};

const BYTES: (&str, &str) = ("Content-Type", "application/octet-stream");
const MIB: usize = 1 << 20;

/// One core, so that all streams share one budget.
const SMALL_RING: [&str; 4] = ["--ring-bytes", "33554432", "--cores", "1"];
const RING_BYTES: f64 = 33_554_432.0;

/// Appends a MiB to one stream after the other until one is refused; returns how many were taken.
fn fill(http: &mut Http, streams: usize) -> usize {
    for stream in 0..streams {
        assert_eq!(http.request("PUT", &path(stream), &[BYTES], "").status, 201);
    }
    for taken in 0.. {
        let response = http.request("POST", &path(taken % streams), &[BYTES], content(taken));
        if response.status != 204 {
            assert_eq!(response.status, 503, "{}", response.text());
            assert!(response.has_code("memory_full"), "{}", response.text());
            assert!(response.header("retry-after").is_some());
            return taken;
        }
        assert!(taken < 64, "twice the budget was taken");
    }
    unreachable!("the loop ends with a refusal")
}

fn path(stream: usize) -> String {
    format!("/v1/stream/limits/{stream}")
}

fn content(number: usize) -> Vec<u8> {
    vec![u8::try_from(number).expect("few appends"); MIB]
}

#[test]
fn a_full_ring_refuses_appends_serves_reads_and_is_freed_by_deletes() {
    let server = Server::dev_with(&SMALL_RING);
    let mut http = server.connect();
    let streams = 4;
    let taken = fill(&mut http, streams);
    assert!(taken >= 16, "half of the budget is of use at least: {taken} MiB");
    assert!(server.node_metrics().value("ursula_node_ring_used_bytes") <= RING_BYTES);
    assert!(server.node_metrics().value("ursula_node_refused_memory_total") >= 1.0);

    let page = http.request("GET", &path(0), &[], "");
    assert_eq!(page.status, 200);
    assert!(page.body.starts_with(&content(0)));
    assert_eq!(http.request("HEAD", &path(1), &[], "").status, 200);
    assert_eq!(http.request("POST", &path(1), &[("Stream-Closed", "true")], "").status, 204, "a close needs no room");

    assert_eq!(http.request("DELETE", &path(0), &[], "").status, 204);
    eventually("room for an append", || {
        let response = http.request("POST", &path(2), &[BYTES], content(taken));
        (response.status == 204).then_some(())
    });
    assert_eq!(http.request("GET", &path(0), &[], "").status, 404);
}

#[test]
fn memory_of_deleted_streams_comes_back_without_end() {
    let server = Server::dev_with(&SMALL_RING);
    let mut http = server.connect();
    for number in 0..100 {
        let path = path(number);
        assert_eq!(http.request("PUT", &path, &[BYTES], vec![7; 8 * MIB]).status, 201, "stream {number}");
        assert_eq!(http.request("GET", &path, &[], "").body.len(), 8 * MIB);
        assert_eq!(http.request("DELETE", &path, &[], "").status, 204);
    }
    eventually("the ring to be empty", || {
        (server.node_metrics().value("ursula_node_ring_used_bytes") == 0.0).then_some(())
    });
}

/// A server with a configuration file for its gateway.
fn with_config(text: &str) -> (TempDir, Server) {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("ursula.toml");
    std::fs::write(&file, format!("[gateway]\n{text}")).expect("a file");
    let server = Server::dev_with(&["--config", file.to_str().expect("a path of text")]);
    (folder, server)
}

/// Waits for the end of a connection, and returns what came before. Cut connections may be reset.
fn end_of(http: &mut Http) -> Vec<u8> {
    match http.read_to_end() {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Vec::new(),
        Err(error) => panic!("the connection stays open: {error}"),
    }
}

#[test]
fn a_slow_head_is_cut() {
    let (_folder, server) = with_config("header_timeout_ms = 300\n");
    let mut http = server.connect();
    http.send("GET /health HTTP/1.1\r\nHos");
    assert_eq!(end_of(&mut http), b"");
    // Not only the first request of a connection.
    let mut http = server.connect();
    assert_eq!(http.request("GET", "/health", &[], "").status, 200);
    http.send("GET /health HTTP/1.1\r\nHos");
    assert_eq!(end_of(&mut http), b"");
    // A byte now and then does not help.
    let mut http = server.connect();
    http.send("GET /health HTTP/1.1\r\n");
    eventually("the connection to be cut", || http.try_send("X").err().map(drop));
}

#[test]
fn an_idle_connection_is_cut() {
    let (_folder, server) = with_config("idle_timeout_ms = 300\n");
    let mut silent = server.connect();
    assert_eq!(end_of(&mut silent), b"");
    let mut http = server.connect();
    assert_eq!(http.request("GET", "/health", &[], "").status, 200);
    assert_eq!(end_of(&mut http), b"");
}

#[test]
fn a_live_read_is_not_idle() {
    let times = "idle_timeout_ms = 200\nheader_timeout_ms = 200\nsse_heartbeat_ms = 50\n";
    let (_folder, server) = with_config(times);
    let path = path(0);
    assert_eq!(server.request("PUT", &path, &[BYTES], "").status, 201);
    let mut events = server.connect();
    events.send_request("GET", &format!("{path}?offset=-1&live=sse"), &[], "");
    assert_eq!(events.try_head(false).expect("a head").status, 200);
    // The long poll lasts for five times the idle timeout.
    let poll = server.request("GET", &format!("{path}?offset=now&live=long-poll"), &[], "");
    assert_eq!(poll.status, 204);
    let mut comments = 0;
    while comments < 10 {
        let part = events.body_part().expect("the response goes on").expect("the response goes on");
        comments += part.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b":")).count();
    }
}

#[test]
fn a_slow_body_is_told_so() {
    let (_folder, server) = with_config("body_timeout_ms = 300\n");
    let mut http = server.connect();
    http.send(format!("PUT {} HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nslow", path(0)));
    let response = http.response(false);
    assert_eq!(response.status, 408);
    assert!(response.has_code("body_timeout"), "{}", response.text());
    assert_eq!(server.request("GET", &path(0), &[], "").status, 404);
}

#[test]
fn a_stream_of_events_ends_after_its_lifetime() {
    let (_folder, server) = with_config("sse_lifetime_ms = 300\n");
    assert_eq!(server.request("PUT", &path(0), &[("Content-Type", "text/plain")], "x").status, 201);
    let mut events = ursula_tests::Events::open(&server, &path(0), "-1");
    let seen: Vec<_> = std::iter::from_fn(|| events.next_event()).map(|event| event.kind).collect();
    assert_eq!(seen, ["data", "control"]);
}

#[test]
fn more_connections_than_allowed_wait_for_their_turn() {
    let (_folder, server) = with_config("connections_max = 2\n");
    let mut first = server.connect();
    assert_eq!(first.request("GET", "/health", &[], "").status, 200);
    let mut second = server.connect();
    assert_eq!(second.request("GET", "/health", &[], "").status, 200);
    let mut third = server.connect();
    third.send_request("GET", "/health", &[], "");
    assert_eq!(second.request("GET", "/health", &[], "").status, 200);
    let open = server.gateway_metrics().value("ursula_gateway_connections");
    assert!(open <= 3.0, "{open}: two of clients, and the one that asks");
    drop(first);
    assert_eq!(third.response(false).status, 200);
}
