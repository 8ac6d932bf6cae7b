//! `ursula backup verify`: reads all that a cluster has left in a place, and says what of it could be restored. Also what
//! `ursula restore` does first.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use ursula_common::{GroupId, Millis, StreamId};
use ursula_storage_node::restore::{self, Backup, Damage, Lost, PlaceOptions, Progress, Scan, Tracker, mebibytes};

use crate::cluster::failure::Failure;
use crate::cluster::output::Output;
use crate::format::Format;

/// A store, as whoever reads it has it.
pub(crate) type Store = Arc<dyn restore::Store>;

/// Arguments of `ursula backup`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read everything, and say what is damaged or missing, and which streams that concerns.
    Verify {
        #[command(flatten)]
        from: From,
        /// How to say what came of it. With json, one object on standard output; progress goes to standard error.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        output: Format,
    },
}

/// What is read.
#[derive(Debug, Clone, Args)]
pub(crate) struct From {
    /// The place: s3://BUCKET, s3://BUCKET/PREFIX or file:///DIRECTORY, as in the setting `store` of the nodes.
    #[arg(long, value_name = "URL")]
    from: String,
    /// Everything as it was at this time, such as 2030-01-31T12:00:00Z: up to the last pack of each group before.
    #[arg(long, value_name = "TIME", value_parser = time_of)]
    at: Option<Millis>,
    #[command(flatten)]
    pub(crate) options: StoreFlags,
}

/// How a store is reached; as the settings of nodes.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreFlags {
    /// The address of the server of S3's protocol, if it is not that of AWS.
    #[arg(long, value_name = "URL")]
    store_endpoint: Option<String>,
    /// The region of the bucket, if the environment does not name it.
    #[arg(long)]
    store_region: Option<String>,
    /// Whether the bucket stands in the path of requests and not in the name of the host.
    #[arg(long, value_name = "BOOLEAN", default_value_t = false, action = clap::ArgAction::Set)]
    store_path_style: bool,
    /// How the server keeps objects secret that are written: sse-s3, sse-kms or sse-kms:KEY.
    #[arg(long)]
    store_encryption: Option<String>,
}

impl StoreFlags {
    /// Opens a place.
    pub(crate) async fn open(&self, url: &str) -> Result<Store, Failure> {
        let options = PlaceOptions {
            endpoint: self.store_endpoint.clone(),
            region: self.store_region.clone(),
            path_style: self.store_path_style,
            encryption: self.store_encryption.clone(),
        };
        restore::open(url, &options).await.map_err(Failure::refused)
    }
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) store: Store,
    pub(crate) backup: Backup,
}

impl From {
    /// Reads everything but the bytes of streams.
    pub(crate) async fn read(&self, output: &Output) -> Result<Found, Failure> {
        let store = self.options.open(&self.from).await?;
        let owner = restore::owner(&*store).await.map_err(failed)?;
        let nothing = || Failure::refused(format!("no cluster has stored anything in {}", self.from));
        let cluster = owner.ok_or_else(nothing)?;
        output.progress(&format!("{} is of cluster {cluster}; its packs are looked through", self.from));
        let backup = Backup::read(&store, cluster, self.at).await.map_err(failed)?;
        if backup.groups.is_empty() {
            return Err(nothing());
        }
        Ok(Found { store, backup })
    }
}

impl Found {
    /// Reads the bytes too: what is damaged, and what is lost by that.
    pub(crate) async fn scan(&self, output: &Output) -> Result<(Vec<Damage>, Vec<Lost>), Failure> {
        let mut objects = Scan::all(&self.store, &self.backup);
        let (mut tracker, mut damages) = (Tracker::default(), self.backup.damages.clone());
        let mut progress = Progress::new("read", self.backup.bytes());
        while let Some(scan) = objects.next().await {
            let Scan { group, bytes, pieces, damages: more } = scan.map_err(failed)?;
            for piece in pieces {
                tracker.take(&self.backup, group, piece);
            }
            for damage in more.into_iter().filter(|damage| !self.backup.damages.contains(damage)) {
                damages.push(damage);
            }
            progress.add(bytes, |line| output.progress(line));
        }
        Ok((damages, tracker.finish(&self.backup)))
    }
}

/// Runs a command: 0 if everything is whole, 1 if something is damaged or it failed.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let Command::Verify { from, output } = &arguments.command;
    on_runtime(*output, async |output| verify(from, output).await)
}

/// Runs a command with all processors.
pub(crate) fn on_runtime(format: Format, work: impl AsyncFnOnce(&Output) -> Result<ExitCode, Failure>) -> ExitCode {
    let output = Output::new(format == Format::Json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output.failed(&Failure::refused(error.to_string())),
    };
    match runtime.block_on(work(&output)) {
        Ok(code) => code,
        Err(failure) => output.failed(&failure),
    }
}

