//! Packages of Python for tests. `tests/py/requirements.txt` names them; they are installed below `target` when a test wants
//! them first.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program;

/// The folder of the virtual environment with the packages that the file names now.
///
/// # Panics
/// If python3 with venv and pip is missing, or the packages cannot be had.
pub fn python() -> PathBuf {
    let target = program("").parent().expect("the folder of all profiles").to_owned();
    let folder = target.join("python");
    let lock = File::create(target.join("python.lock")).expect("a lock file");
    lock.lock().expect("the lock of the installer");
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("py/requirements.txt");
    let wanted = fs::read(&requirements).expect("the list of packages");
    let note = folder.join("installed");
    if fs::read(&note).ok() != Some(wanted.clone()) {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
        run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "--requirement"]).arg(&requirements));
        fs::write(&note, wanted).expect("a note of what is installed");
    }
    folder
}

fn run(command: &mut Command) {
    let name = format!("{command:?}");
    let output = command.output().unwrap_or_else(|error| panic!("{name}: {error}; python3 with venv is needed"));
    assert!(output.status.success(), "{name} failed: {}", String::from_utf8_lossy(&output.stderr));
}
