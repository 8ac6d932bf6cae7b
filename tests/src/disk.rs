//! A disk that can be full and can fail: ext4 on a loop device, whose file lies in a memory file system of limited size.
//! Needs the right to mount.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::statvfs;
use tempfile::TempDir;

/// A disk of its own for one data directory. Unmounted when it is dropped.
#[derive(Debug)]
pub struct Disk {
    /// Where the memory file system is, with the file that is the disk.
    back: PathBuf,
    /// Where the disk is mounted.
    front: PathBuf,
    bytes: u64,
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
        let size = format!("size={}", memory_bytes(bytes));
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&back))?;
        let disk = Disk { back, front, bytes, _folder: folder };
        File::create(disk.image())?.set_len(bytes)?;
        let lazy = "lazy_itable_init=0,lazy_journal_init=0";
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-b", "4096", "-E", lazy]).arg(disk.image()))?;
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
        // Nothing may come from the file system itself either while zeros are looked for.
        run(Command::new("fsfreeze").arg("--freeze").arg(&self.front))?;
        // Zeros take no memory then, and writing over them needs some, of which there is none.
        let dug = run(Command::new("fallocate").arg("--dig-holes").arg(self.image()));
        run(Command::new("fsfreeze").arg("--unfreeze").arg(&self.front))?;
        dug?;
        let memory = statvfs(&self.back)?;
        self.limit((memory.f_blocks - memory.f_bfree) * memory.f_frsize)
    }

    /// The opposite of [`Disk::fail`]. Nothing may use the disk: end the process before.
    ///
    /// # Errors
    /// If the system's tools fail.
    pub fn mend(&self) -> io::Result<()> {
        self.limit(memory_bytes(self.bytes))?;
        run(Command::new("umount").arg(&self.front))?;
        // Its exit code is 1 if it mended something, which it says is success.
        let check = Command::new("e2fsck").args(["-f", "-y"]).arg(self.image()).output()?;
        if check.status.code().is_none_or(|code| code > 1) {
            return Err(io::Error::other(String::from_utf8_lossy(&check.stdout)));
        }
        self.attach()
    }

    /// Sets how much memory the file of the disk may take.
    fn limit(&self, bytes: u64) -> io::Result<()> {
        let size = format!("remount,size={bytes}");
        run(Command::new("mount").args(["-o", &size]).arg(&self.back))
    }

    fn attach(&self) -> io::Result<()> {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(&self.front))?;
        // A loop device takes a write that its file took in part for one that succeeded: a disk that lies. A request
        // of one page is taken whole or not at all.
        let find = Command::new("losetup").args(["-n", "-O", "NAME", "-j"]).arg(self.image()).output()?;
        let device = String::from_utf8_lossy(&find.stdout).trim().replace("/dev/", "");
        fs::write(format!("/sys/block/{device}/queue/max_sectors_kb"), "4")
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

/// What a disk of so many bytes takes at most, with the bookkeeping of the memory file system.
fn memory_bytes(bytes: u64) -> u64 {
    bytes + bytes / 8 + (8 << 20)
}

/// Makes a file that leaves no space: at first most of it at once, then in ever smaller pieces.
fn fill(path: &Path) -> io::Result<()> {
    let disk = statvfs(path.parent().unwrap_or(path))?;
    let most = (disk.f_bavail * disk.f_frsize).saturating_sub(1 << 20);
    run(Command::new("fallocate").args(["--length", &most.max(1).to_string()]).arg(path))?;
    let mut file = OpenOptions::new().append(true).open(path)?;
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
