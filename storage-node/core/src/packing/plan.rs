//! What the next pack takes: those that waited longest, as many as fit. Decides only; the caller reads their bytes, stores
//! the pack and proposes the commit.

use ursula_common::limits::{APPEND_BYTES_MAX, PACK_STREAMS_MAX};
use ursula_common::packs::PackRef;
use ursula_common::verb::{CommitPack, PackedStream};
use ursula_common::{Offset, StreamId, StreamKey};

use super::{Packs, Waiting};
use crate::{State, snapshot};

/// What the next pack should hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackPlan {
    /// Its number.
    pub pack: u64,
    /// The object that it follows.
    pub prev: Option<PackRef>,
    /// The last change that it has.
    pub as_of: u64,
    /// Streams with bytes or records in it, in the order of their turns.
    pub streams: Vec<PlannedStream>,
    /// Streams that it says were removed, in the order of their turns.
    pub removed: Vec<PackedStream>,
    /// Its records: a snapshot of the group without all other streams, as [`State::decode`] reads it.
    pub records: Vec<u8>,
}

/// What a pack should hold of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStream {
    /// See [`PackedStream::turn`].
    pub turn: u64,
    /// Its name.
    pub key: StreamKey,
    /// Its incarnation.
    pub id: StreamId,
    /// The first byte that no pack has and somebody needs.
    pub start: Offset,
    /// Bytes before it that no pack has either: nobody needs them.
    pub skipped: u64,
    /// Where to stop. If `whole`, exactly here, a record boundary; otherwise at the first one that is not before.
    pub end: Offset,
    /// The newest pack with the bytes before `start`; 0 for none, or if nobody needs them.
    pub prev: u64,
    /// Whether this is all, and its record is in the pack.
    pub whole: bool,
    /// See [`PackedStream::floor`].
    pub floor: Offset,
    /// See [`PackedStream::named`].
    pub named: bool,
}

impl PackPlan {
    /// The command for this pack, stored as `pack`, with each of the streams up to these offsets.
    pub fn commit(&self, pack: PackRef, ends: &[Offset]) -> CommitPack {
        let packed = self.streams.iter().zip(ends).map(|(planned, end)| {
            let bytes = end.0.saturating_sub(planned.start.0);
            let PlannedStream { turn, id, skipped, floor, named, .. } = *planned;
            PackedStream { turn, stream: id, skipped, bytes, floor, named }
        });
        let mut streams: Vec<_> = packed.chain(self.removed.iter().copied()).collect();
        streams.sort_unstable_by_key(|packed| packed.turn);
        CommitPack { pack, as_of: self.as_of, streams }
    }
}

impl State {
    /// What the next pack should hold: about so many bytes of streams, or up to the largest append more, of at most so many
    /// streams. Their records come on top: if they counted, many streams would need more packs than few for the same bytes.
    /// `None` if packs have everything. If bytes of it cannot be read any more, because streams were removed meanwhile,
    /// plan again.
    pub fn plan_pack(&self, bytes_max: u64, streams_max: usize) -> Option<PackPlan> {
        self.plan_pack_of(bytes_max, streams_max.min(PACK_STREAMS_MAX), APPEND_BYTES_MAX as u64)
    }

    /// The same where records of streams have at most so many bytes.
    pub(crate) fn plan_pack_of(&self, bytes_max: u64, streams_max: usize, append_bytes_max: u64) -> Option<PackPlan> {
        if self.is_importing() {
            return None;
        }
        let packs = self.packs.as_ref().filter(|packs| !packs.waiting.is_empty() || packs.group_changed > 0)?;
        let mut plan = PackPlan {
            pack: packs.catalogue.next(),
            prev: packs.catalogue.newest().copied(),
            as_of: packs.changes,
            streams: Vec::new(),
            removed: Vec::new(),
            records: Vec::new(),
        };
        self.choose(packs, &mut plan, bytes_max, streams_max, append_bytes_max);
        plan.records = snapshot::encode_pack(self, &plan);
        Some(plan)
    }

    fn choose(&self, packs: &Packs, plan: &mut PackPlan, bytes_max: u64, streams_max: usize, append_bytes_max: u64) {
        let mut left = bytes_max;
        for (&turn, waiting) in packs.waiting.iter().take(streams_max) {
            match waiting {
                Waiting::Removed(stream) => plan.removed.push(PackedStream::removed(turn, *stream)),
                Waiting::Stream(key) => {
                    let Some(stream) = self.stream(key) else { continue };
                    let Some(cold) = &stream.cold else { continue };
                    let (start, tail) = (stream.unpacked(), stream.tail);
                    let skipped = start.0 - cold.end.0;
                    // A cut leaves more than one record: what is packed up to a boundary behind it never has everything,
                    // and the record, which is not there, is not missed.
                    let whole = tail.0 - start.0 <= left.saturating_add(append_bytes_max);
                    let end = if whole { tail } else { Offset(start.0 + left.max(1)) };
                    let (key, id, prev) = (key.clone(), stream.id, if skipped > 0 { 0 } else { cold.pack });
                    let floor = stream.kept().filter(|_| whole).map_or(Offset::ZERO, |_| stream.floor());
                    let named = whole && stream.snapshots().is_some();
                    plan.streams.push(PlannedStream { turn, key, id, start, skipped, end, prev, whole, floor, named });
                    left = left.saturating_sub(end.0 - start.0);
                }
            }
            if left == 0 {
                break;
            }
        }
    }
}
