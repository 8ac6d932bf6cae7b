//! Packs in a store that counts, and a model that holds the bytes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::Semaphore;
use ursula_common::packs::{Catalogue, PackRef};
use ursula_common::{BucketName, ClusterId, GroupId, Millis, Offset, StreamId};

use super::super::{Found, PACKS_MAX, Reader, ReaderOptions, Wanted};
use crate::pack::{Builder, Head, Pack, PackId, Packed};
use crate::store::fault::FaultStore;
use crate::store::{Answer, Body, Listed, MemoryStore, Name, Put, Store, StoreError};

pub(super) const GROUP: GroupId = GroupId(3);
pub(super) const CLUSTER: ClusterId = ClusterId(0xc1);
pub(super) const OPTIONS: ReaderOptions = ReaderOptions { cache_bytes: 64 << 20, gets_max: 4, ahead_bytes: 0 };

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

pub(super) fn record(number: usize, bytes: usize) -> Bytes {
    let pattern: Vec<u8> = (0..251).map(|at| (number * 31 + at * 7) as u8).collect();
    let mut body = pattern.repeat(bytes / pattern.len() + 1);
    body.truncate(bytes);
    body.into()
}

#[derive(Debug, Default)]
struct Stream {
    /// Where its packs end.
    end: Offset,
    newest: Option<u64>,
    records: Vec<Bytes>,
}

/// A store that tells how many GETs are under way, and holds them up.
#[derive(Debug)]
pub(super) struct Counting {
    inner: Arc<dyn Store>,
    pub(super) gets: AtomicUsize,
    now: AtomicUsize,
    pub(super) most: AtomicUsize,
    /// Each GET takes one.
    pub(super) permits: Semaphore,
}

impl Counting {
    async fn count<T>(&self, answer: Answer<'_, T>) -> Result<T, StoreError> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.most.fetch_max(self.now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.permits.acquire().await.expect("never closed").forget();
        let answer = answer.await;
        self.now.fetch_sub(1, Ordering::Relaxed);
        answer
    }
}

impl Store for Counting {
    fn get<'a>(&'a self, name: &'a Name, range: Range<u64>) -> Answer<'a, Bytes> {
        Box::pin(self.count(self.inner.get(name, range)))
    }
    fn stream<'a>(&'a self, name: &'a Name, range: Range<u64>) -> Answer<'a, Body<'a>> {
        Box::pin(self.count(self.inner.stream(name, range)))
    }
    fn put<'a>(&'a self, name: &'a Name, body: Bytes) -> Answer<'a, Put> {
        self.inner.put(name, body)
    }
    fn size<'a>(&'a self, name: &'a Name) -> Answer<'a, u64> {
        self.inner.size(name)
    }
    fn delete<'a>(&'a self, name: &'a Name) -> Answer<'a, ()> {
        self.inner.delete(name)
    }
    fn list<'a>(&'a self, folder: &'a Name, after: Option<&'a Name>) -> Answer<'a, Vec<Listed>> {
        self.inner.list(folder, after)
    }
}

pub(super) struct World {
    pub(super) faults: Arc<FaultStore>,
    pub(super) store: Arc<Counting>,
    objects: Vec<PackRef>,
    streams: BTreeMap<u64, Stream>,
    maker: u64,
}

