//! What a cluster has left in an object store, for those who verify it or restore it elsewhere. Only reads the place of the
//! old cluster.

mod copy;
mod drive;
mod plan;
mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use ursula_cold::history::{self, Object};
use ursula_cold::pack::{Pack, PackId};
use ursula_cold::steady::{Steady, SteadyOptions};
use ursula_cold::store::{DirectoryStore, S3Store, StoreError};
use ursula_common::verb::Ack;
use ursula_common::{BucketName, ClusterId, GroupId, Millis, StreamId, StreamKey};
use ursula_stream_core::{Images, StreamImage};

use crate::cold::{self, Place};
use crate::config::NodeConfig;
use crate::runtime;

pub use copy::Copier;
pub use drive::{Guide, Progress, Restore, mebibytes};
pub use plan::{LeftOut, Plan};
pub(crate) use scan::Whole;
pub use scan::{Lost, Objects, Piece, Scan, Tracker};
pub use ursula_cold::history::History;
pub use ursula_cold::store::Store;

/// Objects whose records are being read at a time.
const READS_MAX: usize = 8;

/// How a place is reached: the settings of a node that have to do with its store.
#[derive(Debug, Clone, Default)]
pub struct PlaceOptions {
    /// See [`NodeConfig::store_endpoint`].
    pub endpoint: Option<String>,
    /// See [`NodeConfig::store_region`].
    pub region: Option<String>,
    /// See [`NodeConfig::store_path_style`].
    pub path_style: bool,
    /// See [`NodeConfig::store_encryption`].
    pub encryption: Option<String>,
}

/// Opens a place by its URL, as in the setting `store` of a node.
///
/// # Errors
/// A sentence about what is wrong.
pub async fn open(url: &str, options: &PlaceOptions) -> Result<Arc<dyn Store>, String> {
    let PlaceOptions { endpoint, region, path_style, encryption } = options.clone();
    let config = NodeConfig {
        store: Some(url.to_owned()),
        store_endpoint: endpoint,
        store_region: region,
        store_path_style: path_style,
        store_encryption: encryption,
        ..NodeConfig::default()
    };
    let store: Arc<dyn Store> = match Place::of(&config)? {
        Some(Place::S3(options)) => Arc::new(Box::pin(S3Store::new(options)).await),
        Some(Place::Directory(path)) => {
            let failed = |error| format!("cannot read {}: {error}", path.display());
            Arc::new(DirectoryStore::beside(&path).map_err(failed)?)
        }
        None => return Err("a place is s3://BUCKET, s3://BUCKET/PREFIX or file:///DIRECTORY".to_owned()),
    };
    Ok(Arc::new(Steady::new(store, SteadyOptions::default(), runtime::random())))
}

/// Whose place it is; `None` if nobody has stored anything there.
///
/// # Errors
/// If the store fails, or says something else.
pub async fn owner(store: &dyn Store) -> Result<Option<ClusterId>, StoreError> {
    cold::owner_of(store).await
}

/// Something in a place that is not as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The group.
    pub group: GroupId,
    /// The first and the last pack that are concerned.
    pub packs: (u64, u64),
    /// What is wrong, and with which object.
    pub what: String,
}

/// What packs have of one group.
#[derive(Debug, Clone, Default)]
pub struct GroupCut {
    /// Its packs.
    pub history: History,
    /// Its streams, each as the newest pack that speaks of it knows it.
    pub streams: BTreeMap<StreamId, StreamImage>,
}

/// What packs have of a cluster.
#[derive(Debug, Clone)]
pub struct Backup {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its groups, with the meta group if that has packs.
    pub groups: BTreeMap<GroupId, GroupCut>,
    /// Its buckets.
    pub buckets: BTreeSet<BucketName>,
    /// Those in which ops are acknowledged once they are offloaded, as far as the newest pack of any group knows.
    pub offloaded: BTreeSet<BucketName>,
    /// No stream of it had this id, or a greater one, as far as packs know.
    pub next_stream: StreamId,
    /// Packs that are missing, or whose records cannot be read: what they alone knew of streams is lost.
    pub damages: Vec<Damage>,
}

