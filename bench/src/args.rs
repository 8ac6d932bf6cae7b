//! The command line: what to load, how hard, and for how long.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

/// Puts load on a Durable Streams server and measures it: in all ways, or only in those of [`Load`].
#[derive(Debug, Args)]
pub struct Bench<C: Subcommand = Command> {
    #[command(subcommand)]
    pub(crate) command: C,
    /// How to print the result.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// Threads of the load generator; more than one only where the machine has cores to spare.
    #[arg(long, global = true, default_value_t = 1, value_parser = positive)]
    pub(crate) threads: usize,
}

/// Load on a server that is up.
#[derive(Debug, Subcommand)]
#[expect(private_interfaces, reason = "what stands in them is between the command line and this crate")]
pub enum Load {
    /// Appends to many streams over a fixed number of connections.
    Append(AppendArgs),
    /// Delivers events of a few streams to many SSE readers.
    Sse(SseArgs),
    /// Creates streams as fast as possible, and weighs them.
    Create(CreateArgs),
    /// Writes one long stream, then reads it from its start.
    Catchup(CatchupArgs),
}

/// All ways, those included that start a server themselves.
#[derive(Debug, Subcommand)]
#[expect(private_interfaces, reason = "what stands in them is between the command line and this crate")]
pub enum Command {
    /// On a server that is up.
    #[command(flatten)]
    Load(Load),
    /// Fills a server that it starts itself, kills it, and sees how long it takes until it serves again.
    Restart(RestartArgs),
    /// Lets bytes pass through a server that it starts itself, and holds its memory to a bound.
    Memory(MemoryArgs),
    /// Reads a long stream that has left a server which it starts itself, beside a plain GET of the objects that have it.
    Cold(ColdArgs),
}

impl From<Load> for Command {
    fn from(load: Load) -> Command {
        Command::Load(load)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// One line a figure, for people.
    Table,
    /// One object on one line, for programs.
    Json,
}

/// The server under load.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Where the server listens: http://host:port
    #[arg(long)]
    pub(crate) url: String,
    /// The path that streams lie under.
    #[arg(long, default_value = "/v1/stream")]
    pub(crate) root: String,
    /// Create the bucket that --root names first.
    #[arg(long)]
    pub(crate) create_bucket: bool,
    /// The server's processes, for CPU time and memory.
    #[arg(long, value_delimiter = ',', value_name = "PID")]
    pub(crate) server_pid: Vec<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct AppendArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Streams to append to, in turn.
    #[arg(long, default_value_t = 500, value_parser = positive)]
    pub(crate) streams: usize,
    /// Connections; each has one append in flight.
    #[arg(long, default_value_t = 64, value_parser = positive)]
    pub(crate) connections: usize,
    /// Size of an append.
    #[arg(long, default_value = "256", value_parser = size)]
    pub(crate) bytes: usize,
    /// How long to measure.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// How long to load the server before measuring.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub(crate) warmup: Duration,
    /// Appends a second, whatever the server does; without it every connection goes as fast as it can.
    #[arg(long, value_parser = rate)]
    pub(crate) rate: Option<f64>,
}

#[derive(Debug, Args)]
pub(crate) struct SseArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Streams; readers are spread over them.
    #[arg(long, default_value_t = 1, value_parser = positive)]
    pub(crate) streams: usize,
    /// SSE connections.
    #[arg(long, default_value_t = 1000, value_parser = positive)]
    pub(crate) readers: usize,
    /// Appends a second, all streams together.
    #[arg(long, default_value = "20", value_parser = rate)]
    pub(crate) rate: f64,
    /// Size of an event, at least 40.
    #[arg(long, default_value = "256", value_parser = size)]
    pub(crate) bytes: usize,
    /// How long to measure.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// How long to load the server before measuring.
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub(crate) warmup: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Streams to create.
    #[arg(long, default_value_t = 100_000, value_parser = positive)]
    pub(crate) streams: usize,
    /// Connections; each has one request in flight.
    #[arg(long, default_value_t = 32, value_parser = positive)]
    pub(crate) connections: usize,
    /// How long to wait before the server's memory is looked at.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub(crate) settle: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct CatchupArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Size of the stream.
    #[arg(long, default_value = "64MiB", value_parser = size)]
    pub(crate) bytes_total: usize,
    /// Size of each append that writes it.
    #[arg(long, default_value = "64KiB", value_parser = size)]
    pub(crate) append_bytes: usize,
    /// Readers at the same time, each of the whole stream.
    #[arg(long, default_value_t = 1, value_parser = positive)]
    pub(crate) readers: usize,
}

