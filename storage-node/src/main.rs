//! `ursula-storage-node`: one storage node as a process.

use std::process::ExitCode;

use clap::Parser;
use ursula_storage_node::process;

/// Every append passes several threads, and the system's allocator makes them wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Stores streams: runs their Raft groups and serves gateways over gRPC.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    process: process::Arguments,
}

fn main() -> ExitCode {
    process::run(&Arguments::parse().process)
}
