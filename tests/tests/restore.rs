//! Everything is lost but the object store: a new cluster, with other nodes and other groups, has all that its packs had.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use ursula_test_s3::{Fault, S3};
use ursula_tests::{Cluster, Http, Member, Metrics, Options, Process, eventually, run};

const STREAMS: usize = 10_000;
/// Where few are enough.
const FEW: usize = 100;
/// Streams that are written until the end.
const BUSY: usize = 40;
const WRITERS: usize = 4;
/// Streams of which nothing is acknowledged before it is in the store.
const SAFE: usize = 8;
const OLD: &str = "old/cluster";
const NEW: &str = "new/cluster";
const TEXT: (&str, &str) = ("Content-Type", "text/plain");
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// What a stream is, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Json,
    Closed,
    Mortal,
    Produced,
    Fork,
    InBucket,
}

impl Kind {
    fn of(number: usize) -> Kind {
        match number % 10 {
            1 => Kind::Json,
            2 => Kind::Closed,
            3 => Kind::Mortal,
            4 => Kind::Produced,
            5 => Kind::Fork,
            6 => Kind::InBucket,
            _ => Kind::Plain,
        }
    }
}

fn path(number: usize) -> String {
    match Kind::of(number) {
        Kind::InBucket => format!("/extra/s{number}"),
        _ => format!("/v1/stream/s{number}"),
    }
}

fn busy(number: usize) -> String {
    format!("/v1/stream/busy-{number}")
}

fn safe(number: usize) -> String {
    format!("/safe/s{number}")
}

fn content(number: usize) -> String {
    match Kind::of(number) {
        Kind::Json => format!("[{{\"n\":{number}}}]"),
        // It begins where its source ends.
        Kind::Fork => format!("{}fork {number}", content(number - 5)),
        _ => format!("content of {number}"),
    }
}

#[expect(clippy::disallowed_methods, reason = "compared with what the nodes noted, by the clock of this machine")]
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64
}

fn start(s3: &S3, prefix: &str, nodes: u32, groups: &str) -> Cluster {
    let mut node_flags = s3.flags(prefix);
    for (flag, value) in [
        ("--cores", "1"),
        ("--groups", groups),
        ("--ring-bytes", "33554432"),
        ("--segment-bytes", "25165824"),
        ("--disk-reserve-bytes", "0"),
        ("--log-bytes", "100663296"),
        ("--pack-bytes", "262144"),
        ("--pack-interval-ms", "1000"),
    ] {
        node_flags.extend([flag, value].map(str::to_owned));
    }
    Cluster::start(Options { nodes, node_flags, node_env: S3::env(), ..Options::default() })
}

fn connect(cluster: &Cluster, gateway: usize) -> Http {
    let address = cluster.gateways()[gateway].clone().expect("it runs");
    Http::connect(&format!("http://{address}"))
}

fn create(http: &mut Http, number: usize) {
    let source = format!("/v1/stream/s{}", number.saturating_sub(5));
    let body = content(number);
    let (headers, body): (Vec<(&str, &str)>, &str) = match Kind::of(number) {
        Kind::Json => (vec![JSON], &body),
        Kind::Closed => (vec![TEXT, ("Stream-Closed", "true")], &body),
        Kind::Mortal => (vec![TEXT, ("Stream-TTL", "36000")], &body),
        Kind::Fork => (vec![("Stream-Forked-From", &source)], ""),
        Kind::Plain | Kind::Produced | Kind::InBucket => (vec![TEXT], &body),
    };
    let response = http.request("PUT", &path(number), &headers, body);
    assert_eq!(response.status, 201, "{number}: {}", response.text());
    match Kind::of(number) {
        Kind::Produced => (0..3).for_each(|seq| assert_eq!(produce(http, number, seq), 200)),
        Kind::Fork => {
            let response = http.request("POST", &path(number), &[TEXT], format!("fork {number}"));
            assert_eq!(response.status, 204, "{number}: {}", response.text());
        }
        _ => {}
    }
}

/// Appends as an idempotent producer.
fn produce(http: &mut Http, number: usize, seq: usize) -> u16 {
    let seq_text = seq.to_string();
    let producer = [TEXT, ("Producer-Id", "p"), ("Producer-Epoch", "0"), ("Producer-Seq", &seq_text)];
    http.request("POST", &path(number), &producer, format!("+{seq}")).status
}

/// All that a stream holds.
fn read(http: &mut Http, path: &str) -> String {
    let (mut content, mut offset) = (String::new(), "-1".to_owned());
    loop {
        let page = http.request("GET", &format!("{path}?offset={offset}"), &[], "");
        assert_eq!(page.status, 200, "{path}: {}", page.text());
        content += &page.text();
        offset = page.header("stream-next-offset").expect("where it goes on").to_owned();
        if page.header("stream-up-to-date").is_some() {
            return content;
        }
    }
}

