//! Bodies of requests: read whole, within a size and a time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use tokio::time::timeout;
use ursula_common::limits::APPEND_BYTES_MAX;
use ursula_protocol::Rejection;

/// Reads a body to its end. A body that came with its head needs no timer and no copy.
///
/// # Errors
/// [`Rejection::BodyTooLarge`], [`Rejection::BodyTimeout`] or [`Rejection::BodyIncomplete`].
pub(super) async fn read(body: Body, time: Duration) -> Result<Bytes, Rejection> {
    let mut reading = Box::pin(collect(body));
    match reading.as_mut().now_or_never() {
        Some(read) => read,
        None => timeout(time, reading).await.unwrap_or(Err(Rejection::BodyTimeout)),
    }
}

async fn collect(mut body: Body) -> Result<Bytes, Rejection> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Rejection::BodyIncomplete)?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > APPEND_BYTES_MAX {
            return Err(Rejection::BodyTooLarge);
        }
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    Ok([first, rest.freeze()].concat().into())
}
