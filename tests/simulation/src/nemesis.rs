//! Faults: which, when, for how long, and how they are mended. All of it follows from the seed.

mod disk;
mod election;
mod island;
mod kind;
mod laggard;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use ursula_wal::io::fault::{Keep, Part};

use crate::clock::SimulatedClock;
use crate::gateway;
use crate::operator::{Desk, Order};
use crate::plan::Plan;
use crate::simulation::World;
use disk::Trap;
use kind::Kind;

/// How fast faults follow each other and are mended, in percent; one for each simulation.
const PACES: [u32; 4] = [30, 60, 100, 150];
/// Between the beginnings of two faults, in milliseconds.
const REST_MS: Range<u64> = 200..1000;
/// How long one lasts, in milliseconds.
const HOLD_MS: Range<u64> = 200..2500;
/// How long a machine is down, in milliseconds.
const DOWN_MS: Range<u64> = 50..2000;
/// So long it takes to look who leads.
const LOOK: Duration = Duration::from_millis(100);
/// How wrong a clock can be.
const CLOCK_JUMPS_MS: [i64; 6] = [-86_400_000, -3_600_000, -5_000, 5_000, 3_600_000, 86_400_000];
/// What a slow link takes for each message, in milliseconds.
const SLOW_LINK_MS: Range<u64> = 50..400;
/// What a slow disk takes for each call at most, in milliseconds.
const SLOW_DISK_MS: Range<u64> = 50..800;

/// What is mended later.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mend {
    Start(usize),
    StartGateway(usize),
    Repair(Vec<String>, Vec<String>),
    Release(Vec<String>, Vec<String>),
    Quicken(Vec<String>, Vec<String>),
    QuickenDisk(usize),
    EmptyDisk(usize),
    Clock(usize),
    GatewayClock(usize),
    /// An island begins: of this node and gateway, with messages that are so late.
    Strand(usize, String, Duration),
    /// Clocks leap, and stay so.
    Leap(Vec<usize>),
    /// A call of the disk was to fail, and none came.
    Disarm(usize),
    /// No cure: bits of a file from there on are to change, and then some of them do.
    ProveBytes(usize, PathBuf, u64),
    Damage(usize, PathBuf, Range<u64>),
    /// See [`Nemesis::island`].
    Island,
    /// See [`Nemesis::cut_leader_off`].
    CutLeaderOff,
    /// See [`Nemesis::plan_damage`].
    PlanDamage,
    /// See [`Nemesis::set_trap_for_checkpoint`].
    TrapForCheckpoint,
    OldLeaderReturns(usize, Vec<usize>),
}

impl Mend {
    /// Whether it ends a fault: the others begin one.
    fn is_cure(&self) -> bool {
        match self {
            Mend::Start(_)
            | Mend::StartGateway(_)
            | Mend::Repair(..)
            | Mend::Release(..)
            | Mend::Quicken(..)
            | Mend::QuickenDisk(_)
            | Mend::EmptyDisk(_)
            | Mend::Clock(_)
            | Mend::GatewayClock(_)
            | Mend::Disarm(_) => true,
            Mend::Strand(..)
            | Mend::Leap(_)
            | Mend::ProveBytes(..)
            | Mend::Damage(..)
            | Mend::Island
            | Mend::CutLeaderOff
            | Mend::PlanDamage
            | Mend::TrapForCheckpoint
            | Mend::OldLeaderReturns(..) => false,
        }
    }
}

/// See the module.
pub(crate) struct Nemesis {
    plan: Plan,
    random: StdRng,
    kinds: Vec<Kind>,
    pace: u32,
    desk: Desk,
    gateway_clocks: Vec<Arc<SimulatedClock>>,
    /// How often clocks have leapt.
    leaps: i64,
    /// When what is mended.
    later: BTreeMap<(Duration, u64), Mend>,
    count: u64,
    next: Duration,
    down: Vec<bool>,
    /// Machines that were ever allowed to end by themselves, by what was done to their disks.
    traps: Vec<Trap>,
    /// The machine of which files may change, and whether one did.
    victim: Option<usize>,
    damaged: bool,
    members: Vec<u64>,
    changed_members: bool,
    /// See [`Nemesis::cut_laggard_off`].
    laggard: Option<usize>,
    busy_until: Duration,
    faults: Vec<String>,
}

