//! Faults of disks: a call that fails or at which the machine stops, and files that rot.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use ursula_wal::io::FaultIo;
use ursula_wal::io::fault::{Call, Fault};

use super::{DOWN_MS, HOLD_MS, Mend, Nemesis, SLOW_DISK_MS, pairs};
use crate::simulation::World;

/// What was done to a disk.
#[derive(Default)]
pub(super) struct Trap {
    /// A call was made to fail, or the machine to stop at it.
    sprung: Arc<AtomicBool>,
    crashes: bool,
    /// There was no room.
    pub(super) full: bool,
}

impl Trap {
    pub(super) fn disarm(&mut self, disk: &FaultIo) {
        disk.unwatch();
    }
}

/// Calls that change something, which are those that may not fail unnoticed; the fault is at one of so many next calls
/// of its kind.
const CALLS: [(Call, u32); 7] = [
    (Call::Write, 40),
    (Call::Sync, 40),
    (Call::Sync, 10),
    (Call::Rename, 5),
    (Call::SyncDir, 20),
    (Call::SyncDir, 5),
    (Call::Create, 5),
];
/// The folder of the log.
const LOG: &str = "log";
/// So many bits are flipped at a time, at most.
const FLIPS_MAX: u32 = 8;
/// How long a node lags before what it lacks is damaged elsewhere.
const LAGS: Duration = Duration::from_millis(600);
/// What was written so long ago is followed by a mark, or something else that proves that it was synced: before that,
/// damage looks like a write that a crash cut off.
const PROVEN_AFTER: Duration = Duration::from_secs(1);

impl Nemesis {
    /// Makes a call of a disk fail, or its machine stop there or right after it; sometimes calls take their time.
    pub(super) fn set_trap(&mut self, world: &mut World, crashes: bool) {
        let Some(index) = self.any_up() else { return };
        let (call, ahead) = *CALLS.choose(&mut self.random).expect("some calls");
        let left = self.random.random_range(0..ahead);
        let after = crashes && self.random.random_ratio(1, 2);
        let what = if !crashes {
            "fails"
        } else if after {
            "stops after"
        } else {
            "stops at"
        };
        self.note(world, format!("node {} {what} call {} of kind {call:?}", index + 1, left + 1));
        if self.random.random_ratio(1, 3) {
            self.slow_disk(world, index);
        }
        self.arm(world, index, crashes, after, left, move |made, _| made == call);
    }

    /// Stops a machine, rather the one that leads, when its next checkpoint is in its place while its log takes its time.
    pub(super) fn set_trap_for_checkpoint(&mut self, world: &mut World) {
        let Some(index) = self.leader_or_any() else { return };
        let time = self.time(SLOW_DISK_MS);
        self.note(world, format!("node {} stops after a checkpoint, and its log takes {time:?}", index + 1));
        world.machines[index].set_log(time);
        self.later(world, HOLD_MS, Mend::QuickenDisk(index));
        self.arm(world, index, true, true, 0, |made, path| made == Call::SyncDir && !path.ends_with(LOG));
    }

    /// Sets a trap for the call after `left` others that count; or, if the machine is to stop, for the one after that.
    fn arm(
        &mut self,
        world: &World,
        index: usize,
        crashes: bool,
        after: bool,
        mut left: u32,
        counts: impl Fn(Call, &Path) -> bool + Send + 'static,
    ) {
        let sprung = Arc::<AtomicBool>::default();
        self.traps[index].sprung = sprung.clone();
        self.traps[index].crashes = crashes;
        let mut reached = false;
        world.machines[index].disk.watch(move |_: u64, made: Call, path: &Path| {
            let counted = counts(made, path);
            let springs = if reached { after } else { counted && left == 0 && !after };
            reached |= counted && left == 0;
            left -= u32::from(counted && left > 0);
            if !springs || sprung.swap(true, Ordering::Relaxed) {
                return None;
            }
            Some(if crashes { Fault::Crash } else { Fault::Fail(ErrorKind::Other) })
        });
        self.later(world, HOLD_MS, Mend::Disarm(index));
    }

