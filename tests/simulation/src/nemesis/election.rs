//! A fault in which a vote counts that was given a moment before the power went.

use std::ops::Range;
use std::time::Duration;

use rand::seq::SliceRandom as _;

use super::{Mend, Nemesis, pairs};
use crate::gateway;
use crate::simulation::World;

/// Within that time, in milliseconds, a leader that is cut off is replaced.
const ELECTION_MS: Range<u64> = 1150..1950;
/// How long the old leader has its voters for itself.
const ALONE: Duration = Duration::from_millis(2000);

impl Nemesis {
    /// Cuts the node off that seems to lead, while the others elect another one.
    pub(super) fn cut_leader_off(&mut self, world: &mut World) {
        let mut members: Vec<usize> = self.members.iter().map(|member| *member as usize - 1).collect();
        members.shuffle(&mut self.random);
        if let Some(leader) = members.iter().position(|member| self.desk.leader() == Some(*member as u64 + 1)) {
            members.swap(0, leader);
        }
        let (old, voters) = (members[0], members[1..=members.len() / 2].to_vec());
        if self.down[old] || voters.iter().any(|voter| self.down[*voter]) {
            return;
        }
        let (side, rest) = self.sides(world, old, &voters);
        self.note(world, format!("{rest:?} elect with {voters:?} while node {} is cut off", old + 1));
        let others: Vec<String> = rest.iter().chain(&side[1..]).cloned().collect();
        pairs(&side[..1], &others, |one, other| world.sim.partition(one, other));
        let gateways: Vec<String> = (0..self.plan.gateways).map(gateway::host).collect();
        pairs(&rest, &gateways, |one, other| world.sim.partition(one, other));
        // What they vote is not on disk for long.
        for voter in &voters {
            self.slow_disk(world, *voter);
        }
        let time = self.time(ELECTION_MS);
        // Nothing else comes between.
        self.next = world.sim.elapsed() + time + ALONE / 2;
        self.later_by(world, time, Mend::OldLeaderReturns(old, voters));
        self.later_by(world, time, Mend::Repair(side[..1].to_vec(), side[1..].to_vec()));
        self.later_by(world, time + ALONE, Mend::Repair(rest, side.into_iter().chain(gateways).collect()));
    }

    /// Those that may just have voted lose their power, and hear the old leader and nobody else when they are back.
    pub(super) fn old_leader_returns(&mut self, world: &mut World, old: usize, voters: &[usize]) {
        let (side, rest) = self.sides(world, old, voters);
        self.note(world, format!("the power goes for {:?}, which hear only node {} then", &side[1..], old + 1));
        for voter in voters.iter().filter(|voter| !self.down[**voter]).copied().collect::<Vec<_>>() {
            self.stop(world, voter, true);
            self.later_by(world, Duration::from_millis(50), Mend::Start(voter));
            self.later_by(world, Duration::from_millis(50), Mend::QuickenDisk(voter));
        }
        pairs(&rest, &side, |one, other| world.sim.partition(one, other));
    }

    /// The old leader and those that vote, and all other nodes.
    fn sides(&self, world: &World, old: usize, voters: &[usize]) -> (Vec<String>, Vec<String>) {
        let hosts = self.hosts(world);
        let side: Vec<String> = [old].iter().chain(voters).map(|index| hosts[*index].clone()).collect();
        let rest = hosts.into_iter().filter(|host| !side.contains(host)).collect();
        (side, rest)
    }
}
