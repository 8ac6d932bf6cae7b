//! Directories of a server, as tests look at them and spoil them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::run;

/// What a directory looked like: any write, rename or removal in it gives another one. Its lock does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, Option<Seen>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    file: u64,
    bytes: u64,
    /// When anything about it was changed last, which no program can set.
    changed: (i64, i64),
}

impl Tree {
    /// Looks at a directory and all below it.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn of(dir: &Path) -> Tree {
        let mut tree = Tree(BTreeMap::new());
        tree.add(dir);
        tree
    }

    fn add(&mut self, dir: &Path) {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                self.add(&path);
                self.0.insert(path, None);
            } else if path.file_name().is_none_or(|name| name != "lock") {
                let about = fs::metadata(&path).expect("a file");
                let changed = (about.ctime(), about.ctime_nsec());
                self.0.insert(path, Some(Seen { file: about.ino(), bytes: about.len(), changed }));
            }
        }
    }
}

/// A copy of a directory; `to` must not be there. What is zero takes no space.
///
/// # Panics
/// If it cannot be made.
pub fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-a", "--sparse=always"]).args([from, to]).status().expect("cp runs");
    assert!(copied.success(), "{} is copied", from.display());
}

/// Flips one bit of a file.
///
/// # Panics
/// If it is not there.
pub fn flip(path: &Path, byte: u64, bit: u8) {
    change(path, byte, |bytes: &mut [u8; 1]| bytes[0] ^= 1 << bit);
}

/// Changes some bytes of a file.
///
/// # Panics
/// If they are not there.
pub fn change<const N: usize>(path: &Path, at: u64, change: impl FnOnce(&mut [u8; N])) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("a file");
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, at).expect("bytes in it");
    change(&mut bytes);
    file.write_all_at(&bytes, at).expect("it can be written");
}

/// A record of the log, as `ursula log dump` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The file of the segment.
    pub segment: PathBuf,
    /// Where it begins.
    pub at: u64,
    /// What it is, such as `entry`.
    pub kind: String,
    /// The group it is about.
    pub group: Option<u64>,
    /// Bytes of its payload.
    pub bytes: u64,
}

/// Bytes of a record before its payload.
pub const RECORD_HEADER_BYTES: u64 = 40;

/// All records of the log of a data directory.
///
/// # Panics
/// If something is wrong with it.
pub fn records(dir: &Path) -> Vec<Record> {
    let dir = dir.to_str().expect("a path of text");
    let output = run("ursula", &["log", "dump", dir, "--output", "json"], &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let mut segment = PathBuf::new();
    let mut records = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let line: Value = serde_json::from_str(line).expect("an object on each line");
        if let Some(name) = line["segment"].as_str() {
            segment = Path::new(dir).join("log").join(name);
        }
        if let (Some(kind), Some(at), Some(bytes)) =
            (line["record"].as_str(), line["at"].as_u64(), line["bytes"].as_u64())
        {
            let (kind, group) = (kind.to_owned(), line["group"].as_u64());
            records.push(Record { segment: segment.clone(), at, kind, group, bytes });
        }
    }
    records
}
