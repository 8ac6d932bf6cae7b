//! Simulates one seed in this process, or many in processes of their own.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use ursula_simulation::{Plan, Seeds, report, run_seeds};

/// Simulates clusters: faults, load, and a judge of everything. What happens follows from the seed.
#[derive(Debug, Parser)]
struct Arguments {
    /// The only seed, simulated in this process; or the first of many.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, each in a process of its own.
    #[arg(long)]
    count: Option<u64>,
    /// How many processes at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Ends with the first seed that fails.
    #[arg(long)]
    first: bool,
    /// Of one seed: prints the plan, the faults and what nodes say.
    #[arg(long, short)]
    verbose: bool,
    /// Of one seed: prints a fingerprint of everything that happens.
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let Arguments { seed, count, jobs, first, verbose, trace } = Arguments::parse();
    let mut out = std::io::stdout();
    let mut tell = |line: &str| drop(writeln!(out, "{line}").and_then(|()| out.flush()));
    let good = match count {
        Some(count) => run_seeds(&Seeds { first: seed, count, jobs, stop_at_first: first }, &mut tell).is_empty(),
        None => report(&Plan::of(seed), verbose, trace, &mut tell),
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
