//! Bodies of requests: read whole, within a size, a time and the memory for all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::Response;
use http_body_util::BodyExt;
use metrics::Gauge;
use tokio::time::timeout;
use ursula_common::Error;
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
        let mut reading = Box::pin(self.collect(body));
        match reading.as_mut().now_or_never() {
            Some(read) => read,
            None => match timeout(time, reading).await {
                Ok(read) => read,
                Err(_) => Err(protocol::rejection(&Rejection::BodyTimeout)),
            },
        }
    }

    async fn collect(&self, mut body: Body) -> Result<Upload, Response<Bytes>> {
        let mut held = Held { budget: self.clone(), bytes: 0 };
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| protocol::rejection(&Rejection::BodyIncomplete))?;
            let Ok(data) = frame.into_data() else { continue };
            if held.bytes + data.len() > APPEND_BYTES_MAX {
                return Err(protocol::rejection(&Rejection::BodyTooLarge));
            }
            if !held.grow(data.len()) {
                return Err(failed(&Error::Overloaded));
            }
            if first.is_empty() {
                first = data;
            } else {
                rest.extend_from_slice(&data);
            }
        }
        let bytes = if rest.is_empty() { first } else { [first, rest.freeze()].concat().into() };
        Ok(Upload { bytes, held })
    }
}

/// A whole body; its memory counts for as long as `held` lives.
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
