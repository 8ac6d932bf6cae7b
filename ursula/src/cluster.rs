//! `ursula cluster`: the commands of operators. They speak to the admin service of the nodes, say what they
//! are about, and wait until it is done.

pub(crate) mod change;
mod checks;
pub(crate) mod failure;
mod init;
mod local;
mod nodes;
pub(crate) mod output;
pub(crate) mod paint;
mod repair;
pub(crate) mod status;
pub(crate) mod view;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use ursula_common::{NodeId, cli};

use failure::Failure;
use output::Output;

use crate::format::Format;

/// Arguments of `ursula cluster`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run three storage nodes and two gateways as processes of this machine, to try a cluster and to break it.
    Local(local::Flags),
    #[command(flatten)]
    Operate(Operation),
}

#[derive(Debug, Subcommand)]
enum Operation {
    /// Make a cluster of nodes that run and belong to none. Run again, it goes on where it stopped.
    Init {
        /// A node: its id, and the address where the others and the gateways reach it. Once for each.
        #[arg(long = "node", value_name = "ID=HOST:PORT", required = true)]
        nodes: Vec<NodeAt>,
        /// Groups that hold streams; the nodes must be set up for as many.
        #[arg(long)]
        groups: Option<u32>,
        #[command(flatten)]
        change: ChangeFlags,
    },
    /// Show nodes and groups, who leads what, how far behind, and what is under way.
    Status {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        flags: status::Flags,
        #[command(flatten)]
        common: CommonFlags,
    },
    /// Add a node that runs and belongs to no cluster, and give it its share of the groups.
    AddNode {
        /// Its id, and the address where the others and the gateways reach it.
        #[arg(long, value_name = "ID=HOST:PORT")]
        node: NodeAt,
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        change: ChangeFlags,
    },
    /// Move the groups of a node to the others and take it out for ever. It may be dead.
    RemoveNode {
        /// Its id.
        node: u64,
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        change: ChangeFlags,
    },
    /// Put a new node in the place of another one, which is taken out for ever. That one may be dead.
    ReplaceNode {
        /// The node that goes.
        old: u64,
        /// The node that comes: its id, and its address.
        #[arg(long, value_name = "ID=HOST:PORT")]
        node: NodeAt,
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        change: ChangeFlags,
    },
    /// Make the replicas anew that a node refuses because they are damaged, from those of the other nodes.
    Repair {
        /// Its id.
        node: u64,
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        change: ChangeFlags,
    },
    /// Move the leaders away from a node before it is restarted. It keeps its replicas.
    Drain {
        /// Its id.
        node: u64,
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        change: ChangeFlags,
    },
    /// Let a node lead again after `drain`.
    Undrain {
        /// Its id.
        node: u64,
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        change: ChangeFlags,
    },
}

/// Which node is asked.
#[derive(Debug, Clone, Args)]
struct At {
    /// The gRPC listener of any node of the cluster.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4438")]
    address: String,
}

/// Flags of all commands.
#[derive(Debug, Clone, Args)]
struct CommonFlags {
    /// How to say what came of it. With json, one object on standard output; progress goes to standard error.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// Flags of commands that change something.
#[derive(Debug, Clone, Args)]
struct ChangeFlags {
    /// Check everything and say what would be done, but do nothing.
    #[arg(long)]
    dry_run: bool,
    /// How long to wait until it is done. What has begun goes on after that.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    #[command(flatten)]
    common: CommonFlags,
}

/// `ID=HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NodeAt {
    id: NodeId,
    address: String,
}

impl std::str::FromStr for NodeAt {
    type Err = String;

    fn from_str(text: &str) -> Result<NodeAt, String> {
        let wrong = || format!("{text:?} is not ID=HOST:PORT, such as 1=node-1.example:4438");
        let (id, address) = text.split_once('=').ok_or_else(wrong)?;
        let id = id.parse().ok().filter(|id| *id > 0).ok_or_else(wrong)?;
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
        if !port.is_some_and(|port| port.is_ok_and(|port| port > 0)) {
            return Err(wrong());
        }
        Ok(NodeAt { id: NodeId(id), address: address.to_owned() })
    }
}

/// Runs a command: 0 if it is done, 1 if it is refused or has failed, 3 if it is not done in time.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let operation = match &arguments.command {
        Command::Local(flags) => return cli::run("warn", || cli::block_on(local::run(flags))),
        Command::Operate(operation) => operation,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Output::new(false).failed(&Failure::refused(error.to_string())),
    };
    let output = Output::new(operation.common().output == Format::Json);
    match runtime.block_on(dispatch(operation, &output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.failed(&failure),
    }
}

async fn dispatch(command: &Operation, output: &Output) -> Result<(), Failure> {
    let worker =
        |change: &ChangeFlags| change::Worker::new(output, change.dry_run, Duration::from_secs(change.timeout));
    match command {
        Operation::Init { nodes, groups, change } => init::init(&worker(change), nodes, *groups).await,
        Operation::Status { at, flags, .. } => status::status(output, &at.address, flags).await,
        Operation::AddNode { node, at, change } => nodes::add(&worker(change), &at.address, node).await,
        Operation::RemoveNode { node, at, change } => nodes::remove(&worker(change), &at.address, NodeId(*node)).await,
        Operation::ReplaceNode { old, node, at, change } => {
            nodes::replace(&worker(change), &at.address, NodeId(*old), node).await
        }
        Operation::Repair { node, at, change } => repair::repair(&worker(change), &at.address, NodeId(*node)).await,
        Operation::Drain { node, at, change } => nodes::drain(&worker(change), &at.address, NodeId(*node)).await,
        Operation::Undrain { node, at, change } => nodes::undrain(&worker(change), &at.address, NodeId(*node)).await,
    }
}

impl Operation {
    fn common(&self) -> &CommonFlags {
        match self {
            Operation::Status { common, .. } => common,
            Operation::Init { change, .. }
            | Operation::AddNode { change, .. }
            | Operation::RemoveNode { change, .. }
            | Operation::ReplaceNode { change, .. }
            | Operation::Repair { change, .. }
            | Operation::Drain { change, .. }
            | Operation::Undrain { change, .. } => &change.common,
        }
    }
}

#[cfg(test)]
mod tests;