/// Lets every writer do its share of the numbers.
fn shared(cluster: &Cluster, numbers: std::ops::Range<usize>, work: impl Fn(&mut Http, usize) + Sync) {
    std::thread::scope(|threads| {
        for writer in 0..WRITERS {
            let (work, numbers) = (&work, numbers.clone());
            threads.spawn(move || {
                let mut http = connect(cluster, writer % cluster.gateways().len());
                numbers.skip(writer).step_by(WRITERS).for_each(|number| work(&mut http, number));
            });
        }
    });
}

/// Records that were acknowledged: each with its stream, its place, and when that was.
type Acknowledged = Vec<(usize, usize, u64)>;

/// Appends to so many streams until everybody is killed.
fn load(cluster: &mut Cluster, streams: usize, path: fn(usize) -> String, packs_min: f64) -> Acknowledged {
    let gateways: Vec<String> = cluster.gateways().into_iter().flatten().collect();
    let stopped = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let write = |writer: usize| {
            let (gateways, stopped) = (&gateways, &stopped);
            move || {
                let mut acknowledged = Vec::new();
                let mut http = Http::connect(&format!("http://{}", gateways[writer % gateways.len()]));
                for number in 0.. {
                    for stream in (writer..streams).step_by(WRITERS) {
                        http.send_request("POST", &path(stream), &[TEXT], format!("{stream}:{number};"));
                        let answered = http.try_response(false).is_ok_and(|response| response.status == 204);
                        if !answered || stopped.load(Ordering::Relaxed) {
                            return acknowledged;
                        }
                        acknowledged.push((stream, number, now_ms()));
                    }
                }
                acknowledged
            }
        };
        let writers: Vec<_> = (0..WRITERS).map(|writer| threads.spawn(write(writer))).collect();
        // So long that every group stores packs meanwhile.
        let packs = |cluster: &Cluster| sum(cluster, "ursula_node_packs_total");
        let enough = packs(cluster) + packs_min;
        eventually("packs under load", || (packs(cluster) >= enough).then_some(()));
        let members = cluster.members();
        cluster.kill_all(&members);
        stopped.store(true, Ordering::Relaxed);
        writers.into_iter().flat_map(|writer| writer.join().expect("it writes until nobody answers")).collect()
    })
}

/// The sum of a metric over all nodes.
fn sum(cluster: &Cluster, metric: &str) -> f64 {
    let nodes = cluster.members().into_iter().filter(|member| matches!(member, Member::Node(_)));
    nodes.map(|node| Metrics::fetch(cluster.metrics_url(node).expect("it runs")).value(metric)).sum()
}

/// The arguments of a command that reads the old place.
fn arguments(s3: &S3, args: &[&str], more: &[String]) -> Vec<String> {
    let store = s3.flags(OLD);
    let (place, store) = (store[1].clone(), &store[2..]);
    let mut all: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    all.extend(["--from".to_owned(), place, "--output".to_owned(), "json".to_owned()]);
    all.extend(store.iter().cloned());
    all.extend(more.iter().cloned());
    all
}

/// Runs a command, and returns whether it succeeded and the object that it printed.
fn command(s3: &S3, args: &[&str], more: &[String]) -> (bool, Value) {
    let all = arguments(s3, args, more);
    let env = S3::env();
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let output = run("ursula", &all, &env);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = serde_json::from_str(&text);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), value.unwrap_or_else(|_| panic!("{} says {text:?} {errors}", all.join(" "))))
}

/// Flags of a restore into a cluster.
fn target(s3: &S3, new: &Cluster, more: &[&str]) -> Vec<String> {
    let mut flags = vec!["--store".to_owned(), s3.flags(NEW)[1].clone()];
    flags.extend(["--address".to_owned(), new.node_address(2)]);
    flags.extend(more.iter().map(|flag| (*flag).to_owned()));
    flags
}

/// How many records of the load a stream has: each once, and in order.
fn in_order(http: &mut Http, path: &str, stream: usize) -> usize {
    let text = read(http, path);
    let records: Vec<&str> = text.split_terminator(';').collect();
    let in_order = records.iter().enumerate().all(|(number, record)| *record == format!("{stream}:{number}"));
    assert!(in_order, "each once and in order: {text}");
    records.len()
}

/// Flips a bit at the beginning of the largest file.
fn damage(folder: &Path) {
    let files = fs::read_dir(folder).expect("packs").flatten().map(|entry| entry.path());
    let largest = files.max_by_key(|file| fs::metadata(file).map_or(0, |data| data.len())).expect("a pack");
    let mut bytes = fs::read(&largest).expect("it can be read");
    bytes[100] ^= 1;
    fs::write(&largest, bytes).expect("it can be written");
}

