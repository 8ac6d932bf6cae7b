//! `ursula stream`: what a client does with streams, at a gateway. Content goes to standard output as it is; everything
//! that is said about it goes to standard error.

mod append;
pub(crate) mod http;
mod live;
mod read;
mod sink;
mod snapshot;

use std::cell::Cell;
use std::process::ExitCode;
use std::time::Duration;

use ::http::Method;
use clap::{Args, Subcommand};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Value, json};
use ursula_common::name::DEFAULT_BUCKET;
use ursula_common::{BucketName, cli};

use self::http::{Answer, Ask, Gateway, Repeat, base_of};
use self::read::Reader;
use self::sink::Sink;
use crate::cluster::failure::{End, Failure};
use crate::cluster::output::Output;
use crate::format::Format;

/// What may stand in one segment of a path, and in a query; and in a whole path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &SEGMENT.remove(b'/');

/// Arguments of `ursula stream`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// A gateway, or the load balancer before some.
    #[arg(long, global = true, env = "URSULA_URL", default_value = "http://127.0.0.1:4437", value_parser = base_of)]
    url: String,
    /// The bucket of the stream. Without it, that behind /v1/stream/.
    #[arg(long, global = true, env = "URSULA_BUCKET", value_parser = bucket_of)]
    bucket: Option<String>,
    /// How long to try again when the server is away or has no time. One that never answered is not waited for.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the streams of a bucket, a name on each line.
    Ls {
        /// Only names that begin so.
        #[arg(long, default_value = "")]
        prefix: String,
        #[command(flatten)]
        report: Report,
    },
    /// Create a stream. One that is there with the same settings is left as it is.
    Create {
        /// Its name.
        name: String,
        #[command(flatten)]
        settings: Settings,
        #[command(flatten)]
        report: Report,
    },
    /// Append one record, or one for each line of the input.
    Append {
        /// The name of the stream.
        name: String,
        #[command(flatten)]
        flags: append::Flags,
        #[command(flatten)]
        report: Report,
    },
    /// Write a stream to standard output, from an offset to its tail. Messages of JSON come one on each line.
    Read {
        /// The name of the stream.
        name: String,
        /// Where to begin: an offset that the server gave, or -1 for the beginning.
        #[arg(long, default_value = "-1", allow_hyphen_values = true)]
        offset: String,
    },
    /// Write what is appended to standard output as it comes, until the stream is closed or Ctrl-C.
    Tail {
        /// The name of the stream.
        name: String,
        /// Where to begin: an offset that the server gave, -1 for the beginning, or now.
        #[arg(long, default_value = "now", allow_hyphen_values = true)]
        offset: String,
    },
    /// Write the newest snapshot of a stream to standard output.
    Snapshot {
        /// The name of the stream.
        name: String,
    },
    /// Leave a snapshot beside a stream: what a client made of it up to an offset.
    Publish {
        /// The name of the stream.
        name: String,
        #[command(flatten)]
        flags: snapshot::Flags,
        #[command(flatten)]
        report: Report,
    },
    /// Show everything about a stream but its content.
    Head {
        /// The name of the stream.
        name: String,
        #[command(flatten)]
        report: Report,
    },
    /// Close a stream: nothing can be appended any more.
    Close {
        /// The name of the stream.
        name: String,
        #[command(flatten)]
        report: Report,
    },
    /// Remove a stream with everything in it.
    Delete {
        /// The name of the stream.
        name: String,
        #[command(flatten)]
        report: Report,
    },
    /// Forget the beginning of a stream.
    Trim {
        /// The name of the stream.
        name: String,
        /// The first offset that stays.
        #[arg(long, value_name = "OFFSET")]
        before: String,
        #[command(flatten)]
        report: Report,
    },
}

/// How to say what came of it.
#[derive(Debug, Clone, Args)]
struct Report {
    /// How to say what came of it. With json, one object on standard output, or for `ls` one on each line.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// Settings of a stream; each is a header.
#[derive(Debug, Args)]
struct Settings {
    /// What it holds: application/json is messages, everything else bytes.
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// It ends so long after it was used last.
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    /// It ends then, such as 2030-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", conflicts_with = "ttl")]
    expires_at: Option<String>,
    /// Records that are older go.
    #[arg(long, value_name = "SECONDS")]
    max_age: Option<u64>,
    /// When there is more, the oldest records go.
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<u64>,
    /// It begins as a fork of this stream of the same bucket.
    #[arg(long, value_name = "NAME")]
    fork_of: Option<String>,
    /// Where the fork leaves its source, if not at its tail.
    #[arg(long, value_name = "OFFSET", requires = "fork_of")]
    fork_offset: Option<String>,
}

/// Where a stream is.
struct Place {
    bucket: Option<String>,
    name: String,
}

impl Place {
    fn path(&self) -> String {
        let name = utf8_percent_encode(&self.name, PATH);
        match &self.bucket {
            Some(bucket) => format!("/{bucket}/{name}"),
            None => format!("/v1/stream/{name}"),
        }
    }
}

/// Runs a command; docs/cli.md has the codes.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let output = Output::new(arguments.command.report().is_some_and(|report| report.output == Format::Json));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output.failed(&Failure::refused(error.to_string())),
    };
    let outcome = runtime.block_on(dispatch(arguments, &output));
    // A thread may wait for standard input for ever.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.failed(&failure),
    }
}

