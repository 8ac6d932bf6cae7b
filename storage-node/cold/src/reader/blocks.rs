//! Blocks of one stream in one pack: those that lie next to each other are fetched in one piece, and each is checked.

use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use ursula_common::Offset;

use super::cache::{Hold, Item, Turn};
use super::trail::Step;
use super::{Counters, Inner, Wanted};
use crate::pack::{Block, Pack};
use crate::store::{Body, StoreError};

/// The most bytes of one GET, unless one block has more: a whole pack of one stream. What comes goes into the cache block
/// by block, so it costs no memory of its own, and whoever waits for the first block does not wait for the last.
pub(super) const GET_BYTES: u64 = 8 << 20;

/// A longer block is not held for a reader: it is one record, which would take more room than was set aside, and to fetch it once more
/// costs little for what it brings.
const HELD_BYTES_MAX: usize = 256 << 10;

/// A block that was fetched, with the bytes that were stored.
pub(super) struct Fetched {
    pub(super) block: Block,
    pub(super) bytes: Bytes,
    /// Where it has to end, unless its place is the last in a page.
    pub(super) end: Option<Offset>,
}

/// Blocks that follow each other.
struct Part<'a, 'b> {
    blocks: &'b [Block],
    /// One for each block; none if somebody else has, or had, the turn to fetch the only one.
    turns: Vec<Turn<'a>>,
}

/// What came of a part: the bytes of its first blocks, and what became of the rest.
struct Got {
    bytes: Vec<Bytes>,
    rest: Rest,
}

enum Rest {
    /// There is none.
    Nothing,
    /// It is there for whoever asks for it.
    Later,
    Failed(StoreError),
    /// This block, twice.
    Damaged(Block),
}

/// What a GET brings.
struct Incoming<'a> {
    body: Body<'a>,
    /// What has come and was not taken.
    piece: Bytes,
}

impl Incoming<'_> {
    /// The next bytes, in memory of their own: a block that is kept must not keep those that came with it.
    async fn take(&mut self, bytes: usize) -> Result<Bytes, StoreError> {
        let mut taken = Vec::with_capacity(bytes);
        while taken.len() < bytes {
            if self.piece.is_empty() {
                let ended = || Err(StoreError::Unavailable("the answer ended early".into()));
                self.piece = self.body.next().await.unwrap_or_else(ended)?;
            }
            let more = self.piece.split_to(self.piece.len().min(bytes - taken.len()));
            taken.extend_from_slice(&more);
        }
        Ok(taken.into())
    }
}

/// Whether a block lies next to others, and may be had in one GET with them.
fn follows(before: &[Block], start: u64, end: u64) -> bool {
    let (first, last) = (before[0].range(), before[before.len() - 1].range());
    last.end == start && end - first.start <= GET_BYTES
}

impl Inner {
    /// The blocks of a row from the one on that has the start of the range, up to its end: at least one, not always all.
    pub(super) async fn blocks(
        &self,
        wanted: &Wanted,
        step: &Step,
        range: Range<Offset>,
    ) -> Result<Vec<Fetched>, StoreError> {
        let pack = self.pack(wanted, &step.object).await?;
        let (page, places) = self.page_with(wanted, &pack, step, range.start).await?;
        let own = &step.row.own(page, &places)[step.row.position(page, &places, range.start)..];
        let within = &own[..own.partition_point(|block| block.start < range.end).max(1).min(own.len())];
        if within.first().is_none_or(|first| first.start > range.start) {
            return Err(step.damaged(wanted, &format!("no block has {}", range.start)));
        }
        // All at a time: who waits for one part makes others wait for none.
        let parts = self.parts(&pack, within).into_iter().map(|part| self.part_of(wanted, &pack, part));
        let mut found = Vec::with_capacity(within.len());
        for part in join_all(parts).await {
            for bytes in part.bytes {
                let next = own.get(found.len() + 1).map(|next| next.start);
                let end = next.or((page == *step.row.pages().end()).then_some(step.row.end));
                found.push(Fetched { block: own[found.len()], bytes, end });
            }
            match part.rest {
                Rest::Nothing => {}
                Rest::Failed(error) if found.is_empty() => return Err(error),
                Rest::Damaged(block) if found.is_empty() => {
                    let until = self.block_after(wanted, step, block.start).await?;
                    let reason = format!("its bytes from {} to {until} are not what was stored", block.start);
                    return Err(step.damaged(wanted, &reason));
                }
                Rest::Later | Rest::Failed(_) | Rest::Damaged(_) => break,
            }
        }
        Ok(found)
    }

    /// Has the cache fetch the blocks of a row that have bytes of a range, as far as nobody else does, and keep them for a reader who
    /// is on his way there. Holds on to none of them.
    pub(super) async fn blocks_ahead(
        &self,
        wanted: &Wanted,
        step: &Step,
        range: Range<Offset>,
        reader: &Weak<AtomicU64>,
    ) -> Result<(), StoreError> {
        let pack = self.pack(wanted, &step.object).await?;
        let (first, _) = self.page_with(wanted, &pack, step, range.start).await?;
        for page in first..=*step.row.pages().end() {
            let places = self.places(wanted, &pack, page).await?;
            let own = step.row.own(page, &places);
            let begun = own.partition_point(|block| block.start < range.end);
            let within = &own[step.row.position(page, &places, range.start).min(begun)..begun];
            let parts = self.parts(&pack, within).into_iter().filter(|part| !part.turns.is_empty());
            let fetched = join_all(parts.map(|part| self.fetch(wanted, &pack, part, Some(reader)))).await;
            if begun < own.len() || !fetched.iter().all(|got| matches!(got.rest, Rest::Nothing)) {
                break;
            }
        }
        Ok(())
    }

