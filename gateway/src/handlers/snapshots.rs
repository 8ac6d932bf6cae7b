//! Snapshots of streams: published, read and removed. Their bytes are streams of their own, which no client can name.

mod bootstrap;
mod content;

use std::num::NonZeroU64;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response};
use sha2::{Digest, Sha256};
use ursula_common::limits::PAGE_BYTES_MAX;
use ursula_common::verb::{Append, Appended, Create, Created, Lifetime, Op, RemoveSnapshot, Reply, Retention};
use ursula_common::{Error, Offset, StreamKey};
use ursula_protocol::{self as protocol, PublishParts, Rejection, SnapshotParts, respond};

use super::upload::{self, Upload, closing};
use super::{Answer, failed, location, whole};
use crate::app::App;
pub(super) use bootstrap::bootstrap;

/// An upload that nobody publishes goes so long after its last piece.
const UPLOAD_TTL_SECONDS: u64 = 3600;

pub(super) async fn publish(gateway: &Arc<App>, parts: PublishParts, head: &Parts, body: Body) -> Response<Bytes> {
    match refusal(gateway, &parts).await {
        None => whole(try_publish(gateway, parts, head, body).await),
        Some(refusal) => match upload::skip(&head.headers, body, gateway.config.body_timeout()).await {
            true => refusal,
            false => closing(refusal),
        },
    }
}

/// What need not be uploaded to be refused. Whether it is accepted, its group decides.
async fn refusal(gateway: &App, parts: &PublishParts) -> Option<Response<Bytes>> {
    if let Err(rejection) = parts.check_length(gateway.config.snapshot_bytes_max) {
        return Some(protocol::rejection(&rejection));
    }
    match gateway.cluster.describe(&parts.key).await {
        Err(error) => Some(failed(&error)),
        Ok(info) => {
            let newest = info.snapshot?.at;
            (parts.at.within(info.tail) < newest).then(|| failed(&Error::SnapshotStale { newest }))
        }
    }
}

async fn try_publish(gateway: &Arc<App>, parts: PublishParts, head: &Parts, body: Body) -> Answer {
    let upload = rand::random::<NonZeroU64>().get();
    let companion = parts.key.companion(upload);
    let published = store_and_publish(gateway, parts, upload, head, body).await;
    if published.is_err() {
        // It would go by itself. If it was published after all, this does nothing.
        let gateway = gateway.clone();
        tokio::spawn(async move { drop(gateway.cluster.submit(&Op::Delete(companion)).await) });
    }
    published
}

async fn store_and_publish(gateway: &App, parts: PublishParts, upload: u64, head: &Parts, body: Body) -> Answer {
    let (bytes, digest) = store(gateway, parts.key.companion(upload), body).await?;
    let op = parts.into_op(upload, bytes, digest).map_err(|rejection| protocol::rejection(&rejection))?;
    match gateway.cluster.submit(&op).await {
        Ok(Reply::SnapshotPublished { new, at }) => Ok(respond::published(new, at, &digest, location(gateway, head))),
        Ok(_) => Err(failed(&Error::OutcomeUnknown)),
        Err(error) => Err(failed(&error)),
    }
}

/// Stores a body under a name that nobody knows yet; returns its length and its SHA-256.
async fn store(gateway: &App, key: StreamKey, body: Body) -> Result<(u64, [u8; 32]), Response<Bytes>> {
    let bytes_max = gateway.config.snapshot_bytes_max;
    let mut pieces = gateway.uploads.pieces(body, gateway.config.body_timeout());
    let (mut tail, mut bytes, mut sha_256) = (None, 0, Sha256::new());
    loop {
        // At most as large as a page, so that it is read in the same pieces.
        let room = usize::try_from(bytes_max - bytes).unwrap_or(usize::MAX).min(PAGE_BYTES_MAX);
        let Upload { bytes: piece, held: _held } = pieces.next(room).await?;
        bytes += piece.len() as u64;
        if bytes == bytes_max && pieces.has_more() {
            return Err(closing(protocol::rejection(&Rejection::SnapshotTooLarge { bytes_max })));
        }
        sha_256.update(&piece);
        let stored = add(gateway, &key, tail, piece).await;
        tail = Some(stored.map_err(|error| if pieces.has_more() { closing(failed(&error)) } else { failed(&error) })?);
        if !pieces.has_more() {
            return Ok((bytes, sha_256.finalize().into()));
        }
    }
}

