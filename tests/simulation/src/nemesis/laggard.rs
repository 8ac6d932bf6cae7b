//! A fault in which a voter misses changes of the members: by those that it knows, it needs a vote of a node that has
//! forgotten its replica since, and has begun another one.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use rand::seq::IndexedRandom as _;

use super::{Mend, Nemesis, pairs};
use crate::simulation::World;

/// How long it is cut off at most, without other faults.
const LAG: Duration = Duration::from_secs(8);
/// What messages of the others take then, in milliseconds...
const LATE_MS: Range<u64> = 1500..2500;
/// ...and for how long: until the new replica is there, and has nothing.
const ALONE: Duration = Duration::from_secs(6);
/// Where a node notes what it has forgotten.
const IDENTITY: &str = "/data/identity.toml";

impl Nemesis {
    /// Cuts a member off until another one that stays has forgotten a replica.
    pub(super) fn cut_laggard_off(&mut self, world: &World) {
        let Some(member) = self.members.choose(&mut self.random) else { return };
        let laggard = *member as usize - 1;
        let (alone, others) = self.alone(world, laggard);
        self.note(world, format!("{alone:?} misses changes of the members"));
        pairs(&alone, &others, |one, other| world.sim.partition(one, other));
        self.later_by(world, LAG, Mend::Repair(alone, others));
        // Nothing else comes between: the members are to change.
        self.next = world.sim.elapsed() + LAG;
        self.busy_until = world.sim.elapsed() + LAG;
        self.laggard = Some(laggard);
    }

    /// Lets it reach the one that has forgotten, which hears late of all others.
    pub(super) fn look_after_laggard(&mut self, world: &World) {
        let Some(laggard) = self.laggard else { return };
        let has_forgotten = |index: &usize| {
            let identity = world.machines[*index].disk.contents(Path::new(IDENTITY)).unwrap_or_default();
            let stays = self.members.contains(&(*index as u64 + 1));
            stays && *index != laggard && String::from_utf8_lossy(&identity).contains("[[forgotten]]")
        };
        let Some(found) = (0..world.machines.len()).find(has_forgotten) else { return };
        self.laggard = None;
        self.busy_until = world.sim.elapsed() + ALONE;
        let (fresh, mut others) = self.alone(world, found);
        let laggard = vec![world.machines[laggard].host.clone()];
        others.retain(|host| *host != laggard[0]);
        let late = self.time(LATE_MS);
        self.next = self.busy_until;
        self.note(world, format!("{laggard:?} reaches {fresh:?}, which hears late of the others"));
        pairs(&fresh, &others, |one, other| world.sim.set_link_latency(one, other, late));
        pairs(&laggard, &fresh, |one, other| world.sim.repair(one, other));
        self.later_by(world, ALONE, Mend::Quicken(fresh, others));
    }
}
