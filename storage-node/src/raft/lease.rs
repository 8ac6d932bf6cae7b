//! Proof that no other replica leads: when each voter answered a question of this leadership.
//!
//! openraft keeps such times too, but takes the answer to one question for the answer to a later one that
//! ends at the same entry. A leader that was frozen finds old answers when it wakes and would believe that
//! they are new (docs/adr/0010-leases.md). Here every answer counts for the moment its own question was sent.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use openraft::alias::LeaderIdOf;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::types::TypeConfig;

/// What the other replicas of one group answered last.
#[derive(Default)]
pub(super) struct Acks {
    /// The latest question of a leadership that a node answered, by when it was sent.
    latest: RefCell<BTreeMap<u64, (LeaderIdOf<TypeConfig>, Instant)>>,
    /// A leader that hands over: others may be elected at once, so answers prove nothing any more.
    revoked: Cell<Option<LeaderIdOf<TypeConfig>>>,
    changed: Notify,
}

impl Acks {
    /// `node` followed `leader` in its answer to a question that was sent at `sent`.
    pub(super) fn note(&self, node: u64, leader: LeaderIdOf<TypeConfig>, sent: Instant) {
        let mut latest = self.latest.borrow_mut();
        let known = latest.entry(node).or_insert((leader, sent));
        if known.0 != leader || known.1 < sent {
            *known = (leader, sent);
        }
        self.changed.notify_waiters();
    }

    /// Since when it is certain that a majority of each of `configs` follows `leader`, the node `own` itself
    /// included. None if it is not.
    pub(super) fn since(&self, own: u64, leader: LeaderIdOf<TypeConfig>, configs: &[BTreeSet<u64>]) -> Option<Instant> {
        if self.revoked.get() == Some(leader) {
            return None;
        }
        let latest = self.latest.borrow();
        let now = Instant::now();
        let one = |voters: &BTreeSet<u64>| {
            let answered = |node: &u64| match latest.get(node) {
                _ if *node == own => Some(now),
                Some((by, sent)) if *by == leader => Some(*sent),
                Some(_) | None => None,
            };
            let mut times: Vec<Instant> = voters.iter().filter_map(answered).collect();
            times.sort_unstable();
            // The majority is complete at the latest of its members, counted from the newest.
            times.len().checked_sub(voters.len() / 2 + 1).map(|index| times[index])
        };
        let mut since = now;
        for voters in configs {
            since = since.min(one(voters)?);
        }
        Some(since)
    }

    /// `leader` hands over, whether or not it succeeds: it proves nothing any more.
    pub(super) fn revoke(&self, leader: LeaderIdOf<TypeConfig>) {
        self.revoked.set(Some(leader));
    }

    /// Waits for the next answer; must be created before looking at [`Acks::since`].
    pub(super) fn next(&self) -> impl Future<Output = ()> + '_ {
        self.changed.notified()
    }
}

#[cfg(test)]
mod tests;