/// Appends a piece to an upload that ends at `tail`, or creates it; returns where it ends then.
async fn add(gateway: &App, key: &StreamKey, tail: Option<Offset>, piece: Bytes) -> Result<Offset, Error> {
    let op = match tail {
        None => Op::Create(Create {
            key: key.clone(),
            content_type: None,
            lifetime: Lifetime::Ttl(UPLOAD_TTL_SECONDS),
            retention: Retention::default(),
            closed: false,
            body: piece,
            fork: None,
            numbered: true,
        }),
        Some(_) => Op::Append(Append {
            key: key.clone(),
            content_type: Some(Default::default()),
            body: piece,
            close: false,
            producer: None,
            stream_seq: None,
            expected_offset: tail,
        }),
    };
    match gateway.cluster.submit(&op).await {
        Ok(Reply::Created(Created { tail, .. }) | Reply::Appended(Appended { tail, .. })) => Ok(tail),
        // Whatever became of the piece, nothing was published.
        Ok(_) | Err(Error::OutcomeUnknown | Error::ResultForgotten) => Err(Error::Unavailable),
        Err(Error::StreamNotFound) if tail.is_some() => Err(Error::SnapshotIncomplete),
        Err(error) => Err(error),
    }
}

pub(super) async fn remove(gateway: &App, remove: RemoveSnapshot) -> Answer {
    gateway.cluster.submit(&Op::RemoveSnapshot(remove)).await.map_err(|error| failed(&error))?;
    Ok(respond::deleted())
}

pub(super) async fn head(gateway: &App, parts: &SnapshotParts, head: &Parts) -> Answer {
    describe(gateway, parts, head, false).await
}

/// A snapshot without its bytes, or that the client has it already.
async fn describe(gateway: &App, parts: &SnapshotParts, head: &Parts, touch: bool) -> Answer {
    let (_, found) = content::find(gateway, &parts.key, parts.at, touch).await.map_err(|error| failed(&error))?;
    let info = found.ok_or_else(|| failed(&Error::SnapshotNotFound))?;
    let response = respond::snapshot(&info, &parts.if_none_match, newest_location(gateway, parts, head).as_ref());
    Ok(response.map(|()| Bytes::new()))
}

pub(super) async fn read(gateway: &Arc<App>, parts: SnapshotParts, head: &Parts) -> Response<Body> {
    try_read(gateway, &parts, head).await.unwrap_or_else(|response| response.map(Body::from))
}

async fn try_read(gateway: &Arc<App>, parts: &SnapshotParts, head: &Parts) -> Result<Response<Body>, Response<Bytes>> {
    if !parts.if_none_match.is_empty() {
        let described = describe(gateway, parts, head, true).await?;
        if !described.status().is_success() {
            return Err(described);
        }
    }
    let (_, opened) = content::open(gateway, &parts.key, parts.at).await.map_err(|error| failed(&error))?;
    let (info, content) = opened.ok_or_else(|| failed(&Error::SnapshotNotFound))?;
    let response = respond::snapshot(&info, &parts.if_none_match, newest_location(gateway, parts, head).as_ref());
    let is_wanted = response.status().is_success();
    Ok(response.map(|()| if is_wanted { content.into_body() } else { Body::empty() }))
}

/// The URL of the request, if it asks for the newest snapshot.
fn newest_location(gateway: &App, parts: &SnapshotParts, head: &Parts) -> Option<HeaderValue> {
    location(gateway, head).filter(|_| parts.at.is_none())
}

#[cfg(test)]
mod tests;
