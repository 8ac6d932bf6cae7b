//! A cluster whose history goes to S3, seen by its clients: they cannot tell where their bytes came from.

use std::fs;

use ursula_test_s3::{Fault, S3};
use ursula_tests::{Cluster, Garage, Http, Member, Metrics, Moto, Options, Response, eventually};

const BINARY: (&str, &str) = ("Content-Type", "application/octet-stream");
const STREAMS: usize = 8;
const RECORD_BYTES: usize = 1 << 20;
const NODES: u32 = 3;
/// Files of the log that a node may have at the end: four that it keeps, those that are written, and some that wait for
/// a checkpoint.
const LOG_FILES_MAX: usize = 6;

fn start(s3: &S3) -> Cluster {
    start_with(s3.flags("of/a/test"), S3::env())
}

fn start_with(mut node_flags: Vec<String>, node_env: Vec<(String, String)>) -> Cluster {
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
    Cluster::start(Options { node_flags, node_env, ..Options::default() })
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
            let target = format!("{}?offset={offset}", path(stream));
            let page = eventually("a page", || Some(http.request("GET", &target, &[], "")).filter(is_answer));
            assert_eq!(page.status, 200, "{}", page.text());
            assert!(!page.body.is_empty(), "stream {stream} ends at {}", content.len());
            offset = page.header("stream-next-offset").expect("where it goes on").to_owned();
            content.extend(page.body);
        }
        assert!(content == expected, "stream {stream} is what was written");
    }
}

/// Whether a client need not ask again.
fn is_answer(response: &Response) -> bool {
    response.status != 503
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
    everything_is_packed(&cluster);
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

    // While the store is away, lets nobody in or has lost its bucket, only the disks notice.
    let mut http = connect(&cluster, 0);
    let mut records = before;
    for fault in [Fault::Away, Fault::Expired, Fault::NoBucket] {
        s3.faults().plan(&[fault], 1);
        for _ in 0..2 {
            (0..STREAMS).for_each(|stream| append(&mut http, stream, records));
            records += 1;
        }
        eventually("a store that is missed", || (sum(&cluster, "ursula_node_store_failing") > 0.0).then_some(()));
        assert!(sum(&cluster, "ursula_node_unpacked_bytes") > 0.0);
        s3.faults().plan(&[], 1);
        everything_is_packed(&cluster);
    }
    check(&mut connect(&cluster, 1), records);
}

/// Faults of single requests are tried again, and no reader gets bytes that are wrong.
#[test]
fn faults_of_the_store_are_nobodys_business() {
    let s3 = S3::start();
    let cluster = start(&s3);
    let mut http = connect(&cluster, 0);
    for stream in 0..STREAMS {
        assert_eq!(http.request("PUT", &path(stream), &[BINARY], "").status, 201);
    }
    let faults = [
        Fault::SlowDown,
        Fault::FailsAfterwards,
        Fault::Truncated,
        Fault::Corrupted,
        Fault::Away,
        Fault::Conflict,
        Fault::Precondition,
    ];
    s3.faults().plan(&faults, 3);
    let records = 20;
    for number in 0..records {
        (0..STREAMS).for_each(|stream| append(&mut http, stream, number));
    }
    everything_is_packed(&cluster);
    for node in 1..=NODES {
        eventually("a short log", || (log_files(&cluster, node) <= LOG_FILES_MAX).then_some(()));
    }
    check(&mut http, records);
    for fault in faults {
        assert!(s3.faults().happened(fault) > 0, "{fault:?} happened");
    }
}

fn everything_is_packed(cluster: &Cluster) {
    eventually("packs with everything", || (sum(cluster, "ursula_node_unpacked_streams") == 0.0).then_some(()));
}

/// The same from a server that shares no code with ours.
#[test]
fn any_server_of_the_protocol_holds_history() {
    let moto = Moto::start();
    holds_history([moto.endpoint(), Moto::BUCKET, "eu-central-1"], S3::CREDENTIALS);
}

#[test]
#[ignore = "Garage takes long to install; `just garage` does, and runs this"]
fn garage_holds_history() {
    let garage = Garage::start();
    holds_history([garage.endpoint(), Garage::BUCKET, Garage::REGION], Garage::CREDENTIALS);
}

fn holds_history(bucket: [&str; 3], credentials: [&str; 2]) {
    let mut cluster = start_with(ursula_test_s3::flags(bucket, "of/a/test"), ursula_test_s3::env(credentials));
    let mut http = connect(&cluster, 0);
    for stream in 0..STREAMS {
        assert_eq!(http.request("PUT", &path(stream), &[BINARY], "").status, 201);
    }
    let records = 20;
    for number in 0..records {
        (0..STREAMS).for_each(|stream| append(&mut http, stream, number));
    }
    everything_is_packed(&cluster);
    for node in 1..=NODES {
        eventually("a short log", || (log_files(&cluster, node) <= LOG_FILES_MAX).then_some(()));
    }
    let members = cluster.members();
    cluster.kill_all(&members);
    cluster.start_members(&members);
    cluster.wait_until_ready();
    check(&mut connect(&cluster, 1), records);
    assert!(sum(&cluster, "ursula_node_pack_gets_total") > 0.0, "some of it came from there");
}
