//! `ursula log`: looks at the log of a storage node. Only reads, also while the node runs, and goes on where the node
//! would refuse to start.

mod dump;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::format::Format;

/// Arguments of `ursula log`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print every record of the log of a node and what is wrong with it. The node may run.
    ///
    /// Exit codes: 0 nothing is wrong, 1 it could not be read, 3 something is damaged, missing or foreign.
    Dump {
        /// The data directory of the node.
        #[arg(value_name = "DIRECTORY")]
        dir: PathBuf,
        /// How to print it. With json, one object on each line, the last one a summary.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        output: Format,
        /// Only say what is wrong, and the summary.
        #[arg(long)]
        summary: bool,
    },
}

/// Runs a command: 0 if nothing is wrong, 1 if that could not be found out, 3 if something is.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let Command::Dump { dir, output, summary } = &arguments.command;
    dump::run(dir, *output == Format::Json, *summary)
}