/// A server that the bench starts, on a directory that it removes at the end.
#[derive(Debug, Args)]
pub(crate) struct OwnServerArgs {
    /// The command, which must stay in the foreground: {dir} becomes the directory, {port}, {port2} and {port3}
    /// free ports.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) server: String,
    /// A directory on the disk to measure, which must not be there yet.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Where the server says with 200 that it serves.
    #[arg(long, default_value = "/ready")]
    pub(crate) ready: String,
    /// The path that streams lie under.
    #[arg(long, default_value = "/v1/stream")]
    pub(crate) root: String,
}

/// What is written.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct FillArgs {
    /// Streams to append to, in turn.
    #[arg(long, default_value_t = 100_000, value_parser = positive)]
    pub(crate) streams: usize,
    /// Connections; each has one append in flight.
    #[arg(long, default_value_t = 64, value_parser = positive)]
    pub(crate) connections: usize,
    /// Size of an append.
    #[arg(long, default_value = "1KiB", value_parser = size)]
    pub(crate) bytes: usize,
    /// Bytes to append, all streams together.
    #[arg(long, default_value = "1GiB", value_parser = size)]
    pub(crate) total: usize,
    /// A stream that has got so many bytes is deleted, and another one takes its place.
    #[arg(long, value_parser = size)]
    pub(crate) stream_bytes: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    pub(crate) server: OwnServerArgs,
    #[command(flatten)]
    pub(crate) fill: FillArgs,
    /// How often it is killed with its files in memory, and once more with none of them.
    #[arg(long, default_value_t = 3, value_parser = positive)]
    pub(crate) rounds: usize,
    /// The longest that a restart may take.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) limit: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct MemoryArgs {
    #[command(flatten)]
    pub(crate) server: OwnServerArgs,
    #[command(flatten)]
    pub(crate) fill: FillArgs,
    /// Readers that read random streams from their start, as long as bytes are written.
    #[arg(long, default_value_t = 2)]
    pub(crate) readers: usize,
    /// Resident memory that the server may have: what it was told to use for bytes, and its caches.
    #[arg(long, value_parser = size)]
    pub(crate) budget: usize,
    /// And so many bytes more for each stream.
    #[arg(long, default_value_t = 400, value_parser = positive)]
    pub(crate) stream_budget: usize,
}

#[derive(Debug, Args)]
pub(crate) struct ColdArgs {
    #[command(flatten)]
    pub(crate) server: OwnServerArgs,
    /// Size of the stream.
    #[arg(long, default_value = "1GiB", value_parser = size)]
    pub(crate) total: usize,
    /// Size of each append that writes it.
    #[arg(long, default_value = "64KiB", value_parser = size)]
    pub(crate) bytes: usize,
    /// A command of the shell that succeeds once the bytes have left; it may name ports as the server does.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) gone: String,
    /// A command of the shell that gets the objects and writes the number of their bytes.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) plain: String,
    /// How often both are measured, in turn; the server has nothing in memory each time.
    #[arg(long, default_value_t = 3, value_parser = positive)]
    pub(crate) rounds: usize,
    /// The least speed, as a part of that of the plain GET.
    #[arg(long, default_value_t = 0.5)]
    pub(crate) ratio: f64,
    /// The most resident memory that reading may add.
    #[arg(long, default_value = "64MiB", value_parser = size)]
    pub(crate) memory: usize,
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "a whole number above 0 is needed".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| *rate > 0.0 && *rate <= 1e7);
    rate.ok_or_else(|| "a number above 0 and up to 10 million is needed".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err("a duration such as 500ms, 10s or 2m is needed".to_owned()),
    };
    let seconds = number.parse().ok().map(|number: f64| number * scale).filter(|seconds| *seconds <= 86_400.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "a duration of at most a day is needed".to_owned())
}

fn size(text: &str) -> Result<usize, String> {
    let (number, unit) = split_unit(text);
    let scale: usize = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("a size such as 256, 64KiB or 1MiB is needed".to_owned()),
    };
    let bytes = number.parse().ok().and_then(|number: usize| number.checked_mul(scale)).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| "a whole number of bytes above 0 is needed".to_owned())
}

fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests;
