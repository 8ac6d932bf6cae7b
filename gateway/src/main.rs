//! `ursula-gateway`: one gateway as a process.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use ursula_common::clock::SystemClock;
use ursula_common::config;
use ursula_gateway::{Gateway, GatewayConfig, GatewayFlags, Seed, serve};

/// Every append passes several threads, and the system's allocator makes them wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Serves the Durable Streams Protocol over HTTP and forwards to storage nodes.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Read settings from this TOML file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the settings and exit.
    #[arg(long)]
    check: bool,
    /// Print the settings that result from the file, the environment and the flags, and exit.
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    flags: GatewayFlags,
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the settings are what was asked for")]
fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let settings: GatewayConfig = config::load(arguments.config.as_deref(), &arguments.flags)?;
    if arguments.print_config {
        print!("{}", config::to_toml(&settings));
    }
    if arguments.check || arguments.print_config {
        return Ok(());
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve_until_signal(settings))
}

async fn serve_until_signal(settings: GatewayConfig) -> Result<(), Box<dyn Error>> {
    let bind = async |address| {
        TcpListener::bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}"))
    };
    let listener = bind(settings.listen).await?;
    let operations = bind(settings.operations_listen).await?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let seed = |name: &String| {
        let channel = ursula_proto::remote(name).map_err(|error| format!("{name} is not a host:port: {error}"))?;
        Ok::<_, String>(Seed { name: name.clone(), channel })
    };
    if settings.nodes.is_empty() {
        return Err("no storage node is named: set nodes, or give --node HOST:PORT".into());
    }
    let seeds = settings.nodes.iter().map(seed).collect::<Result<_, _>>()?;
    info!(
        listen = %listener.local_addr()?,
        operations = %operations.local_addr()?,
        nodes = settings.nodes.join(","),
        "gateway serving"
    );
    let gateway = Gateway::start(settings, seeds, Arc::new(SystemClock))?;
    let shutdown = async {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        info!("stopping");
    };
    Ok(serve(gateway, listener, operations, shutdown).await?)
}

/// Tells the person at the terminal, whatever is logged.
#[expect(clippy::print_stderr, reason = "this is for the person at the terminal")]
fn complain(error: &dyn std::error::Error) {
    eprintln!("error: {error}");
}
