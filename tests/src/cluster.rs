//! A cluster of real processes on loopback, and every way to hurt it: storage nodes and gateways, a proxy in front of
//! each node, disks that fail and clocks that jump.
//!
//! Nodes and gateways know a node by one address, that of its proxy, which tells its sources apart by the process that
//! connects. So every pair of processes has a link of its own, and no program has a setting for tests. Processes die
//! with the thread that started the cluster.

mod faults;
mod status;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;

pub use status::Leaders;

use crate::process::tied;
use crate::server::word_after;
use crate::{Disk, Http, Link, Process, Proxy, WallClock, eventually, owner, run};

/// One process of a cluster. Counts from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Member {
    /// A storage node, by its id.
    Node(u32),
    /// A gateway.
    Gateway(u32),
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Member::Node(id) => write!(f, "node {id}"),
            Member::Gateway(id) => write!(f, "gateway {id}"),
        }
    }
}

/// What a cluster consists of.
#[derive(Debug, Clone)]
pub struct Options {
    /// Storage nodes; with none, there is one process that is both, `ursula dev`, which counts as a gateway.
    pub nodes: u32,
    /// How many of them, the last ones, are in no cluster yet.
    pub unclaimed: u32,
    /// Gateways.
    pub gateways: u32,
    /// Whether there are data directories; several nodes form a cluster by `ursula cluster init`. Otherwise everything
    /// is in memory, on one node at most.
    pub durable: bool,
    /// Size of a disk of its own for the last node, which can fill up and fail.
    pub disk_bytes: Option<u64>,
    /// Further flags of each node.
    pub node_flags: Vec<String>,
    /// Further variables of each node.
    pub node_env: Vec<(String, String)>,
    /// Further flags of each gateway.
    pub gateway_flags: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            nodes: 3,
            unclaimed: 0,
            gateways: 2,
            durable: true,
            disk_bytes: None,
            node_flags: Vec::new(),
            node_env: Vec::new(),
            gateway_flags: Vec::new(),
        }
    }
}

/// Which process is whom, and what leads from one to another.
#[derive(Debug, Default)]
struct Fabric {
    processes: Mutex<BTreeMap<u32, Member>>,
    /// From a member to a node.
    links: BTreeMap<(Member, u32), Arc<Link>>,
    /// For everybody else, such as the operator's commands.
    others: Arc<Link>,
}

impl Fabric {
    fn new(members: &[Member], nodes: u32) -> Fabric {
        let pairs = members.iter().flat_map(|from| (1..=nodes).map(|to| (*from, to)));
        let pairs = pairs.filter(|(from, to)| *from != Member::Node(*to));
        Fabric { links: pairs.map(|pair| (pair, Arc::default())).collect(), ..Fabric::default() }
    }

    /// The link of a connection that came in front of `node`.
    fn identify(&self, stream: &std::net::TcpStream, node: u32) -> Arc<Link> {
        let pids: Vec<u32> = self.processes().keys().copied().collect();
        let from = owner(stream, &pids).and_then(|pid| self.processes().get(&pid).copied());
        let link = from.and_then(|from| self.links.get(&(from, node)));
        link.unwrap_or(&self.others).clone()
    }