impl World {
    pub(super) fn new() -> World {
        let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::default())));
        let store = Arc::new(Counting {
            inner: faults.clone(),
            gets: AtomicUsize::default(),
            now: AtomicUsize::default(),
            most: AtomicUsize::default(),
            permits: Semaphore::new(Semaphore::MAX_PERMITS),
        });
        World { faults, store, objects: Vec::new(), streams: BTreeMap::new(), maker: 0 }
    }

    pub(super) async fn random(seed: u64, packs: usize, streams: u64) -> World {
        let mut world = World::new();
        let mut random = StdRng::seed_from_u64(seed);
        // Some are in nearly every pack, some in a few.
        let often: Vec<f64> = (0..streams).map(|_| random.random::<f64>().powi(3)).collect();
        for _ in 0..packs {
            let mut added = Vec::new();
            for (stream, often) in often.iter().enumerate() {
                if random.random_bool(*often) {
                    let count = random.random_range(1..6);
                    let records = (0..count).map(|_| record(random.random::<u8>().into(), random.random_range(1..400)));
                    added.push((stream as u64, records.collect()));
                }
            }
            if random.random_bool(0.05) {
                let records = (0..20).map(|_| record(random.random::<u8>().into(), random.random_range(1..100_000)));
                added.push((streams + 1, records.collect()));
            }
            if added.is_empty() {
                added.push((streams + 2, vec![record(1, 3)]));
            }
            world.pack(&added).await;
        }
        world
    }

    pub(super) fn reader(&self, options: ReaderOptions) -> Reader {
        Reader::new(self.store.clone(), CLUSTER, options)
    }

    /// The next pack, with more of some streams.
    pub(super) async fn pack(&mut self, streams: &[(u64, Vec<Bytes>)]) {
        let number = self.catalogue().next();
        let mut builder = Builder::new(self.head(CLUSTER, number, number));
        for (id, records) in streams {
            let first = Offset::first_of(*id % Offset::NUMBERS);
            let stream = self.streams.entry(*id).or_insert_with(|| Stream { end: first, ..Stream::default() });
            builder.add(StreamId(*id), stream.end, stream.newest, records);
            stream.end.0 += records.iter().map(|record| record.len() as u64).sum::<u64>();
            stream.newest = Some(number);
            stream.records.extend_from_slice(records);
        }
        let object = self.put(builder, number, number).await;
        self.objects.push(object);
    }

    /// The head of the object that comes next.
    pub(super) fn head(&mut self, cluster: ClusterId, first: u64, last: u64) -> Head {
        self.maker += 1;
        Head {
            cluster,
            id: PackId { group: GROUP, first, last, maker: self.maker },
            made: Millis(1),
            as_of: 0,
            prev: None,
            merged: None,
        }
    }

    /// Stores an object of the last head.
    pub(super) async fn put(&self, builder: Builder, first: u64, last: u64) -> PackRef {
        let Packed { body, hash, .. } = builder.finish(b"records");
        let object = PackRef { first, last, maker: self.maker, bytes: body.len() as u64, hash };
        let id = PackId { group: GROUP, first, last, maker: self.maker };
        assert_eq!(self.store.put(&id.name(), body).await.expect("stored"), Put::Stored);
        object
    }

    /// Puts another object in the place of one.
    pub(super) fn replace(&mut self, first: u64, object: PackRef) {
        let place = self.objects.iter().position(|old| old.first == first).expect("an object");
        self.objects[place] = object;
    }

    /// Puts one object in the place of those of some packs, as far as there are any, and removes these.
    pub(super) async fn compact(&mut self, first: u64, last: u64) {
        let within = |object: &&PackRef| object.first >= first && object.last <= last;
        let old: Vec<PackRef> = self.objects.iter().filter(within).copied().collect();
        let (Some(low), Some(high)) = (old.first(), old.last()) else { return };
        let (first, last) = (low.first, high.last);
        let mut merged: BTreeMap<u64, (Offset, Option<u64>, Vec<Bytes>)> = BTreeMap::new();
        for object in &old {
            let id = PackId { group: GROUP, first: object.first, last: object.last, maker: object.maker };
            let pack = Pack::open(&*self.store, id).await.expect("a pack");
            for page in 0..pack.pages() {
                for row in pack.rows(&*self.store, page).await.expect("rows") {
                    let (_, _, records) = merged.entry(row.stream.0).or_insert((row.start, row.prev, Vec::new()));
                    let mut at = row.start;
                    while at < row.end {
                        for block in pack.blocks(&*self.store, &row, at).await.expect("blocks") {
                            let own = pack.block(&*self.store, &block).await.expect("a block");
                            at.0 = block.start.0 + own.iter().map(|record| record.len() as u64).sum::<u64>();
                            records.extend(own);
                        }
                    }
                }
            }
        }
        let mut builder = Builder::new(self.head(CLUSTER, first, last));
        for (stream, (start, prev, records)) in &merged {
            builder.add(StreamId(*stream), *start, *prev, records);
        }
        let object = self.put(builder, first, last).await;
        for PackRef { first, last, maker, .. } in old {
            self.remove(PackId { group: GROUP, first, last, maker }).await;
        }
        self.objects.retain(|object| object.last < first || object.first > last);
        self.objects.push(object);
        self.objects.sort_by_key(|object| object.first);
    }

    pub(super) async fn remove(&self, id: PackId) {
        self.store.delete(&id.name()).await.expect("deleted");
    }

    fn catalogue(&self) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for object in &self.objects {
            assert!(catalogue.push(*object), "objects follow each other");
        }
        catalogue
    }

    pub(super) fn id(&self, pack: u64) -> PackId {
        let object = *self.catalogue().find(pack).expect("an object");
        PackId { group: GROUP, first: object.first, last: object.last, maker: object.maker }
    }

    pub(super) fn streams(&self) -> Vec<u64> {
        self.streams.keys().copied().collect()
    }

    pub(super) fn records(&self, stream: u64) -> &[Bytes] {
        &self.streams[&stream].records
    }

    /// Where a stream begins, and where its packs end.
    pub(super) fn ends(&self, stream: u64) -> (Offset, Offset) {
        let end = self.streams[&stream].end;
        (end.first(), end)
    }

    pub(super) fn wanted(&self, stream: u64, from: Offset, until: Offset, bytes_max: usize) -> Wanted {
        let newest = self.streams[&stream].newest.expect("a pack");
        let packs = Arc::new(self.catalogue());
        let bucket = BucketName::parse("default").expect("a name");
        Wanted { bucket, group: GROUP, packs, stream: StreamId(stream), newest, from, until, bytes_max }
    }

    /// What was found is what the model says.
    pub(super) fn check(&self, stream: u64, from: Offset, until: Offset, bytes_max: usize, found: &Found) {
        let goal = until.0.min(from.0 + bytes_max.max(1) as u64);
        let (mut at, mut start, mut expected) = (self.ends(stream).0.0, None, Vec::new());
        for record in self.records(stream) {
            let end = at + record.len() as u64;
            if end > from.0 && at < goal {
                start.get_or_insert(at);
                expected.push(record.clone());
            }
            at = end;
        }
        assert_eq!(Some(found.start.0), start);
        match found.records.len() {
            short if short < expected.len() => {
                assert!(short >= PACKS_MAX, "a record of each pack at least");
                assert_eq!(found.records, expected[..short]);
            }
            _ => assert_eq!(found.records, expected),
        }
    }
}
