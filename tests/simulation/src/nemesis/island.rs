//! Faults of which several come together, as a trench that is dug through cables.

use std::time::Duration;

use rand::Rng as _;

use super::{HOLD_MS, Mend, Nemesis, pairs};
use crate::gateway;
use crate::simulation::World;

/// How long an island lasts that is cut off, in milliseconds: longer than an election.
const ISLAND_MS: std::ops::Range<u64> = 1500..3000;
/// What a link takes for each message that is slower than an election, in milliseconds...
const LATE_MS: std::ops::Range<u64> = 1500..2500;
/// ...and how long after the first late ones it is mended.
const AFTER_LATE_MS: std::ops::Range<u64> = 300..800;
/// What the disks of the others take before, at most, in milliseconds, and for how long: so there are answers that come
/// late to questions that came in time.
const SLOW_BEFORE_MS: std::ops::Range<u64> = 100..400;
/// How long after a cut clocks leap, in milliseconds.
const LEAP_AFTER_MS: std::ops::Range<u64> = 10..150;
/// So far leaps each of them, beyond any other wrong clock.
const LEAP_MS: i64 = 25 * 3_600_000;

impl Nemesis {
    /// One node, rather the one that leads, and one gateway reach nobody but each other. What the node sends to the others and they to it is lost,
    /// or comes when it is over, or so late that there may be another leader.
    pub(super) fn island(&mut self, world: &World) {
        let Some(node) = self.leader_or_any() else { return };
        let gateway = gateway::host(self.random.random_range(0..self.plan.gateways));
        if self.random.random_ratio(1, 4) {
            return self.strand(world, node, gateway, None);
        }
        let slow = self.time(SLOW_BEFORE_MS);
        for index in (0..world.machines.len()).filter(|index| *index != node) {
            world.machines[index].set_disk_max(slow);
            self.later_by(world, slow, Mend::QuickenDisk(index));
        }
        let late = self.time(LATE_MS);
        self.later_by(world, slow / 2, Mend::Strand(node, gateway, late));
    }

    /// Begins it.
    pub(super) fn strand(&mut self, world: &World, node: usize, gateway: String, late: Option<Duration>) {
        let (node, others) = self.alone(world, node);
        self.note(world, format!("{node:?} and {gateway} are an island; messages are late by {late:?}"));
        let gateway = vec![gateway];
        pairs(&gateway, &others, |one, other| world.sim.partition(one, other));
        let (time, mend) = if let Some(late) = late {
            pairs(&node, &others, |one, other| world.sim.set_link_latency(one, other, late));
            let time = late + self.time(AFTER_LATE_MS);
            // Nothing else comes between: the others are to have a leader by then.
            self.next = world.sim.elapsed() + time;
            (time, Mend::Quicken(node, others.clone()))
        } else if self.random.random_ratio(1, 2) {
            pairs(&node, &others, |one, other| world.sim.hold(one, other));
            (self.time(ISLAND_MS), Mend::Release(node, others.clone()))
        } else {
            pairs(&node, &others, |one, other| world.sim.partition(one, other));
            (self.time(ISLAND_MS), Mend::Repair(node, others.clone()))
        };
        self.later_by(world, time, mend);
        self.later_by(world, time, Mend::Repair(gateway, others));
    }

    /// A gateway is cut off from some nodes, whose clocks leap before it can ask again for answers that were lost.
    pub(super) fn leap_unheard(&mut self, world: &World) {
        let gateway = gateway::host(self.random.random_range(0..self.plan.gateways));
        let (some, _) = self.split(self.hosts(world));
        let (cut, wait) = (self.paced(HOLD_MS), self.time(LEAP_AFTER_MS));
        self.note(world, format!("{gateway} is cut off from {some:?}, and clocks leap"));
        let leaps = (0..world.machines.len()).filter(|index| some.contains(&world.machines[*index].host)).collect();
        let gateway = vec![gateway];
        pairs(&gateway, &some, |one, other| world.sim.partition(one, other));
        self.later_by(world, wait, Mend::Leap(leaps));
        self.later_by(world, wait.max(cut), Mend::Repair(gateway, some));
    }

    pub(super) fn leap(&mut self, world: &World, machines: &[usize]) {
        self.leaps += 1;
        machines.iter().for_each(|index| world.machines[*index].clock.be_wrong_by(self.leaps * LEAP_MS));
    }
}
