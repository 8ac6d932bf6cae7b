//! The checkpoints of the groups, one file each, and the snapshots that arrive. Knows nothing of what is in them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ursula_common::GroupId;
use ursula_wal::{File, Io};

use super::{DataDir, files};
use crate::checkpoint::{Checkpoint, Put};
use crate::raft;
use crate::runtime::Runtime;

/// The directory of the files.
pub(super) const DIR: &str = "checkpoints";

/// A file that is removed when it is dropped.
pub(crate) struct TemporaryFile {
    io: Arc<dyn Io>,
    runtime: Runtime,
    path: PathBuf,
    file: Arc<dyn File>,
}

impl TemporaryFile {
    pub(crate) fn file(&self) -> Arc<dyn File> {
        self.file.clone()
    }

    /// What runs calls that block.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // What stays behind goes when the next one is made.
        drop(self.io.remove(&self.path));
    }
}

impl DataDir {
    /// The file of the latest checkpoint of a group, which stays as it is when a later one takes its place. Blocks.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub(crate) fn open_checkpoint(&self, group: GroupId) -> io::Result<Option<Arc<dyn File>>> {
        files::open(&*self.0.io, &self.0.path.join(DIR).join(checkpoint_name(group)))
    }

    /// Where the checkpoint of a group is kept.
    pub(crate) fn checkpoint_path(&self, group: GroupId) -> PathBuf {
        self.0.path.join(DIR).join(checkpoint_name(group))
    }

    /// Puts a checkpoint in the place of the one before; `give` gives its bytes. Returns how many there are. Blocks.
    ///
    /// # Errors
    /// If it cannot be written; then the one before is still there.
    pub(crate) fn write_checkpoint(
        &self,
        group: GroupId,
        give: impl FnOnce(Put<'_>) -> io::Result<()>,
    ) -> io::Result<u64> {
        files::write_parts(&*self.0.io, &self.0.path.join(DIR), &checkpoint_name(group), give)
    }

    /// A file for a snapshot of a group that arrives. One that an earlier life left behind goes.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(crate) fn temporary_file(&self, group: GroupId) -> io::Result<TemporaryFile> {
        let path = self.0.path.join(DIR).join(format!("{}.incoming", checkpoint_name(group)));
        files::remove(&*self.0.io, &path)?;
        let (io, runtime) = (self.0.io.clone(), self.0.runtime.clone());
        Ok(TemporaryFile { file: io.create(&path)?, path, io, runtime })
    }

    /// Removes the checkpoint of a group. Blocks.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn remove_checkpoint(&self, group: GroupId) -> io::Result<()> {
        let dir = self.0.path.join(DIR);
        files::remove(&*self.0.io, &dir.join(checkpoint_name(group)))?;
        self.0.io.sync_dir(&dir)
    }
}

/// The last entry that the checkpoint of a group has, in a directory that is being opened.
pub(super) fn applied(io: &dyn Io, path: &Path, group: GroupId) -> io::Result<Option<u64>> {
    let file = files::open(io, &path.join(DIR).join(checkpoint_name(group)))?;
    let meta = file.map(|file| Checkpoint::read_meta(&*file)).transpose()?;
    meta.map_or(Ok(None), raft::applied_in)
}

fn checkpoint_name(group: GroupId) -> String {
    format!("{:08x}", group.0)
}
