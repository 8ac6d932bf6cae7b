//! Keeps the objects of a group few and free of what nobody needs, for as long as this replica leads: small ones become large
//! ones, those that are mostly of streams that are gone are made anew, and what counts no more is removed from the store.
//! Decides when; what becomes of objects is decided at apply, and nothing is removed before that is known.
//!
//! An object that no state knows was stored by a leader that was deposed, or was merged in vain. It is removed only if it is
//! found in two listings with `store_grace_ms` between them, and stands for packs before the newest: nobody can commit it any more.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use tracing::error;
use ursula_cold::pack::{self, PackId, Packed};
use ursula_cold::steady::Steady;
use ursula_cold::store::{Store, StoreError};
use ursula_common::cluster::Cluster;
use ursula_common::packs::PackRef;
use ursula_common::verb::{MergePacks, Op};
use ursula_common::{ClusterId, Offset};

use super::Group;
use crate::cold::Cold;
use crate::compaction::{Kept, Merge, MergeError, small_run};
use crate::runtime;

/// Between two looks at what there is to do.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// After something that came to nothing; doubled each time.
const FAILED_PAUSE_MIN: Duration = Duration::from_secs(10);
const FAILED_PAUSE_MAX: Duration = Duration::from_secs(600);
/// Streams that are gone through without a pause.
const STREAMS_AT_ONCE: usize = 4096;
/// Objects that are looked at, or removed, before there is time for something else.
const OBJECTS_AT_ONCE: usize = 32;
/// The most objects that are remembered as being nobody's; others wait for the next round.
const ORPHANS_MAX: usize = 10_000;

/// See the module.
pub(crate) struct Compactor {
    group: Rc<Group>,
    cold: Cold,
    cluster: watch::Receiver<Option<Arc<Cluster>>>,
    /// The makers of objects that cannot be merged, until the next round.
    refused: BTreeSet<u64>,
    /// The pack after which there was nothing to merge.
    merged_at: u64,
    /// When all objects are looked at again.
    next_round: Option<Instant>,
    /// Those that are to be looked at in this round, the last first, and what is kept of them.
    left: Vec<PackRef>,
    kept: Arc<Kept>,
    /// Objects that nobody knows, and when that was seen.
    orphans: BTreeMap<PackId, Instant>,
}

/// It came to nothing, and was said why; the same may work later.
struct Failed;

impl Compactor {
    pub(crate) fn new(group: Rc<Group>, cold: Cold, cluster: watch::Receiver<Option<Arc<Cluster>>>) -> Compactor {
        Compactor {
            group,
            cold,
            cluster,
            refused: BTreeSet::new(),
            merged_at: 0,
            next_round: None,
            left: Vec::new(),
            kept: Arc::default(),
            orphans: BTreeMap::new(),
        }
    }

    /// Does what there is to do, for as long as the replica runs.
    pub(crate) async fn run(mut self) {
        let mut pause = LOOK_INTERVAL;
        loop {
            sleep(pause).await;
            let cluster = self.cluster.borrow().as_ref().map(|cluster| cluster.id);
            pause = match cluster.filter(|_| self.group.replica.leads()) {
                Some(cluster) => match self.step(cluster).await {
                    Ok(()) => LOOK_INTERVAL,
                    Err(Failed) => (2 * pause).clamp(FAILED_PAUSE_MIN, FAILED_PAUSE_MAX),
                },
                None => {
                    // What was seen is for who leads without a break.
                    self.orphans.clear();
                    self.left.clear();
                    LOOK_INTERVAL
                }
            };
        }
    }

    async fn step(&mut self, cluster: ClusterId) -> Result<(), Failed> {
        let Some(newest) = self.newest() else { return Ok(()) };
        // What lies in a place of another cluster is nobody's here, and would be removed.
        if !self.cold.heard(self.cold.claim(cluster, true).await) {
            return Err(Failed);
        }
        self.remove_replaced(newest).await?;
        self.merge_small(cluster, newest).await?;
        self.look_around(newest).await?;
        self.renew(cluster).await
    }

