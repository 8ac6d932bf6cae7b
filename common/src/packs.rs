//! Which packs of a group count: objects outside of the nodes with the bytes of its streams.

use std::collections::BTreeMap;

use crate::Offset;

/// An object, and which packs of its group it stands for. Packs of a group are counted from 1; compaction puts one
/// object in the place of several packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRef {
    /// The first pack.
    pub first: u64,
    /// The last pack; not before the first.
    pub last: u64,
    /// Drawn anew for every object: two makers of the same pack never meet in one name.
    pub maker: u64,
    /// Bytes of the whole object.
    pub bytes: u64,
    /// SHA-256 of the object.
    pub hash: [u8; 32],
}

/// How far the packs of a group have the bytes of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColdEnd {
    /// The offset after the last byte in them.
    pub end: Offset,
    /// The newest pack that has bytes of it.
    pub pack: u64,
}

/// The objects of a group that count. Together they stand for the packs from 1 on, each of them for some that follow
/// each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Under the last pack of each.
    objects: BTreeMap<u64, PackRef>,
    /// Of all objects.
    bytes: u64,
}

impl Catalogue {
    /// The number of the pack that comes next.
    pub fn next(&self) -> u64 {
        self.newest().map_or(1, |newest| newest.last + 1)
    }

    /// The object with the newest pack.
    pub fn newest(&self) -> Option<&PackRef> {
        self.objects.last_key_value().map(|(_, object)| object)
    }

    /// The object that stands for a pack.
    pub fn find(&self, pack: u64) -> Option<&PackRef> {
        self.objects.range(pack..).next().map(|(_, object)| object).filter(|object| object.first <= pack)
    }

    /// Adds an object that goes on where the newest ends. Returns whether it does.
    pub fn push(&mut self, object: PackRef) -> bool {
        let fits = object.first == self.next() && object.last >= object.first;
        if fits {
            self.bytes += object.bytes;
            self.objects.insert(object.last, object);
        }
        fits
    }

    /// Whether an object may come in the place of these: they are all those of its packs, one after the other, and not the
    /// newest, which the next pack names.
    pub fn is_run(&self, run: &[PackRef], object: &PackRef) -> bool {
        let mut here = self.objects.range(object.first..=object.last).map(|(_, object)| object);
        run.first().is_some_and(|first| first.first == object.first)
            && run.iter().all(|replaced| here.next() == Some(replaced))
            && here.next().is_none()
            && run.last().is_some_and(|last| last.last == object.last && object.last + 1 < self.next())
    }

    /// Puts an object in the place of these. Returns whether it may come there.
    pub fn replace(&mut self, run: &[PackRef], object: PackRef) -> bool {
        let fits = self.is_run(run, &object);
        if fits {
            for replaced in run {
                self.bytes -= replaced.bytes;
                self.objects.remove(&replaced.last);
            }
            self.bytes += object.bytes;
            self.objects.insert(object.last, object);
        }
        fits
    }

    /// All objects, in the order of their packs.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &PackRef> {
        self.objects.values()
    }

    /// Bytes of all objects.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests;
