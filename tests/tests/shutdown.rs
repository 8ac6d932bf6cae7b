//! A gateway that stops loses nothing: what is under way ends in order, and clients go on at another one.

use std::io::ErrorKind;

use ursula_tests::{Events, Http, Process, Server, eventually};

const STREAM: &str = "/v1/stream/shutdown/log";
const TEXT: (&str, &str) = ("Content-Type", "text/plain");
/// Only the end of the gateway can answer a long poll before.
const LONG_POLL: [&str; 2] = ["--long-poll-timeout-ms", "600000"];

fn assert_ends_in_order(server: &Server, process: &Process) {
    let value = |name| server.gateway_metrics().value(name);
    let mut http = server.connect();
    assert_eq!(http.request("PUT", STREAM, &[TEXT], "begin ").status, 201);
    let tail = http.request("HEAD", STREAM, &[], "").header("stream-next-offset").expect("a tail").to_owned();

    let mut events = Events::open(server, STREAM, "-1");
    assert_eq!(events.next_event().expect("data").data, "begin ");
    assert_eq!(events.next_event().expect("control").next_offset(), Some(tail.as_str()));
    let mut long_poll = server.connect();
    long_poll.send_request("GET", &format!("{STREAM}?offset={tail}&live=long-poll"), &[], "");
    let mut upload = server.connect();
    let head = format!("POST {STREAM} HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\n");
    upload.send(head + "half");
    let mut idle = server.connect();
    assert_eq!(idle.request("GET", "/health", &[], "").status, 200);
    eventually("the long poll and the upload to have come, and both live reads to wait", || {
        let waiting = value("ursula_gateway_requests_under_way");
        ((waiting, value("ursula_gateway_tail_readers")) == (2.0, 2.0)).then_some(())
    });

    process.terminate();
    let polled = long_poll.response(false);
    assert_eq!((polled.status, polled.header("stream-next-offset")), (204, Some(tail.as_str())));
    assert_eq!(events.next_event(), None, "every event was followed by its offset");
    assert_eq!(idle.read_to_end().expect("an end, not a reset"), b"");
    upload.send("half");
    assert_eq!(upload.response(false).status, 204, "the request was under way");
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn a_gateway_lets_requests_finish() {
    let server = Server::tiers_with(&LONG_POLL, &[]);
    assert_ends_in_order(&server, server.gateway());
    let other = server.another_gateway();
    assert_eq!(other.request("GET", STREAM, &[], "").text(), "begin halfhalf");
}

#[test]
fn a_single_process_lets_requests_finish() {
    let server = Server::dev_with(&LONG_POLL);
    assert_ends_in_order(&server, server.gateway());
}

#[test]
fn a_gateway_that_stops_takes_no_new_connections() {
    let server = Server::tiers();
    let requests = || server.gateway_metrics().value("ursula_gateway_requests_under_way");
    // Keeps the gateway alive meanwhile.
    let mut upload = server.connect();
    upload.send("PUT /v1/stream/shutdown/slow HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n");
    eventually("the request to have come", || (requests() > 0.0).then_some(()));
    server.gateway().terminate();
    eventually("connections to be refused", || {
        let (host, _) = ursula_tests::address_of(&server.base_url);
        let refused = std::net::TcpStream::connect(host).err()?.kind() == ErrorKind::ConnectionRefused;
        refused.then_some(())
    });
    upload.send("x");
    assert_eq!(upload.response(false).status, 201);
    assert_eq!(server.gateway().wait().code(), Some(0));
}

#[test]
fn a_storage_node_stops_in_order() {
    let server = Server::tiers();
    assert_eq!(server.request("PUT", STREAM, &[TEXT], "").status, 201);
    let _events = Events::open(&server, STREAM, "-1");
    server.node().terminate();
    assert_eq!(server.node().wait().code(), Some(0));
}

/// A reader and a producer lose their gateway without a warning, and go on at another.
#[test]
fn clients_of_a_killed_gateway_go_on_at_another() {
    let server = Server::tiers();
    let other = server.another_gateway();
    let producer = |http: &mut Http, seq: usize| {
        let seq = seq.to_string();
        let headers = [TEXT, ("Producer-Id", "p"), ("Producer-Epoch", "0"), ("Producer-Seq", seq.as_str())];
        http.request("POST", STREAM, &headers, format!("event {seq}")).status
    };
    let mut http = server.connect();
    assert_eq!(http.request("PUT", STREAM, &[TEXT], "").status, 201);
    let mut events = Events::open(&server, STREAM, "-1");
    let mut seen = Vec::new();
    let mut offset = events.next_event().expect("control").next_offset().expect("an offset").to_owned();
    for seq in 0..10 {
        assert_eq!(producer(&mut http, seq), 200);
        seen.push(events.next_event().expect("data").data);
        offset = events.next_event().expect("control").next_offset().expect("an offset").to_owned();
    }
    server.gateway().kill();

    let mut http = other.connect();
    assert_eq!(producer(&mut http, 9), 204, "its answer may have been lost, so it is sent again");
    let mut events = Events::open(&other, STREAM, &offset);
    for seq in 10..20 {
        assert_eq!(producer(&mut http, seq), 200);
    }
    assert_eq!(http.request("POST", STREAM, &[("Stream-Closed", "true")], "").status, 204);
    let rest = std::iter::from_fn(|| events.next_event()).filter(|event| event.kind == "data");
    let text = seen.into_iter().chain(rest.map(|event| event.data)).collect::<String>();
    assert_eq!(text, (0..20).map(|seq| format!("event {seq}")).collect::<String>());
}
