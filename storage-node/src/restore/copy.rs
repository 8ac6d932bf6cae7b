//! Puts the bytes of a backup into packs of a new cluster. Memory is bounded: what was read is stored before more of it is
//! held than a round.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use ursula_cold::pack::{self, Builder, Head, Link, PackId, Packed};
use ursula_cold::store::{Store, StoreError};
use ursula_common::limits::PACK_STREAMS_MAX;
use ursula_common::packs::PackRef;
use ursula_common::{ClusterId, GroupId, Millis, Offset, StreamId};
use ursula_stream_core::{StreamImage, encode_images};

use super::Plan;
use super::scan::Piece;
use crate::runtime;

/// Bytes of objects that are held before what they have is stored.
const ROUND_BYTES: u64 = 192 << 20;
/// A pack is full when it has so many bytes.
const PACK_BYTES: usize = 64 << 20;
/// Groups whose packs are made and stored at a time.
const GROUPS_MAX: usize = 4;
/// Records of streams in one step of an import have about so many bytes, and are of so many streams at most.
const STEP_BYTES: usize = 1 << 20;
const STEP_STREAMS: usize = 1024;

/// Copies what a plan restores.
pub struct Copier {
    store: Arc<dyn Store>,
    cluster: ClusterId,
    data_groups: u32,
    next_stream: StreamId,
    places: BTreeMap<(GroupId, StreamId), (GroupId, StreamId)>,
    groups: BTreeMap<GroupId, Chain>,
    held: u64,
}

/// The packs of one new group.
struct Chain {
    group: GroupId,
    now: Millis,
    prev: Option<Link>,
    next: u64,
    made: Vec<PackRef>,
    /// What the next packs get.
    parts: BTreeMap<StreamId, (Offset, Vec<Bytes>)>,
    /// The newest pack of each stream.
    newest: BTreeMap<StreamId, u64>,
    images: Vec<StreamImage>,
}

impl Copier {
    /// Copies to the groups that have begun to import, whose newest packs these are.
    pub fn new(store: Arc<dyn Store>, plan: &Plan, begun: BTreeMap<GroupId, Option<PackRef>>, now: Millis) -> Copier {
        let chain = |(group, newest): (GroupId, Option<PackRef>)| {
            let prev = newest.map(|newest| Link { id: PackId::of(group, &newest), hash: newest.hash });
            let next = newest.map_or(1, |newest| newest.last + 1);
            let images = plan.groups.get(&group).cloned().unwrap_or_default();
            let (made, parts, newest) = Default::default();
            (group, Chain { group, now, prev, next, made, parts, newest, images })
        };
        Copier {
            store,
            cluster: plan.cluster,
            data_groups: plan.data_groups,
            next_stream: plan.next_stream,
            places: plan.places.clone(),
            groups: begun.into_iter().map(chain).collect(),
            held: 0,
        }
    }

