//! A gateway as a process: arguments, settings, signals.

use std::process::ExitCode;
use std::sync::Arc;

use tracing::info;
use ursula_common::cli::{self, ConfigFlags, Failure};
use ursula_common::clock::SystemClock;
use ursula_common::config;

use crate::{Gateway, GatewayConfig, GatewayFlags, Seed, serve};

/// What a process can be told on its command line.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFlags,
    #[command(flatten)]
    flags: GatewayFlags,
}

/// Serves until a signal comes.
pub fn run(Arguments { config, flags }: &Arguments) -> ExitCode {
    cli::run("info", || config.serve(|file| config::load(file, flags), serve_until_signal))
}

async fn serve_until_signal(settings: GatewayConfig) -> Result<(), Failure> {
    let listener = cli::bind(settings.listen).await?;
    let operations = cli::bind(settings.operations_listen).await?;
    let stop = cli::stop_signal()?;
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
        stop.await;
        info!("stopping");
    };
    Ok(serve(gateway, listener, operations, shutdown).await?)
}
