//! Follows a stream by server-sent events. Content is written when the event after it has said where it ends: what a
//! connection that is cut has only half sent is asked for again.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use serde::Deserialize;
use tokio::time::timeout;

use super::read::{Ended, Kind, Reader};
use crate::cluster::failure::Failure;

/// A connection that is silent for so long is dead: comments come more often.
const SILENCE: Duration = Duration::from_secs(45);
/// The largest event: a page and one record, as base64.
const EVENT_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Control {
    stream_next_offset: String,
    #[serde(default)]
    stream_closed: bool,
}

/// Follows on one connection, until that ends.
pub(super) async fn events(reader: &Reader<'_>, kind: Kind) -> Result<Ended, Failure> {
    let response = reader.open().await?;
    let in_base64 = response.headers().get("stream-sse-data-encoding").is_some_and(|value| value == "base64");
    let mut body = response.into_body();
    let (mut events, mut content, mut came) = (Events::default(), Vec::new(), false);
    // Whatever else ends it, the page after it will tell.
    while let Ok(Some(Ok(frame))) = timeout(SILENCE, body.frame()).await {
        let Some(bytes) = frame.data_ref() else { continue };
        events.push(bytes)?;
        while let Some(Event { kind: name, data }) = events.next() {
            if name == b"data" {
                content = if in_base64 { decode(&data)? } else { data };
            } else if name == b"control" {
                let control: Control = serde_json::from_slice(&data).map_err(foreign)?;
                reader.write(kind, &content, control.stream_next_offset).await?;
                content.clear();
                came = true;
                if control.stream_closed {
                    return Ok(Ended::Closed);
                }
            }
        }
    }
    Ok(Ended::Cut { came })
}

fn decode(data: &[u8]) -> Result<Vec<u8>, Failure> {
    let text: Vec<u8> = data.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(text).map_err(foreign)
}

fn foreign(error: impl std::fmt::Display) -> Failure {
    Failure::refused(format!("the server sent an event that cannot be read: {error}"))
}

/// Takes events apart, from whatever bytes have come.
#[derive(Debug, Default)]
pub(super) struct Events {
    input: Vec<u8>,
    /// Where the line begins that has not ended yet, and how much of it was looked at.
    line: usize,
    seen: usize,
    event: Event,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) kind: Vec<u8>,
    /// Its lines, joined by line feeds.
    pub(super) data: Vec<u8>,
}

impl Events {
    /// Takes bytes of the body.
    ///
    /// # Errors
    /// If an event does not end.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.input.drain(..self.line);
        (self.line, self.seen) = (0, self.seen - self.line);
        self.input.extend_from_slice(bytes);
        match self.input.len() + self.event.data.len() > EVENT_BYTES_MAX {
            true => Err(foreign("it is too long")),
            false => Ok(()),
        }
    }

    /// The next whole event; comments are skipped.
    pub(super) fn next(&mut self) -> Option<Event> {
        while let Some(length) = self.input[self.seen..].iter().position(|byte| *byte == b'\n') {
            let end = self.seen + length;
            let line = &self.input[self.line..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                (self.line, self.seen) = (end + 1, end + 1);
                let Event { kind, mut data } = std::mem::take(&mut self.event);
                if kind.is_empty() && data.is_empty() {
                    continue;
                }
                // Each line brought one.
                data.pop();
                return Some(Event { kind, data });
            }
            let value = |rest: &[u8]| rest.strip_prefix(b" ").unwrap_or(rest).to_vec();
            if let Some(rest) = line.strip_prefix(b"event:") {
                self.event.kind = value(rest);
            } else if let Some(rest) = line.strip_prefix(b"data:") {
                self.event.data.extend_from_slice(&value(rest));
                self.event.data.push(b'\n');
            }
            (self.line, self.seen) = (end + 1, end + 1);
        }
        self.seen = self.input.len();
        None
    }
}
