//! What packs do not have yet. Every stream that changed since it was packed waits for its turn, and so does the word that
//! one was removed; each commit of a pack lets some go. Costs nothing until packs have begun. Makes no pack and knows no
//! store; what the next pack takes is in `plan.rs`.

mod compact;
mod plan;
mod wanted;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ursula_common::packs::{Catalogue, ColdEnd};
use ursula_common::verb::{Ack, CommitPack, PackedStream, Reply};
use ursula_common::{Error, Offset, StreamId, StreamKey};

use crate::stream::Stream;
use crate::{Effect, State, publish};

pub use compact::{Replaced, merge_records};
pub(crate) use compact::{merge, sweep};
pub use plan::{PackPlan, PlannedStream};
pub use wanted::{Told, Wanted};

/// The packs of a group, and what is not in them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Packs {
    /// Shared with whoever reads packs.
    pub(crate) catalogue: Arc<Catalogue>,
    /// The last number given out, to a change or a turn.
    pub(crate) changes: u64,
    /// What the next packs have to take, under its turn.
    pub(crate) waiting: BTreeMap<u64, Waiting>,
    /// Bytes of streams that are not in packs.
    pub(crate) bytes: u64,
    /// The last change of what belongs to no single stream: buckets, sagas, references given back, the cluster. 0: a pack has
    /// it as it is.
    pub(crate) group_changed: u64,
    /// Objects that count no more and may still be in the store, those that were replaced first at the front.
    pub(crate) replaced: VecDeque<Replaced>,
}

/// What waits for a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// A stream: its bytes, its record, or both.
    Stream(StreamKey),
    /// That a stream was removed which packs may have.
    Removed(StreamId),
}

/// What is known of a stream once packs have begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cold {
    /// Packs have its own bytes up to here.
    pub(crate) end: Offset,
    /// The newest pack with bytes of it; 0 for none.
    pub(crate) pack: u64,
    /// Under which it waits; 0 if packs have it as it is.
    pub(crate) turn: u64,
    /// Its last change; 0 if packs have it as it is.
    pub(crate) changed: u64,
    /// Whether packs may have its record, so that they must be told of its removal.
    pub(crate) recorded: bool,
}

impl Cold {
    /// What readers need to know, if packs have any byte.
    pub(crate) fn end(&self) -> Option<ColdEnd> {
        (self.pack > 0).then_some(ColdEnd { end: self.end, pack: self.pack })
    }
}

/// How much is not in packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// Streams that wait for a pack, with those whose removal does.
    pub streams: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The number of the next pack.
    pub next: u64,
    /// Whether it would hold anything: also if all streams are in packs, buckets or sagas may have changed.
    pub due: bool,
}

impl Packs {
    /// A number that no change and no turn had before.
    fn number(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    fn wait(&mut self, waiting: Waiting) -> u64 {
        let turn = self.number();
        self.waiting.insert(turn, waiting);
        turn
    }

    /// Takes note of a new stream.
    pub(crate) fn add(&mut self, key: &StreamKey, stream: &mut Stream) {
        let end = stream.own_start();
        stream.cold = Some(Box::new(Cold { end, pack: 0, turn: 0, changed: 0, recorded: false }));
        self.mark(key, stream, stream.left());
    }

    /// A stream has changed, and is longer by so many bytes. Appends come here: one that waits is not looked for.
    pub(crate) fn mark(&mut self, key: &StreamKey, stream: &mut Stream, bytes: u64) {
        let Some(cold) = &mut stream.cold else { return };
        self.bytes += bytes;
        cold.changed = self.number();
        if cold.turn == 0 {
            cold.turn = cold.changed;
            self.waiting.insert(cold.turn, Waiting::Stream(key.clone()));
        }
    }

    /// A stream has changed, and so many bytes less have to get into packs.
    pub(crate) fn shrunk(&mut self, key: &StreamKey, stream: &mut Stream, bytes: u64) {
        self.bytes -= bytes;
        self.mark(key, stream, 0);
    }

    /// A stream was removed. Where somebody may wait for packs to say so, they do: also if none that counts has the stream,
    /// for the one that is being made, or one of a leader that was deposed, may have it.
    pub(crate) fn remove(&mut self, stream: &Stream, ack: Ack) {
        let Some(cold) = &stream.cold else { return };
        self.bytes -= stream.left();
        self.waiting.remove(&cold.turn);
        if cold.recorded || ack == Ack::Offloaded {
            self.wait(Waiting::Removed(stream.id));
        }
    }

    /// A pack has bytes of a stream, or the record alone.
    fn packed(&mut self, key: StreamKey, stream: &mut Stream, packed: PackedStream, pack: u64, as_of: u64) {
        let left = stream.left();
        let Some(cold) = &mut stream.cold else { return };
        cold.end = Offset(cold.end.0 + packed.skipped + packed.bytes);
        cold.recorded = true;
        if let Some(kept) = stream.rare.as_mut().and_then(|rare| rare.kept.as_mut()) {
            kept.told = kept.told.max(packed.floor);
        }
        if let Some(all) = stream.rare.as_mut().and_then(|rare| rare.snapshots.as_mut()).filter(|_| packed.named) {
            all.recorded(as_of);
        }
        match (packed.bytes, packed.skipped) {
            (0, 0) => {}
            // Nobody needs what packs have of it.
            (0, _) => cold.pack = 0,
            _ => cold.pack = pack,
        }
        if cold.end == stream.tail && cold.changed <= as_of {
            (cold.turn, cold.changed) = (0, 0);
        } else {
            cold.turn = self.wait(Waiting::Stream(key));
        }
        self.bytes -= left - stream.left();
    }

    /// All of it but the streams that wait, for they know their turns.
    pub(crate) fn without_streams(&self) -> Packs {
        let removed = self.waiting.iter().filter(|(_, waiting)| matches!(waiting, Waiting::Removed(_)));
        let waiting = removed.map(|(turn, waiting)| (*turn, waiting.clone())).collect();
        Packs { catalogue: self.catalogue.clone(), waiting, replaced: self.replaced.clone(), ..*self }
    }
}

impl State {
    /// How much is not in packs; `None` if packs have not begun.
    pub fn packing(&self) -> Option<Packing> {
        let packs = self.packs.as_ref()?;
        Some(Packing {
            streams: packs.waiting.len(),
            bytes: packs.bytes,
            next: packs.catalogue.next(),
            due: !packs.waiting.is_empty() || packs.group_changed > 0,
        })
    }

