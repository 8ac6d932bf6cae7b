//! A storage node as a process: arguments, settings, signals.

use std::process::ExitCode;
use std::sync::Arc;

use tracing::info;
use ursula_common::cli::{self, ConfigFlags, Failure};
use ursula_common::clock::SystemClock;
use ursula_common::config;

use crate::{Formation, Node, NodeConfig, NodeFlags, serve};

/// What a process can be told on its command line.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFlags,
    #[command(flatten)]
    flags: NodeFlags,
}

/// Serves until a signal comes.
pub fn run(Arguments { config, flags }: &Arguments) -> ExitCode {
    cli::run("info,openraft=error", || config.serve(|file| config::load(file, flags), serve_until_signal))
}

async fn serve_until_signal(settings: NodeConfig) -> Result<(), Failure> {
    let listener = cli::bind(settings.listen).await?;
    let operations = cli::bind(settings.operations_listen).await?;
    let stop = cli::stop_signal()?;
    let formation = if settings.data_dir.is_some() { Formation::Member } else { Formation::Alone };
    let node = Node::start(&settings, formation, Arc::new(SystemClock)).await?;
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