async fn verify(from: &From, output: &Output) -> Result<ExitCode, Failure> {
    let found = from.read(output).await?;
    let (damages, lost) = found.scan(output).await?;
    let mut text = groups_text(&found.backup);
    text += &damages_text(&damages, &lost);
    let value = json!({
        "cluster": found.backup.cluster.to_string(),
        "whole": damages.is_empty() && lost.is_empty(),
        "groups": groups_json(&found.backup),
        "damages": damages.iter().map(damage_json).collect::<Vec<_>>(),
        "lost": lost.iter().map(lost_json).collect::<Vec<_>>(),
    });
    let whole = damages.is_empty() && lost.is_empty();
    text += &match whole {
        true => "everything is whole".to_owned(),
        false => format!(
            "{} places are damaged or missing, and with them bytes of {} streams; `ursula restore --without-damaged` \
             restores the others",
            damages.len(),
            lost.len()
        ),
    };
    output.result(&text, &value);
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The streams of which something is lost.
pub(crate) fn lost_places(lost: &[Lost]) -> BTreeSet<(GroupId, StreamId)> {
    lost.iter().map(|lost| (lost.group, lost.id)).collect()
}

pub(crate) fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::refused(error.to_string())
}

/// A line for each group: its cut.
pub(crate) fn groups_text(backup: &Backup) -> String {
    let line = |(group, cut): (&GroupId, &restore::GroupCut)| {
        let bytes = cut.history.objects.iter().map(|object| object.bytes).sum();
        let newest = cut.history.objects.last().map_or(0, |object| object.head.id.last);
        let made = cut.history.made().map_or_else(|| "never".to_owned(), text_of);
        let streams = cut.streams.len();
        format!("group {group}: packs up to {newest}, of {made}; {streams} streams, {}\n", mebibytes(bytes))
    };
    backup.groups.iter().map(line).collect()
}

/// The same for programs.
pub(crate) fn groups_json(backup: &Backup) -> Vec<Value> {
    let group = |(group, cut): (&GroupId, &restore::GroupCut)| {
        json!({
            "group": group.0,
            "made": cut.history.made().map(text_of),
            "made_ms": cut.history.made().map(|made| made.0),
            "newest_pack": cut.history.objects.last().map(|object| object.head.id.last),
            "objects": cut.history.objects.len(),
            "bytes": cut.history.objects.iter().map(|object| object.bytes).sum::<u64>(),
            "streams": cut.streams.len(),
        })
    };
    backup.groups.iter().map(group).collect()
}

/// What is damaged, and what is lost by that.
pub(crate) fn damages_text(damages: &[Damage], lost: &[Lost]) -> String {
    let damage = |damage: &Damage| {
        let Damage { group, packs: (first, last), what } = damage;
        format!("group {group}, packs {first} to {last}: {what}\n")
    };
    let stream = |lost: &Lost| {
        let ranges: Vec<String> = lost.ranges.iter().map(|range| format!("{} to {}", range.start, range.end)).collect();
        format!("stream {} (group {}) lacks {}\n", lost.key, lost.group, ranges.join(", "))
    };
    damages.iter().map(damage).chain(lost.iter().map(stream)).collect()
}

pub(crate) fn damage_json(damage: &Damage) -> Value {
    let Damage { group, packs: (first, last), what } = damage;
    json!({ "group": group.0, "first_pack": first, "last_pack": last, "what": what })
}

pub(crate) fn lost_json(lost: &Lost) -> Value {
    let range =
        |range: &std::ops::Range<ursula_common::Offset>| json!([range.start.to_string(), range.end.to_string()]);
    let ranges: Vec<Value> = lost.ranges.iter().map(range).collect();
    json!({ "group": lost.group.0, "stream": lost.key.to_string(), "ranges": ranges })
}

fn time_of(text: &str) -> Result<Millis, String> {
    let time =
        OffsetDateTime::parse(text, &Rfc3339).map_err(|error| format!("{error}: such as 2030-01-31T12:00:00Z"))?;
    let millis = u64::try_from(time.unix_timestamp_nanos() / 1_000_000);
    millis.map(Millis).map_err(|_| "nothing was stored before 1970".to_owned())
}

fn text_of(time: Millis) -> String {
    let Ok(time) = OffsetDateTime::from_unix_timestamp_nanos(i128::from(time.0) * 1_000_000) else {
        return format!("{} ms after 1970", time.0);
    };
    let (date, clock) = (time.date(), time.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second(),
        clock.millisecond()
    )
}