    /// Stops machines that have stopped within a call, and judges nodes that have ended by themselves: that must have a
    /// reason.
    pub(super) fn look_after_machines(&mut self, world: &mut World) {
        for index in 0..world.machines.len() {
            if self.down[index] {
                continue;
            }
            let sprung = self.traps[index].sprung.load(Ordering::Relaxed);
            let ended = world.machines[index].take_end();
            if let Some(ended) = &ended {
                // One that was removed from the cluster does not start again.
                let removed = self.changed_members && !self.members.contains(&(index as u64 + 1));
                let excused = sprung || self.traps[index].full || self.damaged() == Some(index as u64 + 1) || removed;
                tracing::info!("node {} has ended: {ended:?}", index + 1);
                if !excused {
                    world.complain(&format!("node {} has ended: {ended:?}", index + 1));
                }
            }
            if ended.is_some() || sprung && self.traps[index].crashes {
                let power = self.traps[index].crashes || self.random.random_ratio(1, 2);
                self.traps[index].sprung = Arc::default();
                self.traps[index].crashes = false;
                self.stop(world, index, power);
                self.later(world, DOWN_MS, Mend::Start(index));
            }
        }
    }

    /// Soon changes bits of a machine, always of the same one.
    pub(super) fn plan_damage(&mut self, world: &World) {
        let any = self.leader_or_any();
        let Some(index) = self.victim.or(any).filter(|index| !self.down[*index]) else { return };
        let disk = &world.machines[index].disk;
        let mut files: Vec<PathBuf> = disk.files().into_iter().filter(|file| is_log(file)).collect();
        let lags = self.random.random_ratio(1, 2);
        if lags {
            files.drain(..files.len().saturating_sub(1));
        }
        let Some(file) = files.choose(&mut self.random) else { return };
        self.victim = Some(index);
        let file = file.clone();
        if lags {
            // What comes now is wanted later by a node that is cut off, in whatever state it is then.
            let mut others = self.hosts(world);
            let victim = others.remove(index);
            let alone = others.swap_remove(self.random.random_range(0..others.len()));
            others.push(victim);
            self.note(world, format!("{alone} is cut off before damage"));
            pairs(std::slice::from_ref(&alone), &others, |one, other| world.sim.partition(one, other));
            self.later_by(world, LAGS + PROVEN_AFTER + PROVEN_AFTER / 10, Mend::Repair(vec![alone], others));
            let from = used_bits(disk, &file);
            self.later_by(world, LAGS, Mend::ProveBytes(index, file, from));
        } else {
            self.later_by(world, Duration::ZERO, Mend::ProveBytes(index, file, 0));
        }
    }

    /// Bits of a file from there on may change when they are proven to have been synced.
    pub(super) fn damage_when_proven(&mut self, world: &World, index: usize, file: PathBuf, from: u64) {
        let to = used_bits(&world.machines[index].disk, &file);
        if from < to {
            self.later_by(world, PROVEN_AFTER, Mend::Damage(index, file, from..to));
        }
    }

    /// Changes a few bits of a file, which the machine should notice, whenever it goes down.
    pub(super) fn damage(&mut self, world: &World, index: usize, file: &Path, bits: Range<u64>) {
        let disk = &world.machines[index].disk;
        if self.down[index] || disk.contents(file).is_none() {
            return;
        }
        self.damaged = true;
        for _ in 0..self.random.random_range(1..=FLIPS_MAX) {
            let bit = self.random.random_range(bits.clone());
            disk.flip(file, bit);
            self.note(world, format!("bit {bit} of {} of node {} is flipped", file.display(), index + 1));
        }
    }
}

fn is_log(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "log")
}

/// Up to the last byte that is not zero.
fn used_bits(disk: &FaultIo, file: &Path) -> u64 {
    let last = disk.contents(file).and_then(|bytes| bytes.iter().rposition(|byte| *byte != 0));
    last.map_or(0, |last| (last as u64 + 1) * 8)
}
