//! Faults, one after the other, by a schedule that the seed makes; after each one, every writer must get on again.

mod kind;

use std::fmt::Display;
use std::thread::sleep;
use std::time::Duration;

pub use kind::Kind;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use ursula_tests::{Cluster, Flow, Member};

use crate::acks::Gap;
use crate::load::Shared;
use crate::violation::{Lie, Violation};

/// One fault that was.
#[derive(Debug, Clone)]
pub(crate) struct Strike {
    pub(crate) kind: Kind,
    /// Whom it hit.
    pub(crate) target: String,
    /// When it began, since the start of the load.
    pub(crate) at: Duration,
    /// What clients felt until all was well.
    pub(crate) gap: Gap,
    /// From the end of the fault until each writer had an acknowledgement.
    pub(crate) recovered: Duration,
}

/// How long a fault lasts, at least and at most.
const HOLD: [Duration; 2] = [Duration::from_millis(1500), Duration::from_millis(3500)];
/// Between the recovery from a fault and the next one.
const REST: Duration = Duration::from_millis(500);
/// Writers that are not served again by then have been given up.
const RECOVERY_MAX: Duration = Duration::from_secs(30);
/// How long a process may take that ends by itself, as it should.
const END_MAX: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);
const CLOCK_JUMPS_MS: [i64; 6] = [-86_400_000, -3_600_000, -5_000, 5_000, 3_600_000, 86_400_000];

/// Who strikes.
pub(crate) struct Nemesis<'a> {
    cluster: &'a mut Cluster,
    shared: &'a Shared,
    random: StdRng,
    /// Kinds that fit the cluster; each comes once in a round.
    kinds: Vec<Kind>,
    /// A cluster that does not survive is not waited for.
    fatal: bool,
    round: Vec<Kind>,
    /// Is called again and again while it waits.
    idle: &'a mut dyn FnMut(),
}

