//! A gateway behind a load balancer: what the balancer says of its clients, and how a gateway leaves it.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;

use tempfile::TempDir;
use ursula_tests::{Http, Server, address_of, eventually};

const TEXT: (&str, &str) = ("Content-Type", "text/plain");
const HTTPS: (&str, &str) = ("X-Forwarded-Proto", "https");
/// Nothing fits into it but small appends.
const SMALL_RING: [&str; 4] = ["--ring-bytes", "33554432", "--cores", "1"];

fn with_config(gateway: &str, flags: &[&str]) -> (TempDir, Server) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ursula.toml");
    std::fs::write(&file, format!("[gateway]\n{gateway}")).expect("a file");
    let file = file.to_str().expect("a path");
    let server = Server::dev_with(&[&["--config", file], flags].concat());
    (folder, server)
}

fn create(http: &mut Http, name: &str, headers: &[(&str, &str)]) -> String {
    let response = http.request("PUT", &format!("/v1/stream/proxies/{name}"), headers, "");
    assert_eq!(response.status, 201, "{}", response.text());
    response.header("location").expect("a location").to_owned()
}

#[test]
fn only_a_trusted_proxy_is_believed() {
    let (_folder, trusting) = with_config("trusted_proxies = ['127.0.0.0/8']\n", &[]);
    assert!(create(&mut trusting.connect(), "a", &[TEXT, HTTPS]).starts_with("https://127.0.0.1:"));
    assert!(create(&mut trusting.connect(), "b", &[TEXT]).starts_with("http://127.0.0.1:"));
    let (_folder, other) = with_config("trusted_proxies = ['10.0.0.0/8']\n", &[]);
    assert!(create(&mut other.connect(), "a", &[TEXT, HTTPS]).starts_with("http://127.0.0.1:"));
}

#[test]
fn a_failure_is_logged_once_with_its_client_and_its_id() {
    let (_folder, server) = with_config("trusted_proxies = ['127.0.0.1']\n", &SMALL_RING);
    let mut http = server.connect();
    create(&mut http, "full", &[TEXT]);
    let ours = ("X-Request-Id", "order-66");
    let response = http.request("HEAD", "/v1/stream/proxies/full", &[ours], "");
    assert_eq!(response.header("x-request-id"), Some("order-66"), "an id of the client comes back");
    assert_eq!(http.request("HEAD", "/v1/stream/proxies/full", &[], "").header("x-request-id"), None);
    let mut append = |id: &str| {
        let headers = [TEXT, ("X-Forwarded-For", "203.0.113.9"), ("X-Request-Id", id)];
        http.request("POST", "/v1/stream/proxies/full", &headers, vec![b'x'; 1 << 20])
    };
    let refused = (0..64).map(|n| append(&format!("append-{n}"))).find(|answer| answer.status == 503);
    let refused = refused.expect("the ring is full");
    let id = refused.header("x-request-id").expect("an id").to_owned();
    let line = server.gateway().line_with(&id);
    for part in
        ["client=203.0.113.9", "method=POST", "path=\"/v1/stream/proxies/full\"", "status=503", "code=\"memory_full\""]
    {
        assert!(line.contains(part), "no {part} in {line}");
    }
    let lines = server.gateway().output().lines().filter(|line| line.contains("a request failed")).count();
    assert_eq!(lines, 1);
    let without = http.request("POST", "/v1/stream/proxies/full", &[TEXT], vec![b'x'; 1 << 20]);
    assert_eq!((without.status, without.header("x-request-id").map(str::len)), (503, Some(32)), "an id to ask about");
}

#[test]
fn the_proxy_protocol_tells_who_the_client_is() {
    let settings = "trusted_proxies = ['127.0.0.0/8', '203.0.113.9']\nproxy_protocol = true\n";
    let (_folder, server) = with_config(settings, &[]);
    let mut through = server.connect();
    // The client is a proxy that is trusted too, so its header counts.
    through.send("PROXY TCP4 203.0.113.9 10.0.0.1 49152 80\r\n");
    assert!(create(&mut through, "a", &[TEXT, HTTPS]).starts_with("https://"));
    let mut stranger = server.connect();
    stranger.send("PROXY TCP4 198.51.100.1 10.0.0.1 49152 80\r\n");
    assert!(create(&mut stranger, "b", &[TEXT, HTTPS]).starts_with("http://"));
    let mut without = server.connect();
    without.send("GET /health HTTP/1.1\r\nHost: h\r\n\r\n");
    let end = without.read_to_end();
    assert!(
        end.as_ref().is_ok_and(Vec::is_empty) || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    );
    assert_eq!(server.gateway_metrics().value("ursula_gateway_unannounced_total"), 1.0);
    let (_folder, other) = with_config("trusted_proxies = ['10.0.0.0/8']\nproxy_protocol = true\n", &[]);
    let mut direct = other.connect();
    assert_eq!(direct.request("GET", "/health", &[], "").status, 200, "no proxy, so no header");
}

#[test]
fn a_gateway_is_not_ready_before_it_takes_no_more_connections() {
    let (_folder, server) = with_config("drain_delay_ms = 600000\n", &[]);
    let ready = || Http::connect(&server.gateway_metrics_url).request("GET", "/ready", &[], "").status;
    assert_eq!(ready(), 200);
    let mut open = server.connect();
    assert_eq!(open.request("GET", "/health", &[], "").header("connection"), None);
    server.gateway().terminate();
    eventually("readiness to end", || (ready() == 503).then_some(()));
    let answer = open.request("GET", "/health", &[], "");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    create(&mut server.connect(), "late", &[TEXT]);
    // And does not wait for ever.
    server.gateway().kill();
    let (host, _) = address_of(&server.base_url);
    eventually("the end", || TcpStream::connect(host).and_then(|mut socket| socket.write_all(b"x")).err());
}

#[test]
fn after_that_time_it_stops() {
    let (_folder, server) = with_config("drain_delay_ms = 50\n", &[]);
    create(&mut server.connect(), "a", &[TEXT]);
    server.gateway().terminate();
    assert_eq!(server.gateway().wait().code(), Some(0));
}
