//! Moves the wall clock of a process while it runs, from outside: a library that is loaded into it answers instead of
//! the system. Needs a C compiler, which Rust needs anyway to link.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = include_str!("wall_clock.c");

/// The wall clock of one process.
#[derive(Debug)]
pub struct WallClock {
    library: PathBuf,
    offset: PathBuf,
    file: File,
}

impl WallClock {
    /// A clock that is right so far; its files lie in `folder`, under names that begin with `name`.
    ///
    /// # Panics
    /// If there is no C compiler, or the folder cannot be written to.
    pub fn prepare(folder: &Path, name: &str) -> WallClock {
        let library = folder.join("wall_clock.so");
        if !library.exists() {
            let source = folder.join("wall_clock.c");
            fs::write(&source, SOURCE).expect("a file for the source");
            let mut compiler = Command::new("cc");
            compiler.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(&source).arg("-ldl");
            let output = compiler.output().expect("a C compiler, cc");
            assert!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
        }
        let offset = folder.join(format!("{name}.offset"));
        let file = File::create(&offset).expect("a file for the offset");
        let clock = WallClock { library, offset, file };
        clock.jump(0);
        clock
    }

    /// The variables that a process with this clock is started with.
    pub fn variables(&self) -> [(&'static str, &Path); 2] {
        [("LD_PRELOAD", &self.library), ("WALL_CLOCK_OFFSET", &self.offset)]
    }

    /// From now on the clock is wrong by so many milliseconds.
    ///
    /// # Panics
    /// If the file is gone.
    pub fn jump(&self, ms: i64) {
        self.file.write_all_at(&(ms * 1_000_000).to_ne_bytes(), 0).expect("the offset can be written");
    }
}

#[cfg(test)]
mod tests;
