//! Blocks of one stream in one pack: those that lie next to each other are fetched in one piece, and each is checked.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use ursula_common::Offset;

use super::cache::{Item, Turn};
use super::trail::Step;
use super::{Counters, Inner, Wanted};
use crate::pack::{Block, Pack};
use crate::store::StoreError;

/// The most bytes of one GET, unless one block has more: enough to make up for the way there, and little enough that
/// what is under way for one reader, several times over until it is in the cache, stays small.
const GET_BYTES: u64 = 2 << 20;

/// A block that was fetched, with the bytes that were stored.
pub(super) struct Fetched {
    pub(super) block: Block,
    pub(super) bytes: Bytes,
    /// Where it has to end, unless its place is the last in a page.
    pub(super) end: Option<Offset>,
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
        let mut left = within;
        if left.first().is_none_or(|first| first.start > range.start) {
            return Err(step.damaged(wanted, &format!("no block has {}", range.start)));
        }
        let mut found = Vec::with_capacity(left.len());
        while let Some(first) = left.first() {
            let fetched = match self.cache.block(pack.head().id, first.range().start).await {
                Ok(bytes) => {
                    Counters::add(&self.counters().hits, 1);
                    Ok(vec![bytes])
                }
                Err(turn) => self.fetch(wanted, step, &pack, left, turn).await,
            };
            let fetched = match fetched {
                Err(error) if found.is_empty() => return Err(error),
                Err(_) => break,
                Ok(fetched) => fetched,
            };
            for bytes in fetched {
                let next = own.get(found.len() + 1).map(|next| next.start);
                let end = next.or((page == *step.row.pages().end()).then_some(step.row.end));
                found.push(Fetched { block: own[found.len()], bytes, end });
            }
            left = &within[found.len()..];
        }
        Ok(found)
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

    /// Fetches the first of some blocks, and those after it that nobody has or fetches, in one piece. Returns those before
    /// the first that is damaged.
    async fn fetch(
        &self,
        wanted: &Wanted,
        step: &Step,
        pack: &Pack,
        blocks: &[Block],
        turn: Turn<'_>,
    ) -> Result<Vec<Bytes>, StoreError> {
        let id = pack.head().id;
        let Range { start, mut end } = blocks[0].range();
        let mut turns = vec![turn];
        for block in &blocks[1..] {
            let range = block.range();
            if range.start != end || range.end - start > GET_BYTES {
                break;
            }
            let Some(turn) = self.cache.turn(id, range.start) else { break };
            turns.push(turn);
            end = range.end;
        }
        Counters::add(&self.counters().misses, turns.len() as u64);
        let piece = pack.get(&self.store, start..end).await?;
        let mut fetched = Vec::with_capacity(turns.len());
        for (block, turn) in blocks.iter().zip(turns) {
            let Range { start: at, end } = block.range();
            // A copy of its own: a block that is kept must not keep those that came with it.
            let bytes = Bytes::copy_from_slice(&piece[(at - start) as usize..(end - start) as usize]);
            let bytes = match block.is(&bytes) {
                true => bytes,
                false => match self.again(wanted, step, pack, block).await {
                    Err(error) if fetched.is_empty() => return Err(error),
                    Err(_) => break,
                    Ok(bytes) => bytes,
                },
            };
            drop(turn.insert(Item::Block(bytes.clone())));
            fetched.push(bytes);
        }
        Ok(fetched)
    }

    /// Fetches a block that was damaged once more: it may have been so on its way only.
    async fn again(&self, wanted: &Wanted, step: &Step, pack: &Pack, block: &Block) -> Result<Bytes, StoreError> {
        Counters::add(&self.counters().damaged, 1);
        let Range { start, end } = block.range();
        let bytes = pack.get(&self.store, start..end).await?;
        if block.is(&bytes) {
            return Ok(bytes);
        }
        Counters::add(&self.counters().damaged, 1);
        let until = self.end_of(pack, step, block).await?;
        Err(step.damaged(wanted, &format!("its bytes from {} to {until} are not what was stored", block.start)))
    }

    /// Where a block ends in its stream: where the next one begins.
    async fn end_of(&self, pack: &Pack, step: &Step, block: &Block) -> Result<Offset, StoreError> {
        let (page, _) = self.page_with(pack, step, block.start).await?;
        for page in page..=*step.row.pages().end().min(&(page + 1)) {
            let places = self.places(pack, page).await?;
            if let Some(next) = step.row.own(page, &places).iter().find(|next| next.start > block.start) {
                return Ok(next.start);
            }
        }
        Ok(step.row.end)
    }
}
