//! Kinds of faults. Those that matter most are there more than once.

use rand::Rng as _;
use rand::rngs::StdRng;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Kill,
    PowerLoss,
    PowerLossOfMost,
    CrashAtCall,
    CrashAfterCheckpoint,
    FailCall,
    PartitionNodes,
    Isolate,
    PartitionGateway,
    OneWay,
    OldLeader,
    Delay,
    SlowLink,
    SlowDisk,
    FullDisk,
    Clock,
    Island,
    LeapUnheard,
    KillGateway,
    Drain,
    Members,
    Damage,
}

impl Kind {
    pub(super) const ALL: [Kind; 37] = [
        Kind::Kill,
        Kind::PowerLoss,
        Kind::PowerLoss,
        Kind::PowerLossOfMost,
        Kind::PowerLossOfMost,
        Kind::CrashAtCall,
        Kind::CrashAtCall,
        Kind::CrashAtCall,
        Kind::CrashAfterCheckpoint,
        Kind::CrashAfterCheckpoint,
        Kind::FailCall,
        Kind::FailCall,
        Kind::PartitionNodes,
        Kind::PartitionNodes,
        Kind::PartitionNodes,
        Kind::Isolate,
        Kind::PartitionGateway,
        Kind::OneWay,
        Kind::OldLeader,
        Kind::OldLeader,
        Kind::OldLeader,
        Kind::Delay,
        Kind::Delay,
        Kind::SlowLink,
        Kind::SlowDisk,
        Kind::FullDisk,
        Kind::Clock,
        Kind::Island,
        Kind::Island,
        Kind::LeapUnheard,
        Kind::LeapUnheard,
        Kind::KillGateway,
        Kind::Drain,
        Kind::Members,
        Kind::Damage,
        Kind::Damage,
        Kind::Damage,
    ];

    /// Those of one simulation: all of them in one of four, else about half, which then meet more often (Groce and
    /// others: Swarm Testing).
    pub(super) fn some(random: &mut StdRng) -> Vec<Kind> {
        let all = random.random_ratio(1, 4);
        let kinds = Kind::ALL.chunk_by(PartialEq::eq).filter(|_| all || random.random_ratio(1, 2));
        let some = kinds.flatten().copied().collect::<Vec<_>>();
        if some.is_empty() { Kind::ALL.to_vec() } else { some }
    }
}
