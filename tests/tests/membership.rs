//! Nodes that come, go, and were away for long, while leaders are killed: every group ends with the members that it
//! should have, and with every byte.

use std::time::Duration;

use serde_json::Value;
use ursula_tests::{Cluster, Flow, Http, Member, Options, Process, eventually, tree};

const TEXT: (&str, &str) = ("Content-Type", "text/plain");
const STREAMS: usize = 8;
/// What goes from node to node is so much later: a change of members takes long enough to be met in the middle.
const LATE: Flow = Flow::Delay(Duration::from_millis(30));
/// Long: what is tested here is that every change comes to its end, not how fast.
const OP_TIMEOUT: [&str; 2] = ["--op-timeout-ms", "25000"];

struct World {
    cluster: Cluster,
    expected: Vec<String>,
}

fn stream(index: usize) -> String {
    format!("/v1/stream/membership/{index}")
}

impl World {
    fn new(options: Options, node_flags: &[&str]) -> World {
        let small = ["--segment-bytes", "25165824", "--disk-reserve-bytes", "0"];
        let node_flags = small.iter().chain(node_flags).map(|flag| (*flag).to_owned()).collect();
        let gateway_flags = OP_TIMEOUT.map(str::to_owned).to_vec();
        let cluster = Cluster::start(Options { gateways: 1, node_flags, gateway_flags, ..options });
        let world = World { cluster, expected: vec![String::new(); STREAMS] };
        let mut http = world.connect();
        for index in 0..STREAMS {
            assert_eq!(http.request("PUT", &stream(index), &[TEXT], "").status, 201);
        }
        world
    }

    fn connect(&self) -> Http {
        let gateway = self.cluster.gateways()[0].clone().expect("it runs");
        Http::connect(&format!("http://{gateway}"))
    }

    /// Appends a text to each stream, filled up to a length.
    #[track_caller]
    fn append(&mut self, text: &str, len: usize) {
        let mut http = self.connect();
        for (index, expected) in self.expected.iter_mut().enumerate() {
            let text = format!("{text}{index:.<len$}\n");
            let response = http.request("POST", &stream(index), &[TEXT], &text);
            assert_eq!(response.status, 204, "{}", response.text());
            expected.push_str(&text);
        }
    }

    /// Reads every byte of every stream, page by page.
    #[track_caller]
    fn assert_all_there(&self) {
        let mut http = self.connect();
        for (index, expected) in self.expected.iter().enumerate() {
            let (mut read, mut offset) = (String::new(), "-1".to_owned());
            loop {
                let page = http.request("GET", &format!("{}?offset={offset}", stream(index)), &[], "");
                assert_eq!(page.status, 200, "{}", page.text());
                read += &page.text();
                offset = page.header("stream-next-offset").expect("an offset").to_owned();
                if page.header("stream-up-to-date").is_some() {
                    break;
                }
            }
            assert!(read == *expected, "stream {index} has {} bytes of {}", read.len(), expected.len());
        }
    }

    /// The groups, as any node tells.
    fn groups(&self) -> Vec<Value> {
        let nodes = self.cluster.members().into_iter().filter(|member| self.cluster.process(*member).is_some());
        let ids = nodes.filter_map(|member| match member {
            Member::Node(id) => Some(id),
            Member::Gateway(_) => None,
        });
        let mut statuses = ids.filter_map(|id| self.cluster.command(&["status", "--output", "json"], id).ok());
        let status: Value = statuses.next().map(|text| serde_json::from_str(&text).expect("JSON")).unwrap_or_default();
        status["groups"].as_array().cloned().unwrap_or_default()
    }

    /// Everything that goes from node to node.
    fn set_links(&self, flow: Flow) {
        let nodes = self.cluster.options().nodes;
        for (from, to) in (1..=nodes).flat_map(|from| (1..=nodes).map(move |to| (from, to))) {
            if from != to {
                self.cluster.link(Member::Node(from), to).set(flow, flow);
            }
        }
    }

    /// Runs a command to its end, and kills leaders of groups whose voters change meanwhile, at most so many.
    #[track_caller]
    fn change_under_kills(&mut self, args: &[&str], mut kills: u32) -> u32 {
        let address = self.cluster.node_address(1);
        let command = [&["cluster"], args, &["--address", &address]].concat();
        let (mut rounds, mut killed) = (0, 0);
        let mut operator = Process::start("ursula", &command, &[]);
        self.set_links(LATE);
        loop {
            if let Some(status) = operator.try_wait() {
                if status.success() {
                    break;
                }
                // Its own node may have been the one. Whatever was begun, the same again goes on with it.
                rounds += 1;
                assert!(rounds < 10, "{}", operator.output());
                operator = Process::start("ursula", &command, &[]);
            }
            let changes = |group: &Value| {
                let under_way = group["under_way"].as_str().unwrap_or_default();
                under_way.contains("change the voters").then(|| group["leader"].as_u64()).flatten()
            };
            let leader = self.groups().iter().find_map(changes);
            if let Some(leader) = leader.filter(|_| kills > 0) {
                let member = Member::Node(u32::try_from(leader).expect("a node"));
                self.cluster.kill(member);
                self.set_links(Flow::Pass);
                self.append("while it is away ", 10);
                self.cluster.start_member(member);
                self.set_links(LATE);
                (kills, killed) = (kills - 1, killed + 1);
            }
        }
        self.set_links(Flow::Pass);
        killed
    }

