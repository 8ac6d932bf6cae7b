//! Snapshots beside a stream: reads the newest, and leaves one. See docs/snapshots.md.

use std::path::PathBuf;

use clap::Args;
use http::Method;
use http_body_util::BodyExt;

use super::append::{input, whole};
use super::http::{Answer, Ask, Gateway, Repeat};
use super::sink::Sink;
use super::{Place, encoded};
use crate::cluster::failure::Failure;

/// The largest snapshot that is sent; a gateway may take less.
const SNAPSHOT_BYTES_MAX: usize = 1 << 30;

#[derive(Debug, Args)]
pub(super) struct Flags {
    /// The offset up to which it says what the stream comes to.
    #[arg(long, value_name = "OFFSET")]
    at: String,
    /// The file that is the snapshot. Without it, or with `-`, standard input is.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What it is.
    #[arg(long, value_name = "TYPE", default_value = "application/octet-stream")]
    content_type: String,
}

/// Writes the newest snapshot; returns its offset.
pub(super) async fn read(gateway: &Gateway, place: &Place, sink: &Sink) -> Result<String, Failure> {
    let ask = Ask::new(Method::GET, format!("{}/snapshot", place.path()), Repeat::Read);
    let (head, mut body) = gateway.open(&ask).await?.into_parts();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Failure::late(format!(
                "the snapshot broke off ({error}), maybe because there is a newer one: read it again"
            ))
        })?;
        sink.write(frame.data_ref().map_or(&[], |bytes| bytes)).await?;
    }
    let offset = head.headers.get("stream-snapshot-offset").and_then(|value| value.to_str().ok());
    Ok(offset.unwrap_or_default().to_owned())
}

/// Leaves a snapshot.
pub(super) async fn publish(gateway: &Gateway, place: &Place, flags: &Flags) -> Result<Answer, Failure> {
    let body = whole(&mut input(flags.file.as_deref()).await?, SNAPSHOT_BYTES_MAX).await?;
    let path = format!("{}/snapshot/{}", place.path(), encoded(&flags.at));
    let mut ask = Ask::new(Method::PUT, path, Repeat::Idempotent);
    (ask.headers, ask.body) = (vec![("content-type", flags.content_type.clone())], body);
    gateway.ask(&ask).await
}
