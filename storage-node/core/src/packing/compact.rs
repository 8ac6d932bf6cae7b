//! Objects in the place of others, and what becomes of these. Decides what counts; makes no object and deletes none.
//!
//! What is replaced stays known until the store has said that it is gone, so that nothing is left there for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use ursula_common::packs::PackRef;
use ursula_common::verb::{MergePacks, Reply};
use ursula_common::{BucketName, Error, Millis, Offset, StreamId, StreamKey, StreamName};

use super::Waiting;
use crate::stream::Stream;
use crate::{CodecError, State};

/// Objects that count no more and may still be in the store: with more, none are replaced.
const REPLACED_MAX: usize = 16 << 10;

/// An object that counts no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaced {
    /// The object.
    pub object: PackRef,
    /// When it was replaced.
    pub at: Millis,
    /// The newest pack at that time. Until there is a newer one, somebody who restores may take another object of the same
    /// number for the newest, which knows of less that nobody needs any more.
    pub newest: u64,
}

/// An object counts in the place of others.
pub(crate) fn merge(state: &mut State, merge: MergePacks) -> Result<Reply, Error> {
    let MergePacks { replaced, object } = merge;
    let now = state.now;
    let Some(packs) = &mut state.packs else { return Err(Error::Malformed) };
    let fits = packs.catalogue.is_run(&replaced, &object) && packs.replaced.len() + replaced.len() <= REPLACED_MAX;
    if !fits {
        return Err(Error::Malformed);
    }
    let newest = packs.catalogue.next() - 1;
    Arc::make_mut(&mut packs.catalogue).replace(&replaced, object);
    packs.replaced.extend(replaced.into_iter().map(|object| Replaced { object, at: now, newest }));
    // A pack follows, also if nothing else happens: see `Replaced::newest`.
    state.mark_group();
    Ok(Reply::Done)
}

/// Objects that count no more are gone. Said again, it changes nothing.
pub(crate) fn sweep(state: &mut State, gone: &[PackRef]) -> Result<Reply, Error> {
    let Some(packs) = &mut state.packs else { return Err(Error::Malformed) };
    let gone: BTreeSet<u64> = gone.iter().map(|object| object.maker).collect();
    packs.replaced.retain(|replaced| !gone.contains(&replaced.object.maker));
    Ok(Reply::Done)
}

impl State {
    /// Objects that count no more and may still be in the store, those that were replaced first at the front.
    pub fn replaced(&self) -> impl ExactSizeIterator<Item = &Replaced> {
        self.packs.as_ref().map(|packs| packs.replaced.iter()).unwrap_or_default()
    }

    /// At most `count` streams with names after this one, and from where on packs must keep their bytes, as the newest record in
    /// packs knows it; and the last of these names, unless there are no more.
    pub fn kept(&self, after: Option<&StreamKey>, count: usize) -> (Vec<(StreamId, Offset)>, Option<StreamKey>) {
        let from = after.map_or(Bound::Unbounded, |key| Bound::Included(&key.bucket));
        let all = self.buckets.range::<BucketName, _>((from, Bound::Unbounded)).flat_map(|(bucket, known)| {
            let last = after.filter(|key| key.bucket == *bucket);
            let from = last.map_or(Bound::Unbounded, |key| Bound::Excluded(&key.name));
            known
                .streams
                .range::<StreamName, _>((from, Bound::Unbounded))
                .map(move |(name, stream)| (bucket, name, stream))
        });
        let (mut kept, mut last) = (Vec::new(), None);
        for (bucket, name, stream) in all.take(count) {
            kept.push((stream.id, told(stream)));
            last = Some((bucket, name));
        }
        let is_end = kept.len() < count;
        let next = last.filter(|_| !is_end);
        (kept, next.map(|(bucket, name)| StreamKey { bucket: bucket.clone(), name: name.clone() }))
    }

    /// Streams that were removed, which packs may have as if they were there.
    pub fn untold(&self) -> impl Iterator<Item = StreamId> {
        self.packs.iter().flat_map(|packs| packs.waiting.values()).filter_map(|waiting| match waiting {
            Waiting::Removed(stream) => Some(*stream),
            Waiting::Stream(_) => None,
        })
    }
}

fn told(stream: &Stream) -> Offset {
    stream.kept().map_or(Offset::ZERO, |kept| kept.told)
}

/// The records of an object that is made of others: what the newest says of the group, of each stream that is wanted the newest
/// record, and which streams were removed, unless there is no object `before` that may have them.
///
/// # Errors
/// If they are no records of packs, or there are none.
pub fn merge_records(
    oldest_first: Vec<Bytes>,
    is_wanted: impl Fn(StreamId) -> bool,
    before: bool,
) -> Result<Vec<u8>, CodecError> {
    let mut merged: Option<State> = None;
    let (mut streams, mut known) = (BTreeMap::<StreamKey, Arc<Stream>>::new(), BTreeSet::new());
    let mut removed = BTreeMap::new();
    for records in oldest_first.into_iter().rev() {
        let mut state = State::decode(records)?;
        let waiting = state.packs.as_mut().map(|packs| std::mem::take(&mut packs.waiting)).unwrap_or_default();
        // A pack may have a stream of which a later one says that it was removed, never both at once.
        for (turn, gone) in waiting {
            let Waiting::Removed(id) = gone else { return Err(CodecError::Damaged) };
            known.insert(id);
            removed.insert(turn, Waiting::Removed(id));
        }
        for (bucket, here) in &mut state.buckets {
            let bucket_is_there = merged.as_ref().is_none_or(|merged| merged.buckets.contains_key(bucket));
            for (name, stream) in std::mem::take(&mut here.streams) {
                let is_newest = known.insert(stream.id);
                if !is_newest || !is_wanted(stream.id) || !bucket_is_there {
                    continue;
                }
                // A name that was taken again is that of the later stream.
                let key = StreamKey { bucket: bucket.clone(), name };
                let newer = streams.get(&key).is_some_and(|other| other.id > stream.id);
                if !newer {
                    streams.insert(key, stream);
                }
            }
        }
        state.streams = 0;
        merged.get_or_insert(state);
    }
    let mut merged = merged.ok_or(CodecError::Damaged)?;
    if let Some(packs) = merged.packs.as_mut().filter(|_| before) {
        packs.waiting = removed;
    }
    streams.into_iter().for_each(|(key, stream)| merged.restore(&key, Stream::clone(&stream)));
    Ok(merged.encode())
}