    /// The number of the newest pack; `None` if there is none.
    fn newest(&self) -> Option<u64> {
        self.group.state.borrow().catalogue()?.newest().map(|newest| newest.last)
    }

    /// Removes objects that count no more, once their time is over and a newer pack says so.
    async fn remove_replaced(&self, newest: u64) -> Result<(), Failed> {
        let (now, grace) = (self.group.clock.now(), self.cold.keeping().grace);
        let due: Vec<PackRef> = {
            let state = self.group.state.borrow();
            let due = state.replaced().filter(|known| known.newest < newest && now.since(known.at) >= grace);
            due.map(|known| known.object).take(OBJECTS_AT_ONCE).collect()
        };
        let mut gone = Vec::with_capacity(due.len());
        for object in due {
            // What the store does not say for sure is asked again.
            if !self.delete(PackId::of(self.group.id, &object)).await {
                break;
            }
            gone.push(object);
        }
        let count = gone.len() as u64;
        if count > 0 && self.group.propose_own(Op::SweepPacks(gone)).await {
            self.group.metrics.cold.deleted.increment(count);
        }
        Ok(())
    }

    /// Passes on why the store did not do what it was asked.
    fn failed(&self, error: StoreError) -> Failed {
        self.cold.heard::<()>(Err(error));
        Failed
    }

    async fn delete(&self, id: PackId) -> bool {
        let name = id.name();
        self.cold.heard(self.cold.ask(|store| async move { store.delete(&name).await }).await)
    }

    async fn merge_small(&mut self, cluster: ClusterId, newest: u64) -> Result<(), Failed> {
        if self.merged_at == newest {
            return Ok(());
        }
        let Some(packs) = self.group.state.borrow().catalogue() else { return Ok(()) };
        match small_run(&packs, self.cold.keeping().object_bytes, &self.refused) {
            Some(run) => self.merge(cluster, run).await,
            None => {
                self.merged_at = newest;
                Ok(())
            }
        }
    }

