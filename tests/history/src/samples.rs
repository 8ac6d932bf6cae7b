//! What the processes of the nodes use, second by second, as the machine and their own metrics say.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ursula_tests::{Cluster, Member, Metrics};

const INTERVAL: Duration = Duration::from_secs(1);

/// A node at one moment, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    /// Resident memory.
    pub(crate) rss: u64,
    /// Its directory.
    pub(crate) log: u64,
    /// What it has that is in no pack, of the groups that it leads.
    pub(crate) unpacked: u64,
}

/// Everything that was seen.
#[derive(Debug, Default, Clone)]
pub(crate) struct Samples {
    /// All nodes, at seconds since the start.
    pub(crate) nodes: Vec<(f64, Vec<Node>)>,
    /// What happened, and when.
    pub(crate) notes: Vec<(f64, &'static str)>,
}

impl Samples {
    /// The most of any node at any time.
    pub(crate) fn most(&self, of: fn(&Node) -> u64) -> u64 {
        self.nodes.iter().flat_map(|(_, nodes)| nodes).map(of).max().unwrap_or(0)
    }

    /// The most of any node at the end.
    pub(crate) fn last(&self, of: fn(&Node) -> u64) -> u64 {
        self.nodes.last().iter().flat_map(|(_, nodes)| nodes).map(of).max().unwrap_or(0)
    }
}

/// Looks each second until it is stopped.
pub(crate) struct Sampler {
    samples: Arc<Mutex<Samples>>,
    started: Instant,
}

struct Watched {
    process: u32,
    folder: PathBuf,
    metrics: String,
}

impl Sampler {
    pub(crate) fn start(cluster: &Cluster) -> Sampler {
        let watched: Vec<Watched> = nodes(cluster)
            .map(|(id, metrics)| Watched {
                process: cluster.process(Member::Node(id)).expect("it runs").id(),
                folder: cluster.data_folder(id),
                metrics,
            })
            .collect();
        let sampler = Sampler { samples: Arc::default(), started: Instant::now() };
        let (samples, started) = (Arc::downgrade(&sampler.samples), sampler.started);
        thread::spawn(move || {
            while let Some(samples) = samples.upgrade() {
                let now = watched.iter().map(Watched::look).collect();
                lock(&samples).nodes.push((started.elapsed().as_secs_f64(), now));
                drop(samples);
                thread::sleep(INTERVAL);
            }
        });
        sampler
    }

    /// Remembers that something happened now.
    pub(crate) fn note(&self, what: &'static str) {
        lock(&self.samples).notes.push((self.started.elapsed().as_secs_f64(), what));
    }

    pub(crate) fn stop(self) -> Samples {
        lock(&self.samples).clone()
    }
}

impl Watched {
    fn look(&self) -> Node {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process)).unwrap_or_default();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss = rss.and_then(|rss| rss.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
        let unpacked = Metrics::fetch(&self.metrics).value("ursula_node_unpacked_bytes") as u64;
        Node { rss: rss << 10, log: folder_bytes(&self.folder), unpacked }
    }
}

/// What the nodes say of themselves.
pub(crate) fn node_metrics(cluster: &Cluster) -> Vec<Metrics> {
    nodes(cluster).map(|(_, url)| Metrics::fetch(&url)).collect()
}

fn nodes(cluster: &Cluster) -> impl Iterator<Item = (u32, String)> + '_ {
    cluster.members().into_iter().filter_map(|member| match member {
        Member::Node(id) => Some((id, cluster.metrics_url(member)?.to_owned())),
        Member::Gateway(_) => None,
    })
}

fn folder_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        // Removed meanwhile.
        Err(_) => 0,
    });
    bytes.sum()
}

fn lock(samples: &Mutex<Samples>) -> MutexGuard<'_, Samples> {
    samples.lock().unwrap_or_else(PoisonError::into_inner)
}
