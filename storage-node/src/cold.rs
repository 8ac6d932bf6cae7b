//! What the groups of a node share of the world outside: the object store, what was fetched from it, and how much may
//! be on its way there.

mod metrics;
mod place;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, SemaphorePermit, watch};
use tracing::{info, warn};
use ursula_cold::pack::PackId;
use ursula_cold::reader::{Found, ReadError, Reader, ReaderOptions, Wanted};
use ursula_cold::steady::{Health, Steady, SteadyOptions};
use ursula_cold::store::{Name, Put, Store, StoreError};
use ursula_common::ClusterId;
use ursula_common::cluster::Cluster;

use crate::config::NodeConfig;
use crate::runtime::{self, Outside};
pub(crate) use metrics::ColdMetrics;
pub(crate) use place::Place;

/// What is fetched ahead of one reader that goes on reading.
const AHEAD_BYTES: usize = 16 << 20;
/// Memory on the way to the store is counted in such parts.
const PERMIT_BYTES: usize = 1 << 10;
/// The object that says whose all others are.
const OWNER: &str = "cluster";

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cold(Arc<Inner>);

struct Inner {
    store: Arc<Steady>,
    /// Made when it is known whose packs it reads.
    reader: OnceLock<Reader>,
    cluster: watch::Receiver<Option<Arc<Cluster>>>,
    cache_bytes: usize,
    gets_max: usize,
    outside: Outside,
    memory: Arc<Semaphore>,
    memory_bytes: usize,
    pack: PackSizes,
    keeping: Keeping,
    /// Held by the group that merges objects: they are large.
    merging: Semaphore,
    log_bytes: u64,
    /// Whether the place is this cluster's, once that was seen.
    claimed: OnceCell<()>,
    /// What the last call that failed said, if none has succeeded since.
    failing: Mutex<Option<String>>,
}

/// When a group stores a pack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackSizes {
    /// So many bytes wait...
    pub(crate) bytes: u64,
    /// ...or so much time went by.
    pub(crate) interval: Duration,
}

/// What becomes of objects in the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keeping {
    /// Small ones become one of so many bytes.
    pub(crate) object_bytes: u64,
    /// For so long an object stays that counts no more.
    pub(crate) grace: Duration,
    /// Between two looks at all of them.
    pub(crate) interval: Duration,
}

