//! Reads packs, part by part. Believes nothing that has no checksum that fits.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use bytes::Bytes;
use crc32c::crc32c;
use ursula_common::limits::APPEND_BYTES_MAX;
use ursula_common::{Offset, StreamId};

use super::format::{
    BLOCK_ROW_BYTES, CRC_BYTES, PAGE_ROWS, ROOT_ENTRY_BYTES, ROW_BYTES, START_BYTES, TRAILER_BYTES, Trailer, checked,
    decode_block_row, decode_row, number64, pages,
};
use super::{BLOCK_BYTES, Block, Head, PackId, Row};
use crate::store::{Body, Name, Store, StoreError};

/// The end of a pack that comes with the trailer in one read: all tables of a small pack.
const TAIL_BYTES: u64 = 32 << 10;

/// The longest block: payload that is not enough to end it, the largest record, and their lengths.
const BLOCK_BYTES_MAX: usize = 2 * BLOCK_BYTES + APPEND_BYTES_MAX;

/// A pack in a store. Cheap to clone; memory holds the first stream of each page of rows, and the end of the object.
#[derive(Debug, Clone)]
pub struct Pack(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: Name,
    trailer: Trailer,
    /// The first stream of each page of rows.
    root: Vec<StreamId>,
    /// The end of the object, not believed before it was checked.
    tail: Bytes,
}

impl Pack {
    /// Opens a pack.
    ///
    /// # Errors
    /// If the store cannot give it, or it is not the pack that its name says.
    pub async fn open(store: &dyn Store, id: PackId) -> Result<Pack, StoreError> {
        let bytes = store.size(&id.name()).await?;
        Pack::open_sized(store, id, bytes).await
    }

    /// Opens a pack of which the length is known: one read, two if it has very many streams.
    ///
    /// # Errors
    /// If the store cannot give it, or it is not the pack that its name says.
    pub async fn open_sized(store: &dyn Store, id: PackId, bytes: u64) -> Result<Pack, StoreError> {
        let name = id.name();
        if bytes < TRAILER_BYTES as u64 {
            return Err(damaged(&name, "it is too short"));
        }
        let tail = store.get(&name, bytes - bytes.min(TAIL_BYTES)..bytes).await?;
        let trailer = tail.len().checked_sub(TRAILER_BYTES).map(|at| Trailer::decode(&tail[at..]));
        let trailer = trailer.unwrap_or_else(|| Err("it is too short".to_owned()));
        let trailer = trailer.map_err(|reason| damaged(&name, &reason))?;
        if trailer.head.id != id {
            return Err(damaged(&name, &format!("it says that it is {}", trailer.head.id)));
        }
        if trailer.bytes() != bytes || trailer.records_at < START_BYTES as u32 {
            return Err(damaged(&name, "its parts are not as long as it says"));
        }
        let mut pack = Inner { name, trailer, root: Vec::new(), tail };
        let root = pack.part(store, trailer.root_at()..bytes - TRAILER_BYTES as u64).await?;
        if crc32c(&root) != trailer.root_crc {
            return Err(damaged(&pack.name, "the list of its pages is damaged"));
        }
        pack.root = root.chunks_exact(ROOT_ENTRY_BYTES).map(|entry| StreamId(number64(entry, 0))).collect();
        Ok(Pack(Arc::new(pack)))
    }

    /// What it says of itself.
    pub fn head(&self) -> &Head {
        &self.0.trailer.head
    }

    /// Bytes of memory that it takes.
    pub(crate) fn weight(&self) -> usize {
        self.0.tail.len() + size_of_val(&self.0.root[..])
    }

    /// Streams of which it has bytes.
    pub fn streams(&self) -> u32 {
        self.0.trailer.rows
    }

    /// Bytes of the whole object.
    pub fn bytes(&self) -> u64 {
        self.0.trailer.bytes()
    }

    /// The records of its streams, as they were given.
    ///
    /// # Errors
    /// If the store cannot give them, or they are damaged.
    pub async fn records(&self, store: &dyn Store) -> Result<Bytes, StoreError> {
        let Trailer { records_at, records_crc, .. } = self.0.trailer;
        let range = u64::from(records_at)..self.0.trailer.blocks_at();
        let records = self.0.part(store, range).await?;
        if crc32c(&records) != records_crc {
            return Err(self.damaged("the records of its streams are damaged"));
        }
        Ok(records)
    }

    /// The row of a stream, if it has bytes of it: one read.
    ///
    /// # Errors
    /// If the store cannot give it, or it is damaged.
    pub async fn row(&self, store: &dyn Store, stream: StreamId) -> Result<Option<Row>, StoreError> {
        let Some(page) = self.page_of(stream) else { return Ok(None) };
        Ok(Row::of(&self.rows(store, page).await?, stream))
    }

