//! A load generator for servers of the Durable Streams protocol: appends, SSE fan-out, creation, catch-up, also
//! of what has left the machine, restart, memory.
//!
//! Knows the protocol from outside only, so that it measures any server in the same way; depends on no other
//! crate of this project. It shares the machine with the server, so it does as little as it can per request.

mod append;
mod args;
mod catchup;
mod client;
mod cold;
mod create;
mod fill;
mod memory;
mod own;
mod pace;
mod procfs;
mod report;
mod response;
mod restart;
mod sse;
mod target;

use std::io::{self, Write as _};
use std::process::ExitCode;

use args::Output;
pub use args::{Bench, Command, Load};
use clap::Subcommand;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not one of plain HTTP.
    #[error("the address must look like http://host:port")]
    Url,
    /// A connection failed.
    #[error("connection: {0}")]
    Io(#[from] io::Error),
    /// The server sent something that is not HTTP/1.1.
    #[error(transparent)]
    Response(#[from] Malformed),
    /// The server sent more headers than are reasonable.
    #[error("the head of a response is too long")]
    HeadTooLong,
    /// The server refused a request that the run cannot do without.
    #[error("the server answered {0} to a request that the run cannot do without")]
    Status(u16),
    /// The run could not be prepared.
    #[error("the preparations did not succeed in time: {0}")]
    Setup(String),
    /// The server cannot be started, or its directory cannot be used.
    #[error("{what}: {source}")]
    Server {
        /// Its command, or the directory.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A process of the server cannot be looked at.
    #[error("{path}: {source}")]
    Process {
        /// The file.
        path: String,
        /// Why it could not be read.
        source: io::Error,
    },
    /// The kernel describes a process in an unknown way.
    #[error("process {0} has no readable CPU time or memory")]
    ProcessFormat(String),
}

pub use response::Malformed;

/// Runs one bench and prints its result. The exit code is 1 if the server did not do what was asked of it.
///
/// # Errors
/// When there is no result to print.
pub fn run(bench: Bench<impl Subcommand + Into<Command>>) -> Result<ExitCode, Error> {
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(bench.threads).enable_all().build()?;
    let report = runtime.block_on(async {
        match bench.command.into() {
            Command::Load(Load::Append(args)) => append::run(args).await,
            Command::Load(Load::Sse(args)) => sse::run(args).await,
            Command::Load(Load::Create(args)) => create::run(args).await,
            Command::Load(Load::Catchup(args)) => catchup::run(args).await,
            Command::Restart(args) => restart::run(args).await,
            Command::Memory(args) => memory::run(args).await,
            Command::Cold(args) => cold::run(args).await,
        }
    })?;
    runtime.shutdown_background();
    let text = match bench.output {
        Output::Table => report.table(),
        Output::Json => report.json(),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if report.good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A thousand readers need more open files than most shells allow. Where the limit cannot be raised, the run
/// says so itself when a connection fails.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
