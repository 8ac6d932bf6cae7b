//! A cluster whose history goes to S3, seen by its clients: they cannot tell where their bytes came from.

#[expect(dead_code, reason = "each test uses a part of it")]
#[path = "history/s3.rs"]
mod s3;

use std::fs;

use s3::S3;
use ursula_tests::{Cluster, Http, Member, Metrics, Options, eventually};

const BINARY: (&str, &str) = ("Content-Type", "application/octet-stream");
const STREAMS: usize = 8;
const RECORD_BYTES: usize = 1 << 20;
const NODES: u32 = 3;
/// Files of the log that a node may have at the end: four that it keeps, those that are written, and some that wait for
/// a checkpoint.
const LOG_FILES_MAX: usize = 6;

fn start(s3: &S3) -> Cluster {
    let mut node_flags = s3.flags_at("of/a/test");
    for (flag, value) in [
        ("--cores", "1"),
        ("--ring-bytes", "33554432"),
        ("--segment-bytes", "25165824"),
        ("--disk-reserve-bytes", "0"),
        ("--log-bytes", "100663296"),
        ("--checkpoint-bytes", "1048576"),
        ("--entries-kept", "1"),
        ("--pack-bytes", "1048576"),
        ("--pack-interval-ms", "100"),
    ] {
        node_flags.extend([flag, value].map(str::to_owned));
    }
    Cluster::start(Options { node_flags, node_env: s3.env(), ..Options::default() })
}

fn connect(cluster: &Cluster, gateway: usize) -> Http {
    let address = cluster.gateways()[gateway].clone().expect("it runs");
    Http::connect(&format!("http://{address}"))
}

fn path(stream: usize) -> String {
    format!("/v1/stream/history/{stream}")
}

/// Bytes that tell their stream and their place.
fn record(stream: usize, number: usize) -> Vec<u8> {
    (0..RECORD_BYTES).map(|at| (at * 7 + at / 251 + number * 13 + stream * 101) as u8).collect()
}

fn append(http: &mut Http, stream: usize, number: usize) {
    let response = http.request("POST", &path(stream), &[BINARY], record(stream, number));
    assert_eq!(response.status, 204, "{}", response.text());
}

/// Reads streams page by page, and compares.
fn check(http: &mut Http, records: usize) {
    for stream in 0..STREAMS {
        let expected: Vec<u8> = (0..records).flat_map(|number| record(stream, number)).collect();
        let (mut content, mut offset) = (Vec::new(), "-1".to_owned());
        while content.len() < expected.len() {
            let page = http.request("GET", &format!("{}?offset={offset}", path(stream)), &[], "");
            assert_eq!(page.status, 200, "{}", page.text());
            assert!(!page.body.is_empty(), "stream {stream} ends at {}", content.len());
            offset = page.header("stream-next-offset").expect("where it goes on").to_owned();
            content.extend(page.body);
        }
        assert!(content == expected, "stream {stream} is what was written");
    }
}

/// The sum of a metric over all nodes.
fn sum(cluster: &Cluster, metric: &str) -> f64 {
    let url = |id| cluster.metrics_url(Member::Node(id)).expect("it runs").to_owned();
    (1..=NODES).map(|id| Metrics::fetch(&url(id)).value(metric)).sum()
}

fn log_files(cluster: &Cluster, node: u32) -> usize {
    let files = fs::read_dir(cluster.data_folder(node).join("log")).expect("a log").flatten();
    files.filter(|file| file.path().extension().is_some_and(|kind| kind == "log")).count()
}

#[test]
fn history_leaves_the_nodes_and_is_read_as_before() {
    let s3 = S3::start();
    let mut cluster = start(&s3);
    let mut http = connect(&cluster, 0);
    for stream in 0..STREAMS {
        assert_eq!(http.request("PUT", &path(stream), &[BINARY], "").status, 201);
    }
    let before = 24;
    for number in 0..before {
        (0..STREAMS).for_each(|stream| append(&mut http, stream, number));
    }
    eventually("packs with everything", || (sum(&cluster, "ursula_node_unpacked_streams") == 0.0).then_some(()));
    for node in 1..=NODES {
        eventually("a short log", || (log_files(&cluster, node) <= LOG_FILES_MAX).then_some(()));
    }
    check(&mut http, before);
    assert!(sum(&cluster, "ursula_node_pack_gets_total") > 0.0, "some of it came from there");

    let members = cluster.members();
    cluster.kill_all(&members);
    cluster.start_members(&members);
    cluster.wait_until_ready();
    check(&mut connect(&cluster, 1), before);

    // While the store is away, nobody but the disks notices.
    s3.set_away(true);
    let mut http = connect(&cluster, 0);
    let after = before + 4;
    for number in before..after {
        (0..STREAMS).for_each(|stream| append(&mut http, stream, number));
    }
    eventually("a store that is missed", || (sum(&cluster, "ursula_node_store_failing") > 0.0).then_some(()));
    assert!(sum(&cluster, "ursula_node_unpacked_bytes") > 0.0);
    s3.set_away(false);
    eventually("packs with everything again", || (sum(&cluster, "ursula_node_unpacked_streams") == 0.0).then_some(()));
    check(&mut connect(&cluster, 1), after);
}
