//! `ursula-storage-node`: one storage node as a process.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use tracing::info;
use ursula_common::cli::{self, ConfigFlags, Failure};
use ursula_common::clock::SystemClock;
use ursula_common::config;
use ursula_storage_node::{Node, NodeConfig, NodeFlags, serve};

/// Every append passes several threads, and the system's allocator makes them wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Stores streams: runs their Raft groups and serves gateways over gRPC.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    config: ConfigFlags,
    #[command(flatten)]
    flags: NodeFlags,
}

fn main() -> ExitCode {
    let Arguments { config, flags } = Arguments::parse();
    cli::run("info,openraft=error", || match config.settings(|file| config::load(file, &flags))? {
        Some(settings) => cli::block_on(serve_until_signal(settings)),
        None => Ok(()),
    })
}

async fn serve_until_signal(settings: NodeConfig) -> Result<(), Failure> {
    let listener = cli::bind(settings.listen).await?;
    let operations = cli::bind(settings.operations_listen).await?;
    let stop = cli::stop_signal()?;
    let node = Node::start(&settings, Arc::new(SystemClock)).await?;
    info!(
        listen = %listener.local_addr()?,
        operations = %operations.local_addr()?,
        "storage node ready; {}",
        if settings.data_dir.is_some() { "acknowledged is on disk" } else { "in memory: nothing survives a restart" }
    );
    let shutdown = async {
        stop.await;
        info!("stopping");
    };
    Ok(serve(node, listener, operations, shutdown).await?)
}
