//! Server-sent events: a `data` event for stored bytes, a `control` event after each, and comments
//! that keep connections alive.
//!
//! Each event carries the offset after it as its id, so that a browser that reconnects says in
//! `Last-Event-ID` where it stopped.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use ursula_common::{ContentType, Offset};

use crate::headers::{STREAM_SSE_DATA_ENCODING, X_ACCEL_BUFFERING};
use crate::{respond, status};

/// A comment, for a connection that has been silent for a while.
pub const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

/// How stored bytes become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataKind {
    /// As they are; what is not UTF-8 is replaced.
    Text,
    /// As an array of messages.
    Json,
    /// As base64, each event by itself.
    Base64,
}

impl DataKind {
    /// How the bytes of a stream of this type are sent.
    pub fn of(content_type: &ContentType) -> DataKind {
        if content_type.is_json() {
            DataKind::Json
        } else if content_type.is_text() {
            DataKind::Text
        } else {
            DataKind::Base64
        }
    }
}

/// The head of a response that goes on with events.
pub fn response(kind: DataKind) -> Response<()> {
    let mut response = respond::response(status::OK, ());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    if kind == DataKind::Base64 {
        headers.insert(STREAM_SSE_DATA_ENCODING, HeaderValue::from_static("base64"));
    }
    response
}

/// Room for everything in an event but its data.
const FRAME_BYTES: usize = 64;

/// The event for `stored`, which is not empty and ends at `next`; JSON begins and ends between
/// messages, text at a [`text_boundary`].
pub fn data(kind: DataKind, stored: &[u8], next: Offset) -> Bytes {
    let mut event;
    match kind {
        DataKind::Base64 => {
            event = String::with_capacity(FRAME_BYTES + 5 + stored.len().div_ceil(3) * 4);
            event.push_str("event: data\ndata:");
            STANDARD.encode_string(stored, &mut event);
        }
        DataKind::Json => {
            let messages = String::from_utf8_lossy(stored.strip_suffix(b",").unwrap_or(stored));
            event = String::with_capacity(FRAME_BYTES + 7 + messages.len() + line_ends(&messages) * 5);
            event.push_str("event: data\ndata:[");
            push_lines(&mut event, &messages);
            event.push(']');
        }
        DataKind::Text => {
            let text = String::from_utf8_lossy(stored);
            event = String::with_capacity(FRAME_BYTES + 5 + text.len() + line_ends(&text) * 5);
            event.push_str("event: data\ndata:");
            push_lines(&mut event, &text);
        }
    }
    finish(event, next)
}

/// The event that says how far the reader is: after each data event, and once at the tail.
///
/// `closed` means that the stream is closed and everything was sent: the connection ends with this
/// event, and the cursor is left out.
pub fn control(next: Offset, cursor: Option<u64>, up_to_date: bool, closed: bool) -> Bytes {
    let mut event = String::with_capacity(3 * FRAME_BYTES);
    event.push_str("event: control\ndata:{\"streamNextOffset\":\"");
    write!(event, "{next}\"").expect("a string takes all");
    if let Some(cursor) = cursor.filter(|_| !closed) {
        write!(event, ",\"streamCursor\":\"{cursor}\"").expect("a string takes all");
    }
    // The official client tells its user of a close that comes without data only beside `upToDate`.
    if up_to_date || closed {
        event.push_str(",\"upToDate\":true");
    }
    if closed {
        event.push_str(",\"streamClosed\":true");
    }
    event.push('}');
    finish(event, next)
}

fn finish(mut event: String, next: Offset) -> Bytes {
    write!(event, "\nid:{next}\n\n").expect("a string takes all");
    event.into()
}

fn line_ends(text: &str) -> usize {
    text.bytes().filter(|byte| matches!(byte, b'\n' | b'\r')).count()
}

/// Copies `text`; each CRLF, CR and LF becomes the end of a `data:` line, so that nothing in it can
/// end the event or start another.
fn push_lines(event: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(['\n', '\r']) {
        event.push_str(&rest[..at]);
        event.push_str("\ndata:");
        let end = if rest[at..].starts_with("\r\n") { 2 } else { 1 };
        rest = &rest[at + end..];
    }
    event.push_str(rest);
}

/// How many of these bytes can be sent as text now: all but a character that is not complete yet.
/// Bytes that no more bytes can make valid are not held back.
pub fn text_boundary(stored: &[u8]) -> usize {
    let start = stored.len().saturating_sub(3);
    let lead = stored[start..].iter().rposition(|byte| *byte >= 0xC0).map_or(stored.len(), |at| start + at);
    match std::str::from_utf8(&stored[lead..]) {
        Err(error) if error.error_len().is_none() => lead + error.valid_up_to(),
        _ => stored.len(),
    }
}

#[cfg(test)]
mod tests;
