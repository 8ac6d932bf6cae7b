//! A disk that can be full and can fail: ext4 on a loop device, whose file lies in a memory file system of limited size.
//! Needs the right to mount.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A disk of its own for one data directory. Unmounted when it is dropped.
#[derive(Debug)]
pub struct Disk {
    /// Where the memory file system is, with the file that is the disk.
    back: PathBuf,
    /// Where the disk is mounted.
    front: PathBuf,
    _folder: TempDir,
}

const IMAGE: &str = "disk";
const BALLAST: &str = "ballast";

impl Disk {
    /// Mounts a disk of `bytes`.
    ///
    /// # Errors
    /// If that is not allowed here.
    pub fn mount(bytes: u64) -> io::Result<Disk> {
        let folder = tempfile::tempdir()?;
        let (back, front) = (folder.path().join("back"), folder.path().join("front"));
        fs::create_dir(&back)?;
        fs::create_dir(&front)?;
        // The file system has metadata too.
        let size = format!("size={}", bytes + bytes / 8 + (8 << 20));
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&back))?;
        let disk = Disk { back, front, _folder: folder };
        File::create(disk.image())?.set_len(bytes)?;
        let lazy = "lazy_itable_init=0,lazy_journal_init=0";
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-E", lazy]).arg(disk.image()))?;
        disk.attach()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.front
    }

    /// Uses up all its space, until [`Disk::make_room`].
    ///
    /// # Errors
    /// If the disk cannot be written to at all.
    pub fn fill(&self) -> io::Result<()> {
        fill(&self.front.join(BALLAST))
    }

    /// The opposite of [`Disk::fill`].
    ///
    /// # Errors
    /// If the disk has failed.
    pub fn make_room(&self) -> io::Result<()> {
        fs::remove_file(self.front.join(BALLAST))
    }

    /// From now on writes to places that hold zeros fail when they are synced, such as those to a log that was
    /// prepared; until [`Disk::mend`]. Nothing may write to it meanwhile: stop the process before.
    ///
    /// # Errors
    /// If the system's tools fail.
    pub fn fail(&self) -> io::Result<()> {
        run(Command::new("sync").arg("-f").arg(&self.front))?;
        // Zeros take no memory then, and writing over them needs some, of which there is none.
        run(Command::new("fallocate").arg("--dig-holes").arg(self.image()))?;
        fill(&self.back.join(BALLAST))
    }

    /// The opposite of [`Disk::fail`]. Nothing may use the disk: end the process before.
    ///
    /// # Errors
    /// If the system's tools fail.
    pub fn mend(&self) -> io::Result<()> {
        fs::remove_file(self.back.join(BALLAST))?;
        run(Command::new("umount").arg(&self.front))?;
        // Its exit code is 1 if it mended something, which it says is success.
        let check = Command::new("e2fsck").args(["-f", "-y"]).arg(self.image()).output()?;
        if check.status.code().is_none_or(|code| code > 1) {
            return Err(io::Error::other(String::from_utf8_lossy(&check.stdout)));
        }
        self.attach()
    }

    fn attach(&self) -> io::Result<()> {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(&self.front))
    }

    fn image(&self) -> PathBuf {
        self.back.join(IMAGE)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for mounted in [&self.front, &self.back] {
            // Lazily: a process that still dies may use it. What fails was not mounted.
            let _ = Command::new("umount").arg("-l").arg(mounted).output();
        }
    }
}

/// Writes a file until there is no space left, in ever smaller pieces.
fn fill(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut piece = 1 << 20;
    while piece >= 512 {
        match file.write(&vec![0xff; piece]) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => piece /= 2,
            Err(error) => return Err(error),
        }
    }
    // The space may be promised to what the system has not written out yet.
    match file.sync_all() {
        Err(error) if error.kind() != io::ErrorKind::StorageFull => Err(error),
        _ => Ok(()),
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

#[cfg(test)]
mod tests;
