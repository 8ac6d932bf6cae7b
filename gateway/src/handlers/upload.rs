//! Bodies of requests: read whole or in pieces, within a size, a time and the memory for all of them.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::iter::successors;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::header::{CONNECTION, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Response};
use http_body::Body as _;
use http_body_util::BodyExt;
use metrics::Gauge;
use tokio::time::timeout;
use ursula_common::limits::APPEND_BYTES_MAX;
use ursula_protocol::{self as protocol, Rejection};

use super::failed;

/// Memory for the bodies of all requests under way.
#[derive(Clone)]
pub(crate) struct UploadBudget(Arc<Inner>);

struct Inner {
    used: AtomicUsize,
    max: usize,
    gauge: Gauge,
}

impl UploadBudget {
    pub(crate) fn new(max: usize, gauge: Gauge) -> UploadBudget {
        UploadBudget(Arc::new(Inner { used: AtomicUsize::new(0), max, gauge }))
    }

    /// Reads a body to its end. A body that came with its head needs no timer and no copy.
    ///
    /// # Errors
    /// The response to a body that is too large, too slow or cut off, or for which there is no memory.
    pub(super) async fn read(&self, body: Body, time: Duration) -> Result<Upload, Response<Bytes>> {
        let mut pieces = self.pieces(body, time);
        let whole = pieces.next(APPEND_BYTES_MAX).await?;
        if pieces.has_more() { Err(closing(protocol::rejection(&Rejection::BodyTooLarge))) } else { Ok(whole) }
    }

    /// Reads a body piece by piece, each within `time`.
    pub(super) fn pieces(&self, body: Body, time: Duration) -> Pieces {
        Pieces { budget: self.clone(), body, time, left: Bytes::new() }
    }
}

/// A body that is read in pieces. What is not read of it cannot be skipped: without it, the connection must end.
pub(super) struct Pieces {
    budget: UploadBudget,
    body: Body,
    time: Duration,
    /// What has come and is in no piece yet; empty at the end.
    left: Bytes,
}

impl Pieces {
    /// The next piece, of at most `bytes_max`; the last one may be empty.
    ///
    /// # Errors
    /// The response to a body that is too slow or cut off, or for which there is no memory. The connection ends with it.
    pub(super) async fn next(&mut self, bytes_max: usize) -> Result<Upload, Response<Bytes>> {
        let time = self.time;
        let mut reading = pin!(self.collect(bytes_max));
        let read = match reading.as_mut().now_or_never() {
            Some(read) => read,
            None => match timeout(time, reading).await {
                Ok(read) => read,
                Err(_) => Err(protocol::rejection(&Rejection::BodyTimeout)),
            },
        };
        read.map_err(closing)
    }

    /// Whether the body goes on after the last piece.
    pub(super) fn has_more(&self) -> bool {
        !self.left.is_empty()
    }

    async fn collect(&mut self, bytes_max: usize) -> Result<Upload, Response<Bytes>> {
        let mut held = Held { budget: self.budget.clone(), bytes: 0 };
        let mut first = Bytes::new();
        // Copied, since a part may be one byte: kept as they come, they would take far more than is held.
        let mut whole = BytesMut::new();
        loop {
            if self.left.is_empty() {
                let Some(frame) = self.body.frame().await else { break };
                let frame = frame.map_err(|error| protocol::rejection(&unreadable(&error)))?;
                let Ok(data) = frame.into_data() else { continue };
                self.left = data;
                continue;
            }
            let room = bytes_max - held.bytes;
            if room == 0 {
                break;
            }
            let data = self.left.split_to(room.min(self.left.len()));
            if !held.grow(data.len()) {
                return Err(failed(&ursula_common::Error::Overloaded));
            }
            if held.bytes == data.len() {
                first = data;
            } else {
                whole.extend_from_slice(&std::mem::take(&mut first));
                whole.extend_from_slice(&data);
            }
        }
        Ok(Upload { bytes: if whole.is_empty() { first } else { whole.freeze() }, held })
    }
}

/// Says that the connection ends with this response: what is left of the body will not be read.
pub(super) fn closing<B>(mut response: Response<B>) -> Response<B> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Reads a body that nobody wants to its end, so that the next request can follow; `false` if that is too far,
/// if the client waits to be asked for it, or if it is not clear where it ends.
pub(super) async fn skip(headers: &HeaderMap, mut body: Body, time: Duration) -> bool {
    if body.is_end_stream() {
        return true;
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter().map(HeaderValue::as_bytes);
    let is_clear =
        codings.next().is_none_or(|coding| coding.eq_ignore_ascii_case(b"chunked")) && codings.next().is_none();
    if !is_clear || body.size_hint().lower() > APPEND_BYTES_MAX as u64 || headers.contains_key(EXPECT) {
        return false;
    }
    let skipping = async {
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > APPEND_BYTES_MAX {
                return false;
            }
        }
        true
    };
    timeout(time, skipping).await.unwrap_or(false)
}

/// A body that ended early may come again whole; one that is malformed will be so again.
fn unreadable(error: &(dyn Error + 'static)) -> Rejection {
    let io = successors(Some(error), |error| (*error).source()).find_map(|error| error.downcast_ref::<io::Error>());
    match io.map(io::Error::kind) {
        Some(ErrorKind::InvalidData | ErrorKind::InvalidInput) => Rejection::InvalidBody,
        _ => Rejection::BodyIncomplete,
    }
}

/// A body or a piece of one; its memory counts for as long as `held` lives.
pub(super) struct Upload {
    pub(super) bytes: Bytes,
    pub(super) held: Held,
}

/// A part of the budget.
pub(super) struct Held {
    budget: UploadBudget,
    bytes: usize,
}

impl Held {
    fn grow(&mut self, bytes: usize) -> bool {
        let Inner { used, max, gauge } = &*self.budget.0;
        if used.fetch_add(bytes, Ordering::Relaxed) + bytes > *max {
            used.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        gauge.increment(bytes as f64);
        self.bytes += bytes;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Inner { used, gauge, .. } = &*self.budget.0;
        used.fetch_sub(self.bytes, Ordering::Relaxed);
        gauge.decrement(self.bytes as f64);
    }
}