    fn processes(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, Member>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place for a process, whether it runs or not.
struct Seat {
    process: Option<Process>,
    clock: WallClock,
    /// Where clients, or gateways and nodes, reach it now.
    address: Option<SocketAddr>,
    /// Where it serves metrics now.
    metrics_url: Option<String>,
}

/// A running cluster.
pub struct Cluster {
    // Processes end first, then what they use.
    seats: BTreeMap<Member, Seat>,
    proxies: BTreeMap<u32, Proxy>,
    fabric: Arc<Fabric>,
    disk: Option<Disk>,
    options: Options,
    folder: TempDir,
}

/// How often the nodes are asked to become a cluster.
const FORM_TRIES: usize = 4;

/// Not where proxies and clients connect from: their ports must not take the place of a process that starts.
const LISTEN: &str = "127.0.0.2:0";

impl Cluster {
    /// Starts all processes, and returns when each gateway can serve.
    ///
    /// # Panics
    /// If something does not start, or there is no right to mount a disk.
    pub fn start(options: Options) -> Cluster {
        assert!(options.durable || options.nodes <= 1, "in memory there is one node");
        assert!(options.nodes > 0 || options.gateways == 1, "there is one process, or there are nodes");
        let nodes = (1..=options.nodes).map(Member::Node);
        let members: Vec<Member> = nodes.chain((1..=options.gateways).map(Member::Gateway)).collect();
        let folder = tempfile::tempdir().expect("a folder");
        let fabric = Arc::new(Fabric::new(&members, options.nodes));
        let proxy = |node| {
            let fabric = fabric.clone();
            (node, Proxy::start(move |stream| Some(fabric.identify(stream, node))))
        };
        let proxies = (1..=options.nodes).map(proxy).collect();
        let seat = |member: &Member| {
            let clock = WallClock::prepare(folder.path(), &member.to_string().replace(' ', "-"));
            (*member, Seat { process: None, clock, address: None, metrics_url: None })
        };
        let seats = members.iter().map(seat).collect();
        let disk = options.disk_bytes.map(|bytes| Disk::mount(bytes).expect("a disk can be mounted"));
        let mut cluster = Cluster { seats, proxies, fabric, disk, options, folder };
        let (nodes, gateways): (Vec<Member>, Vec<Member>) =
            members.into_iter().partition(|member| matches!(member, Member::Node(_)));
        cluster.start_members(&nodes);
        if cluster.options.nodes > 1 {
            cluster.form();
        }
        cluster.start_members(&gateways);
        cluster.wait_until_ready();
        cluster
    }

    /// Makes one cluster of the nodes, once in its life.
    fn form(&self) {
        let nodes = 1..=self.options.nodes - self.options.unclaimed;
        let nodes = nodes.map(|id| format!("{id}={}", self.node_address(id)));
        let mut args: Vec<String> = ["cluster", "init"].map(str::to_owned).into();
        args.extend(nodes.flat_map(|node| ["--node".to_owned(), node]));
        // On a machine that is busy otherwise a node may not answer in time. Run again, it goes on where it stopped.
        let mut texts = Vec::new();
        for _ in 0..FORM_TRIES {
            let output = run("ursula", &args, &[]);
            if output.status.success() {
                return;
            }
            texts.push(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned());
        }
        panic!("ursula {}: {}", args.join(" "), texts.join("\n"));
    }

    /// Starts a process that does not run, with the data that it has.
    ///
    /// # Panics
    /// If it does not serve in time.
    pub fn start_member(&mut self, member: Member) {
        self.start_members(&[member]);
    }

    /// Starts several at once: they may need each other to serve.
    ///
    /// # Panics
    /// If one of them does not serve in time.
    pub fn start_members(&mut self, members: &[Member]) {
        for member in members {
            let mut command = match member {
                Member::Node(_) => tied("ursula-storage-node"),
                Member::Gateway(_) if self.is_single() => tied("ursula"),
                Member::Gateway(_) => tied("ursula-gateway"),
            };
            let seat = self.seat(*member);
            assert!(seat.process.is_none(), "{member} runs already");
            command.args(self.args(*member)).envs(seat.clock.variables());
            if let Member::Node(_) = member {
                command.envs(self.options.node_env.iter().cloned());
            }
            let process = Process::spawn(&member.to_string(), command);
            self.fabric.processes().insert(process.id(), *member);
            self.seat_mut(*member).process = Some(process);
        }
        for member in members {
            self.find(*member);
        }
    }

    /// Learns where a process serves.
    fn find(&mut self, member: Member) {
        let process = self.process(member).expect("it was started");
        let (address, metrics_url) = if self.is_single() {
            let address = word_after(&process.line_with("serves streams on "), "serves streams on http://");
            (address, word_after(&process.line_with("Metrics: "), "Metrics: "))
        } else {
            let serving = process.line_with("listen=");
            let metrics_url = format!("http://{}/metrics", word_after(&serving, "operations="));
            (word_after(&serving, " listen="), metrics_url)
        };
        let address: SocketAddr = address.parse().expect("an address");
        let seat = self.seat_mut(member);
        (seat.address, seat.metrics_url) = (Some(address), Some(metrics_url));
        if let Member::Node(id) = member {
            self.proxies[&id].lead_to(&[address]);
        }
    }

    fn args(&self, member: Member) -> Vec<String> {
        let mut args = vec!["--listen", LISTEN, "--operations-listen", LISTEN].into_iter().map(str::to_owned).collect();
        let mut add = |flag: &str, value: String| Vec::extend(&mut args, [flag.to_owned(), value]);
        match member {
            Member::Node(id) => {
                add("--node-id", id.to_string());
                if self.options.durable {
                    add("--data-dir", self.data_folder(id).display().to_string());
                }
                args.extend(self.options.node_flags.clone());
            }
            Member::Gateway(_) if self.is_single() => {
                args.insert(0, "dev".to_owned());
                args.extend(["--node-operations-listen", LISTEN].map(str::to_owned));
                if self.options.durable {
                    args.extend(["--data-dir".to_owned(), self.data_folder(0).display().to_string()]);
                }
                args.extend(self.options.gateway_flags.clone());
            }
            Member::Gateway(_) => {
                for id in 1..=self.options.nodes {
                    add("--node", self.node_address(id));
                }
                args.extend(self.options.gateway_flags.clone());
            }
        }
        args
    }

    /// The address by which everybody knows a node: that of its proxy.
    pub fn node_address(&self, id: u32) -> String {
        self.proxies[&id].address().to_string()
    }

    /// Where the data of a node lie; those of a single process have number 0.
    pub fn data_folder(&self, id: u32) -> PathBuf {
        let on_disk = self.disk.as_ref().filter(|_| id == self.options.nodes);
        let folder: &Path = on_disk.map_or(self.folder.path(), Disk::path);
        folder.join(format!("node-{id}"))
    }

    /// Where each gateway serves clients, as `host:port`; nowhere if it does not run.
    pub fn gateways(&self) -> Vec<Option<String>> {
        let gateways = self.seats.iter().filter(|(member, _)| matches!(member, Member::Gateway(_)));
        gateways.map(|(_, seat)| seat.address.map(|address| address.to_string())).collect()
    }

    /// All members.
    pub fn members(&self) -> Vec<Member> {
        self.seats.keys().copied().collect()
    }

    /// The process of a member, if it runs.
    pub fn process(&self, member: Member) -> Option<&Process> {
        self.seat(member).process.as_ref()
    }

    /// Where a member serves metrics, if it runs.
    pub fn metrics_url(&self, member: Member) -> Option<&str> {
        self.seat(member).metrics_url.as_deref()
    }

    /// Whether one process is all.
    fn is_single(&self) -> bool {
        self.options.nodes == 0
    }

    /// What it was started with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Waits until each gateway that runs can serve.
    ///
    /// # Panics
    /// If that does not come.
    pub fn wait_until_ready(&self) {
        for gateway in self.gateways().into_iter().flatten() {
            eventually(&format!("the gateway at {gateway} to be ready"), || {
                let response = Http::connect(&format!("http://{gateway}")).request("GET", "/ready", &[], "");
                (response.status == 200).then_some(())
            });
        }
    }

    fn seat(&self, member: Member) -> &Seat {
        self.seats.get(&member).unwrap_or_else(|| panic!("there is no {member}"))
    }

    fn seat_mut(&mut self, member: Member) -> &mut Seat {
        self.seats.get_mut(&member).unwrap_or_else(|| panic!("there is no {member}"))
    }
}

#[cfg(test)]
mod tests;