    /// Puts one object in the place of these, which were in packs before now.
    async fn merge(&mut self, cluster: ClusterId, run: Vec<PackRef>) -> Result<(), Failed> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
        let id = PackId { group: self.group.id, first: first.first, last: last.last, maker: runtime::random() };
        let kept = self.kept().await;
        let one = self.cold.merging().await;
        let made = {
            let run = run.clone();
            let make =
                |store: Arc<Steady>| async move { Merge { cluster, id, run: &run, kept: &kept }.make(&*store).await };
            self.cold.ask(make).await
        };
        let Packed { body, hash, .. } = match made {
            Ok(made) => made,
            Err(MergeError::Store(error)) => return Err(self.failed(error)),
            Err(MergeError::NotYet) => {
                self.refused.extend(run.iter().map(|object| object.maker));
                return Ok(());
            }
            Err(MergeError::Object { maker, reason }) => {
                error!(group = %self.group.id, "{reason}; it stays as it is: `ursula backup verify` says what is lost");
                self.refused.insert(maker);
                return Ok(());
            }
        };
        let bytes = body.len() as u64;
        if !self.cold.heard(self.cold.put(id, body).await) {
            return Err(Failed);
        }
        drop(one);
        let PackId { first, last, maker, .. } = id;
        let object = PackRef { first, last, maker, bytes, hash };
        let count = run.len() as u64;
        let merge = MergePacks { replaced: run, object };
        if !self.group.propose_own(Op::MergePacks(Box::new(merge))).await {
            // Nobody knows the object: it goes as those of deposed leaders do.
            return Err(Failed);
        }
        self.group.metrics.cold.merged.increment(count);
        Ok(())
    }

    /// What packs must keep: of streams that were in them before this is asked.
    async fn kept(&self) -> Kept {
        let (mut streams, mut after) = (Vec::new(), None);
        loop {
            let (more, next) = self.group.state.borrow().kept(after.as_ref(), STREAMS_AT_ONCE);
            streams.extend(more);
            if next.is_none() {
                break;
            }
            after = next;
            yield_now().await;
        }
        // At last: one that was removed meanwhile is here, or packs know of that.
        streams.extend(self.group.state.borrow().untold().map(|stream| (stream, Offset::ZERO)));
        Kept::new(streams)
    }

    /// Begins a round: what is nobody's is removed, and all objects are to be looked at.
    async fn look_around(&mut self, newest: u64) -> Result<(), Failed> {
        let now = Instant::now();
        let keeping = self.cold.keeping();
        let due = *self.next_round.get_or_insert(now + keeping.interval.min(keeping.grace));
        if now < due || !self.left.is_empty() {
            return Ok(());
        }
        self.remove_orphans(newest).await?;
        self.refused.clear();
        self.merged_at = 0;
        let packs = self.group.state.borrow().catalogue();
        self.left =
            packs.iter().flat_map(|packs| packs.iter()).filter(|object| object.last < newest).copied().collect();
        self.left.reverse();
        self.kept = Arc::new(self.kept().await);
        let wait = if self.orphans.is_empty() { keeping.interval } else { keeping.interval.min(keeping.grace) };
        self.next_round = Some(Instant::now() + wait);
        Ok(())
    }

    async fn remove_orphans(&mut self, newest: u64) -> Result<(), Failed> {
        let group = self.group.id;
        let listed = self.cold.ask(|store| async move { pack::list(&*store, &PackId::folder(group)).await }).await;
        let listed = listed.map_err(|error| self.failed(error))?;
        // Whoever leads for certain knows all that counts. A merge of this replica is not under way, for it is here.
        if !self.group.state.borrow().is_proven() {
            return Err(Failed);
        }
        let (now, grace) = (Instant::now(), self.cold.keeping().grace);
        let seen = std::mem::take(&mut self.orphans);
        let mut due = Vec::new();
        {
            let state = self.group.state.borrow();
            let packs = state.catalogue().unwrap_or_default();
            let replaced: BTreeSet<u64> = state.replaced().map(|known| known.object.maker).collect();
            for (id, _) in listed.into_iter().filter(|(id, _)| id.last < newest) {
                let counts = packs.find(id.last).is_some_and(|object| PackId::of(group, object) == id);
                if counts || replaced.contains(&id.maker) {
                    continue;
                }
                let since = seen.get(&id).copied().unwrap_or(now);
                if now - since >= grace && seen.contains_key(&id) {
                    due.push(id);
                } else if self.orphans.len() < ORPHANS_MAX {
                    self.orphans.insert(id, since);
                }
            }
        }
        for id in due {
            if !self.delete(id).await {
                return Err(Failed);
            }
            self.group.metrics.cold.orphans.increment(1);
        }
        Ok(())
    }

    /// Looks at some of the objects that are left in this round, and makes those anew of which nobody needs more than half.
    async fn renew(&mut self, cluster: ClusterId) -> Result<(), Failed> {
        for _ in 0..OBJECTS_AT_ONCE {
            let Some(object) = self.left.pop() else { break };
            let (id, kept) = (PackId::of(self.group.id, &object), self.kept.clone());
            let share = self.cold.ask(|store| async move { kept.share(&*store, id, object.bytes).await }).await;
            match share {
                Ok((all, kept)) if kept < all.div_ceil(2) && !self.refused.contains(&object.maker) => {
                    // What came in its place meanwhile is looked at in the next round.
                    if self.counts(&object) {
                        self.merge(cluster, vec![object]).await?;
                    }
                }
                Ok(_) | Err(StoreError::NotFound(_) | StoreError::Damaged { .. }) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(())
    }

    fn counts(&self, object: &PackRef) -> bool {
        let packs = self.group.state.borrow().catalogue();
        packs.is_some_and(|packs| packs.find(object.last) == Some(object))
    }
}
