//! `ursula`: the one binary for people. Composes the tiers, and has no logic of its own.

mod cluster;
mod dev;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Every append passes several threads, and the system's allocator makes them wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A server for append-only event streams over plain HTTP.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run both tiers in this process, in memory. This is what happens without a command.
    Dev(dev::Flags),
    /// Make a cluster, look at it, and change its nodes.
    Cluster(cluster::Arguments),
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let flags = match Arguments::parse().command {
        Some(Command::Cluster(arguments)) => return cluster::run(&arguments),
        Some(Command::Dev(flags)) => flags,
        None => dev::Flags::default(),
    };
    match dev::run(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

/// Tells the person at the terminal, whatever is logged.
#[expect(clippy::print_stderr, reason = "this is for the person at the terminal")]
fn complain(error: &dyn std::error::Error) {
    eprintln!("error: {error}");
}
