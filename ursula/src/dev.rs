//! `ursula dev`: a gateway and a storage node in one process, in memory or with a data directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use ursula_common::cli::{self, ConfigFlags, Failure};
use ursula_common::clock::SystemClock;
use ursula_common::config::{self, Settings};
use ursula_gateway::{Gateway, GatewayConfig, Seed};
use ursula_storage_node::{Formation, Node, NodeConfig};

/// Settings of both tiers in one file: `[gateway]` and `[node]`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DevConfig {
    gateway: GatewayConfig,
    node: NodeConfig,
}

impl Settings for DevConfig {
    const ENV_PREFIX: &'static str = "URSULA_DEV_";

    fn check(&self) -> Result<(), String> {
        self.gateway.check()?;
        self.node.check()
    }
}

/// Flags of `ursula dev`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Flags {
    /// The file has a [gateway] and a [node] table.
    #[command(flatten)]
    config: ConfigFlags,
    /// Where clients are served.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where /metrics of the gateway is served.
    #[arg(long, value_name = "ADDRESS")]
    operations_listen: Option<SocketAddr>,
    /// Where /metrics of the storage node is served.
    #[arg(long, value_name = "ADDRESS")]
    node_operations_listen: Option<SocketAddr>,
    /// Base of the URLs in Location.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// How long a long poll waits for data.
    #[arg(long, value_name = "MS")]
    long_poll_timeout_ms: Option<u64>,
    /// Keep everything in this directory, across restarts and crashes. Without it everything is in memory.
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    /// Where the history of streams goes: local (the folder `store` of the data directory, which is the default), none,
    /// file:///DIRECTORY, s3://BUCKET or s3://BUCKET/PREFIX.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Threads that own groups of streams.
    #[arg(long)]
    cores: Option<usize>,
    /// Memory for the bytes of streams.
    #[arg(long, value_name = "BYTES")]
    ring_bytes: Option<usize>,
}

/// The flags of this command are not keys: they choose the tier.
#[derive(Serialize)]
struct NoKeys {}

/// Serves until a signal comes.
pub(crate) fn run(flags: &Flags) -> Result<(), Failure> {
    flags.config.serve(|file| settings(flags, file), serve)
}

fn settings(flags: &Flags, file: Option<&Path>) -> Result<DevConfig, config::ConfigError> {
    let mut settings: DevConfig = config::read(file, &NoKeys {})?;
    let DevConfig { gateway, node } = &mut settings;
    set(&mut gateway.listen, flags.listen);
    set(&mut gateway.operations_listen, flags.operations_listen);
    set(&mut gateway.public_url, flags.public_url.clone().map(Some));
    set(&mut gateway.long_poll_timeout_ms, flags.long_poll_timeout_ms);
    set(&mut node.operations_listen, flags.node_operations_listen);
    set(&mut node.data_dir, flags.data_dir.clone().map(Some));
    set(&mut node.store, flags.store.clone().map(Some));
    set(&mut node.cores, flags.cores);
    set(&mut node.ring_bytes, flags.ring_bytes);
    if node.data_dir.is_some() {
        node.store.get_or_insert_with(|| NodeConfig::STORE_LOCAL.to_owned());
    }
    settings.check().map_err(config::ConfigError::Rule)?;
    Ok(settings)
}

fn set<T>(setting: &mut T, flag: Option<T>) {
    if let Some(flag) = flag {
        *setting = flag;
    }
}

async fn serve(settings: DevConfig) -> Result<(), Failure> {
    let DevConfig { gateway: gateway_settings, node: node_settings } = settings;
    let listener = cli::bind(gateway_settings.listen).await?;
    let gateway_operations = cli::bind(gateway_settings.operations_listen).await?;
    let node_operations = cli::bind(node_settings.operations_listen).await?;
    let stop = cli::stop_signal()?;
    let clock = Arc::new(SystemClock);
    let node = Node::start(&node_settings, Formation::Alone, clock.clone()).await?;
    let seed = Seed { name: "this process".to_owned(), channel: node.channel() };
    let gateway = Gateway::start(gateway_settings, vec![seed], clock)?;
    let addresses = [listener.local_addr()?, gateway_operations.local_addr()?, node_operations.local_addr()?];
    say(&banner(addresses, &node_settings));
    let node_operations = tokio::spawn(ursula_storage_node::serve_operations(node.clone(), node_operations));
    let shutdown = async {
        tokio::select! { () = stop => {}, () = node.log_failed() => {} }
    };
    ursula_gateway::serve(gateway, listener, gateway_operations, shutdown).await?;
    node_operations.abort();
    Ok(node.stop().await?)
}

fn banner([public, gateway, node]: [SocketAddr; 3], settings: &NodeConfig) -> String {
    let promise = match &settings.data_dir {
        Some(dir) => {
            let dir = dir.display();
            let history = match settings.store.as_deref() {
                None | Some(NodeConfig::STORE_NONE) => "stays there".to_owned(),
                Some(NodeConfig::STORE_LOCAL) => format!("goes to {dir}/store"),
                Some(store) => format!("goes to {store}"),
            };
            format!("kept in {dir}: what is acknowledged is on disk; history {history}")
        }
        None => "in memory: nothing survives a restart (--data-dir keeps it)".to_owned(),
    };
    let stream = format!("http://{public}/v1/stream/hello");
    format!(
        "\
Ursula serves streams on http://{public}
{promise}

Try it:
  curl -i -X PUT {stream} -H 'Content-Type: text/plain'
  curl -i -X POST {stream} -H 'Content-Type: text/plain' -d 'first event'
  curl -i {stream}
and in a second terminal, to follow it live:
  curl -N '{stream}?offset=-1&live=sse'

Metrics: http://{gateway}/metrics (gateway), http://{node}/metrics (storage node)
"
    )
}

#[expect(clippy::print_stdout, reason = "this is for the person at the terminal")]
fn say(text: &str) {
    print!("{text}");
    // A closed pipe must not stop the server.
    let _ = std::io::Write::flush(&mut std::io::stdout());
}