    /// Cuts blocks into parts that can be had each at once: one that somebody has or fetches, or some that nobody has and that
    /// lie next to each other.
    fn parts<'a, 'b>(&'a self, pack: &Pack, blocks: &'b [Block]) -> Vec<Part<'a, 'b>> {
        let id = pack.head().id;
        let mut parts: Vec<Part<'_, '_>> = Vec::new();
        for (at, block) in blocks.iter().enumerate() {
            let Range { start, end } = block.range();
            let turn = self.cache.turn(id, start);
            match (parts.last_mut(), turn) {
                (Some(Part { blocks: before, turns }), Some(turn))
                    if !turns.is_empty() && follows(before, start, end) =>
                {
                    *before = &blocks[at - before.len()..=at];
                    turns.push(turn);
                }
                (_, turn) => parts.push(Part { blocks: &blocks[at..=at], turns: turn.into_iter().collect() }),
            }
        }
        parts
    }

    async fn part_of(&self, wanted: &Wanted, pack: &Pack, mut part: Part<'_, '_>) -> Got {
        if part.turns.is_empty() {
            match self.cache.block(pack.head().id, part.blocks[0].range().start).await {
                Ok(bytes) => {
                    Counters::add(&self.counters().hits, 1);
                    return Got { bytes: vec![bytes], rest: Rest::Nothing };
                }
                // Whoever was to fetch it has failed, or gave up.
                Err(turn) => part.turns.push(turn),
            }
        }
        self.fetch(wanted, pack, part, None).await
    }

    /// The page of places with the block that has an offset: of those whose first block of the row does not begin after
    /// it, the last.
    async fn page_with(
        &self,
        wanted: &Wanted,
        pack: &Pack,
        step: &Step,
        at: Offset,
    ) -> Result<(usize, Arc<[Block]>), StoreError> {
        let (mut low, mut high) = step.row.pages().into_inner();
        while low < high {
            let middle = (low + high).div_ceil(2);
            let places = self.places(wanted, pack, middle).await?;
            match step.row.own(middle, &places).first().is_some_and(|first| first.start <= at) {
                true => low = middle,
                false => high = middle - 1,
            }
        }
        Ok((low, self.places(wanted, pack, low).await?))
    }

    /// Fetches blocks that lie next to each other, in one piece. For a reader who is on his way there, only the cache has them.
    async fn fetch(
        &self,
        wanted: &Wanted,
        pack: &Pack,
        Part { blocks, turns }: Part<'_, '_>,
        ahead_of: Option<&Weak<AtomicU64>>,
    ) -> Got {
        let (start, end) = (blocks[0].range().start, blocks[blocks.len() - 1].range().end);
        let store = self.store.enter(&wanted.bucket).await;
        Counters::add(&self.counters().misses, turns.len() as u64);
        let mut incoming = match pack.stream(&store, start..end).await {
            Ok(body) => Some(Incoming { body, piece: Bytes::new() }),
            Err(error) => return Got { bytes: Vec::new(), rest: Rest::Failed(error) },
        };
        let mut fetched = Vec::new();
        for (block, turn) in blocks.iter().zip(turns) {
            let Some(mut body) = incoming.take() else { return Got { bytes: fetched, rest: Rest::Later } };
            let Range { start, end } = block.range();
            let bytes = match body.take((end - start) as usize).await {
                Ok(bytes) if block.is(&bytes) => {
                    incoming = Some(body);
                    bytes
                }
                come => {
                    // It ends here, and its place is free for the next GET.
                    drop(body);
                    Counters::add(&self.counters().damaged, u64::from(come.is_ok()));
                    // It may have been so on its way only.
                    match pack.get(&store, start..end).await {
                        Ok(bytes) if block.is(&bytes) => bytes,
                        Ok(_) => {
                            Counters::add(&self.counters().damaged, 1);
                            return Got { bytes: fetched, rest: Rest::Damaged(*block) };
                        }
                        Err(error) => return Got { bytes: fetched, rest: Rest::Failed(error) },
                    }
                }
            };
            if ahead_of.is_none() {
                fetched.push(bytes.clone());
            }
            let reader = ahead_of.filter(|_| bytes.len() <= HELD_BYTES_MAX);
            let hold = reader.map(|reader| Hold { reader: reader.clone(), start: block.start });
            drop(turn.insert(Item::Block(bytes, hold)));
        }
        Got { bytes: fetched, rest: Rest::Nothing }
    }

    /// Where the block ends that has an offset: where the next one of the row begins.
    pub(super) async fn block_after(&self, wanted: &Wanted, step: &Step, at: Offset) -> Result<Offset, StoreError> {
        let pack = self.pack(wanted, &step.object).await?;
        let (page, _) = self.page_with(wanted, &pack, step, at).await?;
        for page in page..=*step.row.pages().end().min(&(page + 1)) {
            let places = self.places(wanted, &pack, page).await?;
            if let Some(next) = step.row.own(page, &places).iter().find(|next| next.start > at) {
                return Ok(next.start);
            }
        }
        Ok(step.row.end)
    }
}
