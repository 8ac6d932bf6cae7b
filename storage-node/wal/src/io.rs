//! What the log asks of a disk. Must not hold state: implementations do.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

#[cfg(any(test, feature = "fault"))]
pub mod fault;
mod read_only;
mod system;

#[cfg(any(test, feature = "fault"))]
pub use fault::FaultIo;
pub use read_only::ReadOnlyIo;
pub use system::SystemIo;

/// A disk. Names become durable by [`Io::sync_dir`] alone, bytes by [`File::sync_data`] alone.
pub trait Io: Send + Sync + fmt::Debug {
    /// Makes a directory and its parents, and syncs the parents; fine if it is there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Names of the files of a directory, in no order. Not of directories.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Opens a file that is there, to read and write.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Makes a file that must not be there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Renames a file, over another one if there is one. Open files stay open.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes all that happened to names in this directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Locks a file against other processes, making it if need be, until the guard is dropped; `None` if
    /// somebody else holds the lock.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;
    /// Bytes that may still be written in the file system of this directory.
    fn free(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file.
pub trait File: Send + Sync {
    /// Fills `buf` from there; an error of kind `UnexpectedEof` if the file ends before.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes all of `buf` there, making the file longer if need be.
    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()>;
    /// Makes the file shorter or, with zeros, longer.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes all bytes written so far, and the length, durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
    /// Whether there are none.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Holds a lock; dropped, it lets go.
pub trait Lock: Send + Sync {}