    /// Removes what an earlier attempt has stored: no group counts it, for none has ended its import.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn clear(&self) -> Result<(), StoreError> {
        for chain in self.groups.values() {
            for (id, _) in pack::list(&*self.store, &PackId::folder(chain.group)).await? {
                if id.first >= chain.next {
                    self.store.delete(&id.name()).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes a piece of a stream of the old cluster.
    pub fn take(&mut self, group: GroupId, piece: Piece) {
        let Some((group, id)) = self.places.get(&(group, piece.stream)).copied() else { return };
        let Some(chain) = self.groups.get_mut(&group) else { return };
        chain.parts.entry(id).or_insert((piece.start, Vec::new())).1.extend(piece.records);
    }

    /// All pieces of an object of so many bytes were taken.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn after_object(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.held += bytes;
        if self.held < ROUND_BYTES { Ok(()) } else { self.flush().await }
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let (store, cluster) = (self.store.clone(), self.cluster);
        let data_groups = self.data_groups;
        let chains = self.groups.values_mut().filter(|chain| !chain.parts.is_empty());
        let store_all = chains.map(|chain| {
            let store = store.clone();
            async move {
                let records = encode_images(chain.group, data_groups, StreamId(1), &[]);
                chain.store_parts(&*store, cluster, records).await
            }
        });
        stream::iter(store_all).buffer_unordered(GROUPS_MAX).try_collect::<Vec<()>>().await?;
        self.held = 0;
        Ok(())
    }

    /// Stores what is left, and the records of all streams in the last packs: with these the new place can itself be
    /// restored from. Returns what each group is to be told.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn finish(mut self) -> Result<BTreeMap<GroupId, Vec<(Vec<PackRef>, Bytes)>>, StoreError> {
        self.flush().await?;
        let mut steps = BTreeMap::new();
        for (group, mut chain) in std::mem::take(&mut self.groups) {
            let mut images = std::mem::take(&mut chain.images);
            for image in &mut images {
                let id = image.id();
                image.place(id, chain.newest.get(&id).copied().unwrap_or(0));
            }
            for some in images.chunks(PACK_STREAMS_MAX) {
                let records = encode_images(group, self.data_groups, self.next_stream, some);
                chain.store(&*self.store, self.cluster, Vec::new(), records).await?;
            }
            let mut told: Vec<(Vec<PackRef>, Bytes)> =
                chain.made.chunks(STEP_STREAMS).map(|packs| (packs.to_vec(), Bytes::new())).collect();
            let records = images.chunks(STEP_STREAMS).flat_map(|some| self.encode(group, some));
            told.extend(records.map(|records| (Vec::new(), records)));
            steps.insert(group, told);
        }
        Ok(steps)
    }

    /// Records of streams in parts that are not too long.
    fn encode(&self, group: GroupId, images: &[StreamImage]) -> Vec<Bytes> {
        let next = images.last().map_or(StreamId(1), |last| StreamId(last.id().0 + 1));
        let records = encode_images(group, self.data_groups, next, images);
        if records.len() <= STEP_BYTES || images.len() == 1 {
            return vec![records.into()];
        }
        let (first, second) = images.split_at(images.len() / 2);
        [self.encode(group, first), self.encode(group, second)].concat()
    }
}

impl Chain {
    async fn store_parts(&mut self, store: &dyn Store, cluster: ClusterId, records: Vec<u8>) -> Result<(), StoreError> {
        let mut rows = Vec::new();
        let mut bytes = 0;
        for (id, (start, parts)) in std::mem::take(&mut self.parts) {
            bytes += parts.iter().map(Bytes::len).sum::<usize>();
            rows.push((id, start, parts));
            if bytes >= PACK_BYTES || rows.len() >= PACK_STREAMS_MAX {
                bytes = 0;
                self.store(store, cluster, std::mem::take(&mut rows), records.clone()).await?;
            }
        }
        if rows.is_empty() { Ok(()) } else { self.store(store, cluster, rows, records).await }
    }

    async fn store(
        &mut self,
        store: &dyn Store,
        cluster: ClusterId,
        rows: Vec<(StreamId, Offset, Vec<Bytes>)>,
        records: Vec<u8>,
    ) -> Result<(), StoreError> {
        let id = PackId { group: self.group, first: self.next, last: self.next, maker: runtime::random() };
        let head = Head { cluster, id, made: self.now, as_of: 0, prev: self.prev, merged: None };
        let ids: BTreeSet<StreamId> = rows.iter().map(|(id, ..)| *id).collect();
        let rows: Vec<_> =
            rows.into_iter().map(|(id, start, parts)| (id, start, self.newest.get(&id).copied(), parts)).collect();
        let built = tokio::spawn(async move {
            let mut builder = Builder::new(head);
            for (id, start, prev, parts) in &rows {
                builder.add(*id, *start, *prev, parts);
            }
            builder.finish(&records)
        });
        let Packed { body, hash, .. } = built.await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let bytes = body.len() as u64;
        store.put(&id.name(), body).await?;
        self.made.push(PackRef { first: id.first, last: id.last, maker: id.maker, bytes, hash });
        self.newest.extend(ids.into_iter().map(|stream| (stream, id.last)));
        (self.prev, self.next) = (Some(Link { id, hash }), self.next + 1);
        Ok(())
    }
}
