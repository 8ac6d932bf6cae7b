//! A disk in memory that can do what real ones do: lose what was not synced, sector by sector, and names that were not
//! synced; fail; be slow; run full; flip bits. Everything it does follows from its seed.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{File, Io, Lock};

mod disk;

use disk::{Disk, FileId};
pub use disk::{Keep, Part, SECTOR_BYTES};

/// The disk. Cheap to clone: clones are the same disk, and what a crash leaves is another one.
#[derive(Clone)]
pub struct FaultIo {
    disk: Arc<Mutex<Disk>>,
}

/// A call, to be watched or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// [`Io::create_dir`]
    CreateDir,
    /// [`Io::list`]
    List,
    /// [`Io::open`]
    Open,
    /// [`Io::create`]
    Create,
    /// [`Io::rename`]
    Rename,
    /// [`Io::remove`]
    Remove,
    /// [`Io::sync_dir`]
    SyncDir,
    /// [`Io::lock`]
    Lock,
    /// [`Io::free`]
    Free,
    /// [`File::read_at`]
    Read,
    /// [`File::write_at`]
    Write,
    /// [`File::set_len`]
    SetLen,
    /// [`File::sync_data`]
    Sync,
    /// [`File::len`]
    Len,
}

/// What a call does instead of what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing, and it says so. A write may have reached some of its sectors, and a sync that fails drops what was
    /// pending, as Linux does: reads show it, and no later sync writes it.
    Fail(ErrorKind),
    /// The machine stops before the call: it and all later ones fail.
    Crash,
}

/// Decides about each call; a call that must take its time may wait here.
pub trait Watch: Send {
    /// `number` counts all calls of this disk from 0.
    fn call(&mut self, number: u64, call: Call, path: &Path) -> Option<Fault>;
}

impl<F: FnMut(u64, Call, &Path) -> Option<Fault> + Send> Watch for F {
    fn call(&mut self, number: u64, call: Call, path: &Path) -> Option<Fault> {
        self(number, call, path)
    }
}

type Watcher = Arc<Mutex<Box<dyn Watch>>>;

/// A watcher that looks away.
pub struct Paused {
    watch: Option<Watcher>,
    calls: u64,
    crashed: bool,
}

struct FaultFile {
    io: FaultIo,
    path: PathBuf,
    id: FileId,
    /// A file that was opened before a crash is of no use after it.
    boot: u64,
}

struct Held {
    io: FaultIo,
    path: PathBuf,
    boot: u64,
}

impl Lock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        let mut disk = self.io.disk();
        if disk.boot == self.boot {
            disk.locks.remove(&self.path);
        }
    }
}

impl FaultIo {
    /// An empty disk with room for so many bytes.
    pub fn new(capacity: u64) -> FaultIo {
        FaultIo { disk: Arc::new(Mutex::new(Disk::new(capacity))) }
    }

    /// Who decides about calls from now on.
    pub fn watch(&self, watch: impl Watch + 'static) {
        self.disk().watch = Some(Arc::new(Mutex::new(Box::new(watch))));
    }

    /// Nobody decides about calls any more.
    pub fn unwatch(&self) {
        self.disk().watch = None;
    }

    /// Nobody decides about calls, none is counted, and even a machine that is down answers, until
    /// [`FaultIo::resume`].
    pub fn pause(&self) -> Paused {
        let mut disk = self.disk();
        Paused { watch: disk.watch.take(), calls: disk.calls, crashed: std::mem::take(&mut disk.crashed) }
    }

    /// Goes on as before.
    pub fn resume(&self, paused: Paused) {
        let mut disk = self.disk();
        disk.watch = paused.watch;
        disk.calls = paused.calls;
        disk.crashed = paused.crashed;
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.disk().calls
    }

    /// The power goes and comes back: of what was pending stays what `keep` says. Open files and locks are gone.
    pub fn power_loss(&self, keep: Keep) {
        self.disk().power_loss(keep);
    }

    /// The process dies and starts again: what was written stays in memory, pending. Open files and locks are gone.
    pub fn kill(&self) {
        self.disk().kill();
    }

    /// The same disk at this moment, as one that goes its own way.
    pub fn copy(&self) -> FaultIo {
        FaultIo { disk: Arc::new(Mutex::new(self.disk().copy())) }
    }

    /// How much may be on the disk from now on.
    pub fn set_capacity(&self, bytes: u64) {
        self.disk().capacity = bytes;
    }

    /// Whether anything would be lost if the power went now.
    pub fn has_pending(&self) -> bool {
        self.disk().has_pending()
    }

