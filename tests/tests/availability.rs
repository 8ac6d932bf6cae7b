//! The storage node is gone, or does not answer: clients learn whether their request may have been applied, and
//! nothing is applied twice.

use std::time::Duration;

use ursula_tests::{Events, Response, Server, Stopwatch, eventually};

const STREAM: &str = "/v1/stream/availability/log";
const TEXT: (&str, &str) = ("Content-Type", "text/plain");
const OP_TIMEOUT: [&str; 2] = ["--op-timeout-ms", "1000"];
/// More than that, and less than it takes by default: time for everything around an op that is given up.
const ANSWERED_WITHIN: Duration = Duration::from_secs(8);

fn server(gateway_flags: &[&str]) -> Server {
    let server = Server::tiers_with(gateway_flags, &[]);
    assert_eq!(server.request("PUT", STREAM, &[TEXT], "begin ").status, 201);
    server
}

fn producer(seq: &str) -> [(&'static str, &str); 4] {
    [TEXT, ("Producer-Id", "p"), ("Producer-Epoch", "0"), ("Producer-Seq", seq)]
}

#[track_caller]
fn assert_unavailable(response: &Response) {
    assert_eq!(response.status, 503, "{}", response.text());
    assert!(response.has_code("unavailable"), "{}", response.text());
    assert!(response.header("retry-after").is_some());
}

#[test]
fn without_its_storage_node_a_gateway_refuses_and_says_that_nothing_happened() {
    let server = server(&OP_TIMEOUT);
    server.node().kill();
    let mut http = server.connect();
    for (method, path, body) in [
        ("GET", STREAM.to_owned(), ""),
        ("GET", format!("{STREAM}?offset=now&live=long-poll"), ""),
        ("GET", format!("{STREAM}?offset=-1&live=sse"), ""),
        ("POST", STREAM.to_owned(), "lost"),
        ("PUT", format!("{STREAM}/other"), "lost"),
        ("DELETE", STREAM.to_owned(), ""),
        ("PUT", "/some-bucket".to_owned(), ""),
        ("GET", "/some-bucket".to_owned(), ""),
    ] {
        let watch = Stopwatch::start();
        let response = http.request(method, &path, &[TEXT], body);
        assert!(watch.elapsed() < ANSWERED_WITHIN, "{method} {path} took {:?}", watch.elapsed());
        assert_unavailable(&response);
    }
    assert_eq!(http.request("HEAD", STREAM, &[], "").status, 503);
    assert_eq!(http.request("GET", "/health", &[], "").status, 200);
}

#[test]
fn an_append_whose_answer_is_lost_says_so_and_is_applied_at_most_once() {
    let server = server(&OP_TIMEOUT);
    let mut http = server.connect();
    assert_eq!(http.request("POST", STREAM, &producer("0"), "first ").status, 200);
    server.node().pause();

    let plain = http.request("POST", STREAM, &[TEXT], "plain ");
    assert_eq!(plain.status, 424, "a status that clients do not retry by themselves: {}", plain.text());
    assert!(plain.has_code("outcome_unknown"), "{}", plain.text());
    let from_producer = http.request("POST", STREAM, &producer("1"), "produced ");
    assert_eq!(from_producer.status, 504, "a status that clients retry: {}", from_producer.text());
    assert!(from_producer.has_code("outcome_unknown"), "{}", from_producer.text());

    server.node().resume();
    // Until the node has caught up, a retry may still be given up.
    let retried = eventually("the node to answer again", || {
        let retried = http.request("POST", STREAM, &producer("1"), "produced ");
        (retried.status != 504).then_some(retried)
    });
    assert!(matches!(retried.status, 200 | 204), "the first copy counts, or this one: {}", retried.text());
    assert_eq!(http.request("POST", STREAM, &[TEXT], "end").status, 204);
    let text = http.request("GET", STREAM, &[], "").text();
    let with_plain = text == "begin first plain produced end";
    assert!(with_plain || text == "begin first produced end", "{text:?}");
}

#[test]
fn every_append_that_cannot_be_applied_twice_may_be_sent_again() {
    let server = server(&OP_TIMEOUT);
    let mut http = server.connect();
    let tail = http.request("HEAD", STREAM, &[], "").header("stream-next-offset").expect("a tail").to_owned();
    let quoted = format!("\"{tail}\"");
    let guards = [("Stream-Seq", "a"), ("If-Match", quoted.as_str()), ("Stream-Expected-Offset", &tail)];
    let guarded = guards.into_iter().chain([("Stream-Closed", "true")]).map(|guard| ("POST", Some(guard)));
    for (method, guard) in guarded.chain([("PUT", None), ("DELETE", None)]) {
        // Each on a connection that lives: after some seconds of silence nothing is sent any more, which is a 503.
        eventually("the node to answer", || (http.request("HEAD", STREAM, &[], "").status == 200).then_some(()));
        server.node().pause();
        let headers: Vec<_> = [TEXT].into_iter().chain(guard).collect();
        let response = http.request(method, STREAM, &headers, if method == "POST" { "guarded" } else { "" });
        assert_eq!(response.status, 504, "{method} {guard:?}: {}", response.text());
        assert!(response.has_code("outcome_unknown"), "{}", response.text());
        server.node().resume();
    }
}

/// The connection to a silent node is given up after a while, and what was not answered is sent again on the
/// next one: the node must see that it knows it already.
#[test]
fn an_append_that_is_sent_again_to_the_node_is_applied_once() {
    let server = server(&["--op-timeout-ms", "60000"]);
    server.node().pause();
    let mut waiting: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for http in &mut waiting {
        http.send_request("POST", STREAM, &[TEXT], "x");
    }
    // The time after which a connection that does not answer is given up is not a setting.
    let given_up = || server.gateway().output().contains("a lane was lost").then_some(());
    eventually("the gateway to give up the connection", given_up);
    server.node().resume();
    for http in &mut waiting {
        assert_eq!(http.response(false).status, 204);
    }
    assert_eq!(server.request("GET", STREAM, &[], "").text(), format!("begin {}", "x".repeat(20)));
}

#[test]
fn readers_survive_a_storage_node_that_stands_still() {
    let server = server(&[]);
    let mut events = Events::open(&server, STREAM, "-1");
    assert_eq!(events.next_event().expect("data").data, "begin ");
    server.node().pause();
    let mut http = server.connect();
    http.send_request("POST", STREAM, &[TEXT], "while it stood still");
    server.node().resume();
    assert_eq!(http.response(false).status, 204);
    let data = std::iter::from_fn(|| events.next_event()).find(|event| event.kind == "data");
    assert_eq!(data.expect("the stream of events goes on").data, "while it stood still");
}

#[test]
fn a_gateway_goes_on_with_a_storage_node_that_was_started_again() {
    let mut server = server(&[]);
    let mut events = Events::open(&server, STREAM, "-1");
    assert_eq!(events.next_event().expect("data").data, "begin ");
    server.restart_node(&[]);
    let mut http = server.connect();
    // It was in memory.
    eventually("the stream to be gone", || (http.request("GET", STREAM, &[], "").status == 404).then_some(()));
    while events.next_event().is_some() {}
    assert_eq!(http.request("PUT", STREAM, &[TEXT], "").status, 201);
    assert_eq!(http.request("POST", STREAM, &[TEXT], "again").status, 204);
    assert_eq!(http.request("GET", STREAM, &[], "").text(), "again");
}

#[test]
fn a_tag_of_a_stream_that_was_lost_does_not_fit_its_successor() {
    let mut server = server(&[]);
    let before = server.request("GET", STREAM, &[], "");
    let tag = before.header("etag").expect("a tag").to_owned();
    server.restart_node(&[]);
    eventually("the stream to be gone", || (server.request("GET", STREAM, &[], "").status == 404).then_some(()));
    assert_eq!(server.request("PUT", STREAM, &[TEXT], "BEGIN ").status, 201);
    let after = server.request("GET", STREAM, &[("If-None-Match", tag.as_str())], "");
    assert_eq!((after.status, after.text().as_str()), (200, "BEGIN "));
}

#[test]
fn a_gateway_learns_the_groups_of_a_storage_node_that_was_started_again() {
    let mut server = server(&[]);
    server.restart_node(&["--groups", "2"]);
    let mut http = server.connect();
    eventually("the stream to be gone", || (http.request("GET", STREAM, &[], "").status == 404).then_some(()));
    for n in 0..20 {
        let created = http.request("PUT", &format!("{STREAM}/{n}"), &[TEXT], "");
        assert_eq!(created.status, 201, "stream {n}: {}", created.text());
    }
}

#[test]
fn a_gateway_is_ready_only_while_it_has_a_storage_node() {
    let mut server = server(&[]);
    let ready = |server: &Server| server.request("GET", "/ready", &[], "").status;
    assert_eq!(ready(&server), 200);
    server.node().kill();
    eventually("the gateway not to be ready", || (ready(&server) == 503).then_some(()));
    server.restart_node(&[]);
    eventually("the gateway to be ready again", || (ready(&server) == 200).then_some(()));
}
