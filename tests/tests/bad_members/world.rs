//! A small cluster with streams in every group, one node of which can be spoiled.

use serde_json::Value;
use ursula_tests::tree::{self, Record};
use ursula_tests::{Cluster, Http, Member, Options, Response, eventually};

pub(crate) const TEXT: (&str, &str) = ("Content-Type", "text/plain");
pub(crate) const SMALL: [&str; 4] = ["--segment-bytes", "25165824", "--disk-reserve-bytes", "0"];
/// Enough to be in every group.
pub(crate) const STREAMS: usize = 24;

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    /// What each stream should hold.
    expected: String,
}

pub(crate) fn stream(index: usize) -> String {
    format!("/v1/stream/members/{index}")
}

impl World {
    pub(crate) fn new() -> World {
        World::with(&[])
    }

    /// With more flags for nodes.
    pub(crate) fn with(flags: &[&str]) -> World {
        let node_flags = SMALL.iter().chain(flags).map(|flag| (*flag).to_owned()).collect();
        let cluster = Cluster::start(Options { gateways: 1, node_flags, ..Options::default() });
        let mut world = World { cluster, expected: String::new() };
        let mut http = world.connect();
        for index in 0..STREAMS {
            assert_eq!(http.request("PUT", &stream(index), &[TEXT], "").status, 201);
        }
        world.append("first ");
        world
    }

    pub(crate) fn connect(&self) -> Http {
        let gateway = self.cluster.gateways()[0].clone().expect("it runs");
        Http::connect(&format!("http://{gateway}"))
    }

    /// Appends to every stream.
    #[track_caller]
    pub(crate) fn append(&mut self, text: &str) {
        let mut http = self.connect();
        for index in 0..STREAMS {
            // 503: certainly not done; on a busy machine an election may outlast the patience of a gateway.
            let response = eventually("an append", || {
                Some(http.request("POST", &stream(index), &[TEXT], text)).filter(|response| response.status != 503)
            });
            assert_eq!(response.status, 204, "stream {index}: {}", response.text());
        }
        self.expected += text;
    }

    #[track_caller]
    pub(crate) fn assert_all_there(&self) {
        let mut http = self.connect();
        for index in 0..STREAMS {
            assert_eq!(http.request("GET", &stream(index), &[], "").text(), self.expected, "stream {index}");
        }
    }

    /// What a node says to whoever asks whether it is ready.
    pub(crate) fn ready(&self, node: u32) -> Response {
        let metrics = self.cluster.metrics_url(Member::Node(node)).expect("it runs");
        Http::connect(metrics).request("GET", "/ready", &[], "")
    }

    pub(crate) fn until_ready(&self, node: u32) {
        eventually(&format!("node {node} to be ready"), || (self.ready(node).status == 200).then_some(()));
    }

    pub(crate) fn output(&self, node: u32) -> String {
        self.cluster.process(Member::Node(node)).expect("it runs").output()
    }

    /// Kills a node, spoils its log, and starts it again.
    pub(crate) fn spoil(&mut self, node: u32, spoil: impl FnOnce(&[Record])) {
        self.cluster.kill(Member::Node(node));
        spoil(&tree::records(&self.cluster.data_folder(node)));
        self.cluster.start_member(Member::Node(node));
        eventually("the damage to be told", || {
            let ready = self.ready(node);
            (ready.status == 503 && ready.text().contains("is not served by this node")).then_some(())
        });
    }

    /// A value of the identity of a node.
    pub(crate) fn identity(&self, node: u32, key: &str) -> String {
        let identity = std::fs::read_to_string(self.cluster.data_folder(node).join("identity.toml")).expect("a file");
        let line = identity.lines().find_map(|line| line.strip_prefix(&format!("{key} = "))).expect("it is there");
        line.trim_matches('"').to_owned()
    }

    /// How node 2 says to node 1 who calls.
    pub(crate) fn introduction(&self) -> Vec<(&'static str, String)> {
        let incarnation = |node| {
            let number = u64::from_str_radix(&self.identity(node, "incarnation"), 16);
            number.expect("a number").to_string()
        };
        vec![
            ("ursula-peer-version", "1".to_owned()),
            ("ursula-cluster", self.identity(1, "cluster")),
            ("ursula-from", "2".to_owned()),
            ("ursula-from-incarnation", incarnation(2)),
            ("ursula-to", "1".to_owned()),
            ("ursula-to-incarnation", incarnation(1)),
        ]
    }

    /// Runs a command that must come to its end. Interrupted, each can be run again, and a node of a busy machine may
    /// take long to answer.
    pub(crate) fn command(&self, args: &[&str], by: u32) -> String {
        let mut last = String::new();
        for _ in 0..5 {
            match self.cluster.command(args, by) {
                Ok(text) => return text,
                Err(error) => last = error,
            }
        }
        panic!("ursula cluster {}: {last}", args.join(" "))
    }

    /// Runs a command that must not succeed, until it says why.
    pub(crate) fn refusal(&self, args: &[&str], by: u32, words: &str) {
        eventually(&format!("{words:?} of ursula cluster {}", args.join(" ")), || {
            let error = self.cluster.command(args, by).expect_err("it has to be refused");
            error.contains(words).then_some(())
        });
    }

    pub(crate) fn status(&self, by: u32) -> String {
        self.command(&["status"], by)
    }

    /// The groups that a node refuses, as the status has it.
    pub(crate) fn refused(&self, node: u64, by: u32) -> Vec<u64> {
        eventually("the node to answer", || self.refused_now(node, by))
    }

    pub(crate) fn refused_now(&self, node: u64, by: u32) -> Option<Vec<u64>> {
        let status = self.command(&["status", "--output", "json"], by);
        let status: Value = serde_json::from_str(&status).expect("an object");
        let nodes = status["nodes"].as_array().expect("nodes");
        let node = nodes.iter().find(|known| known["id"] == node).expect("the node");
        // Nothing is known of one that did not answer in time.
        let refused = node["refused"].as_array()?;
        Some(refused.iter().map(|each| each["group"].as_u64().expect("a number")).collect())
    }
}
