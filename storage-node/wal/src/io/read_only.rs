//! The disk of the operating system for those who only look. Nothing can be changed through it, whatever is asked.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::system::SystemFile;
use super::{File, Io, Lock, SystemIo};

/// Files through the standard library, opened to be read.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadOnlyIo;

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "this is only for looking")
}

impl Io for ReadOnlyIo {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        SystemIo.list(dir)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(SystemFile(fs::File::open(path)?)))
    }

    fn create(&self, _: &Path) -> io::Result<Arc<dyn File>> {
        Err(refused())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        Err(refused())
    }

    fn free(&self, dir: &Path) -> io::Result<u64> {
        SystemIo.free(dir)
    }
}
