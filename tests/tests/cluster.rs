//! Three nodes and two gateways seen by a client: what is answered while processes are gone, cut off or emptied.

use std::time::Duration;

use ursula_tests::{Cluster, Flow, Http, Member, Options, Response, Stopwatch, eventually};

const STREAM: &str = "/v1/stream/cluster/log";
const TEXT: (&str, &str) = ("Content-Type", "text/plain");
/// Short where an answer is expected that takes as long as that.
const OP_TIMEOUT: [&str; 2] = ["--op-timeout-ms", "3000"];
/// What a client may feel of the end of a leader.
const GAP_MAX: Duration = Duration::from_secs(4);

fn cluster(gateway_flags: &[&str]) -> Cluster {
    let gateway_flags = gateway_flags.iter().map(|flag| (*flag).to_owned()).collect();
    let cluster = Cluster::start(Options { gateway_flags, ..Options::default() });
    assert_eq!(connect(&cluster, 1).request("PUT", STREAM, &[TEXT], "").status, 201);
    cluster
}

/// A connection to a gateway; they count from 1.
fn connect(cluster: &Cluster, gateway: usize) -> Http {
    let address = cluster.gateways()[gateway - 1].clone().expect("it runs");
    Http::connect(&format!("http://{address}"))
}

fn append(http: &mut Http, text: &str) -> Response {
    http.request("POST", STREAM, &[TEXT], text)
}

/// The node that leads the most groups; any other one follows in some.
fn leader(cluster: &Cluster) -> u32 {
    eventually("a leader", || cluster.leader())
}

fn others(cluster: &Cluster, node: u32) -> Vec<u32> {
    (1..=cluster.options().nodes).filter(|other| *other != node).collect()
}

/// A gateway that held on to a dead leader would answer with an error; it waits and sends again instead.
#[test]
fn clients_of_a_gateway_get_no_error_when_leaders_are_killed() {
    let mut cluster = cluster(&[]);
    let mut http = connect(&cluster, 1);
    let mut expected = String::new();
    for round in 0..5 {
        let node = leader(&cluster);
        cluster.kill(Member::Node(node));
        for index in 0..20 {
            let watch = Stopwatch::start();
            let text = format!("{round}.{index} ");
            let response = append(&mut http, &text);
            assert_eq!(response.status, 204, "append {text}after {:?}: {}", watch.elapsed(), response.text());
            assert!(watch.elapsed() <= GAP_MAX, "append {text}took {:?}", watch.elapsed());
            expected += &text;
        }
        cluster.start_member(Member::Node(node));
    }
    assert_eq!(http.request("GET", STREAM, &[], "").text(), expected);
    assert_eq!(connect(&cluster, 2).request("GET", STREAM, &[], "").text(), expected);
}

#[test]
fn nothing_is_acknowledged_without_a_majority() {
    let mut cluster = cluster(&OP_TIMEOUT);
    let mut http = connect(&cluster, 1);
    assert_eq!(append(&mut http, "before ").status, 204);
    let down = others(&cluster, leader(&cluster));
    for node in &down {
        cluster.kill(Member::Node(*node));
    }
    for _ in 0..3 {
        let response = append(&mut http, "x");
        assert!(matches!(response.status, 424 | 503), "{}", response.text());
    }
    for node in down {
        cluster.start_member(Member::Node(node));
    }
    eventually("appends to go on", || (append(&mut http, "y").status == 204).then_some(()));
    let text = http.request("GET", STREAM, &[], "").text();
    assert!(text.starts_with("before ") && text.ends_with('y'), "{text}");
}

/// It has forgotten what it had acknowledged, so it must not help to make a majority.
#[test]
fn an_emptied_node_does_not_count() {
    let mut cluster = cluster(&OP_TIMEOUT);
    let mut http = connect(&cluster, 1);
    assert_eq!(append(&mut http, "before ").status, 204);
    let [emptied, other] = others(&cluster, leader(&cluster))[..] else { panic!("three nodes") };
    cluster.kill(Member::Node(emptied));
    cluster.wipe(emptied);
    cluster.start_member(Member::Node(emptied));
    assert_eq!(append(&mut http, "with two ").status, 204);
    cluster.kill(Member::Node(other));
    for _ in 0..3 {
        let response = append(&mut http, "x");
        assert!(matches!(response.status, 424 | 503), "{}", response.text());
    }
    cluster.start_member(Member::Node(other));
    eventually("appends to go on", || (append(&mut http, "y").status == 204).then_some(()));
    let text = http.request("GET", STREAM, &[], "").text();
    assert!(text.starts_with("before with two "), "{text}");
}

/// A leader that hears nobody, or whom nobody hears, is not one for long.
#[test]
fn writes_go_on_without_a_leader_that_is_cut_off_in_any_direction() {
    let cluster = cluster(&[]);
    let mut http = connect(&cluster, 1);
    let mut expected = String::new();
    for (inward, outward) in [(Flow::Stall, Flow::Stall), (Flow::Stall, Flow::Pass), (Flow::Pass, Flow::Stall)] {
        cluster.isolate(leader(&cluster), inward, outward);
        for _ in 0..10 {
            let response = append(&mut http, "x");
            assert_eq!(response.status, 204, "{inward:?} {outward:?}: {}", response.text());
            expected.push('x');
        }
        cluster.heal();
    }
    assert_eq!(http.request("GET", STREAM, &[], "").text(), expected);
}
