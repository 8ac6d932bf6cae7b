//! Streams: create, append, close, trim, delete, and describe.

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use ursula_common::verb::{Op, Reply, Trim};
use ursula_common::{ContentType, Error, StreamKey};
use ursula_protocol::{self as protocol, AppendParts, CreateParts, Rejection, respond};

use super::upload::Upload;
use super::{Answer, failed, location, whole};
use crate::app::App;

pub(super) async fn append(gateway: &App, parts: AppendParts, body: Body) -> Response<Bytes> {
    whole(try_append(gateway, parts, body).await)
}

async fn try_append(gateway: &App, parts: AppendParts, body: Body) -> Answer {
    let Upload { bytes, held: _held } = gateway.uploads.read(body, gateway.config.body_timeout()).await?;
    let stored = match parts.store(bytes) {
        Ok(stored) => stored,
        Err(rejection) => return Err(refuse(gateway, &parts, rejection).await),
    };
    let append = parts.into_op(stored);
    let bytes = append.op.body_bytes() as u64;
    match gateway.cluster.submit(&append.op).await {
        Ok(Reply::Appended(appended)) => {
            gateway.metrics.appends.increment(1);
            gateway.metrics.appended_bytes.increment(bytes);
            Ok(protocol::respond::appended(&appended, append.context))
        }
        Ok(_) => Err(failed(&Error::OutcomeUnknown)),
        Err(error) => Err(protocol::error(&error, append.context)),
    }
}

/// What is wrong with the stream is told before what is wrong with the body.
async fn refuse(gateway: &App, parts: &AppendParts, rejection: Rejection) -> Response<Bytes> {
    if !rejection.yields_to_stream_state() {
        return protocol::rejection(&rejection);
    }
    match gateway.cluster.describe(&parts.key).await {
        Err(error) => failed(&error),
        Ok(info) if info.closed => failed(&Error::StreamClosed { tail: info.tail }),
        Ok(info) if !same_type(parts.content_type.as_ref(), &info.content_type) => {
            failed(&Error::ContentTypeMismatch { expected: info.content_type })
        }
        Ok(_) => protocol::rejection(&rejection),
    }
}

fn same_type(sent: Option<&ContentType>, expected: &ContentType) -> bool {
    sent.is_some_and(|sent| sent.same_media_type(expected))
}

pub(super) async fn create(
    gateway: &App,
    parts: CreateParts,
    head: &http::request::Parts,
    body: Body,
) -> Response<Bytes> {
    whole(try_create(gateway, parts, head, body).await)
}

async fn try_create(gateway: &App, mut parts: CreateParts, head: &http::request::Parts, body: Body) -> Answer {
    let Upload { bytes, held: _held } = gateway.uploads.read(body, gateway.config.body_timeout()).await?;
    if let Some(source) = parts.needs_source_type(&bytes) {
        match gateway.cluster.describe(source).await {
            Ok(info) => parts.set_content_type(info.content_type),
            Err(Error::StreamNotFound | Error::BucketNotFound) => return Err(failed(&Error::ForkSourceNotFound)),
            Err(Error::StreamGone) => return Err(failed(&Error::ForkSourceGone)),
            Err(error) => return Err(failed(&error)),
        }
    }
    let stored = parts.store(bytes).map_err(|rejection| protocol::rejection(&rejection))?;
    match gateway.cluster.submit(&parts.into_op(stored)).await {
        Ok(Reply::Created(created)) => Ok(respond::created(&created, location(gateway, head))),
        Ok(_) => Err(failed(&Error::OutcomeUnknown)),
        Err(error) => Err(failed(&error)),
    }
}

pub(super) async fn delete(gateway: &App, key: StreamKey) -> Answer {
    gateway.cluster.submit(&Op::Delete(key)).await.map_err(|error| failed(&error))?;
    Ok(respond::deleted())
}

pub(super) async fn trim(gateway: &App, trim: Trim) -> Answer {
    match gateway.cluster.submit(&Op::Trim(trim)).await {
        Ok(Reply::Trimmed(earliest)) => Ok(respond::trimmed(earliest)),
        Ok(_) => Err(failed(&Error::OutcomeUnknown)),
        Err(error) => Err(failed(&error)),
    }
}

pub(super) async fn head(gateway: &App, key: StreamKey) -> Answer {
    let info = gateway.cluster.describe(&key).await.map_err(|error| failed(&error))?;
    Ok(respond::head(&info))
}
