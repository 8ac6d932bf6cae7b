//! One program of this workspace as a child process: its output, signals and end.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::{PATIENCE, eventually};

/// The most lines of output that are kept of a process; the oldest go first.
const LINES_MAX: usize = 20_000;

/// A running program. Killed when it is dropped; its output is printed if the test is failing.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    child: Mutex<Child>,
    output: Arc<Mutex<Vec<String>>>,
}

/// The path of a program of this workspace, which the test command has built before.
///
/// # Panics
/// If it is not there.
pub fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("a program knows where it is");
    // Programs lie in target/<profile>, tests in target/<profile>/deps.
    let folder = this.parent().expect("a program lies in a folder");
    let profile = if folder.ends_with("deps") { folder.parent().expect("the profile") } else { folder };
    let program = profile.join(name);
    assert!(program.exists(), "{} is not there: build it with `cargo build --workspace --bins`", program.display());
    program
}

/// Runs a program of this workspace to its end, which `timeout` brings about if it serves instead of ending;
/// see [`Process::start`].
///
/// # Panics
/// If it cannot be started.
pub fn run<A: AsRef<OsStr>>(name: &str, args: &[A], env: &[(&str, &str)]) -> Output {
    let mut timeout = clean(Command::new("timeout"));
    timeout.arg(PATIENCE.as_secs().to_string()).arg(program(name)).args(args).envs(env.iter().copied());
    timeout.output().unwrap_or_else(|error| panic!("{name} does not start: {error}"))
}

/// A command that runs a program of this workspace and dies with the thread that spawns it, whatever ends that:
/// also where nothing is cleaned up. Settings in the environment do not reach it.
pub(crate) fn tied(name: &str) -> Command {
    clean(dies_with_us(program(name)))
}

/// The same for any program, with the environment as it is.
pub(crate) fn dies_with_us(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Without settings from the environment of the test.
fn clean(mut command: Command) -> Command {
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("URSULA_") {
            command.env_remove(key);
        }
    }
    command.env("NO_COLOR", "1").env("RUST_LOG", "info,openraft=warn").stdin(Stdio::null());
    command
}

impl Process {
    /// Starts a program of this workspace with these arguments and variables. Settings in the environment
    /// of the test do not reach it.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start<A: AsRef<OsStr>>(name: &str, args: &[A], env: &[(&str, &str)]) -> Process {
        let mut command = clean(Command::new(program(name)));
        command.args(args).envs(env.iter().copied());
        Process::spawn(name, command)
    }

    /// Starts any command; `name` is what messages call it.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn spawn(name: &str, mut command: Command) -> Process {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let output = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take().expect("piped"), output.clone());
        collect(child.stderr.take().expect("piped"), output.clone());
        let pid = Pid::from_child(&child);
        Process { name: name.to_owned(), pid, child: Mutex::new(child), output }
    }

    /// Its id, for tools that look at processes.
    pub fn id(&self) -> u32 {
        self.child().id()
    }

    /// Everything it has written to standard output and standard error so far.
    pub fn output(&self) -> String {
        self.lines().join("\n")
    }

    /// Waits for a line that holds `marker`, and returns it.
    ///
    /// # Panics
    /// If the process ends before, or the line does not come.
    pub fn line_with(&self, marker: &str) -> String {
        eventually(&format!("{marker:?} in the output of {}", self.name), || {
            let ended = self.try_wait();
            let found = self.lines().iter().find(|line| line.contains(marker)).cloned();
            if let (None, Some(status)) = (&found, ended) {
                panic!("{} ended with {status} before it said {marker:?}:\n{}", self.name, self.output());
            }
            found
        })
    }

    /// SIGKILL: it is gone at once and cleans up nothing. Returns when it is gone.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// SIGKILL, without waiting for its end.
    pub fn kill_soon(&self) {
        self.signal(Signal::KILL);
    }

    /// SIGTERM: it is asked to stop.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGINT, as from Ctrl-C: it is asked to stop.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// SIGSTOP: it stands still, and its connections stay open. Returns when all its threads stand still.
    ///
    /// # Panics
    /// If it has ended.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        waitid(WaitId::Pid(self.pid), WaitIdOptions::STOPPED).expect("a child that was told to stop stops");
    }

    /// SIGCONT: it goes on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// How it ended, if it has.
    pub fn try_wait(&self) -> Option<ExitStatus> {
        self.child().try_wait().expect("a child can be waited for")
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not come.
    pub fn wait(&self) -> ExitStatus {
        eventually(&format!("the end of {}", self.name), || self.try_wait())
    }

    fn signal(&self, signal: Signal) {
        // Under the lock, and only before its end was seen: until then its id cannot belong to another.
        let mut child = self.child();
        if child.try_wait().expect("a child can be waited for").is_none() {
            kill_process(self.pid, signal).expect("a child takes signals");
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    #[expect(clippy::print_stdout, reason = "what the test runner shows of a failed test")]
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        // Not `wait`, which may panic: a process that was sent SIGKILL ends.
        let _ = self.child().wait();
        if thread::panicking() {
            println!("--- output of {} ---\n{}\n---", self.name, self.output());
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the output of a process is read while the test goes on")]
fn collect(pipe: impl Read + Send + 'static, output: Arc<Mutex<Vec<String>>>) {
    let read = move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).into_owned();
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            if output.len() == LINES_MAX {
                output.drain(..LINES_MAX / 2);
            }
            output.push(line);
        }
    };
    thread::Builder::new().name("output".to_owned()).spawn(read).expect("a thread for output");
}
