//! Snapshots of streams, as clients of the whole see them: published, replaced, removed, and a start from one.

use std::io::ErrorKind;

use ursula_test_s3::S3;
use ursula_tests::{Cluster, Events, Http, Member, Metrics, Options, Response, Server, eventually, run};

const STREAM: &str = "/v1/stream/snapshots/counter";
const JSON: (&str, &str) = ("Content-Type", "application/json");
const MIB: usize = 1 << 20;

fn at(offset: &str) -> String {
    format!("{STREAM}/snapshot/{offset}")
}

fn publish(http: &mut Http, offset: &str, condition: Option<&str>, body: impl AsRef<[u8]>) -> Response {
    let condition = condition.map(|tag| ("If-Match", tag));
    let headers: Vec<_> = [JSON].into_iter().chain(condition).collect();
    http.request("PUT", &at(offset), &headers, body)
}

fn append(http: &mut Http, body: &str) -> String {
    let appended = http.request("POST", STREAM, &[JSON], body);
    assert_eq!(appended.status, 204, "{}", appended.text());
    next(&appended).to_owned()
}

fn next(response: &Response) -> &str {
    response.header("stream-next-offset").expect("an offset")
}

fn tag(response: &Response) -> String {
    response.header("etag").expect("a tag").to_owned()
}

#[track_caller]
fn assert_refused(response: &Response, status: u16, code: &str) {
    assert_eq!(response.status, status, "{}", response.text());
    assert!(response.has_code(code), "{}", response.text());
}

/// Bytes that no page repeats.
fn large(bytes: usize) -> Vec<u8> {
    let words = (0u32..).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes());
    words.take(bytes).collect()
}

/// A part of a bootstrap: its headers as lines, and its body.
struct Part {
    head: String,
    body: Vec<u8>,
}

