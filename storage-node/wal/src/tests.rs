//! Tests of the log as a whole, over a disk in memory.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ursula_common::GroupId;

use crate::*;

mod basics;
mod crash;
mod damage;
mod disks;
mod faults;
mod flips;
mod life;
mod reads;
mod refuse;
mod world;

/// Where the logs of tests lie.
pub(crate) const DIR: &str = "/log";

/// Small enough that everything happens soon.
pub(crate) fn options(salt: u64) -> Options {
    Options {
        segment_bytes: 16 << 10,
        record_bytes_max: 1500,
        groups_max: 6,
        identity: 7,
        salt,
        spares: 2,
        reserve: 1,
        free_bytes_min: 0,
        files_max: 2,
    }
}

/// Every second life of a process has a checkpoint of everything.
pub(crate) fn open(io: &FaultIo, salt: u64) -> Result<(LogDir, Recovered), OpenError> {
    let applied = move |_| (salt % 2 == 1).then_some(u64::MAX);
    LogDir::open_after(Arc::new(io.clone()), Path::new(DIR), options(salt), &applied, &|_| None)
}

/// The payloads of a group's entries.
pub(crate) fn payloads(log: &LogDir, group: &RecoveredGroup) -> Vec<(u64, Bytes)> {
    group.entries.iter().map(|(index, at)| (*index, log.read(*at).unwrap())).collect()
}

pub(crate) const G: GroupId = GroupId(1);
