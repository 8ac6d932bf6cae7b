//! The command line of the soak test. Everything else is in the library.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use ursula_soak::{Kind, LoadOptions, RunOptions, run};
use ursula_tests::Options;

/// Writes to a cluster of real processes, hurts it, and judges everything that it answers.
#[derive(Debug, Parser)]
#[command(name = "ursula-soak", version)]
struct Cli {
    /// Go on until so many appends are acknowledged.
    #[arg(long, default_value_t = 0)]
    appends: u64,
    /// Go on until there were so many faults.
    #[arg(long, default_value_t = 0)]
    faults: usize,
    /// Go on for so long; with --appends or --faults, fail if they take longer.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Makes the schedule of faults and the choices of the load.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kinds of faults; all that fit the cluster without it, and "none" for none.
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<String>,
    /// Storage nodes; with 0, and one gateway, a single process that is both.
    #[arg(long, default_value_t = 3)]
    nodes: u32,
    /// Gateways.
    #[arg(long, default_value_t = 2)]
    gateways: u32,
    /// In memory, on one storage node or in a single process.
    #[arg(long)]
    in_memory: bool,
    /// No disk that can fill up and fail, for which the right to mount is needed.
    #[arg(long)]
    no_disk: bool,
    /// Appends a second, at most.
    #[arg(long)]
    rate: Option<f64>,
    /// Streams that are written to at the same time.
    #[arg(long, default_value_t = LoadOptions::default().slots)]
    streams: usize,
    /// Connections that append.
    #[arg(long, default_value_t = LoadOptions::default().writers)]
    writers: usize,
    /// A stream of so many records is closed, read whole, and followed by a new one.
    #[arg(long, default_value_t = LoadOptions::default().records_max)]
    records: usize,
    /// Connections that create, fork, close and delete streams of short lives.
    #[arg(long, default_value_t = LoadOptions::default().lives)]
    lives: usize,
    /// Connections that trim streams and publish their snapshots.
    #[arg(long, default_value_t = LoadOptions::default().keepers)]
    keepers: usize,
    /// Live readers.
    #[arg(long, default_value_t = LoadOptions::default().followers)]
    followers: usize,
    /// A further flag of each storage node.
    #[arg(long, allow_hyphen_values = true)]
    node_flag: Vec<String>,
    /// A further flag of each gateway.
    #[arg(long, allow_hyphen_values = true)]
    gateway_flag: Vec<String>,
    /// Where the output of the processes is left if something is wrong.
    #[arg(long, default_value = "target/soak")]
    logs: PathBuf,
    /// How to print the result; how it goes is printed on standard error.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Lines for people.
    Text,
    /// One object on one line.
    Json,
}

/// Of the data disk that can fail, and how much of it appends leave free: the default is meant for larger ones.
const DISK_BYTES: u64 = 2 << 30;
const DISK_RESERVE_BYTES: u64 = 256 << 20;
/// Set once mounts are private.
const PRIVATE: &str = "SOAK_MOUNTS_ARE_PRIVATE";

fn main() -> ExitCode {
    let cli = Cli::parse();
    let say = |line: &str| {
        // There is nobody left to tell if this fails.
        let _ = writeln!(std::io::stderr(), "{line}");
    };
    let kinds = match cli.kinds.as_slice() {
        [] => Ok(Kind::ALL.to_vec()),
        [none] if none == "none" => Ok(Vec::new()),
        names => names.iter().map(|name| Kind::parse(name)).collect(),
    };
    let kinds = match kinds {
        Ok(kinds) => kinds,
        Err(error) => {
            say(&format!("error: --kinds: {error}"));
            return ExitCode::from(2);
        }
    };
    let wants_disk = !cli.no_disk && !cli.in_memory && kinds.iter().any(|kind| kind.needs_disk());
    let can_mount = wants_disk && make_mounts_private(&say);
    let mut node_flags = cli.node_flag;
    if can_mount {
        node_flags.extend(["--disk-reserve-bytes".to_owned(), DISK_RESERVE_BYTES.to_string()]);
    }
    let options = RunOptions {
        cluster: Options {
            nodes: if cli.in_memory { cli.nodes.min(1) } else { cli.nodes },
            gateways: if cli.nodes == 0 { 1 } else { cli.gateways },
            durable: !cli.in_memory,
            disk_bytes: can_mount.then_some(DISK_BYTES),
            node_flags,
            gateway_flags: cli.gateway_flag,
            ..Options::default()
        },
        load: LoadOptions {
            seed: cli.seed,
            slots: cli.streams,
            writers: cli.writers,
            followers: cli.followers,
            lives: cli.lives,
            keepers: cli.keepers,
            records_max: cli.records,
            rate: cli.rate,
            ..LoadOptions::default()
        },
        kinds,
        fatal: false,
        appends: cli.appends,
        faults: cli.faults,
        time: Duration::from_secs_f64(cli.minutes * 60.0),
        logs: Some(cli.logs),
    };
    let report = match run(options, &mut |line| say(line)) {
        Ok(report) => report,
        Err(error) => {
            say(&format!("error: {error}"));
            return ExitCode::from(2);
        }
    };
    let text = match cli.output {
        Output::Text => report.text(),
        Output::Json => format!("{}\n", report.json()),
    };
    let printed = std::io::stdout().write_all(text.as_bytes()).is_ok();
    if report.good && printed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Begins again in a mount namespace of its own, so that mounts end with the last process, however it ends. False if
/// that is not allowed here.
fn make_mounts_private(say: &impl Fn(&str)) -> bool {
    if std::env::var_os(PRIVATE).is_some() {
        return true;
    }
    let allowed =
        Command::new("unshare").args(["--mount", "true"]).output().is_ok_and(|output| output.status.success());
    if let (true, Ok(this)) = (allowed, std::env::current_exe()) {
        let mut again = Command::new("unshare");
        again.args(["--mount", "--propagation", "private", "--"]).arg(this).args(std::env::args_os().skip(1));
        say(&format!("unshare: {}", again.env(PRIVATE, "1").exec()));
    }
    say("no right to mount: no faults of the disk");
    false
}
