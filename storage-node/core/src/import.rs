//! Takes in the streams of another cluster, from what its packs say of them. Until all of them are there the group serves
//! nobody. Must not take anything into a group that has ever had streams of its own, and reads no pack: whoever restores
//! does, and says what is in them.

use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;

use ursula_common::packs::PackRef;
use ursula_common::verb::{EndImport, Import as More, ImportRun, Op, Reply};
use ursula_common::{Error, GroupId, StreamId};

use crate::packing::Packs;
use crate::stream::{Presence, Stream};
use crate::{State, StreamImage, image};

/// Streams are taken in, or were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) run: ImportRun,
    pub(crate) ended: bool,
    /// Packs that came with it; they count from its end on.
    pub(crate) packs: Vec<PackRef>,
}

/// Ops that a group does while it takes in streams: those of the import, and buckets that come into being.
pub(crate) fn may_pass(op: &Op) -> bool {
    matches!(op, Op::BeginImport(_) | Op::Import(_) | Op::EndImport(_) | Op::InstallBucket(_))
}

impl State {
    /// Whether it takes in streams, and serves nobody.
    pub(crate) fn is_importing(&self) -> bool {
        self.import.as_ref().is_some_and(|import| !import.ended)
    }

    /// # Errors
    /// [`Error::Restoring`] if it serves nobody.
    pub(crate) fn is_open(&self) -> Result<(), Error> {
        if self.is_importing() { Err(Error::Restoring) } else { Ok(()) }
    }

    /// Whether it never had a stream, or a reference on one.
    fn is_new(&self) -> bool {
        let is_empty = self.streams == 0 && self.sagas.running.is_empty() && self.released.is_empty();
        is_empty && self.next_stream == 1
    }

    /// The import under way, if this is its latest attempt.
    fn importing(&mut self, run: ImportRun) -> Result<&mut Import, Error> {
        let known = self.import.as_deref_mut().filter(|known| !known.ended && known.run == run);
        known.ok_or_else(|| refused(self.group, "another attempt to restore it has begun since"))
    }
}

/// Begins to take in streams, and forgets those of an attempt before. One that has ended stays as it is.
pub(crate) fn begin(state: &mut State, run: ImportRun) -> Result<Reply, Error> {
    match &state.import {
        Some(known) if known.ended && known.run.import == run.import => return Ok(Reply::Done),
        Some(known) if !known.ended => {}
        None if state.is_new() => {}
        Some(_) | None => {
            return Err(refused(state.group, "it has, or had, streams of its own: restore into a new cluster"));
        }
    }
    for bucket in state.buckets.values_mut() {
        bucket.streams.clear();
    }
    (state.streams, state.next_stream) = (0, 1);
    state.deadlines.clear();
    let packs = state.packs.get_or_insert_with(Box::<Packs>::default);
    let newest = packs.catalogue.newest().copied();
    state.import = Some(Box::new(Import { run, ended: false, packs: Vec::new() }));
    Ok(Reply::ImportBegun(newest))
}

/// Takes in streams and packs. The same again changes nothing.
pub(crate) fn import(state: &mut State, more: More) -> Result<Reply, Error> {
    let More { run, packs, records } = more;
    let newest = state.packs.as_ref().map_or(0, |packs| packs.catalogue.next() - 1);
    let known = &state.importing(run)?.packs;
    let mut last = known.last().map_or(newest, |pack| pack.last);
    let new: Vec<PackRef> = packs.into_iter().filter(|pack| !known.contains(pack)).collect();
    for pack in &new {
        if pack.first != last + 1 || pack.last >= 1 << 62 {
            return Err(Error::Malformed);
        }
        last = pack.last;
    }
    let images = match records.is_empty() {
        true => Vec::new(),
        false => image::decode(records).map_err(|_| Error::Malformed)?.streams,
    };
    let ids: BTreeSet<StreamId> = images.iter().map(StreamImage::id).collect();
    if ids.len() != images.len() || !images.iter().all(|image| fits(state, image, last)) {
        return Err(Error::Malformed);
    }
    state.importing(run)?.packs.extend(new);
    for StreamImage { key, stream } in images {
        state.next_stream = state.next_stream.max(stream.id.0 + 1);
        if state.stream(&key).is_none() {
            let mut stream = Arc::unwrap_or_clone(stream);
            // Nobody could read it, so its time to live begins anew; a point in time stays.
            stream.touched = state.now;
            stream.indexed = stream.due_at().unwrap_or_default();
            state.restore(&key, stream);
        }
    }
    Ok(Reply::Done)
}

/// Whether a stream can be taken in, with bytes in packs up to `last`: all of it is in them, it has a bucket, and its
/// name and id are free, or it is there already.
fn fits(state: &State, image: &StreamImage, last: u64) -> bool {
    let StreamImage { key, stream } = image;
    let is_whole = stream.cold.as_ref().is_some_and(|cold| {
        let is_packed = cold.end == stream.tail && cold.turn == 0 && cold.recorded;
        let has_bytes = if cold.pack > 0 { stream.own_start() < cold.end } else { cold.end <= stream.floor() };
        is_packed && cold.pack <= last && has_bytes
    });
    let is_free = state.stream(key).map_or(stream.id.0 >= state.next_stream, |known| known.id == stream.id);
    is_whole && is_free && state.buckets.contains_key(&key.bucket) && refs_fit(stream)
}

fn refs_fit(stream: &Stream) -> bool {
    let Some(rare) = &stream.rare else { return stream.presence == Presence::Live };
    let forks = rare.forks.values().all(|start| start.anchor <= start.at && start.at <= stream.tail);
    forks && rare.fork.as_ref().is_none_or(|link| link.anchor <= link.at && link.at <= stream.tail)
}

/// Serves clients from now on, if everything is there.
pub(crate) fn end(state: &mut State, end: EndImport) -> Result<Reply, Error> {
    let EndImport { run, streams, next_stream } = end;
    if state.import.as_ref().is_some_and(|known| known.ended && known.run.import == run.import) {
        return Ok(Reply::Done);
    }
    let is_all = state.streams as u64 == streams && next_stream.0 < 1 << 62;
    let import = state.importing(run)?;
    if !is_all {
        return Err(Error::Malformed);
    }
    import.ended = true;
    let new = mem::take(&mut import.packs);
    if let Some(packs) = &mut state.packs {
        let catalogue = Arc::make_mut(&mut packs.catalogue);
        for pack in new {
            catalogue.push(pack);
        }
    }
    state.next_stream = state.next_stream.max(next_stream.0);
    state.mark_group();
    Ok(Reply::Done)
}

fn refused(group: GroupId, why: &str) -> Error {
    Error::ClusterRefused { reason: format!("group {group} cannot be restored: {why}").into() }
}
