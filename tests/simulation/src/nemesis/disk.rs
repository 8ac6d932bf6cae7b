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

use super::{DOWN_MS, HOLD_MS, Mend, Nemesis};
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

/// Calls that change something, which are those that may not fail unnoticed.
const CALLS: [Call; 6] = [Call::Write, Call::Sync, Call::Sync, Call::Rename, Call::SyncDir, Call::Create];
/// The fault is at one of so many next calls of its kind.
const CALLS_AHEAD: u32 = 40;
/// So many bits are flipped at a time, at most...
const FLIPS_MAX: u32 = 8;
/// ...and sometimes among so many at the end of what was written.
const END_BITS: u64 = 8 * (8 << 10);
/// What was written so long ago is followed by a mark, or something else that proves that it was synced: before that,
/// damage looks like a write that a crash cut off.
const PROVEN_AFTER: Duration = Duration::from_secs(1);

impl Nemesis {
    /// Makes a call of a disk fail, or its machine stop there.
    pub(super) fn set_trap(&mut self, world: &mut World, crashes: bool) {
        let Some(index) = self.any_up() else { return };
        let call = *CALLS.choose(&mut self.random).expect("some calls");
        let mut left = self.random.random_range(1..CALLS_AHEAD);
        let what = if crashes { "stops at" } else { "fails" };
        self.note(world, format!("node {} {what} call {left} of kind {call:?}", index + 1));
        let sprung = Arc::<AtomicBool>::default();
        self.traps[index].sprung = sprung.clone();
        self.traps[index].crashes = crashes;
        world.machines[index].disk.watch(move |_: u64, made: Call, _: &Path| {
            left -= u32::from(made == call && left > 0);
            if made != call || left > 0 || sprung.swap(true, Ordering::Relaxed) {
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
        let any = self.any_up();
        let Some(index) = self.victim.or(any).filter(|index| !self.down[*index]) else { return };
        let disk = &world.machines[index].disk;
        let mut files: Vec<PathBuf> = disk.files().into_iter().filter(|file| is_log(file)).collect();
        // What was written last is what replicas want that lag.
        if self.random.random_ratio(1, 2) {
            files.drain(..files.len().saturating_sub(1));
        }
        let Some(file) = files.choose(&mut self.random) else { return };
        let end = disk.contents(file).map_or(0, |bytes| used(&bytes) as u64 * 8);
        let first = if self.random.random_ratio(1, 2) { 0 } else { end.saturating_sub(END_BITS) };
        if first < end {
            self.victim = Some(index);
            self.later_by(world, PROVEN_AFTER, Mend::Damage(index, file.clone(), first..end));
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
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}
