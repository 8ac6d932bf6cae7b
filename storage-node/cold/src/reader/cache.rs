//! What was fetched of packs, within a bound of bytes. Holds only what was checked; who misses the same part together
//! fetches it once; a fetch that fails leaves nothing.
//!
//! Objects never change, so nothing in here is ever stale; what nobody asks for any more makes room.

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use quick_cache::sync::{Cache as Weighed, GuardResult, PlaceholderGuard};
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};
use ursula_common::packs::PackRef;
use ursula_common::{GroupId, Offset, StreamId};

use super::gate::Pass;
use super::trail::Step;
use super::{Counters, Inner, Wanted};
use crate::pack::{Block, Pack, PackId, Row};
use crate::store::StoreError;

/// What an entry costs besides its content.
const ENTRY_BYTES: u64 = 200;
/// A guess for the cache's own tables.
const ITEM_BYTES: usize = 32 << 10;
/// The least that one of the independently locked parts of the cache has: room for many blocks.
const SHARD_BYTES_MIN: usize = 16 << 20;
const SHARDS_MAX: usize = 16;
/// The share of the cache for what was asked for more than once. The rest is for what was read ahead and not asked
/// for yet.
const HOT_SHARE: f64 = 0.5;

/// A part of a pack, or what was found out about a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Pack(PackId),
    /// A page of rows.
    Rows(PackId, usize),
    /// A page of places of blocks.
    Places(PackId, usize),
    /// A block, by its place.
    Block(PackId, u64),
    Trail(GroupId, StreamId),
}

#[derive(Debug, Clone)]
pub(super) enum Item {
    Pack(Pack),
    Rows(Arc<[Row]>),
    Places(Arc<[Block]>),
    /// For somebody in particular if it was read ahead for him.
    Block(Bytes, Option<Hold>),
    Trail(Arc<[Step]>),
}

/// Keeps what was read ahead for somebody until he has come by. Nobody else could tell that it will be asked for.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    /// Where he is, as long as he may come back.
    pub(super) reader: Weak<AtomicU64>,
    /// Where the block begins.
    pub(super) start: Offset,
}

impl Hold {
    fn is_on(&self) -> bool {
        self.reader.upgrade().is_some_and(|at| at.load(Ordering::Relaxed) <= self.start.0)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Holding;

impl Lifecycle<Key, Item> for Holding {
    type RequestState = ();

    fn is_pinned(&self, _key: &Key, item: &Item) -> bool {
        matches!(item, Item::Block(_, Some(hold)) if hold.is_on())
    }
}

#[derive(Debug, Clone)]
pub(super) struct Weights;

impl Weighter<Key, Item> for Weights {
    fn weight(&self, _key: &Key, item: &Item) -> u64 {
        let bytes = match item {
            Item::Pack(pack) => pack.weight(),
            Item::Rows(rows) => size_of_val(&**rows),
            Item::Places(places) => size_of_val(&**places),
            Item::Block(bytes, _) => taken(bytes.len()),
            Item::Trail(steps) => size_of_val(&**steps),
        };
        bytes as u64 + ENTRY_BYTES
    }
}

/// What an allocator takes for so many bytes: there are four sizes between a power of two and the next.
fn taken(bytes: usize) -> usize {
    bytes.next_multiple_of((bytes.next_power_of_two() / 8).max(1))
}

/// Keys come from packs, not from clients, and the simulator wants every run of a seed to be the same: a fixed hash.
type Hasher = BuildHasherDefault<DefaultHasher>;
/// The right, and the duty, to fetch a part for all who wait for it.
pub(super) type Turn<'a> = PlaceholderGuard<'a, Key, Item, Weights, Hasher, Holding>;

pub(super) struct Cache(Weighed<Key, Item, Weights, Hasher, Holding>);

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} bytes", self.0.weight(), self.0.capacity())
    }
}

impl Cache {
    pub(super) fn new(bytes: usize) -> Cache {
        let options = OptionsBuilder::new()
            .weight_capacity(bytes as u64)
            .estimated_items_capacity(bytes / ITEM_BYTES + 1)
            .shards((bytes / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX))
            .hot_allocation(HOT_SHARE)
            .build()
            .expect("invariant: both sizes are set");
        Cache(Weighed::with_options(options, Weights, Hasher::default(), Holding))
    }