/// When the meta group had its newest pack: before most streams were there.
fn time_of_first(verified: &Value) -> String {
    let groups = verified["groups"].as_array().expect("groups");
    let times = groups.iter().map(|cut| cut["made"].as_str().expect("a time"));
    times.min().expect("a group").to_owned()
}

fn check(http: &mut Http, number: usize) {
    let mut expected = content(number);
    if Kind::of(number) == Kind::Produced {
        expected += "+0+1+2";
    }
    assert_eq!(read(http, &path(number)), expected, "{number}");
    let head = http.request("HEAD", &path(number), &[], "").head;
    assert_eq!(head.header("stream-closed").is_some(), Kind::of(number) == Kind::Closed, "{number}");
    assert_eq!(head.header("stream-ttl").is_some(), Kind::of(number) == Kind::Mortal, "{number}");
}

/// Forks come after their sources.
fn create_all(cluster: &Cluster, numbers: std::ops::Range<usize>) {
    assert_eq!(connect(cluster, 0).request("PUT", "/extra", &[], "").status, 201);
    for fork in [false, true] {
        shared(cluster, numbers.clone(), |http, number| {
            if (Kind::of(number) == Kind::Fork) == fork {
                create(http, number);
            }
        });
    }
}

fn wait_for_packs(cluster: &Cluster) {
    eventually("packs with everything", || (sum(cluster, "ursula_node_unpacked_streams") == 0.0).then_some(()));
}

#[test]
fn a_new_cluster_has_what_the_object_store_has() {
    let s3 = S3::start();
    let mut old = start(&s3, OLD, 3, "5");
    create_all(&old, 0..STREAMS);
    shared(&old, 0..BUSY, |http, number| assert_eq!(http.request("PUT", &busy(number), &[TEXT], "").status, 201));
    wait_for_packs(&old);
    let before_load = now_ms();
    let acknowledged = load(&mut old, BUSY, busy, 40.0);
    drop(old);

    let (whole, verified) = command(&s3, &["backup", "verify"], &[]);
    assert!(whole, "{verified}");
    let cuts = verified["groups"].as_array().expect("groups");
    assert_eq!(cuts.len(), 6, "those with streams, and the meta group");
    let of_streams = cuts.iter().filter(|cut| cut["group"] != 0);
    let cut = of_streams.map(|cut| cut["made_ms"].as_u64().expect("a time")).min().expect("a group");
    assert!(cut > before_load, "packs were stored under load");

    let new = start(&s3, NEW, 2, "3");
    let target = |at: &[&str]| target(&s3, &new, at);
    let (planned, plan) = command(&s3, &["restore"], &target(&["--dry-run"]));
    assert!(planned && plan["streams"] == STREAMS + BUSY, "{plan}");
    assert_eq!(connect(&new, 0).request("HEAD", &path(0), &[], "").status, 404, "nothing was restored yet");
    let (restored, report) = command(&s3, &["restore"], &target(&[]));
    assert!(
        restored && report["streams"] == STREAMS + BUSY && report["left_out"] == Value::Array(Vec::new()),
        "{report}"
    );
    println!("{STREAMS} streams: {report}");

    shared(&new, 0..STREAMS, check);
    let mut http = connect(&new, 0);
    let mut kept = 0;
    for stream in 0..BUSY {
        let records = in_order(&mut http, &busy(stream), stream);
        let due = acknowledged.iter().filter(|(of, _, at)| *of == stream && *at < cut);
        assert!(due.map(|(_, number, _)| number + 1).max().unwrap_or(0) <= records, "all before the cut");
        kept += records;
    }
    assert!(kept > 0, "some of the load is there");
    // Producers go on where they were.
    let produced = (0..STREAMS).find(|number| Kind::of(*number) == Kind::Produced).expect("one");
    assert_eq!(produce(&mut http, produced, 2), 204, "it was there before");
    assert_eq!(produce(&mut http, produced, 4), 409, "one is missing");
    assert_eq!(produce(&mut http, produced, 3), 200);
    assert_eq!(read(&mut http, &path(produced)), format!("{}+0+1+2+3", content(produced)));
    assert_eq!(http.request("POST", &path(2), &[TEXT], "more").status, 409, "it is closed");
    assert_eq!(http.request("POST", &busy(0), &[TEXT], "more").status, 204);

    // Again, it changes nothing; and another time of the same is another thing.
    let (again, report) = command(&s3, &["restore"], &target(&[]));
    assert!(again, "{report}");
    assert!(read(&mut http, &busy(0)).ends_with(";more"));
    let (also, report) = command(&s3, &["restore"], &target(&["--at", "2100-01-01T00:00:00Z"]));
    assert!(also, "the newest packs of then are the same: {report}");
    let first = time_of_first(&verified);
    let (early, plan) = command(&s3, &["restore"], &target(&["--at", &first, "--dry-run"]));
    let groups = plan["groups"].as_array().expect("groups");
    assert!(early && groups.iter().all(|cut| cut["made"].as_str() <= Some(&first)), "{plan}");
    let (other, why) = command(&s3, &["restore"], &target(&["--at", &first]));
    assert!(!other && why["error"]["message"].to_string().contains("streams of its own"), "{why}");

    // A byte of a stream in the old place rots.
    damage(&s3.folder(OLD).join("packs/00000001"));
    let (whole, found) = command(&s3, &["backup", "verify"], &[]);
    let count = |what: &str| found[what].as_array().map_or(0, Vec::len);
    assert!(!whole && count("damages") > 0, "{found}");
    assert!((1..100).contains(&count("lost")), "only the streams in that block: {found}");
}