impl Nemesis {
    pub(crate) fn new(plan: &Plan, desk: Desk, gateway_clocks: Vec<Arc<SimulatedClock>>) -> Nemesis {
        let machines = plan.machines() as usize;
        let mut random = StdRng::seed_from_u64(plan.seed ^ 0xfa17);
        Nemesis {
            plan: plan.clone(),
            kinds: Kind::some(&mut random),
            pace: *PACES.choose(&mut random).expect("some paces"),
            random,
            desk,
            gateway_clocks,
            leaps: 0,
            later: BTreeMap::new(),
            count: 0,
            next: Duration::ZERO,
            down: vec![false; machines],
            traps: (0..machines).map(|_| Trap::default()).collect(),
            victim: None,
            damaged: false,
            members: (1..=plan.nodes).collect(),
            changed_members: false,
            laggard: None,
            busy_until: Duration::ZERO,
            faults: Vec::new(),
        }
    }

    pub(crate) fn into_faults(self) -> Vec<String> {
        self.faults
    }

    /// Does what is due.
    pub(crate) fn act(&mut self, world: &mut World) {
        self.keep_up(world);
        let now = world.sim.elapsed();
        if self.next == Duration::ZERO {
            self.next = now + self.paced(REST_MS);
        }
        if now >= self.next {
            self.next = now + self.paced(REST_MS);
            self.strike(world);
        }
    }

    /// Mends what is due, and looks after machines that have ended.
    pub(crate) fn keep_up(&mut self, world: &mut World) {
        self.look_after_machines(world);
        self.look_after_laggard(world);
        let now = world.sim.elapsed();
        while let Some(first) = self.later.first_entry().filter(|first| first.key().0 <= now) {
            let mend = first.remove();
            self.repair(world, mend);
        }
    }

    /// The node of which a file was changed.
    pub(crate) fn damaged(&self) -> Option<u64> {
        self.victim.filter(|_| self.damaged).map(|index| index as u64 + 1)
    }

    /// What has begun is over then.
    pub(crate) fn busy_until(&self) -> Duration {
        self.busy_until
    }

    /// The power goes once more, for all; then everything is mended at once.
    pub(crate) fn end(&mut self, world: &mut World) {
        tracing::info!("everything is mended");
        self.laggard = None;
        for index in (0..self.down.len()).filter(|index| !self.down[*index]).collect::<Vec<_>>() {
            self.stop(world, index, true);
            self.later_by(world, Duration::ZERO, Mend::Start(index));
        }
        for trap in 0..self.traps.len() {
            self.later_by(world, Duration::ZERO, Mend::Disarm(trap));
        }
        for (_, mend) in std::mem::take(&mut self.later) {
            if mend.is_cure() {
                self.repair(world, mend);
            }
        }
        self.look_after_machines(world);
    }