impl Backup {
    /// Reads everything but the bytes of streams, as it was at a time if one is given.
    ///
    /// # Errors
    /// If the store fails; damage is no error.
    pub async fn read(store: &Arc<dyn Store>, cluster: ClusterId, at: Option<Millis>) -> Result<Backup, StoreError> {
        let mut backup = Backup {
            cluster,
            groups: BTreeMap::new(),
            buckets: BTreeSet::new(),
            offloaded: BTreeSet::new(),
            next_stream: StreamId(1),
            damages: Vec::new(),
        };
        for (group, history) in history::read(store, cluster, at).await? {
            let missing = history.missing.iter();
            backup.damages.extend(missing.map(|missing| Damage {
                group,
                packs: (missing.first, missing.last),
                what: missing.why.clone(),
            }));
            let mut gathered = Gathered::default();
            let read = |object: Object| async move { (object.head.id, records(&**store, &object).await) };
            let newest_first: Vec<Object> = history.objects.iter().rev().copied().collect();
            let mut all = stream::iter(newest_first).map(read).buffered(READS_MAX);
            while let Some((id, images)) = all.next().await {
                match images {
                    Ok(images) => backup.take(&mut gathered, group, images),
                    Err(StoreError::Unavailable(why)) => return Err(StoreError::Unavailable(why)),
                    Err(error) => backup.damages.push(damage(id, error.to_string())),
                }
            }
            backup.groups.insert(group, GroupCut { history, streams: gathered.streams });
        }
        Ok(backup)
    }

    fn take(&mut self, gathered: &mut Gathered, group: GroupId, images: Images) {
        self.next_stream = self.next_stream.max(images.next_stream);
        // Those of the newest pack are the buckets at that time.
        if group == GroupId::META && !gathered.begun {
            self.buckets.extend(images.buckets.keys().cloned());
        }
        if !gathered.begun {
            let offloaded = images.buckets.iter().filter(|(_, ack)| **ack == Ack::Offloaded);
            self.offloaded.extend(offloaded.map(|(bucket, _)| bucket.clone()));
        }
        gathered.add(images);
    }

    /// Bytes of all objects.
    pub fn bytes(&self) -> u64 {
        self.groups.values().flat_map(|group| &group.history.objects).map(|object| object.bytes).sum()
    }

    /// How many streams there are, with those that only forks keep.
    pub fn streams(&self) -> usize {
        self.groups.values().map(|group| group.streams.len()).sum()
    }
}

fn damage(id: PackId, what: String) -> Damage {
    Damage { group: id.group, packs: (id.first, id.last), what }
}

async fn records(store: &dyn Store, object: &Object) -> Result<Images, StoreError> {
    let id = object.head.id;
    let records: Bytes = Pack::open_sized(store, id, object.bytes).await?.records(store).await?;
    let reason = "its records contradict each other, or are of a later version";
    let damaged = |_| StoreError::Damaged { name: id.name(), reason: reason.to_owned() };
    Images::decode(records).map_err(damaged).and_then(|images| match images.group == id.group {
        true => Ok(images),
        false => Err(StoreError::Damaged { name: id.name(), reason: format!("it speaks of group {}", images.group) }),
    })
}

/// The streams of a group, from its packs, the newest first.
#[derive(Debug, Default)]
struct Gathered {
    begun: bool,
    streams: BTreeMap<StreamId, StreamImage>,
    names: BTreeMap<StreamKey, StreamId>,
    /// Those of which something newer was seen.
    known: BTreeSet<StreamId>,
}

impl Gathered {
    fn add(&mut self, images: Images) {
        self.begun = true;
        // A pack may have a stream of which a later one says that it was removed, never both at once.
        self.known.extend(images.removed);
        for image in images.streams {
            let id = image.id();
            if !self.known.insert(id) {
                continue;
            }
            // A name that was taken again: the removal of the one before has not come into a pack yet.
            match self.names.get(image.key()).copied() {
                Some(newer) if newer > id => continue,
                Some(older) => drop(self.streams.remove(&older)),
                None => {}
            }
            self.names.insert(image.key().clone(), id);
            self.streams.insert(id, image);
        }
    }
}

#[cfg(test)]
mod tests;