impl Cold {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        config: &NodeConfig,
        cluster: watch::Receiver<Option<Arc<Cluster>>>,
        outside: Outside,
    ) -> Cold {
        Cold(Arc::new(Inner {
            store: Arc::new(Steady::new(store, SteadyOptions::default(), runtime::random())),
            reader: OnceLock::new(),
            cluster,
            cache_bytes: config.cache_bytes,
            gets_max: config.store_gets_max,
            outside,
            memory: Arc::new(Semaphore::new(config.pack_memory_bytes / PERMIT_BYTES)),
            memory_bytes: config.pack_memory_bytes,
            pack: PackSizes { bytes: config.pack_bytes, interval: Duration::from_millis(config.pack_interval_ms) },
            keeping: Keeping {
                object_bytes: config.store_object_bytes,
                grace: Duration::from_millis(config.store_grace_ms()),
                interval: Duration::from_millis(config.store_clean_ms),
            },
            merging: Semaphore::new(1),
            log_bytes: config.log_bytes(),
            claimed: OnceCell::new(),
            failing: Mutex::default(),
        }))
    }

    pub(crate) fn pack_sizes(&self) -> PackSizes {
        self.0.pack
    }

    pub(crate) fn keeping(&self) -> Keeping {
        self.0.keeping
    }

    /// Waits until no other group of the node merges objects.
    pub(crate) async fn merging(&self) -> SemaphorePermit<'_> {
        self.0.merging.acquire().await.expect("invariant: nobody closes it")
    }

    /// Asks something of the store, outside of the core that asks.
    ///
    /// # Errors
    /// Those of the work; [`StoreError::Unavailable`] if it panicked.
    pub(crate) async fn ask<T, E, F>(&self, work: impl FnOnce(Arc<Steady>) -> F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let asked = self.0.outside.run(work(self.0.store.clone())).await;
        asked.unwrap_or_else(|error| Err(unavailable(error).into()))
    }

    /// Log that is kept although the store has its bytes.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.0.log_bytes
    }

    /// Sets memory aside for a pack of about so many bytes, for as long as the permit is held.
    pub(crate) async fn memory(&self, bytes: usize) -> OwnedSemaphorePermit {
        let permits = bytes.min(self.0.memory_bytes) / PERMIT_BYTES;
        let acquired = self.0.memory.clone().acquire_many_owned(permits as u32).await;
        acquired.expect("invariant: nobody closes it")
    }

    /// Tells what it uses and has done.
    pub(crate) fn report(&self, metrics: &ColdMetrics) {
        let Inner { store, reader, memory, memory_bytes, .. } = &*self.0;
        let free = memory.available_permits() * PERMIT_BYTES;
        let is_failing = self.failing().is_some();
        metrics.report(store, reader.get(), is_failing, memory_bytes.saturating_sub(free));
    }

    /// Reads records of a stream; see [`Reader::read`].
    ///
    /// # Errors
    /// Those of the reader.
    pub(crate) async fn read(&self, wanted: Wanted) -> Result<Found, ReadError> {
        let cluster = self.0.cluster.borrow().as_ref().map(|cluster| cluster.id);
        let Some(cluster) = cluster else {
            return Err(StoreError::Unavailable("whose packs are to be read is not known yet".to_owned()).into());
        };
        let Inner { store, cache_bytes, gets_max, .. } = &*self.0;
        let options = ReaderOptions { cache_bytes: *cache_bytes, gets_max: *gets_max, ahead_bytes: AHEAD_BYTES };
        let reader = self.0.reader.get_or_init(|| Reader::new(store.clone(), cluster, options)).clone();
        self.0.outside.run(async move { reader.read(wanted).await }).await.map_err(unavailable)?
    }

    /// Stores a pack. One that is there already is this one, for nobody else draws its name; but that it is there is looked
    /// at, for an answer that is wrong must not make a pack count.
    ///
    /// # Errors
    /// Those of the store; it may be there nevertheless.
    pub(crate) async fn put(&self, id: PackId, packed: Bytes) -> Result<(), StoreError> {
        let name = id.name();
        let put = |store: Arc<Steady>| async move {
            let bytes = packed.len() as u64;
            if store.put(&name, packed).await? == Put::Stored || store.size(&name).await? == bytes {
                return Ok(());
            }
            let reason = "it has another length than what was stored under its name".to_owned();
            Err(StoreError::Damaged { name, reason })
        };
        self.ask(put).await
    }

    /// Builds a pack outside of the core that asks.
    ///
    /// # Errors
    /// If the work panicked.
    pub(crate) async fn build<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        self.0.outside.run(async move { work() }).await
    }

    /// Passes on whether a call succeeded, and tells people when that changes.
    pub(crate) fn heard<T>(&self, outcome: Result<T, StoreError>) -> bool {
        let failed = outcome.err().map(|error| error.to_string());
        let before = std::mem::replace(&mut *self.failing(), failed.clone());
        match (&before, &failed) {
            (None, Some(why)) => warn!("{why}; streams stay on the disks of the nodes until it works"),
            (Some(before), Some(why)) if before != why => warn!("{why}"),
            (Some(_), None) => info!("the object store works again"),
            (Some(_), Some(_)) | (None, None) => {}
        }
        failed.is_none()
    }

    /// Whether the store does not do what it is asked.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing().is_some() || self.is_away()
    }

    /// Whether the store is left alone, or refuses what it is asked.
    pub(crate) fn is_away(&self) -> bool {
        *self.0.store.health().borrow() != Health::Healthy
    }

    fn failing(&self) -> MutexGuard<'_, Option<String>> {
        self.0.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that the place is this cluster's: the first who comes writes its name, but nobody does who has packs already:
    /// they are elsewhere.
    ///
    /// # Errors
    /// If it is another cluster's, or nobody's although there are packs, or the store fails.
    pub(crate) async fn claim(&self, cluster: ClusterId, has_packs: bool) -> Result<(), StoreError> {
        let claim = || self.ask(move |store| claim(store, cluster, has_packs));
        self.0.claimed.get_or_try_init(claim).await.copied()
    }
}

async fn claim(store: Arc<Steady>, cluster: ClusterId, has_packs: bool) -> Result<(), StoreError> {
    let (name, own) = (owner(), format!("ursula 1 {cluster}\n"));
    match read_owner(&*store, &name).await {
        Err(StoreError::NotFound(_)) if has_packs => {
            return Err(StoreError::Foreign(format!(
                "the store has no object {name}, so the packs that cluster {cluster} has already are elsewhere: give the \
                 setting `store` the value that it had, or copy everything that is there"
            )));
        }
        // Two that come at the same time write different names, and all but one find the other's when they look.
        Err(StoreError::NotFound(_)) => drop(store.put(&name, own.clone().into()).await?),
        found => drop(found?),
    }
    let found = read_owner(&*store, &name).await?;
    if found == own.as_bytes() {
        return Ok(());
    }
    let found = String::from_utf8_lossy(&found).trim_end().to_owned();
    Err(StoreError::Foreign(format!(
        "the object {name} of the store says {found:?}, so what is there belongs to another cluster than {cluster}, or to \
         another version: choose another prefix in the setting `store`"
    )))
}

/// Whose place it is; `None` if it is nobody's yet.
///
/// # Errors
/// If the store fails, or says what no version of this program has written.
pub(crate) async fn owner_of(store: &dyn Store) -> Result<Option<ClusterId>, StoreError> {
    let name = owner();
    let found = match read_owner(store, &name).await {
        Err(StoreError::NotFound(_)) => return Ok(None),
        found => found?,
    };
    let text = String::from_utf8_lossy(&found);
    let cluster = text.strip_prefix("ursula 1 ").and_then(|rest| rest.trim_end().parse().ok());
    cluster
        .map(Some)
        .ok_or_else(|| StoreError::Foreign(format!("the object {name} says {text:?}: it is of another version")))
}

async fn read_owner(store: &dyn Store, name: &Name) -> Result<Bytes, StoreError> {
    let bytes = store.size(name).await?;
    store.get(name, 0..bytes).await
}

fn owner() -> Name {
    Name::parse(OWNER).expect("invariant: it is a name")
}

fn unavailable(error: io::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests;
