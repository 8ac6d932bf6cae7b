//! Links between processes, with a storage node in memory: what is cut is cut for those whom it concerns.

use std::time::Duration;

use super::*;
use crate::Flow;

fn cluster() -> Cluster {
    let gateway_flags = ["--op-timeout-ms", "1000"].map(str::to_owned).into();
    Cluster::start(Options { nodes: 1, durable: false, gateway_flags, ..Options::default() })
}

const STREAM: &str = "/v1/stream/cluster/log";

fn append(cluster: &Cluster, gateway: usize) -> u16 {
    let address = cluster.gateways()[gateway - 1].clone().expect("it runs");
    let mut http = Http::connect(&format!("http://{address}"));
    http.request("PUT", STREAM, &[("Content-Type", "text/plain")], "");
    http.request("POST", STREAM, &[("Content-Type", "text/plain")], "x").status
}

#[test]
fn a_link_concerns_one_gateway_only() {
    let cluster = cluster();
    cluster.link(Member::Gateway(1), 1).set(Flow::Stall, Flow::Stall);
    assert!(append(&cluster, 1) >= 424, "its outcome is unknown, or it is unavailable");
    assert_eq!(append(&cluster, 2), 204);
    cluster.heal();
    eventually("the gateway to go on", || (append(&cluster, 1) == 204).then_some(()));
}

#[test]
fn members_end_and_start_again() {
    let mut cluster = cluster();
    let gateway = Member::Gateway(1);
    cluster.kill(gateway);
    assert_eq!((cluster.runs(gateway), &cluster.gateways()[0]), (false, &None));
    cluster.start_member(gateway);
    cluster.stop(Member::Gateway(2));
    cluster.wait_until_ready();
    assert_eq!(append(&cluster, 1), 204);
    cluster.process(gateway).expect("it runs").kill();
    assert!(!cluster.runs(gateway), "also if it ended by itself");
}

#[test]
fn frozen_members_and_jumped_clocks_come_back() {
    let cluster = cluster();
    cluster.freeze(Member::Node(1));
    assert!(append(&cluster, 1) >= 424);
    cluster.thaw(Member::Node(1));
    let day = Duration::from_secs(86_400).as_millis() as i64;
    for ms in [day, -day, 0] {
        cluster.jump(Member::Node(1), ms);
        eventually("the gateway to go on", || (append(&cluster, 1) == 204).then_some(()));
    }
}

#[test]
fn leaders_are_found_in_a_status() {
    let status = r#"{"version": 7, "groups": [{"id": 0, "leader": 2, "term": 3}, {"id": 1, "leader": null}]}"#;
    assert_eq!(status::leaders(status), Leaders::from([(0, 2)]));
    assert_eq!(status::leaders("not JSON"), Leaders::new());
}
