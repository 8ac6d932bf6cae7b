//! `ursula-gateway`: one gateway as a process.

use std::process::ExitCode;

use clap::Parser;
use ursula_gateway::process;

/// Every append passes several threads, and the system's allocator makes them wait for each other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Serves the Durable Streams Protocol over HTTP and forwards to storage nodes.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    process: process::Arguments,
}

fn main() -> ExitCode {
    process::run(&Arguments::parse().process)
}