/// In a bucket whose ops are acknowledged once they are in the store, all of them are there, up to the last moment.
#[test]
fn what_is_acknowledged_as_offloaded_outlives_every_machine() {
    let s3 = S3::start();
    let mut old = start(&s3, OLD, 3, "3");
    let mut http = connect(&old, 0);
    let offloaded = [("Bucket-Ack", "offloaded")];
    // Packs have to begin first.
    eventually("a bucket", || (http.request("PUT", "/safe", &offloaded, "").status == 201).then_some(()));
    assert_eq!(http.request("PUT", "/safe", &offloaded, "").status, 200);
    assert_eq!(http.request("PUT", "/safe", &[], "").status, 409);
    (0..SAFE).for_each(|number| assert_eq!(http.request("PUT", &safe(number), &[TEXT], "").status, 201));
    for (name, method, headers, status) in [
        ("gone", "PUT", vec![TEXT], 201),
        ("gone", "DELETE", vec![], 204),
        ("closed", "PUT", vec![TEXT], 201),
        ("closed", "POST", vec![("Stream-Closed", "true")], 204),
        ("fork", "PUT", vec![("Stream-Forked-From", "/safe/closed")], 201),
    ] {
        assert_eq!(http.request(method, &format!("/safe/{name}"), &headers, "").status, status, "{method} {name}");
    }
    let acknowledged = load(&mut old, SAFE, safe, 15.0);
    drop(old);

    let new = start(&s3, NEW, 2, "2");
    let (restored, report) = command(&s3, &["restore"], &target(&s3, &new, &[]));
    assert!(restored && report["streams"] == SAFE + 2, "{report}");
    let mut http = connect(&new, 0);
    let described = http.request("GET", "/safe", &[], "");
    assert_eq!(
        (described.header("bucket-ack"), described.text()),
        (Some("offloaded"), "{\"bucket\":\"safe\",\"ack\":\"offloaded\"}".into())
    );
    for stream in 0..SAFE {
        let last = acknowledged.iter().filter(|(of, ..)| *of == stream).map(|(_, number, _)| number + 1).max();
        let kept = in_order(&mut http, &safe(stream), stream);
        assert!(last.unwrap_or(0) <= kept, "stream {stream} has {kept} records, and {last:?} were acknowledged");
    }
    assert!(acknowledged.len() > SAFE, "there was some load");
    assert_eq!(http.request("HEAD", "/safe/gone", &[], "").status, 404);
    let closed = http.request("HEAD", "/safe/closed", &[], "").head;
    assert!(closed.header("stream-closed").is_some());
    assert_eq!(http.request("POST", &safe(0), &[TEXT], "more").status, 204);
}

#[test]
fn one_that_was_killed_is_begun_again() {
    let s3 = S3::start();
    let old = start(&s3, OLD, 2, "2");
    create_all(&old, 0..FEW);
    wait_for_packs(&old);
    drop(old);
    let new = start(&s3, NEW, 2, "3");
    let target = ["--store".to_owned(), s3.flags(NEW)[1].clone(), "--address".to_owned(), new.node_address(1)];
    eventually("a place of the new cluster", || s3.folder(NEW).join("cluster").exists().then_some(()));
    // It reads everything, and cannot store it.
    s3.faults().plan(&[Fault::Conflict], 1);
    let env = S3::env();
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let first = Process::start("ursula", &arguments(&s3, &["restore"], &target), &env);
    first.line_with("copied");
    first.kill();
    s3.faults().plan(&[], 1);
    let mut http = connect(&new, 0);
    let served = http.request("HEAD", &path(0), &[], "").status;
    assert_eq!(served, 503, "nobody is served by half of it");
    let (restored, report) = command(&s3, &["restore"], &target);
    assert!(restored && report["streams"] == FEW, "{report}");
    shared(&new, 0..FEW, check);
    let produced = (0..FEW).find(|number| Kind::of(*number) == Kind::Produced).expect("one");
    assert_eq!(produce(&mut http, produced, 2), 204, "it was there before");
    assert_eq!(produce(&mut http, produced, 3), 200);
}