impl<'a> Nemesis<'a> {
    /// Of these kinds, the ones that can be done to the cluster; `fatal`: also those that it does not survive.
    pub(crate) fn new(
        cluster: &'a mut Cluster,
        shared: &'a Shared,
        kinds: &[Kind],
        fatal: bool,
        idle: &'a mut dyn FnMut(),
    ) -> Nemesis<'a> {
        let fits = |kind: &Kind| kind.is_possible(cluster) && (fatal || kind.is_survived(cluster));
        let kinds: Vec<Kind> = kinds.iter().copied().filter(fits).collect();
        let random = StdRng::seed_from_u64(shared.options.seed);
        Nemesis { cluster, shared, random, kinds, fatal, round: Vec::new(), idle }
    }

    pub(crate) fn has_faults(&self) -> bool {
        !self.kinds.is_empty()
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, time: Duration) {
        let until = self.shared.acks.now() + time;
        while self.shared.acks.now() < until {
            sleep(LOOK_EVERY);
            (self.idle)();
        }
    }

    /// The next fault, from its beginning until all is well.
    pub(crate) fn strike(&mut self) -> Strike {
        if self.round.is_empty() {
            self.round.clone_from(&self.kinds);
            self.round.shuffle(&mut self.random);
        }
        let kind = self.round.pop().unwrap_or(Kind::KillGateway);
        self.wait(REST);
        self.shared.acks.mark();
        let at = self.shared.acks.now();
        let target = self.inflict(kind);
        self.publish();
        let healed = self.shared.acks.now();
        while !self.fatal && !self.shared.acks.all_since(healed) && self.shared.acks.now() - healed < RECOVERY_MAX {
            self.wait(LOOK_EVERY);
        }
        let recovered = self.shared.acks.now() - healed;
        if recovered >= RECOVERY_MAX {
            self.complain(kind, &target, format!("not every writer is served {RECOVERY_MAX:?} later"));
        }
        self.look_after(kind, &target);
        Strike { kind, target, at, gap: self.shared.acks.gap(), recovered }
    }

    fn complain(&self, kind: Kind, target: impl Display, text: impl Display) {
        let place = format!("{} of {target}", kind.name());
        self.shared.findings.add(Violation::new(Lie::Unexpected, text.to_string()).seen(place));
    }

    /// Everybody runs who should.
    fn look_after(&mut self, kind: Kind, target: &str) {
        for member in self.cluster.members() {
            let output = self.cluster.process(member).map(ursula_tests::Process::output).unwrap_or_default();
            if !self.cluster.runs(member) {
                let end: Vec<&str> = output.lines().rev().take(5).collect();
                self.complain(kind, target, format!("{member} has ended: {}", end.join(" | ")));
                self.cluster.start_member(member);
            }
        }
        self.publish();
    }

    fn publish(&self) {
        self.shared.gateways.set(self.cluster.gateways());
    }

    fn hold(&mut self) {
        let time = self.random.random_range(HOLD[0]..=HOLD[1]);
        self.publish();
        self.wait(time);
    }

    fn any(&mut self, of: fn(&Member) -> bool) -> Member {
        let members: Vec<Member> = self.cluster.members().into_iter().filter(of).collect();
        *members.choose(&mut self.random).expect("a cluster has members of each kind")
    }

    fn any_node(&mut self) -> u32 {
        self.random.random_range(1..=self.cluster.options().nodes)
    }

    fn leader(&mut self) -> u32 {
        match self.cluster.leader() {
            Some(node) => node,
            None => self.any_node(),
        }
    }

    /// Begins a fault, holds it, and ends it; returns whom it hit.
    fn inflict(&mut self, kind: Kind) -> String {
        match kind {
            Kind::KillLeader => self.kill(|nemesis| vec![Member::Node(nemesis.leader())]),
            Kind::KillNode => self.kill(|nemesis| vec![Member::Node(nemesis.any_node())]),
            Kind::KillGateway => self.kill(|nemesis| vec![nemesis.any(is_gateway)]),
            Kind::KillNodes => self.kill(|nemesis| nemesis.cluster.members().into_iter().filter(is_node).collect()),
            Kind::KillAll => self.kill(|nemesis| nemesis.cluster.members()),
            Kind::FreezeLeader => self.freeze(|nemesis| Member::Node(nemesis.leader())),
            Kind::FreezeNode => self.freeze(|nemesis| Member::Node(nemesis.any_node())),
            Kind::FreezeGateway => self.freeze(|nemesis| nemesis.any(is_gateway)),
            Kind::Partition => self.isolate(Flow::Stall, Flow::Stall),
            Kind::PartitionIn => self.isolate(Flow::Stall, Flow::Pass),
            Kind::PartitionOut => self.isolate(Flow::Pass, Flow::Stall),
            Kind::SlowLinks => {
                let delay = Flow::Delay(Duration::from_millis(self.random.random_range(20..=100)));
                let flow = *[delay, Flow::Slow(200_000)].choose(&mut self.random).expect("one of two");
                self.isolate(flow, flow)
            }
            Kind::CutGateway => self.cut_gateway(),
            Kind::ResetConnections => self.reset(),
            Kind::DiskFull => self.fill_disk(),
            Kind::DiskFailure => self.fail_disk(),
            Kind::ClockJump => self.jump(),
            Kind::RollingRestart => self.restart_all(),
            Kind::TransferLeader => self.transfer(),
        }
    }

    fn kill(&mut self, whom: impl FnOnce(&mut Self) -> Vec<Member>) -> String {
        let members = whom(self);
        self.cluster.kill_all(&members);
        self.hold();
        self.cluster.start_members(&members);
        names(&members)
    }

    fn freeze(&mut self, whom: impl FnOnce(&mut Self) -> Member) -> String {
        let member = whom(self);
        self.cluster.freeze(member);
        self.hold();
        self.cluster.thaw(member);
        member.to_string()
    }

    fn isolate(&mut self, inward: Flow, outward: Flow) -> String {
        let node = self.leader();
        self.cluster.isolate(node, inward, outward);
        self.hold();
        self.cluster.heal();
        format!("node {node}")
    }

    fn cut_gateway(&mut self) -> String {
        let gateway = self.any(is_gateway);
        for node in 1..=self.cluster.options().nodes {
            self.cluster.link(gateway, node).refuse(true);
        }
        self.hold();
        self.cluster.heal();
        gateway.to_string()
    }

    fn reset(&mut self) -> String {
        let node = self.leader();
        for from in self.cluster.members().into_iter().filter(|from| *from != Member::Node(node)) {
            self.cluster.link(from, node).cut();
        }
        format!("node {node}")
    }

    fn fill_disk(&mut self) -> String {
        let node = Member::Node(self.cluster.options().nodes);
        let results = [self.cluster.disk().map(ursula_tests::Disk::fill), {
            self.hold();
            self.cluster.disk().map(ursula_tests::Disk::make_room)
        }];
        for error in results.into_iter().flatten().filter_map(Result::err) {
            self.complain(Kind::DiskFull, node, error);
        }
        node.to_string()
    }

    /// The process ends by itself, since it cannot know what is on the disk; it comes back when the disk is mended.
    fn fail_disk(&mut self) -> String {
        let node = Member::Node(self.cluster.options().nodes);
        if let Err(error) = self.cluster.fail_disk() {
            self.complain(Kind::DiskFailure, node, error);
        }
        let begin = self.shared.acks.now();
        while self.cluster.runs(node) {
            self.wait(LOOK_EVERY);
            if self.shared.acks.now() - begin > END_MAX {
                self.complain(Kind::DiskFailure, node, "goes on with a log that cannot be synced");
                self.cluster.kill(node);
            }
        }
        self.hold();
        if let Some(Err(error)) = self.cluster.disk().map(ursula_tests::Disk::mend) {
            self.complain(Kind::DiskFailure, node, error);
        }
        self.cluster.start_member(node);
        node.to_string()
    }

    fn jump(&mut self) -> String {
        let member = self.any(|_| true);
        let ms = *CLOCK_JUMPS_MS.choose(&mut self.random).expect("some jumps");
        self.cluster.jump(member, ms);
        self.hold();
        self.cluster.jump(member, 0);
        format!("{member} by {} s", ms / 1000)
    }

    fn restart_all(&mut self) -> String {
        for member in self.cluster.members() {
            self.cluster.stop(member);
            self.publish();
            self.cluster.start_member(member);
            self.publish();
            self.wait(REST);
        }
        "all, in turn".to_owned()
    }

    fn transfer(&mut self) -> String {
        let node = self.leader();
        let by = node % self.cluster.options().nodes + 1;
        for command in ["drain", "undrain"] {
            if let Err(error) = self.cluster.command(&[command, &node.to_string()], by) {
                self.complain(Kind::TransferLeader, format!("node {node}"), format!("{command}: {error}"));
            }
            self.hold();
        }
        format!("node {node}")
    }
}

fn is_node(member: &Member) -> bool {
    matches!(member, Member::Node(_))
}

fn is_gateway(member: &Member) -> bool {
    matches!(member, Member::Gateway(_))
}

fn names(members: &[Member]) -> String {
    members.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
