//! `ursula`: the one binary for people. Composes the tiers, and has no logic of its own.

mod backup;
mod cluster;
mod debug;
mod dev;
mod format;
mod log;
mod restore;
mod stream;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use ursula_common::cli;

use cluster::failure::Failure;
use cluster::output::Output;

/// Every append passes several threads, and the system's allocator makes them wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A server for append-only event streams over plain HTTP.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// End when this process ends, which started this one.
    #[arg(long, value_name = "PROCESS", hide = true)]
    end_with: Option<u32>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run both tiers in this process. This is what happens without a command.
    Dev(dev::Flags),
    /// Make a cluster, look at it, and change its nodes.
    Cluster(cluster::Arguments),
    /// Create, append to, read and follow streams at a gateway.
    Stream(stream::Arguments),
    /// Look at what a cluster has left in an object store.
    Backup(backup::Arguments),
    /// Restore a cluster from what it has left in an object store into a new one, which may have other nodes and groups.
    Restore(Box<restore::Flags>),
    /// Put load on a server that is up, and measure it.
    Bench(ursula_bench::Bench<ursula_bench::Load>),
    /// Write the completions of a shell to standard output.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Look at the log of a storage node, which may run or be damaged.
    Log(log::Arguments),
    /// Put together what belongs to a report about a cluster.
    Debug(debug::Arguments),
    /// Run a gateway: the same as the program ursula-gateway.
    Gateway(ursula_gateway::process::Arguments),
    /// Run a storage node: the same as the program ursula-storage-node.
    StorageNode(Box<ursula_storage_node::process::Arguments>),
}

fn main() -> ExitCode {
    let Arguments { end_with, command } = Arguments::parse();
    if end_with.is_some_and(|parent| !tie_to(parent)) {
        return ExitCode::FAILURE;
    }
    match command.unwrap_or_else(|| Command::Dev(dev::Flags::default())) {
        Command::Cluster(arguments) => cluster::run(&arguments),
        Command::Stream(arguments) => stream::run(&arguments),
        Command::Backup(arguments) => backup::run(&arguments),
        Command::Restore(flags) => restore::run(&flags),
        Command::Bench(bench) => measure(bench),
        Command::Completions { shell } => complete(shell),
        Command::Log(arguments) => log::run(&arguments),
        Command::Debug(arguments) => debug::run(&arguments),
        Command::Gateway(arguments) => ursula_gateway::process::run(&arguments),
        Command::StorageNode(arguments) => ursula_storage_node::process::run(&arguments),
        Command::Dev(flags) => cli::run("warn,openraft=error", || dev::run(&flags)),
    }
}

fn measure(bench: ursula_bench::Bench<ursula_bench::Load>) -> ExitCode {
    ursula_bench::run(bench).unwrap_or_else(|error| Output::new(false).failed(&Failure::refused(error.to_string())))
}

fn complete(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "ursula", &mut script);
    // Whoever reads may have gone.
    let _ = std::io::stdout().write_all(&script);
    ExitCode::SUCCESS
}

/// From now on this process ends when its parent does. False if that has happened already.
fn tie_to(parent: u32) -> bool {
    let tied = set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
    let known = getppid().and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
    tied && known == Some(parent)
}
