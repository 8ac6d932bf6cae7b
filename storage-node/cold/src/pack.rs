//! Packs: objects that hold the bytes and the records of many streams of one group. `docs/formats/pack.md`
//! describes the bytes. Decides nothing: what goes into a pack, and which packs count, is said elsewhere.
//!
//! Bytes lie in blocks of whole records, a row for each stream says which blocks are its own, and rows are sorted
//! by stream. So a reader that knows a stream fetches the end of a pack (once), a page of rows, a page of places of
//! blocks, and a block. Every part has a checksum, which is looked at before anything in it is believed.

mod build;
mod format;
mod read;

#[cfg(test)]
mod tests;

use std::fmt;

use sha2::{Digest, Sha256};
use ursula_common::packs::PackRef;
use ursula_common::{ClusterId, GroupId, Millis, Offset, StreamId};

use crate::store::{Name, Store, StoreError};

pub use build::{Builder, Packed};
pub use read::Pack;

/// Which packs of its group an object stands for, and which object it is. Packs of a group are counted from 1; compaction
/// puts one object in the place of several packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackId {
    /// The group.
    pub group: GroupId,
    /// The first pack.
    pub first: u64,
    /// The last pack.
    pub last: u64,
    /// Drawn anew for every object: two makers of the same pack never meet in one name.
    pub maker: u64,
}

impl PackId {
    /// The object of a group that a catalogue names.
    pub fn of(group: GroupId, object: &PackRef) -> PackId {
        PackId { group, first: object.first, last: object.last, maker: object.maker }
    }

    /// The folder of all packs of a group.
    pub fn folder(group: GroupId) -> Name {
        Name::parse(format!("packs/{:08x}", group.0)).expect("invariant: digits are parts of a name")
    }

    /// The name of the object. Names are in the order of the packs.
    pub fn name(&self) -> Name {
        Name::parse(self.to_string()).expect("invariant: digits are parts of a name")
    }

    /// The pack with this name, if it is one of a pack.
    pub fn parse(name: &Name) -> Option<PackId> {
        let (folder, object) = name.as_str().rsplit_once('/')?;
        let mut numbers = object.split('-').map(|number| u64::from_str_radix(number, 16).ok());
        let (first, last, maker) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let group = u32::from_str_radix(folder.strip_prefix("packs/")?, 16).ok()?;
        let id = PackId { group: GroupId(group), first, last, maker };
        (id.to_string() == name.as_str()).then_some(id)
    }
}

/// All objects below a folder that have names of packs, with their bytes. Others are not ours.
///
/// # Errors
/// Those of the store.
pub async fn list(store: &dyn Store, folder: &Name) -> Result<Vec<(PackId, u64)>, StoreError> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(folder, after.as_ref()).await?;
        let Some(last) = page.last() else { return Ok(found) };
        after = Some(last.name.clone());
        found.extend(page.iter().filter_map(|object| Some((PackId::parse(&object.name)?, object.bytes))));
    }
}

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PackId { group, first, last, maker } = self;
        write!(f, "packs/{:08x}/{first:016x}-{last:016x}-{maker:016x}", group.0)
    }
}

/// The pack before, as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Which object.
    pub id: PackId,
    /// SHA-256 of the object.
    pub hash: Hash,
}

/// SHA-256 of an object.
pub type Hash = [u8; 32];

/// The hash of a whole object.
pub fn hash(body: &[u8]) -> Hash {
    Sha256::digest(body).into()
}

/// What a pack says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Whose pack.
    pub cluster: ClusterId,
    /// Which pack.
    pub id: PackId,
    /// When it was made.
    pub made: Millis,
    /// How far the group had come when it was planned, as the group counts its changes; 0 if it was not planned by one.
    pub as_of: u64,
    /// The pack before the first, unless that is the first of all.
    pub prev: Option<Link>,
    /// Of an object that compaction made: the last pack for which it stands, as that was. The pack after it names that one.
    pub merged: Option<Link>,
}

/// Where a pack has bytes of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The stream.
    pub stream: StreamId,
    /// The first offset.
    pub start: Offset,
    /// The offset after the last; greater than the first.
    pub end: Offset,
    /// The newest pack before this one that has bytes of the stream.
    pub prev: Option<u64>,
    first_block: u32,
    blocks: u32,
}

/// Whole records of a stream that lie, and are fetched, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The offset of the first record.
    pub start: Offset,
    at: u32,
    bytes: u32,
    records: u32,
    crc: u32,
}

/// Payload after which the next record begins a new block; in memory most of them fit into 64 KiB. A longer record has a block
/// of its own.
const BLOCK_BYTES: usize = 55 << 10;
