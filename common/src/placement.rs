//! Which group a stream belongs to: `h64(bucket, name) mod SLOTS` is a slot, and a table maps slots
//! to groups. The table is made once with a consistent hash, then stored and versioned, so that
//! slots can move without touching the function.

mod flow;
pub mod plan;

use std::hash::{Hash, Hasher};

use consistent_hash::{Node, RingHash, StaticHashRing};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::{GroupId, Slot, StreamKey};

/// Hash slots. Fixed for all time: a stream's slot never changes.
pub const SLOTS: u16 = 4096;

/// Virtual nodes of each group on the ring: enough for shares within about 10 % of each other.
const VIRTUAL_NODES: usize = 512;

/// The slot of a stream. Companions are in that of their stream.
pub fn slot_of(key: &StreamKey) -> Slot {
    // No bucket name holds a NUL, so no two keys make the same text.
    let name = key.name.owner();
    let mut text = Vec::with_capacity(key.bucket.as_str().len() + 1 + name.len());
    text.extend_from_slice(key.bucket.as_str().as_bytes());
    text.push(0);
    text.extend_from_slice(name.as_bytes());
    Slot((xxh3_64(&text) % u64::from(SLOTS)) as u16)
}

/// Slot to group, for every slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotTable(Vec<GroupId>);

impl SlotTable {
    /// Spreads the slots over groups `1..=groups`; group 0 is the meta group.
    ///
    /// # Panics
    /// If `groups` is 0.
    pub fn spread(groups: u32) -> SlotTable {
        assert!(groups > 0, "slots need at least one group");
        let nodes = (1..=groups).map(|group| Node::new(group).quantity(VIRTUAL_NODES));
        let ring = StaticHashRing::new(StableHash, nodes);
        let owner = |slot: u16| {
            let node = ring.calc_candidates(&slot).next();
            GroupId(node.expect("a ring with at least one group").key)
        };
        SlotTable((0..SLOTS).map(owner).collect())
    }

    /// Takes a table that was stored or sent; `None` unless it has one group for each slot.
    pub fn from_groups(groups: Vec<GroupId>) -> Option<SlotTable> {
        (groups.len() == usize::from(SLOTS)).then_some(SlotTable(groups))
    }

    /// The group of a stream.
    pub fn group_of(&self, key: &StreamKey) -> GroupId {
        self.0[usize::from(slot_of(key).0)]
    }

    /// The groups in the order of their slots.
    pub fn groups(&self) -> &[GroupId] {
        &self.0
    }
}

/// A hash that is the same on every machine and in every version, unlike that of `std`: numbers are
/// fed as 64-bit little endian.
#[derive(Debug, Clone, Copy)]
struct StableHash;

impl RingHash for StableHash {
    fn hash_item<T: Hash>(&self, item: &T) -> u64 {
        let mut hasher = StableHasher(Xxh3::new());
        item.hash(&mut hasher);
        hasher.finish()
    }
}

struct StableHasher(Xxh3);

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0.digest()
    }
}

#[cfg(test)]
mod tests;
