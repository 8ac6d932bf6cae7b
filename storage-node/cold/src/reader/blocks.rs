//! Blocks of one stream in one pack: those that lie next to each other are fetched in one piece, and each is checked.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use ursula_common::Offset;

use super::cache::{Item, Turn};
use super::trail::Step;
use super::{Counters, Inner, Wanted};
use crate::pack::{Block, Pack};
use crate::store::{Body, StoreError};

/// The most bytes of one GET, unless one block has more: a whole pack of one stream. What comes goes into the cache block
/// by block, so it costs no memory of its own, and whoever waits for the first block does not wait for the last.
pub(super) const GET_BYTES: u64 = 8 << 20;

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

/// What came of a part: the bytes of its blocks, up to the first that is damaged.
struct Got {
    bytes: Vec<Bytes>,
    is_whole: bool,
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
        let pack = self.pack(wanted.group, &step.object).await?;
        let (page, places) = self.page_with(&pack, step, range.start).await?;
        let own = &step.row.own(page, &places)[step.row.position(page, &places, range.start)..];
        let within = &own[..own.partition_point(|block| block.start < range.end).max(1).min(own.len())];
        if within.first().is_none_or(|first| first.start > range.start) {
            return Err(step.damaged(wanted, &format!("no block has {}", range.start)));
        }
        // All at a time: who waits for one part makes others wait for none.
        let parts = self.parts(&pack, within).into_iter().map(|part| self.part_of(wanted, step, &pack, part));
        let mut found = Vec::with_capacity(within.len());
        for part in join_all(parts).await {
            let fetched = match part {
                Err(error) if found.is_empty() => return Err(error),
                Err(_) => break,
                Ok(fetched) => fetched,
            };
            for bytes in fetched.bytes {
                let next = own.get(found.len() + 1).map(|next| next.start);
                let end = next.or((page == *step.row.pages().end()).then_some(step.row.end));
                found.push(Fetched { block: own[found.len()], bytes, end });
            }
            if !fetched.is_whole {
                break;
            }
        }
        Ok(found)
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

    async fn part_of(
        &self,
        wanted: &Wanted,
        step: &Step,
        pack: &Pack,
        Part { blocks, mut turns }: Part<'_, '_>,
    ) -> Result<Got, StoreError> {
        if turns.is_empty() {
            match self.cache.block(pack.head().id, blocks[0].range().start).await {
                Ok(bytes) => {
                    Counters::add(&self.counters().hits, 1);
                    return Ok(Got { bytes: vec![bytes], is_whole: true });
                }
                // Whoever was to fetch it has failed, or gave up.
                Err(turn) => turns.push(turn),
            }
        }
        self.fetch(wanted, step, pack, blocks, turns).await
    }

    /// The page of places with the block that has an offset: of those whose first block of the row does not begin after
    /// it, the last.
    async fn page_with(&self, pack: &Pack, step: &Step, at: Offset) -> Result<(usize, Arc<[Block]>), StoreError> {
        let (mut low, mut high) = step.row.pages().into_inner();
        while low < high {
            let middle = (low + high).div_ceil(2);
            let places = self.places(pack, middle).await?;
            match step.row.own(middle, &places).first().is_some_and(|first| first.start <= at) {
                true => low = middle,
                false => high = middle - 1,
            }
        }
        Ok((low, self.places(pack, low).await?))
    }

    /// Fetches blocks that lie next to each other, in one piece. Returns those before the first that is damaged.
    async fn fetch(
        &self,
        wanted: &Wanted,
        step: &Step,
        pack: &Pack,
        blocks: &[Block],
        turns: Vec<Turn<'_>>,
    ) -> Result<Got, StoreError> {
        let (start, end) = (blocks[0].range().start, blocks[blocks.len() - 1].range().end);
        Counters::add(&self.counters().misses, turns.len() as u64);
        let mut incoming = Some(Incoming { body: pack.stream(&self.store, start..end).await?, piece: Bytes::new() });
        let mut fetched = Vec::with_capacity(blocks.len());
        for (block, turn) in blocks.iter().zip(turns) {
            let Some(mut body) = incoming.take() else { break };
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
                    match self.again(wanted, step, pack, block).await {
                        Err(error) if fetched.is_empty() => return Err(error),
                        Err(_) => break,
                        Ok(bytes) => bytes,
                    }
                }
            };
            drop(turn.insert(Item::Block(bytes.clone())));
            fetched.push(bytes);
        }
        Ok(Got { is_whole: fetched.len() == blocks.len(), bytes: fetched })
    }

    /// Fetches a block once more that did not come as it was stored: that may have been so on its way only.
    async fn again(&self, wanted: &Wanted, step: &Step, pack: &Pack, block: &Block) -> Result<Bytes, StoreError> {
        let Range { start, end } = block.range();
        let bytes = pack.get(&self.store, start..end).await?;
        if block.is(&bytes) {
            return Ok(bytes);
        }
        Counters::add(&self.counters().damaged, 1);
        let until = self.block_after(wanted, step, block.start).await?;
        Err(step.damaged(wanted, &format!("its bytes from {} to {until} are not what was stored", block.start)))
    }

    /// Where the block ends that has an offset: where the next one of the row begins.
    pub(super) async fn block_after(&self, wanted: &Wanted, step: &Step, at: Offset) -> Result<Offset, StoreError> {
        let pack = self.pack(wanted.group, &step.object).await?;
        let (page, _) = self.page_with(&pack, step, at).await?;
        for page in page..=*step.row.pages().end().min(&(page + 1)) {
            let places = self.places(&pack, page).await?;
            if let Some(next) = step.row.own(page, &places).iter().find(|next| next.start > at) {
                return Ok(next.start);
            }
        }
        Ok(step.row.end)
    }
}
