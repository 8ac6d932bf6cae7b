//! Follows the topology that one node tells, and moves on to another one when that node is gone, silent or behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use ursula_common::Error;

use super::view::Views;
use crate::link::Link;

/// Pause before the next node is asked.
const PAUSE: Duration = Duration::from_millis(200);
/// Nodes give a sign of life every second. One that was silent for so long is not there.
const SILENCE: Duration = Duration::from_secs(3);
/// A node is followed for so long before another one is asked for news that this one does not seem to have.
const PATIENCE: Duration = Duration::from_secs(1);

/// So often every node may tell an older topology than is known here, one after the other, before it is believed.
const OLD_ROUNDS: usize = 3;

/// What a node told before it was left.
#[derive(Debug, Clone, Copy)]
enum Told {
    Nothing,
    News,
    OldNews,
}

/// Who is followed, and why no longer.
pub(super) struct Follower {
    pub(super) seeds: Vec<Link>,
    pub(super) views: Views,
    /// Whether a node tells of changes at this moment.
    pub(super) followed: Arc<AtomicBool>,
    /// Tells that a group has no leader, as far as is known here.
    pub(super) lost: Arc<Notify>,
}

impl Follower {
    /// Follows one node after the other, for ever.
    pub(super) async fn run(self) {
        let mut last: Option<Link> = None;
        let (mut in_vain, mut behind) = (0, 0);
        loop {
            let view = self.views.get();
            let known: Vec<&Link> = view.links().map(|(_, link)| link).collect();
            let seeds: Vec<&Link> = self.seeds.iter().collect();
            // The seeds are for the first contact, and for when every node that is known has moved away.
            let turn = in_vain % (known.len() + seeds.len()).max(1);
            let Some(link) = next_after(if turn < known.len() { known } else { seeds }, last.as_ref()) else { return };
            let told = self.follow(&link).await;
            (in_vain, behind) = match told {
                Told::News => (0, 0),
                Told::OldNews => (0, behind + 1),
                Told::Nothing => (in_vain + 1, behind),
            };
            if behind > OLD_ROUNDS * self.views.get().links().count() {
                // Nobody knows what is known here: the cluster has begun anew.
                self.views.forget_version();
                behind = 0;
            }
            self.followed.store(false, Ordering::Relaxed);
            last = Some(link);
            sleep(PAUSE).await;
        }
    }

    /// Follows a node until there is a reason to ask another one.
    async fn follow(&self, link: &Link) -> Told {
        let Ok(Ok(mut news)) = timeout(SILENCE, link.watch_topology(0)).await else { return Told::Nothing };
        let since = Instant::now();
        let mut heard = Told::Nothing;
        loop {
            let message = tokio::select! {
                message = timeout(SILENCE, news.message()) => message,
                () = self.lost.notified() => {
                    if since.elapsed() > PATIENCE && self.views.get().links().count() > 1 {
                        debug!(node = link.address(), "another node is asked who leads");
                        return heard;
                    }
                    continue;
                }
            };
            let Ok(Ok(Some(message))) = message else { return heard };
            // A sign of life.
            if message.version == 0 {
                continue;
            }
            let known = self.views.get().version();
            match self.views.merge(&message, link) {
                Ok(()) if message.version < known => {
                    debug!(node = link.address(), message.version, known, "an old topology");
                    return Told::OldNews;
                }
                Ok(()) => {
                    heard = Told::News;
                    self.followed.store(true, Ordering::Relaxed);
                    if message.version > known {
                        info!(node = link.address(), message.version, groups = message.groups.len(), "topology");
                    }
                }
                Err(Error::ClusterRefused { reason }) => {
                    warn!(node = link.address(), "a node is not asked: {reason}");
                    return Told::Nothing;
                }
                Err(error) => warn!(node = link.address(), %error, "a topology was not understood"),
            }
        }
    }
}

/// The way that stands behind the one that was taken last.
fn next_after(links: Vec<&Link>, last: Option<&Link>) -> Option<Link> {
    let place = last.and_then(|last| links.iter().position(|link| link.address() == last.address()));
    let next = place.map_or(0, |place| (place + 1) % links.len());
    links.get(next).map(|link| (*link).clone())
}
