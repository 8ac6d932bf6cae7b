//! Kinds of faults. Those that matter most are there more than once.

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

/// That many are few.
const FEW: usize = 4;

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
    pub(super) const ALL: [Kind; 38] = [
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
        Kind::Members,
        Kind::Damage,
        Kind::Damage,
        Kind::Damage,
    ];

    /// Those of one simulation: all of them in one of four, about half in another, else a few. The fewer they are, the
    /// more often they meet each other (Groce and others: Swarm Testing).
    pub(super) fn some(random: &mut StdRng) -> Vec<Kind> {
        let kinds: Vec<&[Kind]> = Kind::ALL.chunk_by(PartialEq::eq).collect();
        let count = match random.random_range(0..4) {
            0 => kinds.len(),
            1 => kinds.len() / 2,
            _ => random.random_range(1..=FEW),
        };
        kinds.choose_multiple(random, count).copied().flatten().copied().collect()
    }
}