    /// The page of rows in which a stream is, if it is in any.
    pub(crate) fn page_of(&self, stream: StreamId) -> Option<usize> {
        self.0.root.partition_point(|first| *first <= stream).checked_sub(1)
    }

    /// Pages of rows, for [`Pack::rows`].
    pub fn pages(&self) -> usize {
        pages(self.0.trailer.rows)
    }

    /// A page of rows: one read.
    ///
    /// # Errors
    /// If the store cannot give it, or it is damaged.
    pub async fn rows(&self, store: &dyn Store, page: usize) -> Result<Vec<Row>, StoreError> {
        let trailer = &self.0.trailer;
        let bytes = self.page(store, trailer.rows_at(), trailer.rows, ROW_BYTES, page).await?;
        self.rows_of(&bytes)
    }

    /// All rows: one read.
    ///
    /// # Errors
    /// If the store cannot give them, or they are damaged.
    pub async fn all_rows(&self, store: &dyn Store) -> Result<Vec<Row>, StoreError> {
        let trailer = &self.0.trailer;
        let mut rows = Vec::with_capacity(trailer.rows as usize);
        if trailer.rows > 0 {
            let table = self.0.part(store, trailer.rows_at()..trailer.root_at()).await?;
            for page in table.chunks(PAGE_ROWS * ROW_BYTES + CRC_BYTES) {
                let page = checked(page).ok_or_else(|| self.damaged("a page of its rows is damaged"))?;
                rows.extend(self.rows_of(page)?);
            }
        }
        Ok(rows)
    }

    fn rows_of(&self, page: &[u8]) -> Result<Vec<Row>, StoreError> {
        let trailer = &self.0.trailer;
        let rows: Vec<Row> = page.chunks_exact(ROW_BYTES).map(decode_row).collect();
        let is_sound = |row: &Row| {
            let end = row.first_block.checked_add(row.blocks);
            row.start < row.end && row.blocks > 0 && end.is_some_and(|end| end <= trailer.blocks)
        };
        let in_order = rows.windows(2).all(|pair| pair[0].stream < pair[1].stream);
        match in_order && rows.iter().all(is_sound) {
            true => Ok(rows),
            false => Err(self.damaged("its rows contradict each other")),
        }
    }

    /// The blocks of a row from the one on that has `from`, at most as many as lie in one page: one read. Empty past the end.
    ///
    /// # Errors
    /// If the store cannot give them, or they are damaged.
    pub async fn blocks(&self, store: &dyn Store, row: &Row, from: Offset) -> Result<Vec<Block>, StoreError> {
        if from >= row.end {
            return Ok(Vec::new());
        }
        let (mut low, mut high) = row.pages().into_inner();
        // The page whose first block of this row does not begin after `from`, the last of these.
        let mut places = self.places(store, low).await?;
        while low < high {
            let middle = (low + high).div_ceil(2);
            let found = self.places(store, middle).await?;
            match row.own(middle, &found).first().is_some_and(|first| first.start <= from) {
                true => (low, places) = (middle, found),
                false => high = middle - 1,
            }
        }
        Ok(row.own(low, &places)[row.position(low, &places, from)..].to_vec())
    }

    /// All blocks of a row that are in one page of places, of those in which it has any: one read.
    ///
    /// # Errors
    /// If the store cannot give them, or they are damaged.
    pub async fn blocks_in(&self, store: &dyn Store, row: &Row, page: usize) -> Result<Vec<Block>, StoreError> {
        Ok(row.own(page, &self.places(store, page).await?).to_vec())
    }

    /// A page of places of blocks, those of any stream: one read.
    ///
    /// # Errors
    /// If the store cannot give it, or it is damaged.
    pub(crate) async fn places(&self, store: &dyn Store, page: usize) -> Result<Vec<Block>, StoreError> {
        let trailer = &self.0.trailer;
        let bytes = self.page(store, trailer.blocks_at(), trailer.blocks, BLOCK_ROW_BYTES, page).await?;
        let blocks: Vec<Block> = bytes.chunks_exact(BLOCK_ROW_BYTES).map(decode_block_row).collect();
        let is_sound = |block: &Block| {
            let range = block.range();
            block.bytes as usize <= BLOCK_BYTES_MAX && range.end <= u64::from(trailer.records_at)
        };
        match blocks.iter().all(is_sound) {
            true => Ok(blocks),
            false => Err(self.damaged("the places of its blocks contradict it")),
        }
    }

    /// The records of a block: one read.
    ///
    /// # Errors
    /// If the store cannot give them, or they are damaged.
    pub async fn block(&self, store: &dyn Store, block: &Block) -> Result<Vec<Bytes>, StoreError> {
        let Range { start, end } = block.range();
        let bytes = self.get(store, start..end).await?;
        if !block.is(&bytes) {
            return Err(self.damaged(&format!("its bytes from {start} to {end} are")));
        }
        block.split(bytes).ok_or_else(|| self.damaged(&format!("the block at {start} contradicts itself")))
    }