    /// All that a file holds, as readers see it.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        self.disk().contents(path)
    }

    /// Puts a file there, durable, over another one if there is one.
    pub fn plant(&self, path: &Path, bytes: &[u8]) {
        self.disk().plant(path, bytes);
    }

    /// Changes a bit of a file, on the disk as well as in memory.
    pub fn flip(&self, path: &Path, bit: u64) {
        self.disk().flip(path, bit);
    }

    /// Takes a file away, durably.
    pub fn lose(&self, path: &Path) {
        self.disk().lose(path);
    }

    /// All files.
    pub fn files(&self) -> Vec<PathBuf> {
        self.disk().names().cloned().collect()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and asks whether it may be made. The disk is not locked while the watcher thinks.
    fn enter(&self, call: Call, path: &Path) -> Result<(), Fault> {
        let (watch, number) = {
            let mut disk = self.disk();
            if disk.crashed {
                return Err(Fault::Crash);
            }
            disk.calls += 1;
            (disk.watch.clone(), disk.calls - 1)
        };
        let Some(watch) = watch else { return Ok(()) };
        let fault = watch.lock().unwrap_or_else(PoisonError::into_inner).call(number, call, path);
        match fault {
            None => Ok(()),
            Some(fault) => {
                self.disk().crashed |= fault == Fault::Crash;
                Err(fault)
            }
        }
    }

    fn call<T>(&self, call: Call, path: &Path, act: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        self.enter(call, path).map_err(error)?;
        act(&mut self.disk())
    }

    fn file(&self, path: &Path, id: FileId) -> Arc<dyn File> {
        let boot = self.disk().boot;
        Arc::new(FaultFile { io: self.clone(), path: path.to_owned(), id, boot })
    }
}

fn error(fault: Fault) -> io::Error {
    match fault {
        Fault::Fail(kind) => io::Error::new(kind, "a fault of the disk"),
        Fault::Crash => io::Error::other("the machine is down"),
    }
}

impl Io for FaultIo {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.call(Call::CreateDir, dir, |disk| {
            disk.create_dir(dir);
            Ok(())
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.call(Call::List, dir, |disk| disk.list(dir))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let id = self.call(Call::Open, path, |disk| disk.find(path))?;
        Ok(self.file(path, id))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let id = self.call(Call::Create, path, |disk| disk.create(path))?;
        Ok(self.file(path, id))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Call::Rename, from, |disk| disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(Call::Remove, path, |disk| disk.remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.call(Call::SyncDir, dir, |disk| {
            disk.sync_dir(dir);
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let boot = self.call(Call::Lock, path, |disk| Ok(disk.lock(path).then_some(disk.boot)))?;
        Ok(boot.map(|boot| Box::new(Held { io: self.clone(), path: path.to_owned(), boot }) as Box<dyn Lock>))
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        self.call(Call::Free, dir, |disk| Ok(disk.capacity.saturating_sub(disk.used())))
    }
}

impl FaultFile {
    fn call<T>(&self, call: Call, act: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        self.io.call(call, &self.path, |disk| {
            if disk.boot != self.boot {
                return Err(io::Error::other("this file was opened before the machine went down"));
            }
            act(disk)
        })
    }
}

impl File for FaultFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.call(Call::Read, |disk| disk.read(self.id, buf, at))
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        match self.io.enter(Call::Write, &self.path) {
            Err(fault @ Fault::Fail(_)) => {
                // Half of it got there, in whole sectors.
                let half = (at as usize + buf.len() / 2) / SECTOR_BYTES * SECTOR_BYTES;
                let half = &buf[..half.saturating_sub(at as usize)];
                let _ = self.io.disk().write(self.id, half, at);
                Err(error(fault))
            }
            Err(fault) => Err(error(fault)),
            Ok(()) => {
                let mut disk = self.io.disk();
                if disk.boot != self.boot {
                    return Err(error(Fault::Crash));
                }
                disk.write(self.id, buf, at)
            }
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.call(Call::SetLen, |disk| disk.set_len(self.id, len))
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.io.enter(Call::Sync, &self.path) {
            Err(fault @ Fault::Fail(_)) => {
                self.io.disk().drop_pending(self.id);
                Err(error(fault))
            }
            Err(fault) => Err(error(fault)),
            Ok(()) => {
                let mut disk = self.io.disk();
                if disk.boot != self.boot {
                    return Err(error(Fault::Crash));
                }
                disk.sync(self.id);
                Ok(())
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.call(Call::Len, |disk| Ok(disk.len(self.id)))
    }
}

impl fmt::Debug for FaultIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultIo").finish_non_exhaustive()
    }
}
