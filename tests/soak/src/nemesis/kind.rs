//! The kinds of faults: their names, and which clusters they make sense for.

use ursula_tests::Cluster;

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// SIGKILL for the node that leads the most groups.
    KillLeader,
    /// SIGKILL for any node.
    KillNode,
    /// SIGKILL for all nodes at once.
    KillNodes,
    /// SIGKILL for all processes at once.
    KillAll,
    /// SIGKILL for a gateway.
    KillGateway,
    /// SIGSTOP for the node that leads the most groups.
    FreezeLeader,
    /// SIGSTOP for any node.
    FreezeNode,
    /// SIGSTOP for a gateway.
    FreezeGateway,
    /// Nothing reaches the leader, and nothing comes from it.
    Partition,
    /// Nothing reaches the leader.
    PartitionIn,
    /// Nothing comes from the leader.
    PartitionOut,
    /// A gateway reaches no node.
    CutGateway,
    /// All connections to the leader are reset, once.
    ResetConnections,
    /// What goes to the leader and comes from it is late, or little at a time.
    SlowLinks,
    /// The disk of a node has no space left.
    DiskFull,
    /// The disk of a node takes writes and does not sync them.
    DiskFailure,
    /// The wall clock of a process jumps, and later back.
    ClockJump,
    /// All processes are stopped as an operator would and started again, one after the other.
    RollingRestart,
    /// The leader is drained, and takes part again.
    TransferLeader,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 19] = [
        Kind::KillLeader,
        Kind::KillNode,
        Kind::KillNodes,
        Kind::KillAll,
        Kind::KillGateway,
        Kind::FreezeLeader,
        Kind::FreezeNode,
        Kind::FreezeGateway,
        Kind::Partition,
        Kind::PartitionIn,
        Kind::PartitionOut,
        Kind::CutGateway,
        Kind::ResetConnections,
        Kind::SlowLinks,
        Kind::DiskFull,
        Kind::DiskFailure,
        Kind::ClockJump,
        Kind::RollingRestart,
        Kind::TransferLeader,
    ];

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::KillLeader => "kill-leader",
            Kind::KillNode => "kill-node",
            Kind::KillNodes => "kill-nodes",
            Kind::KillAll => "kill-all",
            Kind::KillGateway => "kill-gateway",
            Kind::FreezeLeader => "freeze-leader",
            Kind::FreezeNode => "freeze-node",
            Kind::FreezeGateway => "freeze-gateway",
            Kind::Partition => "partition",
            Kind::PartitionIn => "partition-in",
            Kind::PartitionOut => "partition-out",
            Kind::CutGateway => "cut-gateway",
            Kind::ResetConnections => "reset-connections",
            Kind::SlowLinks => "slow-links",
            Kind::DiskFull => "disk-full",
            Kind::DiskFailure => "disk-failure",
            Kind::ClockJump => "clock-jump",
            Kind::RollingRestart => "rolling-restart",
            Kind::TransferLeader => "transfer-leader",
        }
    }

    /// The kind of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn parse(name: &str) -> Result<Kind, String> {
        let names = || Kind::ALL.map(Kind::name).join(", ");
        Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| format!("one of {} is needed", names()))
    }

    /// Whether it needs a disk that can fill up and fail.
    pub fn needs_disk(self) -> bool {
        matches!(self, Kind::DiskFull | Kind::DiskFailure)
    }

    /// Whether it can be done to a cluster at all.
    pub(crate) fn is_possible(self, cluster: &Cluster) -> bool {
        let nodes = cluster.options().nodes;
        match self {
            Kind::DiskFull | Kind::DiskFailure => cluster.disk().is_some(),
            Kind::KillGateway | Kind::FreezeGateway | Kind::ClockJump | Kind::RollingRestart => true,
            Kind::KillAll
            | Kind::KillNode
            | Kind::FreezeNode
            | Kind::Partition
            | Kind::PartitionIn
            | Kind::PartitionOut
            | Kind::CutGateway
            | Kind::ResetConnections
            | Kind::SlowLinks => nodes > 0,
            Kind::KillLeader | Kind::KillNodes | Kind::FreezeLeader | Kind::TransferLeader => nodes > 1,
        }
    }

    /// Whether a cluster survives it: what is in memory does not survive the end of its process.
    pub(crate) fn is_survived(self, cluster: &Cluster) -> bool {
        let ends_nodes = match self {
            Kind::KillLeader | Kind::KillNode | Kind::KillNodes | Kind::KillAll => true,
            Kind::RollingRestart | Kind::DiskFailure => true,
            Kind::KillGateway => cluster.options().nodes == 0,
            Kind::FreezeLeader
            | Kind::FreezeNode
            | Kind::FreezeGateway
            | Kind::Partition
            | Kind::PartitionIn
            | Kind::PartitionOut
            | Kind::CutGateway
            | Kind::ResetConnections
            | Kind::SlowLinks
            | Kind::DiskFull
            | Kind::ClockJump
            | Kind::TransferLeader => false,
        };
        cluster.options().durable || !ends_nodes
    }
}
