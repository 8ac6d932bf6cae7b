//! A server that the bench starts and kills itself, on a directory of its own.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Error;
use crate::args::OwnServerArgs;
use crate::client::Connection;
use crate::target::Target;

/// How long a start may take.
const START_PATIENCE: Duration = Duration::from_secs(600);
/// How often a server that starts is asked whether it serves.
const READY_PAUSE: Duration = Duration::from_millis(5);
const BUFFER_BYTES: usize = 8 * 1024;
/// Those that a template may name.
const PORTS: usize = 3;

/// The server; killed, and its directory removed, when it is dropped.
pub(crate) struct OwnServer {
    command: Vec<String>,
    dir: PathBuf,
    ports: [u16; PORTS],
    authority: String,
    ready: Vec<u8>,
    child: Option<Child>,
}

impl OwnServer {
    /// Makes the directory; nothing runs yet.
    pub(crate) fn prepare(args: &OwnServerArgs) -> Result<OwnServer, Error> {
        let failed = |source| Error::Server { what: args.dir.display().to_string(), source };
        if args.dir.exists() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        fs::create_dir_all(&args.dir).map_err(failed)?;
        let dir = fs::canonicalize(&args.dir).map_err(failed)?;
        let ports = free_ports().map_err(failed)?;
        let command = args.server.split_whitespace().map(|word| fill_in(word, &dir, ports)).collect();
        let authority = format!("127.0.0.1:{}", ports[0]);
        let ready = format!("GET {} HTTP/1.1\r\nHost: {authority}\r\n\r\n", args.ready).into_bytes();
        Ok(OwnServer { command, dir, ports, authority, ready, child: None })
    }

    /// A template with its ports and its directory.
    pub(crate) fn fill_in(&self, template: &str) -> String {
        fill_in(template, &self.dir, self.ports)
    }

    /// The streams of the server.
    pub(crate) fn target(&self, root: &str) -> Target {
        Target::at(&self.authority, root)
    }

    /// Starts the server. Returns how long it took until it served.
    pub(crate) async fn start(&mut self) -> Result<Duration, Error> {
        let (program, arguments) =
            self.command.split_first().ok_or_else(|| self.failed(io::ErrorKind::NotFound.into()))?;
        let begin = Instant::now();
        let child = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child = child.map_err(|source| self.failed(source))?;
        let child = self.child.insert(child);
        while begin.elapsed() < START_PATIENCE {
            if child.try_wait()?.is_some() {
                break;
            }
            // A connection of its own each time: the server may listen before it serves.
            let mut connection = Connection::new(self.authority.as_str().into(), BUFFER_BYTES);
            if connection.exchange(&self.ready).await.is_ok_and(|head| head.status == 200) {
                return Ok(begin.elapsed());
            }
            sleep(READY_PAUSE).await;
        }
        Err(Error::Setup("the server ended, or does not serve".to_owned()))
    }

    /// The process that runs.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Kills the process, if one runs.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }

    /// Bytes in the files of the directory.
    pub(crate) fn dir_bytes(&self) -> io::Result<u64> {
        let mut bytes = 0;
        each_file(&self.dir, &mut |path| fs::metadata(path).map(|file| bytes += file.len()))?;
        Ok(bytes)
    }

    /// Lets the system forget what it has of the files in memory.
    pub(crate) fn forget_files(&self) -> io::Result<()> {
        each_file(&self.dir, &mut |path| {
            let file = fs::File::open(path)?;
            // What is not on disk yet stays in memory.
            file.sync_all()?;
            Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?)
        })
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Server { what: self.command.join(" "), source }
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // There is nobody to tell that either failed.
        let _ = self.kill();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Ports that nobody listens on. The first is that of clients.
fn free_ports() -> io::Result<[u16; PORTS]> {
    // Held together, so that they differ.
    let free = (0..PORTS).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<Vec<_>>>()?;
    let mut ports = [0; PORTS];
    for (port, free) in ports.iter_mut().zip(&free) {
        *port = free.local_addr()?.port();
    }
    Ok(ports)
}

fn fill_in(template: &str, dir: &Path, ports: [u16; PORTS]) -> String {
    let text = template.replace("{dir}", &dir.display().to_string()).replace("{port}", &ports[0].to_string());
    text.replace("{port2}", &ports[1].to_string()).replace("{port3}", &ports[2].to_string())
}

fn each_file(dir: &Path, visit: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { each_file(&path, visit)? } else { visit(&path)? }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
