//! What a [`super::FaultIo`] holds: names and bytes, each as readers see them and as the disk has them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Watcher;

/// What a disk writes as a whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// What of the pending changes a power loss leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Of sectors, and lengths of files.
    pub sectors: Part,
    /// Of files made, renamed and removed. A change to a file stays only if earlier ones to it stay.
    pub names: Part,
}

/// A part of the pending changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Nothing.
    None,
    /// Everything.
    All,
    /// About half, by this seed.
    Random(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId(u64);

/// Bytes are shared between copies of a disk until one of them writes.
#[derive(Clone, Default)]
struct Inode {
    seen: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    /// Sectors that were written since the last sync.
    pending: BTreeSet<usize>,
    /// The length was changed since the last sync.
    resized: bool,
}

/// A change of names; where it leads, and which file it is about.
#[derive(Clone)]
struct Change {
    id: FileId,
    from: Option<PathBuf>,
    to: Option<PathBuf>,
}

pub(super) struct Disk {
    pub(super) capacity: u64,
    pub(super) calls: u64,
    pub(super) boot: u64,
    pub(super) crashed: bool,
    pub(super) watch: Option<Watcher>,
    pub(super) locks: BTreeSet<PathBuf>,
    dirs: BTreeSet<PathBuf>,
    inodes: BTreeMap<FileId, Inode>,
    seen: BTreeMap<PathBuf, FileId>,
    durable: BTreeMap<PathBuf, FileId>,
    changes: Vec<Change>,
    next: u64,
}

impl Disk {
    pub(super) fn new(capacity: u64) -> Disk {
        Disk {
            capacity,
            calls: 0,
            boot: 0,
            crashed: false,
            watch: None,
            locks: BTreeSet::new(),
            dirs: BTreeSet::new(),
            inodes: BTreeMap::new(),
            seen: BTreeMap::new(),
            durable: BTreeMap::new(),
            changes: Vec::new(),
            next: 0,
        }
    }

    pub(super) fn copy(&self) -> Disk {
        Disk {
            capacity: self.capacity,
            calls: self.calls,
            boot: self.boot + 1,
            crashed: self.crashed,
            watch: None,
            locks: BTreeSet::new(),
            dirs: self.dirs.clone(),
            inodes: self.inodes.clone(),
            seen: self.seen.clone(),
            durable: self.durable.clone(),
            changes: self.changes.clone(),
            next: self.next,
        }
    }

    pub(super) fn kill(&mut self) {
        self.boot += 1;
        self.crashed = false;
        self.watch = None;
        self.locks.clear();
    }

    pub(super) fn power_loss(&mut self, keep: Keep) {
        self.kill();
        let mut names = Choice::new(keep.names);
        let mut broken = BTreeSet::new();
        for change in std::mem::take(&mut self.changes) {
            if broken.contains(&change.id) || !names.next() {
                broken.insert(change.id);
                continue;
            }
            apply(&mut self.durable, &change);
        }
        self.seen = self.durable.clone();
        let mut sectors = Choice::new(keep.sectors);
        for inode in self.inodes.values_mut() {
            let resized = inode.resized && sectors.next();
            for sector in std::mem::take(&mut inode.pending) {
                if sectors.next() {
                    inode.persist(sector);
                }
            }
            inode.lose(resized);
        }
        self.collect();
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.changes.is_empty() || self.inodes.values().any(|inode| inode.resized || !inode.pending.is_empty())
    }

    pub(super) fn used(&self) -> u64 {
        self.seen.values().filter_map(|id| self.inodes.get(id)).map(|inode| inode.seen.len() as u64).sum()
    }

    pub(super) fn lock(&mut self, path: &Path) -> bool {
        self.locks.insert(path.to_owned())
    }

    // Names.

    pub(super) fn create_dir(&mut self, dir: &Path) {
        self.dirs.extend(dir.ancestors().map(Path::to_owned));
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if !self.dirs.contains(dir) {
            return Err(ErrorKind::NotFound.into());
        }
        let here = self.seen.keys().filter(|path| path.parent() == Some(dir));
        Ok(here.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<FileId> {
        self.seen.get(path).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<FileId> {
        if !path.parent().is_some_and(|dir| self.dirs.contains(dir)) {
            return Err(ErrorKind::NotFound.into());
        }
        if self.seen.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let id = FileId(self.next);
        self.next += 1;
        self.inodes.insert(id, Inode::default());
        self.change(Change { id, from: None, to: Some(path.to_owned()) });
        Ok(id)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let id = self.find(from)?;
        self.change(Change { id, from: Some(from.to_owned()), to: Some(to.to_owned()) });
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let id = self.find(path)?;
        self.change(Change { id, from: Some(path.to_owned()), to: None });
        Ok(())
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.seen, &change);
        self.changes.push(change);
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) {
        let Disk { changes, durable, .. } = self;
        let here = |path: &Option<PathBuf>| path.as_ref().is_some_and(|path| path.parent() == Some(dir));
        changes.retain(|change| {
            let synced = here(&change.from) || here(&change.to);
            if synced {
                apply(durable, change);
            }
            !synced
        });
        self.collect();
    }

    /// Forgets files without a name.
    fn collect(&mut self) {
        let Disk { inodes, seen, durable, changes, .. } = self;
        let named: BTreeSet<FileId> = seen.values().chain(durable.values()).copied().collect();
        inodes.retain(|id, _| named.contains(id) || changes.iter().any(|change| change.id == *id));
    }

    // Bytes.

    fn inode(&mut self, id: FileId) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&id).ok_or_else(|| ErrorKind::NotFound.into())
    }

    pub(super) fn read(&mut self, id: FileId, buf: &mut [u8], at: u64) -> io::Result<()> {
        let seen = &self.inode(id)?.seen;
        let part = seen.get(at as usize..).and_then(|rest| rest.get(..buf.len()));
        buf.copy_from_slice(part.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    pub(super) fn write(&mut self, id: FileId, buf: &[u8], at: u64) -> io::Result<()> {
        let end = at as usize + buf.len();
        let (used, capacity) = (self.used(), self.capacity);
        let inode = self.inode(id)?;
        let more = end.saturating_sub(inode.seen.len());
        if more > 0 && used + more as u64 > capacity {
            return Err(ErrorKind::StorageFull.into());
        }
        let seen = Arc::make_mut(&mut inode.seen);
        if more > 0 {
            seen.resize(end, 0);
            inode.resized = true;
        }
        seen[at as usize..end].copy_from_slice(buf);
        if !buf.is_empty() {
            inode.pending.extend(at as usize / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
        }
        Ok(())
    }

    pub(super) fn set_len(&mut self, id: FileId, len: u64) -> io::Result<()> {
        let (used, capacity) = (self.used(), self.capacity);
        let inode = self.inode(id)?;
        if used - inode.seen.len() as u64 + len > capacity {
            return Err(ErrorKind::StorageFull.into());
        }
        Arc::make_mut(&mut inode.seen).resize(len as usize, 0);
        inode.resized = true;
        Ok(())
    }

    pub(super) fn sync(&mut self, id: FileId) {
        let Some(inode) = self.inodes.get_mut(&id) else { return };
        for sector in std::mem::take(&mut inode.pending) {
            inode.persist(sector);
        }
        inode.persist_len();
    }

    pub(super) fn drop_pending(&mut self, id: FileId) {
        if let Some(inode) = self.inodes.get_mut(&id) {
            inode.pending.clear();
        }
    }

    pub(super) fn len(&self, id: FileId) -> u64 {
        self.inodes.get(&id).map_or(0, |inode| inode.seen.len() as u64)
    }

    // From outside.

    pub(super) fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        self.seen.get(path).and_then(|id| self.inodes.get(id)).map(|inode| inode.seen.to_vec())
    }

    pub(super) fn plant(&mut self, path: &Path, bytes: &[u8]) {
        self.create_dir(path.parent().unwrap_or(Path::new("")));
        let id = FileId(self.next);
        self.next += 1;
        let bytes = Arc::new(bytes.to_vec());
        self.inodes.insert(id, Inode { seen: bytes.clone(), durable: bytes, ..Inode::default() });
        self.seen.insert(path.to_owned(), id);
        self.durable.insert(path.to_owned(), id);
    }

    pub(super) fn flip(&mut self, path: &Path, bit: u64) {
        let Some(inode) = self.seen.get(path).and_then(|id| self.inodes.get_mut(id)) else { return };
        let (byte, mask) = ((bit / 8) as usize, 1 << (bit % 8));
        Arc::make_mut(&mut inode.seen)[byte] ^= mask;
        if let Some(byte) = Arc::make_mut(&mut inode.durable).get_mut(byte) {
            *byte ^= mask;
        }
    }

    pub(super) fn lose(&mut self, path: &Path) {
        self.seen.remove(path);
        self.durable.remove(path);
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &PathBuf> {
        self.seen.keys()
    }
}

impl Inode {
    /// A sector reaches the disk.
    fn persist(&mut self, sector: usize) {
        let from = (sector * SECTOR_BYTES).min(self.seen.len());
        let to = (from + SECTOR_BYTES).min(self.seen.len());
        let durable = Arc::make_mut(&mut self.durable);
        if durable.len() < to {
            durable.resize(to, 0);
        }
        durable[from..to].copy_from_slice(&self.seen[from..to]);
    }

    /// What is seen after a power loss is what the disk has.
    fn lose(&mut self, resized: bool) {
        if resized {
            self.persist_len();
        }
        self.resized = false;
        self.seen = self.durable.clone();
    }

    fn persist_len(&mut self) {
        if self.durable.len() != self.seen.len() {
            Arc::make_mut(&mut self.durable).resize(self.seen.len(), 0);
        }
        self.resized = false;
    }
}

fn apply(names: &mut BTreeMap<PathBuf, FileId>, change: &Change) {
    if let Some(from) = &change.from
        && names.get(from) == Some(&change.id)
    {
        names.remove(from);
    }
    if let Some(to) = &change.to {
        names.insert(to.clone(), change.id);
    }
}

/// Keeps or drops, one after the other.
struct Choice {
    part: Part,
}

impl Choice {
    fn new(part: Part) -> Choice {
        Choice { part }
    }

    fn next(&mut self) -> bool {
        match &mut self.part {
            Part::None => false,
            Part::All => true,
            Part::Random(state) => {
                // splitmix64, by Sebastiano Vigna.
                *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let mut z = *state;
                z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                (z ^ (z >> 31)) & 1 == 1
            }
        }
    }
}
