//! Each deployment serves a stream from its creation to its end, and tells what it did.

use ursula_tests::{Events, Http, Server, eventually};

const STREAM: &str = "/v1/stream/serving/hello";
const TEXT: (&str, &str) = ("Content-Type", "text/plain");

fn serves(server: &Server) {
    let mut http = server.connect();
    assert_eq!(http.request("PUT", STREAM, &[TEXT], "").status, 201);
    assert_eq!(http.request("POST", STREAM, &[TEXT], "first ").status, 204);
    let head = http.request("HEAD", STREAM, &[], "");
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/plain")));

    let mut events = Events::open(server, STREAM, "-1");
    assert_eq!(events.next_event().expect("the data").data, "first ");
    let control = events.next_event().expect("a control event");
    assert_eq!(control.next_offset(), head.header("stream-next-offset"));
    assert_eq!(http.request("POST", STREAM, &[TEXT], "second").status, 204);
    assert_eq!(events.next_event().expect("the data").data, "second");
    assert_eq!(http.request("POST", STREAM, &[("Stream-Closed", "true")], "").status, 204);
    let rest: Vec<_> = std::iter::from_fn(|| events.next_event()).collect();
    assert!(rest.last().expect("a last event").data.contains("\"streamClosed\":true"), "{rest:?}");

    assert_eq!(http.request("GET", STREAM, &[], "").text(), "first second");
    assert_eq!(server.gateway_metrics().value("ursula_gateway_appends_total"), 3.0);
    eventually("the node to count the stream", || {
        let streams = server.node_metrics().value("ursula_node_streams");
        (streams == 1.0).then_some(())
    });
    assert_eq!(http.request("DELETE", STREAM, &[], "").status, 204);
    assert!(http.request("GET", STREAM, &[], "").has_code("stream_not_found"));
}

/// Probes are on every listener, metrics only where clients do not come.
fn has_operations(server: &Server) {
    for path in ["/health", "/ready"] {
        assert_eq!(server.request("GET", path, &[], "").status, 200);
        for url in [&server.gateway_metrics_url, &server.node_metrics_url] {
            assert_eq!(Http::connect(url).request("GET", path, &[], "").status, 200, "{path} of {url}");
        }
    }
    let refused = server.request("GET", "/metrics", &[], "");
    assert!(refused.has_code("invalid_name"), "a name that no bucket can have: {}", refused.text());
    let nothing = Http::connect(&server.gateway_metrics_url).request("GET", STREAM, &[], "");
    assert_eq!(nothing.status, 404, "streams are not served to operators");
}

#[test]
fn one_process() {
    let server = Server::dev();
    serves(&server);
    has_operations(&server);
}

#[test]
fn two_processes() {
    let server = Server::tiers();
    serves(&server);
    has_operations(&server);
}
