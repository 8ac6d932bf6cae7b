//! `ursula debug bundle`: what an operator sends with a report, in one file. Nothing of what is in streams, and no secret:
//! what processes show on their operations listeners, and what nodes say of themselves.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tokio::time::Instant;
use ursula_common::clock::{Clock, SystemClock};
use ursula_proto::admin::v1::NodeStatus;

use crate::backup::on_runtime;
use crate::cluster::failure::Failure;
use crate::cluster::output::Output;
use crate::cluster::paint::{Color, Paint, size};
use crate::cluster::status;
use crate::cluster::view::View;
use crate::format::Format;
use crate::stream::http::Gateway;

/// A page that does not come in this time is left out...
const PAGE_TIMEOUT: Duration = Duration::from_secs(3);
/// ...and so is what has not been asked for by then.
const TIME: Duration = Duration::from_secs(60);
/// The most that is collected.
const BYTES_MAX: usize = 64 << 20;
/// What processes show on their operations listeners.
const PAGES: [&str; 4] = ["health", "ready", "metrics", "settings"];
/// Where that is, unless it is set otherwise: of a storage node, and of a gateway.
const PORTS: [u16; 2] = [4439, 4436];

/// Arguments of `ursula debug`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Collect the state, versions, metrics and settings of a cluster in one file; what cannot be had is named there.
    Bundle(Flags),
}

#[derive(Debug, Args)]
struct Flags {
    /// The gRPC listener of any node of the cluster.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4438")]
    address: String,
    /// The operations listener of a gateway or storage node; once for each. Without any, the hosts of the nodes are asked
    /// at the usual ports.
    #[arg(long, value_name = "HOST:PORT")]
    metrics_address: Vec<String>,
    /// The file to write, such as report.tar.gz.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How to say what came of it. With json, one object on standard output; progress goes to standard error.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// What was collected, and what could not be.
struct Bundle {
    files: Vec<(String, Vec<u8>)>,
    missing: Vec<String>,
    deadline: Instant,
}

/// Runs a command: 0 if the file is written, 3 if nobody answered; docs/cli.md.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let Command::Bundle(flags) = &arguments.command;
    on_runtime(flags.output, async |output| bundle(flags, output).await)
}

async fn bundle(flags: &Flags, output: &Output) -> Result<ExitCode, Failure> {
    let mut bundle = Bundle { files: Vec::new(), missing: Vec::new(), deadline: Instant::now() + TIME };
    output.progress(&format!("asking the node at {}", flags.address));
    let mut addresses = flags.metrics_address.clone();
    match View::take(&flags.address).await {
        Ok(view) => {
            bundle.add("status.txt".to_owned(), status::text(&view, Paint::new(Color::Never)));
            bundle.add("status.json".to_owned(), status::value(&view).to_string());
            for (node, answer) in &view.nodes {
                match answer {
                    // What the cluster is stands in the status already, and this is as nodes tell each other.
                    Ok(status) => bundle.add(
                        format!("nodes/{node}.txt"),
                        format!("{:#?}\n", NodeStatus { state: Default::default(), ..status.clone() }),
                    ),
                    Err(reason) => bundle.missing.push(format!("node {node}: {reason}")),
                }
            }
            if addresses.is_empty() {
                addresses = view.cluster.nodes.values().flat_map(|node| usual(&node.address)).collect();
            }
        }
        Err(failure) => bundle.missing.push(failure.text),
    }
    if addresses.is_empty() {
        addresses = usual(&flags.address);
    }
    addresses.sort();
    addresses.dedup();
    for address in addresses {
        output.progress(&format!("asking the operations listener at {address}"));
        bundle.look(&address).await;
    }
    if bundle.files.is_empty() {
        return Err(Failure::late(format!("nobody answered, so nothing was written: {}", bundle.missing.join("; "))));
    }
    let time = SystemClock.now().0 / 1000;
    bundle.files.insert(0, ("summary.txt".to_owned(), bundle.summary(time).into_bytes()));
    let bytes = write(&flags.out, &bundle.files, time)
        .map_err(|error| Failure::refused(format!("{} cannot be written: {error}", flags.out.display())))?;
    let files: Vec<&String> = bundle.files.iter().map(|(name, _)| name).collect();
    let value = json!({ "file": flags.out, "bytes": bytes, "files": files, "missing": bundle.missing });
    let missing: String = bundle.missing.iter().map(|missing| format!("left out: {missing}\n")).collect();
    let (count, bytes, out) = (files.len(), size(bytes), flags.out.display());
    output.result(&format!("{missing}{count} files are in {out}, {bytes}: look through it before you send it"), &value);
    Ok(ExitCode::SUCCESS)
}

/// Where the operations listeners are on the host of this address, if nobody has said otherwise.
fn usual(address: &str) -> Vec<String> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    PORTS.iter().map(|port| format!("{host}:{port}")).collect()
}

impl Bundle {
    fn add(&mut self, name: String, content: impl Into<Vec<u8>>) {
        let (content, before) = (content.into(), self.files.iter().map(|(_, content)| content.len()).sum::<usize>());
        match before + content.len() > BYTES_MAX {
            true => self.missing.push(format!("{name}: there would be more than {}", size(BYTES_MAX as u64))),
            false => self.files.push((name, content)),
        }
    }

    /// Takes what a process shows.
    async fn look(&mut self, address: &str) {
        let gateway = match Gateway::new(&format!("http://{address}"), Duration::ZERO) {
            Ok(gateway) => gateway,
            Err(failure) => return self.missing.push(format!("{address}: {}", failure.text)),
        };
        for page in PAGES {
            if Instant::now() > self.deadline {
                return self.missing.push(format!("{address}/{page}: there was no time left"));
            }
            match gateway.look(&format!("/{page}"), PAGE_TIMEOUT).await {
                // One that is not ready says why.
                Ok((status, body)) if status.is_success() || page == "ready" => {
                    let name = format!("operations/{}/{page}.txt", address.replace([':', '/'], "-"));
                    self.add(name, [format!("# {status}\n").as_bytes(), &body].concat());
                }
                Ok((status, _)) => self.missing.push(format!("{address}/{page}: {status}")),
                // The other pages would not come either.
                Err(reason) => return self.missing.push(format!("{address}: {reason}")),
            }
        }
    }

    fn summary(&self, time: u64) -> String {
        let files = self.files.iter().map(|(name, content)| format!("{name}, {}\n", size(content.len() as u64)));
        let missing = self.missing.iter().map(|missing| format!("left out: {missing}\n"));
        let head = format!("made by ursula {}, {time} seconds after 1970\n\n", env!("CARGO_PKG_VERSION"));
        [head].into_iter().chain(files).chain(missing).collect()
    }
}

/// Writes a compressed archive; returns its size.
fn write(out: &Path, files: &[(String, Vec<u8>)], time: u64) -> io::Result<u64> {
    let mut archive = tar::Builder::new(GzEncoder::new(File::create(out)?, Compression::default()));
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(time);
        archive.append_data(&mut header, Path::new("ursula-debug").join(name), content.as_slice())?;
    }
    let file = archive.into_inner()?.finish()?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}
