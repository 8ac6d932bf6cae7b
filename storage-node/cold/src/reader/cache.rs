//! What was fetched of packs, within a bound of bytes. Holds only what was checked; who misses the same part together
//! fetches it once; a fetch that fails leaves nothing.
//!
//! Objects never change, so nothing in here is ever stale; what nobody asks for any more makes room.

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quick_cache::sync::{Cache as Weighed, DefaultLifecycle, GuardResult, PlaceholderGuard};
use quick_cache::{OptionsBuilder, Weighter};
use ursula_common::packs::PackRef;
use ursula_common::{GroupId, StreamId};

use super::trail::Step;
use super::{Counters, Inner};
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
    Block(Bytes),
    Trail(Arc<[Step]>),
}

#[derive(Debug, Clone)]
pub(super) struct Weights;

impl Weighter<Key, Item> for Weights {
    fn weight(&self, _key: &Key, item: &Item) -> u64 {
        let bytes = match item {
            Item::Pack(pack) => pack.weight(),
            Item::Rows(rows) => size_of_val(&**rows),
            Item::Places(places) => size_of_val(&**places),
            Item::Block(bytes) => bytes.len(),
            Item::Trail(steps) => size_of_val(&**steps),
        };
        bytes as u64 + ENTRY_BYTES
    }
}

/// Keys come from packs, not from clients, and the simulator wants every run of a seed to be the same: a fixed hash.
type Hasher = BuildHasherDefault<DefaultHasher>;
/// The right, and the duty, to fetch a part for all who wait for it.
pub(super) type Turn<'a> = PlaceholderGuard<'a, Key, Item, Weights, Hasher, DefaultLifecycle<Key, Item>>;

pub(super) struct Cache(Weighed<Key, Item, Weights, Hasher>);

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
        Cache(Weighed::with_options(options, Weights, Hasher::default(), DefaultLifecycle::default()))
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
        Item::Block(bytes) => bytes,
        _ => unreachable!("invariant: the key of a block has a block"),
    }
}

impl Inner {
    /// A pack that counts.
    pub(super) async fn pack(&self, group: GroupId, object: &PackRef) -> Result<Pack, StoreError> {
        let id = PackId { group, first: object.first, last: object.last, maker: object.maker };
        let open = || async {
            let pack = Pack::open_sized(&self.store, id, object.bytes).await?;
            let cluster = pack.head().cluster;
            match cluster == self.cluster {
                true => Ok(Item::Pack(pack)),
                false => Err(pack.damaged(&format!("it says that it belongs to cluster {cluster}"))),
            }
        };
        match self.part(Key::Pack(id), open).await? {
            Item::Pack(pack) => Ok(pack),
            _ => unreachable!("invariant: the key of a pack has a pack"),
        }
    }

    /// The row of a stream in a pack.
    pub(super) async fn row(&self, pack: &Pack, stream: StreamId) -> Result<Option<Row>, StoreError> {
        let Some(page) = pack.page_of(stream) else { return Ok(None) };
        let fetch = || async { Ok(Item::Rows(pack.rows(&self.store, page).await?.into())) };
        match self.part(Key::Rows(pack.head().id, page), fetch).await? {
            Item::Rows(rows) => Ok(Row::of(&rows, stream)),
            _ => unreachable!("invariant: the key of rows has rows"),
        }
    }

    /// A page of places of blocks.
    pub(super) async fn places(&self, pack: &Pack, page: usize) -> Result<Arc<[Block]>, StoreError> {
        let fetch = || async { Ok(Item::Places(pack.places(&self.store, page).await?.into())) };
        match self.part(Key::Places(pack.head().id, page), fetch).await? {
            Item::Places(places) => Ok(places),
            _ => unreachable!("invariant: the key of places has places"),
        }
    }

    /// What the cache has, or gets with `fetch`. What was damaged is fetched once more: it may have been so on its way only.
    async fn part<F>(&self, key: Key, fetch: impl Fn() -> F) -> Result<Item, StoreError>
    where
        F: Future<Output = Result<Item, StoreError>>,
    {
        let mut is_hit = true;
        let fetched = async {
            is_hit = false;
            Counters::add(&self.counters().misses, 1);
            match fetch().await {
                Err(StoreError::Damaged { .. }) => {
                    Counters::add(&self.counters().damaged, 1);
                    fetch().await
                }
                answer => answer,
            }
        };
        let item = self.cache.0.get_or_insert_async(&key, fetched).await?;
        Counters::add(&self.counters().hits, u64::from(is_hit));
        Ok(item)
    }

    pub(super) fn counters(&self) -> &Counters {
        self.store.counters()
    }
}