async fn dispatch(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let gateway = &Gateway::new(&arguments.url, Duration::from_secs(arguments.patience))?;
    let place = |name: &String| Place { bucket: arguments.bucket.clone(), name: name.clone() };
    let (text, value) = match &arguments.command {
        Command::Ls { prefix, report } => {
            let bucket = arguments.bucket.as_deref().unwrap_or(DEFAULT_BUCKET);
            return until_stopped(list(gateway, bucket, prefix, report.output), || "interrupted".to_owned()).await;
        }
        Command::Read { name, offset } => {
            let sink = Sink::new();
            let reader = Reader::new(gateway, place(name).path(), &sink, offset);
            let read = until_stopped(reader.read(), || at(&reader.next(), false)).await;
            let closed = read.map_err(|failure| reader.reached(failure))?;
            say(&at(&reader.next(), closed));
            return Ok(());
        }
        Command::Tail { name, offset } => {
            let sink = Sink::new();
            let reader = Reader::new(gateway, place(name).path(), &sink, offset);
            let followed = until_stopped(reader.follow(), || at(&reader.next(), false)).await;
            followed.map_err(|failure| reader.reached(failure))?;
            say(&at(&reader.next(), true));
            return Ok(());
        }
        Command::Snapshot { name } => {
            let (place, sink) = (place(name), Sink::new());
            let read = snapshot::read(gateway, &place, &sink);
            let offset = until_stopped(read, || "interrupted before the end of the snapshot".to_owned()).await?;
            say(&at(&offset, false));
            return Ok(());
        }
        Command::Publish { name, flags, .. } => {
            let answer = snapshot::publish(gateway, &place(name), flags).await?;
            let (is_new, offset) = (answer.header("location").is_some(), answer.header("stream-snapshot-offset"));
            let text = if is_new { "published" } else { "it is there already" };
            (text.to_owned(), json!({ "published": is_new, "snapshot_offset": offset }))
        }
        Command::Append { name, flags, .. } => {
            let (place, lines) = (place(name), Cell::new(0));
            let work = append::append(gateway, &place, flags, &lines);
            let stopped = || append::so_far("interrupted, and what was under way may be stored", lines.get());
            let append::Stored { records, next } = until_stopped(work, stopped).await?;
            let what = if records == 1 { "1 record".to_owned() } else { format!("{records} records") };
            let next_text = next.as_ref().map(|next| format!(", next offset {next}")).unwrap_or_default();
            (format!("appended {what}{next_text}"), json!({ "records": records, "next_offset": next }))
        }
        Command::Create { name, settings, .. } => {
            let mut ask = Ask::new(Method::PUT, place(name).path(), Repeat::Idempotent);
            ask.headers = settings.headers(place);
            let answer = gateway.ask(&ask).await?;
            let (is_new, next) = (answer.header("location").is_some(), answer.next_offset()?);
            let text = if is_new { "created" } else { "it is there already, with these settings" };
            (format!("{text}, next offset {next}"), json!({ "created": is_new, "next_offset": next }))
        }
        Command::Head { name, .. } => about(&head(gateway, &place(name)).await?),
        Command::Close { name, .. } => {
            let mut ask = Ask::new(Method::POST, place(name).path(), Repeat::Idempotent);
            ask.headers.push(("stream-closed", "true".to_owned()));
            let next = gateway.ask(&ask).await?.next_offset()?;
            (format!("closed at {next}"), json!({ "closed": true, "next_offset": next }))
        }
        Command::Delete { name, .. } => {
            gateway.ask(&Ask::new(Method::DELETE, place(name).path(), Repeat::Never)).await?;
            ("deleted".to_owned(), json!({ "deleted": true }))
        }
        Command::Trim { name, before, .. } => {
            let path = format!("{}?before={}", place(name).path(), encoded(before));
            let answer = gateway.ask(&Ask::new(Method::DELETE, path, Repeat::Idempotent)).await?;
            let earliest = answer.header("stream-earliest-offset").unwrap_or(before);
            (format!("it begins at {earliest} now"), json!({ "earliest_offset": earliest }))
        }
    };
    output.result(&text, &value);
    Ok(())
}

