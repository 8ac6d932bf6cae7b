//! moto: a server of S3's protocol in Python, which shares no code with ours. `tests/py/requirements.txt` names its
//! packages; they are installed below `target` when a test wants them first.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::dies_with_us;
use crate::{Http, Process, program};

/// A running server with an empty bucket. It keeps objects in memory, and lets everybody in.
#[derive(Debug)]
pub struct Moto {
    endpoint: String,
    _process: Process,
}

impl Moto {
    /// The one bucket that is there.
    pub const BUCKET: &str = "bucket";

    /// Starts a server.
    ///
    /// # Panics
    /// If python3 with venv and pip is missing, or its packages cannot be had.
    pub fn start() -> Moto {
        let mut command = dies_with_us(installed().join("bin/moto_server"));
        command.args(["-H", "127.0.0.1", "-p", "0"]);
        let process = Process::spawn("moto", command);
        let line = process.line_with("Running on http://");
        let endpoint = line.split_whitespace().last().expect("an address").to_owned();
        let created = Http::connect(&endpoint).request("PUT", &format!("/{}", Moto::BUCKET), &[], "");
        assert_eq!(created.status, 200, "{}", created.text());
        Moto { endpoint, _process: process }
    }

    /// Where it listens, as `http://HOST:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

/// The folder of the installed packages: those that the file names, now.
fn installed() -> PathBuf {
    let target = program("").parent().expect("the folder of all profiles").to_owned();
    let folder = target.join("moto");
    let lock = File::create(target.join("moto.lock")).expect("a lock file");
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
