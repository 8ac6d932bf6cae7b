//! Appends: one record, or one for each line with a producer, so that what is sent again is stored once.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use clap::Args;
use http::Method;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use ursula_common::clock::{Clock, SystemClock};
use ursula_common::limits::APPEND_BYTES_MAX;

use super::http::{Answer, Ask, Gateway, Repeat};
use super::read::Kind;
use super::{Place, head};
use crate::cluster::failure::Failure;
use crate::cluster::paint::size;

/// Input that is looked at together: lines of JSON that have come go as one append.
const BUFFER_BYTES: usize = 256 << 10;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// The record. Without it and --file, standard input is.
    #[arg(conflicts_with = "file", allow_hyphen_values = true)]
    data: Option<String>,
    /// A file that is the record; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// One record for each line, in order, as the lines come.
    #[arg(long)]
    lines: bool,
    /// The type of the content. Without it the server is asked for that of the stream.
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Append as this producer, which can be tried again without storing anything twice. A later run as the same producer
    /// takes over from an earlier one. With --lines every run is a producer of its own, if it is not named.
    #[arg(long, value_name = "NAME")]
    producer: Option<String>,
}

/// What was stored.
pub(super) struct Stored {
    pub(super) records: u64,
    pub(super) next: Option<String>,
}

/// What a server needs to know an append again.
struct Producer {
    name: String,
    epoch: u64,
    next: u64,
}

/// What is read from.
pub(super) type Input = BufReader<Box<dyn AsyncRead + Unpin>>;

/// Appends what the flags say. `stored` counts meanwhile.
pub(super) async fn append(
    gateway: &Gateway,
    place: &Place,
    flags: &Flags,
    stored: &Cell<u64>,
) -> Result<Stored, Failure> {
    let content_type = match &flags.content_type {
        Some(given) => given.clone(),
        None => head(gateway, place).await?.header("content-type").unwrap_or("application/octet-stream").to_owned(),
    };
    let mut producer = producer(flags);
    let send = async |body: Bytes, producer: &mut Option<Producer>| -> Result<Answer, Failure> {
        let mut ask = Ask::new(Method::POST, place.path(), Repeat::Never);
        (ask.headers, ask.body) = (vec![("content-type", content_type.clone())], body);
        if let Some(Producer { name, epoch, next }) = producer {
            ask.repeat = Repeat::Idempotent;
            ask.headers.push(("producer-id", name.clone()));
            ask.headers.push(("producer-epoch", epoch.to_string()));
            ask.headers.push(("producer-seq", next.to_string()));
            *next += 1;
        }
        gateway.ask(&ask).await
    };
    let mut input = match &flags.data {
        Some(data) => buffered(std::io::Cursor::new(data.clone().into_bytes())),
        None => input(flags.file.as_deref()).await?,
    };
    if !flags.lines {
        let record = whole(&mut input, APPEND_BYTES_MAX).await?;
        let next = send(record, &mut producer).await?.next_offset()?;
        return Ok(Stored { records: 1, next: Some(next) });
    }
    let (mut next, mut records) = (None, 0);
    let is_json = Kind::of(&content_type) == Kind::Json;
    let failed = |failure: Failure| Failure { text: so_far(&failure.text, stored.get()), ..failure };
    loop {
        let batch = batch(&mut input, is_json, stored.get()).await.map_err(failed)?;
        if batch.lines == 0 {
            return Ok(Stored { records, next });
        }
        if batch.records > 0 {
            next = Some(send(batch.body.freeze(), &mut producer).await.map_err(failed)?.next_offset()?);
        }
        records += batch.records;
        stored.set(stored.get() + batch.lines);
    }
}

/// How far it came that ends early.
pub(super) fn so_far(text: &str, lines: u64) -> String {
    match lines {
        0 => format!("{text}; no line was stored before"),
        lines => format!("{text}; the first {lines} lines are stored"),
    }
}

fn producer(flags: &Flags) -> Option<Producer> {
    let name = match (&flags.producer, flags.lines) {
        (Some(name), _) => name.clone(),
        (None, true) => format!("ursula-{:032x}", rand::random::<u128>()),
        (None, false) => return None,
    };
    // Later runs have later epochs.
    Some(Producer { name, epoch: SystemClock.now().0, next: 0 })
}

/// A file, or standard input.
pub(super) async fn input(file: Option<&Path>) -> Result<Input, Failure> {
    match file.filter(|path| *path != Path::new("-")) {
        Some(path) => match tokio::fs::File::open(path).await {
            Ok(file) => Ok(buffered(file)),
            Err(error) => Err(Failure::refused(format!("{} cannot be read: {error}", path.display()))),
        },
        None => Ok(buffered(tokio::io::stdin())),
    }
}

fn buffered(input: impl AsyncRead + Unpin + 'static) -> Input {
    BufReader::with_capacity(BUFFER_BYTES, Box::new(input))
}

/// All of the input, which is not empty.
pub(super) async fn whole(input: &mut Input, bytes_max: usize) -> Result<Bytes, Failure> {
    let mut record = Vec::new();
    input.take(bytes_max as u64 + 1).read_to_end(&mut record).await.map_err(unreadable)?;
    check_size(record.len(), bytes_max)?;
    match record.is_empty() {
        true => Err(Failure::refused("there is nothing to send: the input is empty")),
        false => Ok(record.into()),
    }
}

/// Lines that go together.
#[derive(Default)]
struct Batch {
    body: BytesMut,
    lines: u64,
    /// Lines that are not empty, or not of JSON.
    records: u64,
}

/// The next lines, which come after so many; none at the end of the input.
async fn batch(input: &mut Input, is_json: bool, before: u64) -> Result<Batch, Failure> {
    let (mut batch, mut line) = (Batch::default(), Vec::new());
    loop {
        line.clear();
        let mut limited = (&mut *input).take(APPEND_BYTES_MAX as u64 + 1);
        if limited.read_until(b'\n', &mut line).await.map_err(unreadable)? == 0 {
            break;
        }
        batch.lines += 1;
        let number = before + batch.lines;
        let numbered = |failure: Failure| Failure { text: format!("line {number}: {}", failure.text), ..failure };
        check_size(line.len(), APPEND_BYTES_MAX).map_err(numbered)?;
        if !is_json {
            (batch.body, batch.records) = (line.as_slice().into(), 1);
            return Ok(batch);
        }
        if !line.trim_ascii().is_empty() {
            let message: &RawValue = serde_json::from_slice(&line)
                .map_err(|error| Failure::refused(format!("line {number} is not JSON: {error}")))?;
            batch.body.extend_from_slice(if batch.records == 0 { b"[" } else { b"," });
            batch.body.extend_from_slice(message.get().as_bytes());
            batch.records += 1;
        }
        // Only what has come already, and only as much as fits: the buffer is smaller than an append.
        if batch.body.len() >= BUFFER_BYTES || !input.buffer().contains(&b'\n') {
            break;
        }
    }
    if batch.records > 0 {
        batch.body.extend_from_slice(b"]");
    }
    Ok(batch)
}

fn check_size(bytes: usize, bytes_max: usize) -> Result<(), Failure> {
    match bytes > bytes_max {
        true => Err(Failure::refused(format!(
            "it is longer than {}: send it in parts, or with --lines",
            size(bytes_max as u64)
        ))),
        false => Ok(()),
    }
}

fn unreadable(error: std::io::Error) -> Failure {
    Failure::refused(format!("the input cannot be read: {error}"))
}
