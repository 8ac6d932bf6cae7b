//! What a node tells of each of its replicas. The label is the number of the group, of which a cluster has as many for ever.

use metrics::Gauge;
use ursula_common::GroupId;
use ursula_common::metrics::Registry;

use crate::cluster::Role;

/// The gauges of one replica. When it goes they tell that there is none.
pub(crate) struct ReplicaGauges {
    role: Gauge,
    term: Gauge,
    leaderless: Gauge,
    unapplied: Gauge,
    behind: Gauge,
}

/// What they tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) role: Role,
    pub(crate) term: u64,
    pub(crate) knows_leader: bool,
    /// Entries of the log that were not applied.
    pub(crate) unapplied: u64,
    /// Entries that the last of the voters does not have, as its leader knows; 0 elsewhere.
    pub(crate) behind: u64,
}

impl ReplicaGauges {
    pub(super) fn new(registry: &Registry, group: GroupId) -> ReplicaGauges {
        let group = group.0.to_string();
        let gauge = |name, help| registry.gauge_of(name, help, &[("group", &group)]);
        ReplicaGauges {
            role: gauge("ursula_node_raft_role", "0 no replica here, 1 learner, 2 follower, 3 candidate, 4 leader"),
            term: gauge("ursula_node_raft_term", "term of the replica; each election begins one"),
            leaderless: gauge("ursula_node_raft_leaderless", "1 while the replica knows of no leader"),
            unapplied: gauge("ursula_node_raft_unapplied_entries", "entries of the log that were not applied"),
            behind: gauge("ursula_node_raft_behind_entries", "of a leader: entries that its last voter does not have"),
        }
    }

    pub(crate) fn set(&self, standing: Standing) {
        let Standing { role, term, knows_leader, unapplied, behind } = standing;
        self.role.set(match role {
            Role::Learner => 1.0,
            Role::Follower => 2.0,
            Role::Candidate => 3.0,
            Role::Leader => 4.0,
        });
        self.term.set(term as f64);
        self.leaderless.set(if knows_leader { 0.0 } else { 1.0 });
        self.unapplied.set(unapplied as f64);
        self.behind.set(behind as f64);
    }
}

impl Drop for ReplicaGauges {
    fn drop(&mut self) {
        [&self.role, &self.term, &self.leaderless, &self.unapplied, &self.behind]
            .into_iter()
            .for_each(|gauge| gauge.set(0.0));
    }
}
