//! A server that is ready: one process with both tiers, or a storage node and a gateway.

use crate::{Http, Metrics, Process, Response, eventually};

/// A running server. Its processes are killed when it is dropped.
#[derive(Debug)]
pub struct Server {
    /// Where clients are served, as `http://host:port`.
    pub base_url: String,
    /// Metrics of the gateway.
    pub gateway_metrics_url: String,
    /// Metrics of the storage node.
    pub node_metrics_url: String,
    /// Where the storage node serves gateways, as `host:port`; only with two processes.
    pub node_address: Option<String>,
    gateway: Process,
    node: Option<Process>,
}

/// Kept short in tests: nothing may depend on how long a long poll lasts.
const LONG_POLL_TIMEOUT_MS: &str = "1000";

/// Not where clients connect from: their ports must not take the place of a node that is started again.
const NODE_LISTEN: &str = "127.0.0.2:0";

impl Server {
    /// One process with both tiers.
    pub fn dev() -> Server {
        Server::dev_with(&[])
    }

    /// One process with both tiers, and further flags of `ursula dev`.
    pub fn dev_with(flags: &[&str]) -> Server {
        let listen = ["--listen", "--operations-listen", "--node-operations-listen"];
        let mut args = vec!["dev"];
        args.extend(listen.into_iter().flat_map(|flag| [flag, "127.0.0.1:0"]));
        args.extend(unless_given(flags, "--long-poll-timeout-ms", LONG_POLL_TIMEOUT_MS));
        args.extend(flags);
        let process = Process::start("ursula", &args, &[]);
        let base_url = word_after(&process.line_with("serves streams on "), "serves streams on ");
        let metrics = process.line_with("Metrics: ");
        let server = Server {
            base_url,
            gateway_metrics_url: word_after(&metrics, "Metrics: "),
            node_metrics_url: word_after(&metrics, "(gateway), "),
            node_address: None,
            gateway: process,
            node: None,
        };
        server.wait_until_ready()
    }

    /// A storage node and a gateway, each a process.
    pub fn tiers() -> Server {
        Server::tiers_with(&[], &[])
    }

    /// A storage node and a gateway, with further flags for each.
    pub fn tiers_with(gateway_flags: &[&str], node_flags: &[&str]) -> Server {
        let (node, address, node_metrics_url) = start_node(NODE_LISTEN, node_flags);
        let (gateway, [base_url, gateway_metrics_url]) = start_gateway(&address, gateway_flags);
        let (node, node_address) = (Some(node), Some(address));
        let server = Server { base_url, gateway_metrics_url, node_metrics_url, node_address, gateway, node };
        server.wait_until_ready()
    }

    /// Kills the storage node if it still runs, and starts another one at its address, with these flags. Returns
    /// when that serves.
    ///
    /// # Panics
    /// If this server has no storage node of its own.
    pub fn restart_node(&mut self, flags: &[&str]) {
        let address = self.node_address.clone().expect("a storage node of its own");
        self.node().kill();
        let (node, _, node_metrics_url) = start_node(&address, flags);
        self.node_metrics_url = node_metrics_url;
        self.node = Some(node);
    }

    /// Starts another gateway of the same storage node, which goes on belonging to this server.
    ///
    /// # Panics
    /// If this server is a single process.
    pub fn another_gateway(&self) -> Server {
        let node = self.node_address.clone().expect("a storage node of its own");
        let (gateway, [base_url, gateway_metrics_url]) = start_gateway(&node, &[]);
        let node_metrics_url = self.node_metrics_url.clone();
        let server =
            Server { base_url, gateway_metrics_url, node_metrics_url, node_address: Some(node), gateway, node: None };
        server.wait_until_ready()
    }

    /// The process that serves clients.
    pub fn gateway(&self) -> &Process {
        &self.gateway
    }

    /// The process that holds the streams, if it is not the one that serves clients.
    ///
    /// # Panics
    /// If this server has none of its own.
    pub fn node(&self) -> &Process {
        self.node.as_ref().expect("a storage node of its own")
    }

    /// Opens a connection to the public port.
    pub fn connect(&self) -> Http {
        Http::connect(&self.base_url)
    }

    /// Sends one request on a connection of its own.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Response {
        self.connect().request(method, path, headers, body)
    }

    /// The metrics of the gateway now.
    pub fn gateway_metrics(&self) -> Metrics {
        Metrics::fetch(&self.gateway_metrics_url)
    }

    /// The metrics of the storage node now.
    pub fn node_metrics(&self) -> Metrics {
        Metrics::fetch(&self.node_metrics_url)
    }

    fn wait_until_ready(self) -> Server {
        eventually("the server to be ready", || {
            let ready = Http::connect(&self.gateway_metrics_url).request("GET", "/ready", &[], "");
            (ready.status == 200).then_some(())
        });
        self
    }
}

fn start_node(listen: &str, flags: &[&str]) -> (Process, String, String) {
    let mut args = vec!["--listen", listen, "--operations-listen", NODE_LISTEN];
    args.extend(flags);
    let node = Process::start("ursula-storage-node", &args, &[]);
    let serving = node.line_with("listen=");
    let (address, metrics) = (word_after(&serving, " listen="), metrics_url(&serving));
    (node, address, metrics)
}

fn start_gateway(node: &str, flags: &[&str]) -> (Process, [String; 2]) {
    let mut args = vec!["--listen", "127.0.0.1:0", "--operations-listen", "127.0.0.1:0", "--node", node];
    args.extend(unless_given(flags, "--long-poll-timeout-ms", LONG_POLL_TIMEOUT_MS));
    args.extend(flags);
    let gateway = Process::start("ursula-gateway", &args, &[]);
    let serving = gateway.line_with("listen=");
    let base_url = format!("http://{}", word_after(&serving, " listen="));
    (gateway, [base_url, metrics_url(&serving)])
}

fn unless_given<'a>(flags: &[&str], flag: &'a str, value: &'a str) -> Vec<&'a str> {
    if flags.contains(&flag) { Vec::new() } else { vec![flag, value] }
}

fn metrics_url(serving: &str) -> String {
    format!("http://{}/metrics", word_after(serving, "operations="))
}

/// The word that follows `marker` in a line.
pub(crate) fn word_after(line: &str, marker: &str) -> String {
    let word = line.split_once(marker).and_then(|(_, rest)| rest.split_whitespace().next());
    word.unwrap_or_else(|| panic!("no word after {marker:?} in {line:?}")).to_owned()
}