    /// Bytes of the object, which nothing has been checked of.
    ///
    /// # Errors
    /// If the store cannot give them.
    pub(crate) async fn get(&self, store: &dyn Store, range: Range<u64>) -> Result<Bytes, StoreError> {
        store.get(&self.0.name, range).await
    }

    /// The same, as they come.
    ///
    /// # Errors
    /// If the store cannot give them.
    pub(crate) async fn stream<'a>(&'a self, store: &'a dyn Store, range: Range<u64>) -> Result<Body<'a>, StoreError> {
        store.stream(&self.0.name, range).await
    }

    async fn page(
        &self,
        store: &dyn Store,
        table_at: u64,
        rows: u32,
        row_bytes: usize,
        page: usize,
    ) -> Result<Bytes, StoreError> {
        let own = (rows as usize).saturating_sub(page * PAGE_ROWS).min(PAGE_ROWS);
        let at = table_at + (page * (PAGE_ROWS * row_bytes + CRC_BYTES)) as u64;
        let range = at..at + (own * row_bytes + CRC_BYTES) as u64;
        // What came with the trailer may have been damaged on its way.
        let near = self.0.near(&range);
        if let Some(bytes) = near.as_ref().filter(|bytes| checked(bytes).is_some()) {
            return Ok(bytes.slice(..bytes.len() - CRC_BYTES));
        }
        let bytes = self.get(store, range).await?;
        match checked(&bytes) {
            Some(body) => Ok(bytes.slice_ref(body)),
            None => Err(self.damaged(&format!("the table at {at} is damaged"))),
        }
    }

    /// An error that says what is wrong with the object.
    pub(crate) fn damaged(&self, reason: &str) -> StoreError {
        damaged(&self.0.name, reason)
    }
}

impl Inner {
    /// A part that may have no bytes.
    async fn part(&self, store: &dyn Store, range: Range<u64>) -> Result<Bytes, StoreError> {
        match self.near(&range) {
            Some(bytes) => Ok(bytes),
            None => store.get(&self.name, range).await,
        }
    }

    /// A part that came with the trailer.
    fn near(&self, range: &Range<u64>) -> Option<Bytes> {
        let tail_at = self.trailer.bytes() - self.tail.len() as u64;
        let start = range.start.checked_sub(tail_at)? as usize;
        let end = start + (range.end - range.start) as usize;
        (end <= self.tail.len()).then(|| self.tail.slice(start..end))
    }
}

impl Row {
    /// The row of a stream in a page of rows.
    pub(crate) fn of(rows: &[Row], stream: StreamId) -> Option<Row> {
        rows.binary_search_by_key(&stream, |row| row.stream).ok().map(|at| rows[at])
    }

    /// The pages of places in which its blocks are.
    pub fn pages(&self) -> RangeInclusive<usize> {
        self.first_block as usize / PAGE_ROWS..=(self.first_block + self.blocks - 1) as usize / PAGE_ROWS
    }

    /// Its own blocks in a page of places.
    pub(crate) fn own<'a>(&self, page: usize, places: &'a [Block]) -> &'a [Block] {
        let within = |block: u32| (block as usize).saturating_sub(page * PAGE_ROWS).min(places.len());
        &places[within(self.first_block)..within(self.first_block + self.blocks)]
    }

    /// Which of its own blocks in a page has an offset, if that is in any of them.
    pub(crate) fn position(&self, page: usize, places: &[Block], at: Offset) -> usize {
        self.own(page, places).partition_point(|block| block.start <= at).saturating_sub(1)
    }
}

impl Block {
    /// Where it is in the object.
    pub(crate) fn range(&self) -> Range<u64> {
        u64::from(self.at)..u64::from(self.at) + u64::from(self.bytes)
    }

    /// Whether these are its bytes.
    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.bytes as usize && crc32c(bytes) == self.crc
    }

    /// Its records, of its bytes.
    pub(crate) fn split(&self, bytes: Bytes) -> Option<Vec<Bytes>> {
        split(bytes, self.records)
    }
}

fn damaged(name: &Name, reason: &str) -> StoreError {
    StoreError::Damaged { name: name.clone(), reason: reason.to_owned() }
}

/// The records of a block.
fn split(bytes: Bytes, records: u32) -> Option<Vec<Bytes>> {
    let mut at = 0;
    let mut lengths = Vec::with_capacity(records.min(bytes.len() as u32) as usize);
    for _ in 0..records {
        lengths.push(varint(&bytes, &mut at)?);
    }
    let mut rest = bytes.slice(at..);
    let mut found = Vec::with_capacity(lengths.len());
    for length in lengths {
        let length = usize::try_from(length).ok().filter(|length| *length <= rest.len())?;
        found.push(rest.split_to(length));
    }
    rest.is_empty().then_some(found)
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
