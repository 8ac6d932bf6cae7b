//! Everything that a seed decides before anything happens.

use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use ursula_soak::LoadOptions;

/// One simulation.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What everything follows from.
    pub seed: u64,
    /// Nodes of the cluster at its begin.
    pub nodes: u64,
    /// Nodes that may join it.
    pub spares: u64,
    /// Gateways.
    pub gateways: usize,
    /// Groups that hold streams.
    pub groups: u32,
    /// Cores of each node.
    pub cores: usize,
    /// Memory of a core for recent bytes.
    pub ring_bytes: usize,
    /// One file of the log.
    pub segment_bytes: u64,
    /// A checkpoint is due after so many bytes.
    pub checkpoint_log_bytes: u64,
    /// Entries that stay in the log after that.
    pub entries_kept: u64,
    /// Entries in memory.
    pub recent_bytes: usize,
    /// A message takes at least so long...
    pub latency_min: Duration,
    /// ...and at most so long.
    pub latency_max: Duration,
    /// A write of the disk takes at most so long.
    pub disk_max: Duration,
    /// How long a gateway tries.
    pub op_timeout_ms: u64,
    /// How long there are faults.
    pub time: Duration,
    /// What clients do.
    pub load: LoadOptions,
    /// How bytes leave the nodes, if they do.
    pub packs: Option<Packs>,
    /// Whether everything but the store is lost at last.
    pub loss: Option<Loss>,
}

/// All nodes are lost with their disks, and what they had comes back from the store, into another cluster.
#[derive(Debug, Clone, Copy)]
pub struct Loss {
    /// Whether that happens under load; otherwise packs have everything by then.
    pub under_load: bool,
    /// Nodes of the other cluster.
    pub nodes: u64,
    /// Its groups that hold streams.
    pub groups: u32,
    /// How often the restore is killed, and begun again.
    pub kills: u32,
    /// What is sent to the store when the old nodes are lost arrives there afterwards.
    pub late_puts: bool,
    /// Whether nodes and the store have faults meanwhile.
    pub faults: bool,
}

/// How bytes leave the nodes.
#[derive(Debug, Clone, Copy)]
pub struct Packs {
    /// A pack is stored when so many bytes wait...
    pub bytes: u64,
    /// ...or so much time went by.
    pub interval: Duration,
    /// Files of the log that are kept although packs have their bytes.
    pub log_segments: u64,
    /// Memory for what was fetched.
    pub cache_bytes: usize,
    /// So many percent of the calls of the store meet a fault.
    pub faults_percent: u32,
    /// How long the store is away.
    pub away: Duration,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Plan {
        let mut random = StdRng::seed_from_u64(seed);
        let mut choose = |from: &[u64]| *from.choose(&mut random).expect("there is something to choose from");
        let nodes = choose(&[3, 3, 3, 5]);
        let latency_min = Duration::from_millis(choose(&[1, 1, 2, 4]));
        let load = LoadOptions {
            seed,
            slots: choose(&[4, 6, 8]) as usize,
            writers: choose(&[3, 4, 6]) as usize,
            followers: choose(&[0, 2, 3]) as usize,
            auditors: 1,
            probes: 2,
            lives: choose(&[0, 1, 1]) as usize,
            keepers: 0,
            offloaded: false,
            records_max: choose(&[40, 100, 1000]) as usize,
            rate: Some(choose(&[30, 60]) as f64),
            // With large ones, files of the log become full, and memory too.
            doublings: choose(&[0, 0, 4, 5]) as u32,
        };
        let mut plan = Plan {
            seed,
            nodes,
            spares: 1,
            gateways: choose(&[1, 2, 2]) as usize,
            groups: choose(&[1, 2, 3]) as u32,
            cores: choose(&[1, 1, 2]) as usize,
            ring_bytes: choose(&[16 << 10, 64 << 10, 1 << 20]) as usize,
            // What a snapshot has of a stream goes into one record, if it is not more than 1 MiB.
            segment_bytes: if load.doublings > 0 { 1 << 20 } else { choose(&[256 << 10, 512 << 10]) },
            checkpoint_log_bytes: choose(&[8 << 10, 32 << 10, 1 << 20]),
            entries_kept: choose(&[4, 32, 1000]),
            recent_bytes: choose(&[0, 0, 4 << 10, 1 << 20]) as usize,
            latency_min,
            latency_max: latency_min + Duration::from_millis(choose(&[2, 6, 20])),
            disk_max: Duration::from_micros(choose(&[500, 2000, 8000])),
            op_timeout_ms: choose(&[1500, 4000, 10_000]),
            time: Duration::from_secs(choose(&[3, 3, 4, 4, 5, 6, 6, 10])),
            load,
            packs: None,
            loss: None,
        };
        plan.packs = (choose(&[0, 1]) > 0).then(|| Packs {
            bytes: choose(&[1 << 10, 8 << 10, 64 << 10]),
            interval: Duration::from_millis(choose(&[50, 200, 1000])),
            log_segments: choose(&[0, 1, 4]),
            cache_bytes: choose(&[64 << 10, 1 << 20, 16 << 20]) as usize,
            faults_percent: choose(&[0, 5, 15]) as u32,
            away: Duration::from_millis(choose(&[0, 500, 3000])),
        });
        if plan.packs.is_some() && choose(&[0, 0, 1]) > 0 {
            let faults = choose(&[0, 1]) > 0;
            plan.loss = Some(Loss {
                under_load: choose(&[0, 1]) > 0,
                nodes: if faults { 3 } else { choose(&[1, 2, 3]) },
                groups: choose(&[1, 2, 3, 4]) as u32,
                kills: choose(&[0, 1, 3]) as u32,
                late_puts: choose(&[0, 1]) > 0,
                faults,
            });
        }
        plan.load.keepers = choose(&[0, 1]) as usize;
        // Where everything is lost under load, these are what nothing may be missing of. Not where the heirs are damaged: one
        // that refuses the meta group stores no packs, so whoever waits for one waits until somebody repairs it.
        plan.load.offloaded = match (plan.packs, plan.loss) {
            (None, _) | (_, Some(Loss { faults: true, .. })) => false,
            (Some(_), Some(loss)) if loss.under_load => true,
            (Some(_), _) => choose(&[1, 0, 0]) > 0,
        };
        plan
    }

    /// The plan of the cluster after a loss.
    pub(crate) fn after(&self, loss: Loss) -> Plan {
        Plan { seed: self.seed | 1 << 63, nodes: loss.nodes, groups: loss.groups, loss: None, ..self.clone() }
    }

    /// All nodes, also those that may join.
    pub fn machines(&self) -> u64 {
        self.nodes + self.spares
    }
}