    /// Bytes in it, and how many there may be.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.0.weight(), self.0.capacity())
    }

    /// What stream was found where, of late.
    pub(super) fn trail(&self, group: GroupId, stream: StreamId) -> Option<Arc<[Step]>> {
        match self.0.get(&Key::Trail(group, stream))? {
            Item::Trail(steps) => Some(steps),
            _ => None,
        }
    }

    pub(super) fn put_trail(&self, group: GroupId, stream: StreamId, steps: Vec<Step>) {
        self.0.insert(Key::Trail(group, stream), Item::Trail(steps.into()));
    }

    /// A block, or the turn to fetch it, if that is nobody's.
    pub(super) async fn block(&self, pack: PackId, at: u64) -> Result<Bytes, Turn<'_>> {
        match self.0.get_value_or_guard_async(&Key::Block(pack, at)).await {
            Ok(item) => Ok(block(item)),
            Err(turn) => Err(turn),
        }
    }

    /// The turn to fetch a block, if it is not here and nobody has the turn. Never waits.
    pub(super) fn turn(&self, pack: PackId, at: u64) -> Option<Turn<'_>> {
        match self.0.get_value_or_guard(&Key::Block(pack, at), Some(Duration::ZERO)) {
            GuardResult::Guard(turn) => Some(turn),
            GuardResult::Value(_) | GuardResult::Timeout => None,
        }
    }
}

fn block(item: Item) -> Bytes {
    match item {
        Item::Block(bytes, _) => bytes,
        _ => unreachable!("invariant: the key of a block has a block"),
    }
}

impl Inner {
    /// A pack that counts.
    pub(super) async fn pack(&self, wanted: &Wanted, object: &PackRef) -> Result<Pack, StoreError> {
        let id = PackId::of(wanted.group, object);
        let open = |store: Pass| async move {
            let pack = Pack::open_sized(&store, id, object.bytes).await?;
            let cluster = pack.head().cluster;
            match cluster == self.cluster {
                true => Ok(Item::Pack(pack)),
                false => Err(pack.damaged(&format!("it says that it belongs to cluster {cluster}"))),
            }
        };
        match self.part(wanted, Key::Pack(id), open).await? {
            Item::Pack(pack) => Ok(pack),
            _ => unreachable!("invariant: the key of a pack has a pack"),
        }
    }

    /// The row of the stream in a pack.
    pub(super) async fn row(&self, wanted: &Wanted, pack: &Pack) -> Result<Option<Row>, StoreError> {
        let Some(page) = pack.page_of(wanted.stream) else { return Ok(None) };
        let fetch = |store: Pass| async move { Ok(Item::Rows(pack.rows(&store, page).await?.into())) };
        match self.part(wanted, Key::Rows(pack.head().id, page), fetch).await? {
            Item::Rows(rows) => Ok(Row::of(&rows, wanted.stream)),
            _ => unreachable!("invariant: the key of rows has rows"),
        }
    }

    /// A page of places of blocks.
    pub(super) async fn places(&self, wanted: &Wanted, pack: &Pack, page: usize) -> Result<Arc<[Block]>, StoreError> {
        let fetch = |store: Pass| async move { Ok(Item::Places(pack.places(&store, page).await?.into())) };
        match self.part(wanted, Key::Places(pack.head().id, page), fetch).await? {
            Item::Places(places) => Ok(places),
            _ => unreachable!("invariant: the key of places has places"),
        }
    }

    /// What the cache has, or gets with `fetch`. What was damaged is fetched once more: it may have been so on its way only.
    ///
    /// Streams of many buckets share such parts. So nobody has others wait for a fetch before it is his turn to ask the store: they
    /// would wait in the queue of another bucket.
    async fn part<F>(&self, wanted: &Wanted, key: Key, fetch: impl Fn(Pass) -> F) -> Result<Item, StoreError>
    where
        F: Future<Output = Result<Item, StoreError>>,
    {
        let mut store = None;
        let item = loop {
            match self.cache.0.get_value_or_guard(&key, Some(Duration::ZERO)) {
                GuardResult::Value(item) => break item,
                GuardResult::Timeout => {
                    store = None;
                    if let Ok(item) = self.cache.0.get_value_or_guard_async(&key).await {
                        break item;
                    }
                }
                GuardResult::Guard(turn) => match &store {
                    Some(store) => {
                        let item = self.twice(store, fetch).await?;
                        drop(turn.insert(item.clone()));
                        return Ok(item);
                    }
                    None => {
                        drop(turn);
                        store = Some(self.store.enter(&wanted.bucket).await);
                    }
                },
            }
        };
        Counters::add(&self.counters().hits, 1);
        Ok(item)
    }

    async fn twice<F>(&self, store: &Pass, fetch: impl Fn(Pass) -> F) -> Result<Item, StoreError>
    where
        F: Future<Output = Result<Item, StoreError>>,
    {
        Counters::add(&self.counters().misses, 1);
        match fetch(store.clone()).await {
            Err(StoreError::Damaged { .. }) => {
                Counters::add(&self.counters().damaged, 1);
                fetch(store.clone()).await
            }
            answer => answer,
        }
    }

    pub(super) fn counters(&self) -> &Counters {
        self.store.counters()
    }
}