    #[track_caller]
    fn assert_in_place(&self, nodes: &[u64]) {
        let groups = eventually("all groups to be in place", || {
            let groups = self.groups();
            let is_in_place = |group: &Value| group["in_place"] == true && group["leader"].is_u64();
            (groups.len() == 9 && groups.iter().all(is_in_place)).then_some(groups)
        });
        for group in groups {
            let replicas = group["replicas"].as_array().expect("a list");
            assert_eq!(replicas.len(), 3, "{group}");
            assert!(replicas.iter().all(|node| node.as_u64().is_some_and(|node| nodes.contains(&node))), "{group}");
        }
    }
}

#[test]
fn leaders_killed_in_the_middle_of_changes_of_members() {
    let mut world = World::new(Options { nodes: 4, unclaimed: 1, ..Options::default() }, &[]);
    world.append("before ", 100);
    let fourth = format!("4={}", world.cluster.node_address(4));
    let mut killed = world.change_under_kills(&["add-node", "--node", &fourth], 3);
    world.assert_in_place(&[1, 2, 3, 4]);
    world.append("with four ", 100);
    killed += world.change_under_kills(&["remove-node", "2"], 3);
    assert!(killed > 0, "no change was met in the middle");
    world.assert_in_place(&[1, 3, 4]);
    world.cluster.stop(Member::Node(2));
    world.append("without the second ", 100);
    world.assert_all_there();
    // The new one is as good as the others.
    world.cluster.kill(Member::Node(3));
    world.append("with two ", 100);
    world.assert_all_there();
}

#[test]
fn a_node_far_behind_gets_snapshots_while_a_leader_is_killed() {
    let flags = ["--groups", "2", "--checkpoint-bytes", "65536", "--entries-kept", "16"];
    let mut world = World::new(Options::default(), &flags);
    world.append("before ", 100);
    world.cluster.kill(Member::Node(3));
    for round in 0..40 {
        world.append(&format!("round {round} "), 30_000);
    }
    // What node 3 lacks is in nobody's log any more.
    for node in [1, 2] {
        eventually("the logs to be purged", || {
            let records = tree::records(&world.cluster.data_folder(node));
            let purged = |group| records.iter().any(|it| it.kind == "purged" && it.group == Some(group));
            (purged(1) && purged(2)).then_some(())
        });
    }
    for from in [1, 2] {
        world.cluster.link(Member::Node(from), 3).set(Flow::Slow(300_000), Flow::Pass);
    }
    world.cluster.start_member(Member::Node(3));
    let sender = eventually("a snapshot to be on its way", || {
        let output = world.cluster.process(Member::Node(3)).expect("it runs").output();
        let line = output.lines().find(|line| line.contains("a snapshot arrives"))?.to_owned();
        let (_, peer) = line.split_once("peer=")?;
        peer.trim().parse::<u32>().ok()
    });
    world.cluster.kill(Member::Node(sender));
    world.cluster.heal();
    world.append("after the kill ", 100);
    world.cluster.start_member(Member::Node(sender));
    // Whoever leads has everything, and all is read from it.
    for node in ["1", "2"] {
        eventually("node 3 to take over", || world.cluster.command(&["drain", node], 3).ok());
    }
    let leaders = world.cluster.leaders();
    assert!(leaders.len() == 3 && leaders.values().all(|leader| *leader == 3), "{leaders:?}");
    world.assert_all_there();
    let output = world.cluster.process(Member::Node(3)).expect("it runs").output();
    assert!(output.contains("a snapshot was taken"), "{output}");
    world.append("at the end ", 100);
    world.cluster.restart(Member::Node(3));
    world.assert_all_there();
}

/// What `docs/cluster.md` says about restarting nodes one by one.
#[test]
fn a_rolling_restart_is_felt_by_nobody() {
    let mut world = World::new(Options::default(), &[]);
    for node in 1..=3 {
        let id = node.to_string();
        world.cluster.command(&["drain", &id], node).expect("it is drained");
        world.append("drained ", 10);
        world.cluster.stop(Member::Node(node));
        world.append("stopped ", 10);
        world.cluster.start_member(Member::Node(node));
        let ready = || {
            let metrics = world.cluster.metrics_url(Member::Node(node)).expect("it runs");
            Http::connect(metrics).request("GET", "/ready", &[], "").status == 200
        };
        eventually("the node to be ready", || ready().then_some(()));
        world.cluster.command(&["undrain", &id], node).expect("it is back");
        world.append("back ", 10);
        world.assert_all_there();
    }
    world.assert_in_place(&[1, 2, 3]);
}
