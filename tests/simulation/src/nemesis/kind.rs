//! Kinds of faults. Those that matter most are there more than once.

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Kill,
    PowerLoss,
    PowerLossOfMost,
    CrashAtCall,
    FailCall,
    PartitionNodes,
    Isolate,
    PartitionGateway,
    OneWay,
    Delay,
    SlowLink,
    SlowDisk,
    FullDisk,
    Clock,
    KillGateway,
    Drain,
    Members,
    Damage,
}

impl Kind {
    pub(super) const ALL: [Kind; 26] = [
        Kind::Kill,
        Kind::PowerLoss,
        Kind::PowerLoss,
        Kind::PowerLossOfMost,
        Kind::PowerLossOfMost,
        Kind::CrashAtCall,
        Kind::CrashAtCall,
        Kind::CrashAtCall,
        Kind::FailCall,
        Kind::FailCall,
        Kind::PartitionNodes,
        Kind::PartitionNodes,
        Kind::PartitionNodes,
        Kind::Isolate,
        Kind::PartitionGateway,
        Kind::OneWay,
        Kind::Delay,
        Kind::Delay,
        Kind::SlowLink,
        Kind::SlowDisk,
        Kind::FullDisk,
        Kind::Clock,
        Kind::KillGateway,
        Kind::Drain,
        Kind::Members,
        Kind::Damage,
    ];
}