    /// The packs that count; `None` if packs have not begun.
    pub fn catalogue(&self) -> Option<&Arc<Catalogue>> {
        self.packs.as_ref().map(|packs| &packs.catalogue)
    }

    /// Streams with bytes that no pack has and somebody needs, and where these begin.
    pub fn unpacked(&self) -> impl Iterator<Item = (StreamId, Offset)> {
        let streams = self.packs.iter().flat_map(|packs| packs.waiting.values()).filter_map(|waiting| match waiting {
            Waiting::Stream(key) => self.stream(key),
            Waiting::Removed(_) => None,
        });
        streams.filter(|stream| stream.left() > 0).map(|stream| (stream.id, stream.unpacked()))
    }

    /// A stream has changed, but for its bytes.
    pub(crate) fn mark(&mut self, key: &StreamKey) {
        let Some(mut packs) = self.packs.take() else { return };
        if let Some(stream) = self.stream_mut(key) {
            packs.mark(key, stream, 0);
        }
        self.packs = Some(packs);
    }

    /// What belongs to no single stream has changed.
    pub(crate) fn mark_group(&mut self) {
        if let Some(packs) = &mut self.packs {
            packs.group_changed = packs.number();
        }
    }
}

/// Begins to keep account: everything waits.
pub(crate) fn begin(state: &mut State) -> Result<Reply, Error> {
    if state.packs.is_some() {
        return Ok(Reply::Done);
    }
    let mut packs = Box::<Packs>::default();
    for (bucket, known) in &mut state.buckets {
        for (name, stream) in &mut known.streams {
            packs.add(&StreamKey { bucket: bucket.clone(), name: name.clone() }, Arc::make_mut(stream));
        }
    }
    state.packs = Some(packs);
    state.mark_group();
    Ok(Reply::Done)
}

/// Takes a pack into account, whoever planned it and however long ago: if its number is still the next one, no pack was
/// taken since, and only packs move the place where the bytes of a stream go on, or give it another turn. So a turn that
/// still waits is the same stream at the same place, whose bytes never change; and a turn that does not wait is a stream
/// that was removed. A pack of a leader that was deposed is as good as any, or its number is taken.
pub(crate) fn commit(state: &mut State, commit: CommitPack, effects: &mut Vec<Effect>) -> Result<Reply, Error> {
    let CommitPack { pack, as_of, streams } = commit;
    let Some(mut packs) = state.packs.take() else { return Err(Error::Malformed) };
    let is_next = pack.first == packs.catalogue.next() && pack.last == pack.first && as_of <= packs.changes;
    let fits = is_next
        && streams.is_sorted_by(|a, b| a.turn < b.turn)
        && streams.iter().all(|packed| packed.turn <= as_of && fits(state, &packs, packed));
    if !fits {
        state.packs = Some(packs);
        return Err(Error::Malformed);
    }
    Arc::make_mut(&mut packs.catalogue).push(pack);
    let mut published = Vec::new();
    for packed in streams {
        match packs.waiting.remove(&packed.turn) {
            Some(Waiting::Stream(key)) => {
                if let Some(stream) = state.stream_mut(&key) {
                    if stream.snapshots().is_some() || key.name.is_companion() {
                        published.push(key.owner());
                    }
                    packs.packed(key, stream, packed, pack.last, as_of);
                }
            }
            Some(Waiting::Removed(_)) => {}
            // Removed while the pack was made, which has it as if it were there. Packs may be told twice.
            None => drop(packs.wait(Waiting::Removed(packed.stream))),
        }
    }
    if packs.group_changed <= as_of {
        packs.group_changed = 0;
    }
    state.packs = Some(packs);
    published.iter().for_each(|key| publish::packed(state, key, effects));
    Ok(Reply::Done)
}

fn fits(state: &State, packs: &Packs, packed: &PackedStream) -> bool {
    match packs.waiting.get(&packed.turn) {
        Some(Waiting::Stream(key)) => state.stream(key).is_some_and(|stream| {
            let end = stream.cold.as_ref().map_or(stream.tail, |cold| cold.end);
            let start = Offset(end.0.saturating_add(packed.skipped));
            // What nobody needed then, nobody needs now.
            let is_skipped = packed.skipped == 0 || start <= stream.floor();
            let is_told = packed.floor <= stream.floor();
            stream.id == packed.stream && is_skipped && is_told && start.0.saturating_add(packed.bytes) <= stream.tail.0
        }),
        Some(Waiting::Removed(id)) => *id == packed.stream,
        None => true,
    }
}