/// Does something until it is done or the process is to stop; then `stopped` says how far it came.
async fn until_stopped<T>(
    work: impl Future<Output = Result<T, Failure>>,
    stopped: impl FnOnce() -> String,
) -> Result<T, Failure> {
    let stop = cli::stop_signal().map_err(|error| Failure::refused(error.to_string()))?;
    tokio::select! {
        biased;
        done = work => done,
        () = stop => Err(Failure::of(End::Interrupted, stopped())),
    }
}

/// What is said when there is no more content.
fn at(next: &str, closed: bool) -> String {
    if closed { format!("closed at {next}") } else { format!("next offset {next}") }
}

/// Says something beside the content.
fn say(text: &str) {
    use std::io::Write;
    // There is nobody left to tell if this fails.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Everything that a server tells of a stream.
async fn head(gateway: &Gateway, place: &Place) -> Result<Answer, Failure> {
    match gateway.ask(&Ask::new(Method::HEAD, place.path(), Repeat::Read)).await {
        // The answer to HEAD cannot say why. The end of a stream that is not there says the same with a sentence.
        Err(Failure { end: End::Refused, code: None, .. }) => {
            gateway.ask(&Ask::new(Method::GET, format!("{}?offset=now", place.path()), Repeat::Read)).await
        }
        answer => answer,
    }
}

/// The headers that `ursula stream head` shows, and their names.
const SHOWN: [(&str, &str); 10] = [
    ("content-type", "content_type"),
    ("stream-next-offset", "next_offset"),
    ("stream-earliest-offset", "earliest_offset"),
    ("stream-closed", "closed"),
    ("stream-ttl", "ttl_seconds"),
    ("stream-expires-at", "expires_at"),
    ("stream-retention-max-age", "max_age_seconds"),
    ("stream-retention-max-bytes", "max_bytes"),
    ("stream-retention-snapshot", "begins_at_snapshot"),
    ("stream-snapshot-offset", "snapshot_offset"),
];

fn about(answer: &Answer) -> (String, Value) {
    let mut shown = serde_json::Map::new();
    let mut text = String::new();
    for (header, name) in SHOWN {
        if let Some(value) = answer.header(header) {
            text += &format!("{name:<20}{value}\n");
            // Numbers and true are JSON as they stand; nothing else that comes is.
            shown.insert(name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| json!(value)));
        }
    }
    (text, Value::Object(shown))
}

#[derive(Deserialize)]
struct Names {
    streams: Vec<Name>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

async fn list(gateway: &Gateway, bucket: &str, prefix: &str, format: Format) -> Result<(), Failure> {
    let (sink, mut after) = (Sink::new(), String::new());
    loop {
        let path = format!("/{bucket}?list&prefix={}&after={}", encoded(prefix), encoded(&after));
        let answer = gateway.ask(&Ask::new(Method::GET, path, Repeat::Read)).await?;
        let Names { streams, next } = serde_json::from_slice(&answer.body)
            .map_err(|error| Failure::refused(format!("the server sent no list of streams: {error}; check --url")))?;
        let line = |Name { name }: &Name| match format {
            Format::Text => format!("{name}\n"),
            Format::Json => format!("{}\n", json!({ "name": name })),
        };
        sink.write(streams.iter().map(line).collect::<String>().as_bytes()).await?;
        match next {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

/// A value as it stands in a query, or as one segment of a path.
fn encoded(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

fn bucket_of(text: &str) -> Result<String, String> {
    BucketName::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

impl Settings {
    fn headers(&self, place: impl Fn(&String) -> Place) -> Vec<(&'static str, String)> {
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        let headers = [
            ("content-type", self.content_type.clone()),
            ("stream-ttl", number(self.ttl)),
            ("stream-expires-at", self.expires_at.clone()),
            ("stream-retention-max-age", number(self.max_age)),
            ("stream-retention-max-bytes", number(self.max_bytes)),
            ("stream-forked-from", self.fork_of.as_ref().map(|name| place(name).path())),
            ("stream-fork-offset", self.fork_offset.clone()),
        ];
        headers.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

impl Command {
    /// How it says what came of it; commands that write content say nothing else there.
    fn report(&self) -> Option<&Report> {
        match self {
            Command::Read { .. } | Command::Tail { .. } | Command::Snapshot { .. } => None,
            Command::Ls { report, .. }
            | Command::Create { report, .. }
            | Command::Append { report, .. }
            | Command::Publish { report, .. }
            | Command::Head { report, .. }
            | Command::Close { report, .. }
            | Command::Delete { report, .. }
            | Command::Trim { report, .. } => Some(report),
        }
    }
}

#[cfg(test)]
mod tests;