    fn time(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(range))
    }

    fn paced(&mut self, range: Range<u64>) -> Duration {
        self.time(range) * self.pace / 100
    }

    fn later(&mut self, world: &World, range: Range<u64>, mend: Mend) {
        let time = self.paced(range);
        self.later_by(world, time, mend);
    }

    fn later_by(&mut self, world: &World, time: Duration, mend: Mend) {
        self.count += 1;
        self.later.insert((world.sim.elapsed() + time, self.count), mend);
    }

    fn note(&mut self, world: &World, what: String) {
        tracing::info!("{what}");
        self.faults.push(format!("{:.3} {what}", world.sim.elapsed().as_secs_f64()));
    }

    /// A machine that runs.
    fn any_up(&mut self) -> Option<usize> {
        let up: Vec<usize> = (0..self.down.len()).filter(|index| !self.down[*index]).collect();
        up.choose(&mut self.random).copied()
    }

    /// A machine that runs, rather the one that leads.
    fn leader_or_any(&mut self) -> Option<usize> {
        let any = self.any_up();
        let leader = self.desk.leader().map(|node| node as usize - 1).filter(|leader| !self.down[*leader]);
        leader.filter(|_| self.random.random_ratio(3, 4)).or(any)
    }

    fn hosts(&self, world: &World) -> Vec<String> {
        world.machines.iter().map(|machine| machine.host.clone()).collect()
    }

    /// One host, and the others.
    fn alone(&self, world: &World, index: usize) -> (Vec<String>, Vec<String>) {
        let mut others = self.hosts(world);
        (vec![others.remove(index)], others)
    }

    /// Some part of the hosts, and the others; never empty.
    fn split(&mut self, mut hosts: Vec<String>) -> (Vec<String>, Vec<String>) {
        hosts.shuffle(&mut self.random);
        let others = hosts.split_off(self.random.random_range(1..hosts.len()));
        (hosts, others)
    }

    fn strike(&mut self, world: &mut World) {
        let mut kind = *self.kinds.choose(&mut self.random).expect("there are faults");
        if self.faults.is_empty() {
            // These need a cluster that is well, and time.
            kind = match self.random.random_range(0..10) {
                0 | 1 => Kind::OldLeader,
                2 | 3 => Kind::Members,
                _ => kind,
            };
        }
        match kind {
            Kind::Kill => self.stop_one(world, false),
            Kind::PowerLoss => self.stop_one(world, true),
            Kind::PowerLossOfMost => {
                let up: Vec<usize> = (0..self.down.len()).filter(|index| !self.down[*index]).collect();
                let spared = if self.random.random_ratio(1, 2) { up.choose(&mut self.random).copied() } else { None };
                self.note(world, format!("the power goes, but not for {:?}", spared.map(|spared| spared + 1)));
                for index in up.into_iter().filter(|index| Some(*index) != spared) {
                    self.stop(world, index, true);
                    self.later(world, DOWN_MS, Mend::Start(index));
                }
            }
            Kind::CrashAtCall | Kind::FailCall => self.set_trap(world, kind == Kind::CrashAtCall),
            Kind::PartitionNodes => {
                let (one, other) = self.split(self.hosts(world));
                self.cut(world, one, other);
            }
            Kind::Isolate => {
                let hosts = self.hosts(world);
                let gateways = (0..self.plan.gateways).map(gateway::host);
                let alone = hosts.choose(&mut self.random).cloned().expect("a node");
                let others = hosts.iter().cloned().chain(gateways).filter(|host| *host != alone).collect();
                self.cut(world, vec![alone], others);
            }
            Kind::PartitionGateway => {
                let gateway = gateway::host(self.random.random_range(0..self.plan.gateways));
                let (some, _) = self.split(self.hosts(world));
                self.cut(world, vec![gateway], some);
            }
            Kind::OneWay => {
                let (one, other) = self.split(self.hosts(world));
                self.note(world, format!("nothing gets from {one:?} to {other:?}"));
                pairs(&one, &other, |one, other| world.sim.partition_oneway(one, other));
                self.later(world, HOLD_MS, Mend::Repair(one, other));
            }
            Kind::Island | Kind::OldLeader | Kind::CrashAfterCheckpoint | Kind::Damage if self.desk.is_idle() => {
                self.desk.order(Order::Look);
                let harm = match kind {
                    Kind::Island => Mend::Island,
                    Kind::OldLeader => Mend::CutLeaderOff,
                    Kind::Damage => Mend::PlanDamage,
                    _ => Mend::TrapForCheckpoint,
                };
                self.later_by(world, LOOK, harm);
            }
            Kind::Delay => {
                let (one, other) = self.split(self.hosts(world));
                self.note(world, format!("what is between {one:?} and {other:?} comes later"));
                pairs(&one, &other, |one, other| world.sim.hold(one, other));
                self.later(world, HOLD_MS, Mend::Release(one, other));
            }
            Kind::SlowLink => {
                let (one, other) = self.split(self.hosts(world));
                let time = self.time(SLOW_LINK_MS);
                self.note(world, format!("between {one:?} and {other:?} all takes {time:?}"));
                pairs(&one, &other, |one, other| world.sim.set_link_latency(one, other, time));
                self.later(world, HOLD_MS, Mend::Quicken(one, other));
            }
            Kind::SlowDisk => {
                let index = self.random.random_range(0..world.machines.len());
                self.slow_disk(world, index);
            }
            Kind::FullDisk => {
                let index = self.random.random_range(0..world.machines.len());
                self.note(world, format!("the disk of node {} is full", index + 1));
                self.traps[index].full = true;
                world.machines[index].set_disk_full(true);
                self.later(world, HOLD_MS, Mend::EmptyDisk(index));
            }
            Kind::Clock => {
                let ms = *CLOCK_JUMPS_MS.choose(&mut self.random).expect("some jumps");
                let index = self.random.random_range(0..world.machines.len() + self.gateway_clocks.len());
                self.note(world, format!("clock {index} is wrong by {ms} ms"));
                if let Some(machine) = world.machines.get(index) {
                    machine.clock.be_wrong_by(ms);
                    self.later(world, HOLD_MS, Mend::Clock(index));
                } else {
                    let index = index - world.machines.len();
                    self.gateway_clocks[index].be_wrong_by(ms);
                    self.later(world, HOLD_MS, Mend::GatewayClock(index));
                }
            }
            Kind::LeapUnheard => self.leap_unheard(world),
            Kind::KillGateway => {
                let index = self.random.random_range(0..self.plan.gateways);
                if world.sim.is_host_running(gateway::host(index)) {
                    self.note(world, format!("gateway {index} is killed"));
                    world.sim.crash(gateway::host(index));
                    self.later(world, DOWN_MS, Mend::StartGateway(index));
                }
            }
            Kind::Drain if self.desk.is_idle() => {
                let node = *self.members.choose(&mut self.random).expect("a member");
                self.note(world, format!("node {node} is drained"));
                self.desk.order(Order::Drain(node));
            }
            Kind::Members if self.desk.is_idle() && !self.changed_members => self.change_members(world),
            Kind::Island
            | Kind::OldLeader
            | Kind::CrashAfterCheckpoint
            | Kind::Damage
            | Kind::Drain
            | Kind::Members => {}
        }
    }

    /// Adds the spare node, or replaces another one by it.
    fn change_members(&mut self, world: &World) {
        self.changed_members = true;
        let new = self.plan.machines();
        self.desk.order(Order::Add(new));
        let old = *self.members.choose(&mut self.random).expect("a member");
        let replaces = self.random.random_ratio(2, 3);
        self.note(
            world,
            format!("node {new} joins{}", if replaces { format!(" for node {old}") } else { String::new() }),
        );
        if replaces {
            self.desk.order(Order::Remove(old));
            self.members.retain(|member| *member != old);
        }
        if self.random.random_ratio(3, 4) {
            self.cut_laggard_off(world);
        }
        self.members.push(new);
    }

    fn cut(&mut self, world: &World, one: Vec<String>, other: Vec<String>) {
        self.note(world, format!("{one:?} and {other:?} are cut off from each other"));
        pairs(&one, &other, |one, other| world.sim.partition(one, other));
        self.later(world, HOLD_MS, Mend::Repair(one, other));
    }

    fn slow_disk(&mut self, world: &World, index: usize) {
        let time = self.time(SLOW_DISK_MS);
        self.note(world, format!("the disk of node {} takes {time:?}", index + 1));
        world.machines[index].set_disk_max(time);
        self.later(world, HOLD_MS, Mend::QuickenDisk(index));
    }

    fn stop_one(&mut self, world: &mut World, power: bool) {
        let Some(index) = self.any_up() else { return };
        let what = if power { "loses power" } else { "is killed" };
        self.note(world, format!("node {} {what}", index + 1));
        self.stop(world, index, power);
        self.later(world, DOWN_MS, Mend::Start(index));
    }

    /// Stops a machine; its start is for the caller to order.
    fn stop(&mut self, world: &mut World, index: usize, power: bool) {
        let machine = world.machines[index].clone();
        self.down[index] = true;
        world.sim.crash(machine.host.as_str());
        let _ = machine.take_end();
        self.traps[index].disarm(&machine.disk);
        if power {
            let mut part = || match self.random.random_range(0..4) {
                0 => Part::None,
                1 => Part::All,
                _ => Part::Random(self.random.random()),
            };
            let keep = Keep { sectors: part(), names: part() };
            machine.disk.power_loss(keep);
        } else {
            machine.disk.kill();
        }
    }

    fn repair(&mut self, world: &mut World, mend: Mend) {
        tracing::debug!("{mend:?}");
        match mend {
            Mend::Start(index) => {
                self.down[index] = false;
                world.sim.bounce(world.machines[index].host.as_str());
            }
            Mend::StartGateway(index) => world.sim.bounce(gateway::host(index)),
            Mend::Repair(one, other) => pairs(&one, &other, |one, other| world.sim.repair(one, other)),
            Mend::Release(one, other) => pairs(&one, &other, |one, other| world.sim.release(one, other)),
            Mend::Quicken(one, other) => {
                let (min, max) = (self.plan.latency_min, self.plan.latency_max);
                pairs(&one, &other, |one, other| {
                    world.sim.set_link_latency(one, other, min);
                    world.sim.set_link_max_message_latency(one, other, max);
                });
            }
            Mend::QuickenDisk(index) => world.machines[index].set_disk_max(self.plan.disk_max),
            Mend::EmptyDisk(index) => world.machines[index].set_disk_full(false),
            Mend::Clock(index) => world.machines[index].clock.be_wrong_by(0),
            Mend::GatewayClock(index) => self.gateway_clocks[index].be_wrong_by(0),
            Mend::Strand(node, gateway, late) => self.strand(world, node, gateway, Some(late)),
            Mend::Leap(indexes) => self.leap(world, &indexes),
            Mend::Disarm(index) => self.traps[index].disarm(&world.machines[index].disk),
            Mend::Island => self.island(world),
            Mend::CutLeaderOff => self.cut_leader_off(world),
            Mend::PlanDamage => self.plan_damage(world),
            Mend::TrapForCheckpoint => self.set_trap_for_checkpoint(world),
            Mend::OldLeaderReturns(old, voters) => self.old_leader_returns(world, old, &voters),
            Mend::ProveBytes(index, file, from) => self.damage_when_proven(world, index, file, from),
            Mend::Damage(index, file, bits) => self.damage(world, index, &file, bits),
        }
    }
}

/// Calls `act` for each pair of hosts.
fn pairs(one: &[String], other: &[String], mut act: impl FnMut(&str, &str)) {
    for one in one {
        other.iter().for_each(|other| act(one, other));
    }
}
