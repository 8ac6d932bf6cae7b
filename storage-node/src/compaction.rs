//! Makes one object of several. Decides neither when nor whether it counts.
//!
//! All of them are in memory while that is done, and so is what becomes of them: twice the size of an object, once for a node.

mod plan;

use std::collections::BTreeMap;

use bytes::Bytes;
use ursula_cold::pack::{Builder, Head, Link, Pack, PackId, Packed, hash};
use ursula_cold::store::{Store, StoreError};
use ursula_common::packs::PackRef;
use ursula_common::{ClusterId, Offset, StreamId};
use ursula_stream_core::merge_records;

use crate::restore::{Piece, Scan, Whole};

pub(crate) use plan::small_run;

/// Streams that are there, and from where on packs must keep their bytes. What came into packs later is not in it; what is older
/// than what it is used for only keeps more.
#[derive(Debug, Default)]
pub(crate) struct Kept(Vec<(StreamId, Offset)>);

/// Several objects that follow each other, and the one that is to come in their place.
#[derive(Debug)]
pub(crate) struct Merge<'a> {
    pub(crate) cluster: ClusterId,
    pub(crate) id: PackId,
    pub(crate) run: &'a [PackRef],
    pub(crate) kept: &'a Kept,
}

/// Why objects are not merged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MergeError {
    /// The store does not give them now.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// One of them is not what it should be.
    #[error("{reason}")]
    Object { maker: u64, reason: String },
    /// Packs do not know yet that nobody needs what is missing between two of them.
    #[error("a stream has a gap that packs do not know of yet")]
    NotYet,
}

/// What an object is to have of one stream.
struct Part {
    start: Offset,
    end: Offset,
    prev: Option<u64>,
    records: Vec<Bytes>,
}

impl Kept {
    /// Of streams in any order; of one that is named twice, all is kept that either says.
    pub(crate) fn new(mut streams: Vec<(StreamId, Offset)>) -> Kept {
        streams.sort_unstable();
        Kept(streams)
    }

    /// From where on the bytes of a stream are kept; `None` if it is not there.
    fn from(&self, stream: StreamId) -> Option<Offset> {
        let place = self.0.partition_point(|(id, _)| *id < stream);
        self.0.get(place).filter(|(id, _)| *id == stream).map(|(_, from)| *from)
    }

    /// Stream bytes of an object: all of them, and those that are kept.
    ///
    /// # Errors
    /// If the store cannot give its rows, or they are damaged.
    pub(crate) async fn share(&self, store: &dyn Store, id: PackId, bytes: u64) -> Result<(u64, u64), StoreError> {
        let rows = Pack::open_sized(store, id, bytes).await?.all_rows(store).await?;
        let kept = rows.iter().filter_map(|row| Some(row.end.0 - self.from(row.stream)?.clamp(row.start, row.end).0));
        Ok((rows.iter().map(|row| row.end.0 - row.start.0).sum(), kept.sum()))
    }
}

impl Merge<'_> {
    /// The object.
    ///
    /// # Errors
    /// See [`MergeError`].
    pub(crate) async fn make(&self, store: &dyn Store) -> Result<Packed, MergeError> {
        let mut parts: BTreeMap<StreamId, Part> = BTreeMap::new();
        let (mut heads, mut records) = (Vec::new(), Vec::new());
        for object in self.run {
            let (head, said, pieces) = self.read(store, object).await?;
            heads.push(head);
            records.push(said);
            for piece in pieces {
                self.add(&mut parts, piece, object)?;
            }
        }
        let (Some(first), Some(last), Some(newest)) = (heads.first(), heads.last(), self.run.last()) else {
            return Err(MergeError::NotYet);
        };
        let own = Link { id: PackId::of(self.id.group, newest), hash: newest.hash };
        let head = Head {
            cluster: self.cluster,
            id: self.id,
            made: last.made,
            as_of: last.as_of,
            prev: first.prev,
            merged: Some(last.merged.unwrap_or(own)),
        };
        let is_wanted = |stream| self.kept.from(stream).is_some();
        let records = merge_records(records, is_wanted, self.id.first > 1)
            .map_err(|error| damaged(newest, format!("records of streams in packs of {}: {error}", self.id)))?;
        let mut builder = Builder::new(head);
        for (stream, Part { start, prev, records, .. }) in parts {
            builder.add(stream, start, prev, &records);
        }
        Ok(builder.finish(&records))
    }

    /// What one of the objects has, if all of it is whole.
    async fn read(&self, store: &dyn Store, object: &PackRef) -> Result<(Head, Bytes, Vec<Piece>), MergeError> {
        let id = PackId::of(self.id.group, object);
        let told = |error: StoreError| match error {
            StoreError::NotFound(_) | StoreError::Damaged { .. } => damaged(object, error.to_string()),
            error => MergeError::Store(error),
        };
        let body = store.get(&id.name(), 0..object.bytes).await.map_err(told)?;
        if hash(&body) != object.hash {
            return Err(damaged(object, format!("object {id} is not the one that was stored: its hash is another")));
        }
        let whole = Whole::new(id.name(), body);
        let pack = Pack::open_sized(&whole, id, object.bytes).await.map_err(told)?;
        if pack.head().cluster != self.cluster {
            return Err(damaged(object, format!("object {id} is of cluster {}", pack.head().cluster)));
        }
        let records = pack.records(&whole).await.map_err(told)?;
        let scan = Scan::of_pack(&whole, &pack).await;
        match scan.damages.into_iter().next() {
            Some(damage) => Err(damaged(object, damage.what)),
            None => Ok((*pack.head(), records, scan.pieces)),
        }
    }

    fn add(&self, parts: &mut BTreeMap<StreamId, Part>, piece: Piece, object: &PackRef) -> Result<(), MergeError> {
        let Some(from) = self.kept.from(piece.stream) else { return Ok(()) };
        let Piece { stream, mut start, end, prev, records } = piece;
        let mut prev = prev.filter(|prev| *prev < self.id.first);
        let records: Vec<Bytes> = records
            .into_iter()
            .skip_while(|record| {
                let goes = start.0 + record.len() as u64 <= from.0;
                if goes {
                    (start, prev) = (Offset(start.0 + record.len() as u64), None);
                }
                goes
            })
            .collect();
        if records.is_empty() {
            return Ok(());
        }
        match parts.get_mut(&stream) {
            None => drop(parts.insert(stream, Part { start, end, prev, records })),
            Some(part) if part.end == start => {
                part.end = end;
                part.records.extend(records);
            }
            Some(part) if part.end < start => return Err(MergeError::NotYet),
            Some(part) => {
                let reason =
                    format!("bytes of stream {stream} from {start} on are in packs before, up to {}", part.end);
                return Err(damaged(object, reason));
            }
        }
        Ok(())
    }
}

fn damaged(object: &PackRef, reason: String) -> MergeError {
    MergeError::Object { maker: object.maker, reason }
}

#[cfg(test)]
mod tests;
