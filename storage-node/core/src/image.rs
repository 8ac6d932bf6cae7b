//! Streams as packs know them, outside of any group: read from the records of one pack, changed to what they shall be in
//! another group, and written as records again. Must not lose anything of a stream that it does not know.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ursula_common::cluster::Cluster;
use ursula_common::packs::ColdEnd;
use ursula_common::verb::{Ack, ForkLink};
use ursula_common::{BucketName, GroupId, Millis, Offset, StreamId, StreamKey};

use crate::packing::Cold;
use crate::published::{Published, Snapshots};
use crate::stream::{ForkStart, Presence, Stream};
use crate::{CodecError, State, snapshot};

/// What the records of a pack say.
#[derive(Debug, Clone)]
pub struct Images {
    /// The group.
    pub group: GroupId,
    /// The latest time that the group knew.
    pub now: Millis,
    /// The id that the group would have given to its next stream.
    pub next_stream: StreamId,
    /// The buckets of the group, and when ops in each are acknowledged.
    pub buckets: BTreeMap<BucketName, Ack>,
    /// Streams that were removed.
    pub removed: Vec<StreamId>,
    /// Streams that packs have whole.
    pub streams: Vec<StreamImage>,
    /// The cluster, if this is the meta group and it was formed.
    pub cluster: Option<Arc<Cluster>>,
}

/// A stream as a pack knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamImage {
    pub(crate) key: StreamKey,
    pub(crate) stream: Arc<Stream>,
}

impl Images {
    /// Reads the records of a pack.
    ///
    /// # Errors
    /// If they are no records of a pack.
    pub fn decode(records: Bytes) -> Result<Images, CodecError> {
        decode(records)
    }
}

/// See [`Images::decode`].
pub(crate) fn decode(records: Bytes) -> Result<Images, CodecError> {
    let state = State::decode(records)?;
    let buckets = state.buckets.iter().map(|(name, bucket)| (name.clone(), bucket.ack)).collect();
    let removed = state.untold().collect();
    let streams = state.buckets.iter().flat_map(|(bucket, known)| {
        known.streams.iter().map(|(name, stream)| StreamImage {
            key: StreamKey { bucket: bucket.clone(), name: name.clone() },
            stream: stream.clone(),
        })
    });
    let streams = streams.collect();
    let State { group, now, next_stream, cluster, .. } = state;
    Ok(Images { group, now, next_stream: StreamId(next_stream), buckets, removed, streams, cluster })
}

impl StreamImage {
    /// Its name.
    pub fn key(&self) -> &StreamKey {
        &self.key
    }

    /// Its incarnation.
    pub fn id(&self) -> StreamId {
        self.stream.id
    }

    /// Where those of its own bytes begin that somebody needs.
    pub fn start(&self) -> Offset {
        self.stream.floor()
    }

    /// Where its readers find it to begin.
    pub fn earliest(&self) -> Offset {
        self.stream.kept().map_or(self.stream.tail.first(), |kept| kept.earliest)
    }

    /// Where it ends.
    pub fn tail(&self) -> Offset {
        self.stream.tail
    }

    /// What packs have of it.
    pub fn cold(&self) -> Option<ColdEnd> {
        self.stream.cold.as_ref().and_then(|cold| cold.end())
    }

    /// Where its source is, if it is a fork.
    pub fn fork(&self) -> Option<&ForkLink> {
        self.stream.fork()
    }

    /// Whether clients can see it: otherwise only forks need it.
    pub fn is_live(&self) -> bool {
        self.stream.presence == Presence::Live
    }

    /// Its snapshots, the newest first: which upload each is, and of how many bytes.
    pub fn snapshots(&self) -> impl Iterator<Item = (u64, u64)> {
        let all = self.stream.snapshots().into_iter().flat_map(|all| all.iter().rev());
        all.map(|known| (known.info.upload, known.info.bytes))
    }

    /// Whether it is an upload of so many bytes, and nothing of it is missing.
    pub fn is_whole(&self, bytes: u64) -> bool {
        self.stream.is_whole(bytes)
    }

    /// Lets it have this one of its snapshots and no other, and begin there if it is kept from its snapshot on.
    pub fn set_snapshot(&mut self, upload: Option<u64>) {
        if self.stream.snapshots().is_none() {
            return;
        }
        let stream = Arc::make_mut(&mut self.stream);
        let chosen =
            stream.snapshots().into_iter().flat_map(|all| all.iter()).find(|known| Some(known.info.upload) == upload);
        let newest = chosen.map(|known| Published { info: known.info.clone(), since: 0 });
        let begin = newest.as_ref().map(|newest| newest.info.at).filter(|_| stream.retention().snapshot);
        stream.rare_mut().snapshots = newest.map(|newest| Box::new(Snapshots { newest, before: Vec::new() }));
        if let Some(at) = begin {
            stream.trim(at);
        }
    }

    /// Lets an upload be that of a snapshot: it may not have been one yet when it was packed.
    pub fn stay(&mut self) {
        Arc::make_mut(&mut self.stream).stay();
    }

    /// Makes it another incarnation, whose newest bytes are in this pack; 0 if it has none of its own.
    pub fn place(&mut self, id: StreamId, pack: u64) {
        let stream = Arc::make_mut(&mut self.stream);
        stream.id = id;
        stream.cold = Some(Box::new(Cold { end: stream.tail, pack, turn: 0, changed: 0, recorded: true }));
    }

    /// Lets it be a fork of this incarnation of its source.
    pub fn set_source(&mut self, source: StreamId) {
        let rare = Arc::make_mut(&mut self.stream).rare.as_mut();
        if let Some(link) = rare.and_then(|rare| rare.fork.as_mut()) {
            link.source_id = source;
        }
    }

    /// Lets these forks, and no others, have references on it, under these ids.
    pub fn set_forks<'a>(&mut self, forks: impl Iterator<Item = (StreamId, &'a StreamImage)>) {
        let start = |(id, fork): (StreamId, &StreamImage)| {
            let ForkLink { anchor, at, .. } = *fork.fork()?;
            // A fork may have been trimmed since, but its source keeps what it has.
            Some(((fork.key.clone(), id), ForkStart { anchor, at, from: fork.earliest().min(anchor) }))
        };
        let forks: BTreeMap<_, _> = forks.filter_map(start).collect();
        if !forks.is_empty() || self.stream.has_forks() {
            let rare = Arc::make_mut(&mut self.stream).rare_mut();
            if let Some(kept) = &mut rare.kept {
                kept.set_needed(forks.values().filter_map(ForkStart::needs));
            }
            rare.forks = forks;
        }
    }
}

/// The records of a pack that has these streams and nothing else.
pub fn encode_images(group: GroupId, data_groups: u32, next_stream: StreamId, images: &[StreamImage]) -> Vec<u8> {
    let streams = images.iter().map(|image| (&image.key, &*image.stream)).collect();
    snapshot::encode_streams(group, data_groups, next_stream, &streams)
}
