//! The command line of the load generator. Everything else is in the library.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use ursula_bench::Bench;

#[derive(Debug, Parser)]
#[command(name = "ursula-bench", version)]
struct Cli {
    #[command(flatten)]
    bench: Bench,
}

fn main() -> ExitCode {
    ursula_bench::run(Cli::parse().bench).unwrap_or_else(|error| {
        // There is nobody left to tell if this fails.
        let _ = writeln!(std::io::stderr(), "error: {error}");
        ExitCode::from(2)
    })
}
