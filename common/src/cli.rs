//! What every server binary does around its work: logs, settings, addresses, signals, and a word to the person at
//! the terminal when it fails.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{self, ConfigError, Settings};

/// Why a binary ends early; shown to the person at the terminal as it is.
pub type Failure = Box<dyn Error>;

/// Flags about the settings themselves.
#[derive(Debug, Default, clap::Args)]
pub struct ConfigFlags {
    /// Read settings from this TOML file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the settings and exit.
    #[arg(long)]
    check: bool,
    /// Print the settings that result from the file, the environment and the flags, and exit.
    #[arg(long)]
    print_config: bool,
}

impl ConfigFlags {
    /// The settings that `load` makes of the file; `None` if they were only to be checked or printed.
    ///
    /// # Errors
    /// Those of `load`.
    #[expect(clippy::print_stdout, reason = "the settings are what was asked for")]
    fn settings<S: Settings>(
        &self,
        load: impl FnOnce(Option<&Path>) -> Result<S, ConfigError>,
    ) -> Result<Option<S>, ConfigError> {
        let settings = load(self.config.as_deref())?;
        if self.print_config {
            print!("{}", config::to_toml(&settings));
        }
        Ok((!self.check && !self.print_config).then_some(settings))
    }

    /// Serves with the settings that `load` makes of the file, unless they were only to be checked or printed.
    ///
    /// # Errors
    /// Those of `load` and of the server.
    pub fn serve<S: Settings, W: Future<Output = Result<(), Failure>>>(
        &self,
        load: impl FnOnce(Option<&Path>) -> Result<S, ConfigError>,
        serve: impl FnOnce(S) -> W,
    ) -> Result<(), Failure> {
        match self.settings(load)? {
            Some(settings) => block_on(serve(settings)),
            None => Ok(()),
        }
    }
}

/// Runs a binary that logs to standard error what `filter` lets through, unless `RUST_LOG` says otherwise.
#[expect(clippy::print_stderr, reason = "this is for the person at the terminal, whatever is logged")]
pub fn run(filter: &str, work: impl FnOnce() -> Result<(), Failure>) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| filter.into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    use_small_pages();
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Memory has a budget, and large pages hold what nobody asked for: with them resident memory was a third more. A
/// system that has none refuses, which is as good.
fn use_small_pages() {
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Drives `server` on all processors.
///
/// # Errors
/// Those of `server`, or if the system refuses threads.
pub fn block_on(server: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(server)
}

/// Listens on an address.
///
/// # Errors
/// A sentence with the address and what to do.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    let hint = "choose another address, or stop the process that has it";
    TcpListener::bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}; {hint}"))
}

/// Is done when the process is asked to stop, by SIGTERM or SIGINT; these no longer end it from now on.
///
/// # Errors
/// If the system refuses handlers.
pub fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    })
}