impl Part {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

fn bootstrap(http: &mut Http) -> Vec<Part> {
    let response = http.request("GET", &format!("{STREAM}/bootstrap"), &[], "");
    assert_eq!(response.status, 200, "{}", response.text());
    let content_type = response.header("content-type").expect("a type").to_owned();
    let boundary = content_type.strip_prefix("multipart/mixed; boundary=").expect("a boundary");
    let mut rest = &response.body[..];
    let mut parts = Vec::new();
    let delimiter = format!("--{boundary}\r\n");
    while let Some(part) = rest.strip_prefix(delimiter.as_bytes()) {
        let (head, body) = part.split_at(part.windows(4).position(|four| four == b"\r\n\r\n").expect("a head"));
        let head = String::from_utf8(head.to_vec()).expect("text");
        let mut part = Part { head, body: Vec::new() };
        let length: usize = part.header("content-length").and_then(|length| length.parse().ok()).expect("a length");
        part.body = body[4..4 + length].to_vec();
        parts.push(part);
        rest = body[4 + length..].strip_prefix(b"\r\n").expect("an end of a line");
    }
    assert_eq!(rest, format!("--{boundary}--\r\n").as_bytes());
    parts
}

#[test]
fn a_reader_starts_from_the_snapshot_and_follows_what_comes() {
    let server = Server::tiers();
    let mut http = server.connect();
    let first = next(&http.request("PUT", STREAM, &[JSON], "[1,2]")).to_owned();
    let parts = bootstrap(&mut http);
    assert_eq!(
        (parts.len(), &*parts[0].body, parts[0].header("stream-next-offset")),
        (1, &b"[1,2]"[..], Some(&*first))
    );

    let published = publish(&mut http, &first, None, "{\"sum\": 3}");
    assert_eq!(published.status, 201, "{}", published.text());
    let location = format!("{}{}", server.base_url, at(&first));
    assert_eq!(published.header("location"), Some(&*location));
    assert_eq!(published.header("stream-snapshot-offset"), Some(&*first));
    let second = append(&mut http, "[4]");
    let head = http.request("HEAD", STREAM, &[], "");
    assert_eq!((head.header("stream-snapshot-offset"), next(&head)), (Some(&*first), &*second));

    let newest = format!("{STREAM}/snapshot");
    for path in [&newest, &at(&first)] {
        let read = http.request("GET", path, &[], "");
        assert_eq!((read.status, &*read.text(), next(&read)), (200, "{\"sum\": 3}", &*first), "{path}");
        assert_eq!(read.header("content-type"), Some("application/json"));
        assert_eq!(read.header("content-location"), (path == &newest).then_some(&*location));
        let head = http.request("HEAD", path, &[], "");
        assert_eq!((head.header("content-length"), tag(&head)), (Some("10"), tag(&published)));
        let known = http.request("GET", path, &[("If-None-Match", &tag(&published))], "");
        assert_eq!((known.status, known.body.len()), (304, 0));
    }

    let parts = bootstrap(&mut http);
    assert_eq!((parts.len(), &*parts[0].body, &*parts[1].body), (2, &b"{\"sum\": 3}"[..], &b"[4]"[..]));
    assert_eq!(
        (parts[0].header("etag"), parts[0].header("stream-snapshot-offset")),
        (Some(&*tag(&published)), Some(&*first))
    );
    assert_eq!(parts[1].header("content-type"), Some("application/json"));
    assert_eq!(parts[1].header("stream-up-to-date"), Some("true"));
    let from = parts[1].header("stream-next-offset").expect("where to go on");
    let mut events = Events::open(&server, STREAM, from);
    append(&mut http, "[5]");
    let data = std::iter::from_fn(|| events.next_event()).find(|event| event.kind == "data").expect("an event");
    assert_eq!(data.data, "[5]");
    // What is beside a stream is no stream.
    let listed = http.request("GET", "/default?list&prefix=snapshots/", &[], "").text();
    assert_eq!(listed, "{\"bucket\":\"default\",\"streams\":[{\"name\":\"snapshots/counter\"}]}");
}

#[test]
fn the_newest_wins_and_only_if_match_replaces_it() {
    let server = Server::dev();
    let mut http = server.connect();
    let first = next(&http.request("PUT", STREAM, &[JSON], "[1]")).to_owned();
    let second = append(&mut http, "[2]");
    let old = publish(&mut http, &second, None, "old");
    assert_eq!(old.status, 201);
    assert_eq!(
        (publish(&mut http, &second, None, "old").status, http.request("GET", &at(&second), &[], "").text()),
        (200, "old".into())
    );
    assert_refused(&publish(&mut http, &second, None, "other"), 409, "snapshot_differs");
    let new = publish(&mut http, &second, Some(&tag(&old)), "new");
    assert_eq!(new.status, 201, "{}", new.text());
    let late = publish(&mut http, &second, Some(&tag(&old)), "late");
    assert_refused(&late, 412, "snapshot_mismatch");
    assert_eq!(tag(&late), tag(&new));
    let stale = publish(&mut http, &first, None, "older");
    assert_refused(&stale, 409, "snapshot_stale");
    assert_eq!(stale.header("stream-snapshot-offset"), Some(&*second));

    let third = append(&mut http, "[3]");
    let empty = http.request("PUT", &at(&third), &[("If-None-Match", "*")], "");
    assert_eq!(empty.status, 201, "{}", empty.text());
    let again = http.request("PUT", &at(&third), &[("If-None-Match", "*")], "");
    assert_refused(&again, 412, "snapshot_mismatch");
    assert_refused(&http.request("GET", &at(&second), &[], ""), 404, "snapshot_not_found");
    let read = http.request("GET", &format!("{STREAM}/snapshot"), &[], "");
    assert_eq!((read.header("content-type"), read.body.len()), (Some("application/octet-stream"), 0));
    assert_eq!(bootstrap(&mut http)[1].body, b"[]");

    assert_refused(&http.request("DELETE", &at(&third), &[("If-Match", &tag(&new))], ""), 412, "snapshot_mismatch");
    assert_eq!(http.request("DELETE", &at(&third), &[("If-Match", &tag(&empty))], "").status, 204);
    assert_refused(&http.request("GET", &format!("{STREAM}/snapshot"), &[], ""), 404, "snapshot_not_found");
    assert_eq!(bootstrap(&mut http)[0].body, b"[1,2,3]");
    assert_eq!(publish(&mut http, &first, None, "older").status, 201, "nothing is newer any more");
}

#[test]
fn a_stream_can_begin_at_its_snapshot() {
    let server = Server::dev();
    let mut http = server.connect();
    let kept = [JSON, ("Stream-Retention-Snapshot", "true")];
    let first = next(&http.request("PUT", STREAM, &kept, "[1]")).to_owned();
    assert_eq!(http.request("HEAD", STREAM, &[], "").header("stream-retention-snapshot"), Some("true"));
    assert_eq!(http.request("PUT", STREAM, &[JSON], "").status, 409);
    append(&mut http, "[2]");
    assert_eq!(publish(&mut http, &first, None, "1").status, 201);
    assert_eq!(http.request("GET", STREAM, &[], "").text(), "[2]");
    let gone = http.request("GET", &format!("{STREAM}?offset=0000000000000000_0000000000000001"), &[], "");
    assert_refused(&gone, 410, "offset_gone");
    assert_eq!(gone.header("stream-earliest-offset"), Some(&*first));
    assert_eq!(bootstrap(&mut http)[1].body, b"[2]");
}

#[test]
fn one_that_nobody_can_read_on_from_reads_as_none() {
    let server = Server::dev();
    let mut http = server.connect();
    let first = next(&http.request("PUT", STREAM, &[JSON], "[1]")).to_owned();
    let second = append(&mut http, "[2]");
    let third = append(&mut http, "[3]");
    assert_eq!(publish(&mut http, &first, None, "of one").status, 201);
    let trim = |http: &mut Http, offset: &str| {
        assert_eq!(http.request("DELETE", &format!("{STREAM}?before={offset}"), &[], "").status, 204);
    };
    trim(&mut http, &first);
    assert_eq!(bootstrap(&mut http).len(), 2, "it is where the stream begins");
    trim(&mut http, &second);
    for path in [format!("{STREAM}/snapshot"), at(&first)] {
        assert_refused(&http.request("GET", &path, &[], ""), 404, "snapshot_not_found");
    }
    let parts = bootstrap(&mut http);
    assert_eq!((parts.len(), &*parts[0].body), (1, &b"[3]"[..]));
    assert_eq!(publish(&mut http, &third, None, "of three").status, 201);
    assert_eq!(bootstrap(&mut http)[0].body, b"of three");
}

/// The most memory that a process ever had, in bytes.
fn most_memory(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line of the kernel");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

#[test]
fn a_large_snapshot_passes_through_little_memory() {
    let budgets = tempfile::NamedTempFile::new().expect("a file");
    // The least that a gateway takes; each is less than the snapshot.
    let settings = "upload_bytes_max = 16777216\npage_bytes_max = 20971520\nsnapshot_bytes_max = 83886080\n";
    std::fs::write(budgets.path(), settings).expect("settings are written");
    let server = Server::tiers_with(&["--config", budgets.path().to_str().expect("a path of text")], &[]);
    let mut http = server.connect();
    let first = next(&http.request("PUT", STREAM, &[JSON], "[1]")).to_owned();
    let body = large(80 * MIB);
    let before = most_memory(server.gateway().id());
    let published = publish(&mut http, &first, None, &body);
    assert_eq!(published.status, 201, "{}", published.text());
    let read = http.request("GET", &at(&first), &[], "");
    assert!(read.body == body, "{} bytes", read.body.len());
    let parts = bootstrap(&mut http);
    assert!(parts[0].body == body && parts[1].body == b"[]");
    let memory = most_memory(server.gateway().id()) - before;
    println!("the gateway took {} MiB", memory / MIB);
    assert!(memory < body.len(), "{memory} bytes");
    assert_eq!(server.gateway_metrics().value("ursula_gateway_upload_bytes"), 0.0);

    let mut chunked = server.connect();
    chunked.send(format!("PUT {} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", at(&first)));
    for part in [&body[..], b"x"] {
        chunked.send(format!("{:x}\r\n", part.len()));
        chunked.send(part);
        chunked.send("\r\n");
    }
    assert_refused(&chunked.response(false), 413, "body_too_large");
}

#[test]
fn a_snapshot_that_is_replaced_under_its_reader_breaks_off() {
    let server = Server::dev();
    let mut http = server.connect();
    let first = next(&http.request("PUT", STREAM, &[JSON], "[1]")).to_owned();
    let published = publish(&mut http, &first, None, large(48 * MIB));
    assert_eq!(published.status, 201, "{}", published.text());
    let mut slow = server.connect();
    slow.send_request("GET", &at(&first), &[], "");
    assert_eq!(slow.try_head(false).expect("a head").status, 200);
    assert_eq!(publish(&mut http, &first, Some(&tag(&published)), "new").status, 201);
    let mut bytes = 0;
    let end = loop {
        match slow.body_part() {
            Ok(Some(part)) => bytes += part.len(),
            Ok(None) => panic!("it looks whole"),
            Err(error) => break error.kind(),
        }
    };
    assert!(matches!(end, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{end}");
    assert!(bytes < 48 * MIB);
    assert_eq!(http.request("GET", &at(&first), &[], "").text(), "new");
}

#[test]
fn an_upload_that_breaks_off_changes_nothing() {
    let server = Server::dev();
    let mut http = server.connect();
    let first = next(&http.request("PUT", STREAM, &[JSON], "[1]")).to_owned();
    let mut broken = server.connect();
    broken.send(format!("PUT {} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", at(&first), 8 * MIB));
    broken.send(large(5 * MIB));
    // The first piece is stored.
    eventually("the second piece to come", || {
        let used = server.node_metrics().value("ursula_node_ring_used_bytes");
        (used > (4 * MIB) as f64).then_some(())
    });
    drop(broken);
    assert_refused(&http.request("GET", &at(&first), &[], ""), 404, "snapshot_not_found");
    assert_eq!(http.request("DELETE", STREAM, &[], "").status, 204);
    eventually("the upload to end with its stream", || {
        let used = server.node_metrics().value("ursula_node_ring_used_bytes");
        (used == 0.0).then_some(())
    });
}

fn connect(cluster: &Cluster, gateway: usize) -> Http {
    let address = cluster.gateways()[gateway].clone().expect("a gateway that runs");
    Http::connect(&format!("http://{address}"))
}

#[test]
fn a_snapshot_survives_kill_9() {
    let one_process = Options { nodes: 0, gateways: 1, ..Options::default() };
    let mut cluster = Cluster::start(one_process);
    let mut http = connect(&cluster, 0);
    let first = next(&http.request("PUT", STREAM, &[JSON], "[1]")).to_owned();
    let body = large(9 * MIB);
    let published = publish(&mut http, &first, None, &body);
    assert_eq!(published.status, 201, "{}", published.text());
    append(&mut http, "[2]");
    cluster.kill(Member::Gateway(1));
    cluster.start_member(Member::Gateway(1));
    let mut http = connect(&cluster, 0);
    let parts = bootstrap(&mut http);
    assert!(parts[0].body == body && parts[1].body == b"[2]");
    assert_eq!(parts[0].header("etag"), Some(&*tag(&published)));
}

#[test]
fn a_cluster_has_its_snapshots_wherever_they_are_asked_for() {
    let mut cluster = Cluster::start(Options::default());
    let (mut here, mut there) = (connect(&cluster, 0), connect(&cluster, 1));
    let first = next(&here.request("PUT", STREAM, &[JSON], "[1]")).to_owned();
    let body = large(9 * MIB);
    let published = publish(&mut here, &first, None, &body);
    assert_eq!(published.status, 201, "{}", published.text());
    assert!(there.request("GET", &format!("{STREAM}/snapshot"), &[], "").body == body);
    let leader = eventually("a leader", || cluster.leader());
    cluster.kill(Member::Node(leader));
    let parts = bootstrap(&mut there);
    assert!(parts[0].body == body && parts[1].body == b"[]");
    let replaced = publish(&mut there, &first, Some(&tag(&published)), "new");
    assert_eq!(replaced.status, 201, "{}", replaced.text());
    assert_eq!(here.request("GET", &at(&first), &[], "").text(), "new");
    assert_refused(&publish(&mut here, &first, Some(&tag(&published)), "late"), 412, "snapshot_mismatch");
}

#[test]
fn a_snapshot_is_all_that_a_restore_needs() {
    let s3 = S3::start();
    let start = |place| {
        let flags = ["--cores", "1", "--groups", "2", "--pack-interval-ms", "200"].map(str::to_owned);
        let node_flags = flags.into_iter().chain(s3.flags(place)).collect();
        Cluster::start(Options { nodes: 2, gateways: 1, node_flags, node_env: S3::env(), ..Options::default() })
    };
    let old = start("old");
    let mut http = connect(&old, 0);
    let kept = [JSON, ("Stream-Retention-Snapshot", "true")];
    let mut at = next(&http.request("PUT", STREAM, &kept, "[1]")).to_owned();
    for (body, message) in [(large(9 * MIB), "[2]"), (large(5 * MIB), "[3]")] {
        assert_eq!(publish(&mut http, &at, None, &body).status, 201);
        // Until packs have the snapshot, a restore may need what is before it.
        eventually("the stream to begin at its snapshot", || {
            let head = http.request("HEAD", STREAM, &[], "");
            (head.header("stream-earliest-offset") == Some(&*at)).then_some(())
        });
        at = append(&mut http, message);
    }
    eventually("packs with everything", || {
        let metrics = [1, 2].map(|node| Metrics::fetch(old.metrics_url(Member::Node(node)).expect("it runs")));
        metrics.iter().all(|metrics| metrics.value("ursula_node_unpacked_streams") == 0.0).then_some(())
    });
    drop(old);

    let new = start("new");
    let (from, address) = (s3.flags("old").swap_remove(1), new.node_address(1));
    let args = ["restore", "--from", &from, "--address", &address].map(str::to_owned);
    let env = S3::env();
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let restored = run("ursula", &[&args[..], &s3.flags("new")].concat(), &env);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let parts = bootstrap(&mut connect(&new, 0));
    assert!(parts[0].body == large(5 * MIB), "{}", parts[0].head);
    assert_eq!((&*parts[1].body, parts[1].header("stream-next-offset")), (&b"[3]"[..], Some(&*at)));
}
