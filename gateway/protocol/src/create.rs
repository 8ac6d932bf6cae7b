//! PUT: create a stream, or a fork of one.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Uri};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use ursula_common::limits::{EXPIRES_AT_BYTES_MAX, RETENTION_BYTES_MAX, TTL_SECONDS_MAX};
use ursula_common::verb::{Create, ForkFrom, Lifetime, Op, Retention};
use ursula_common::{ContentType, Millis, Offset, StreamKey};

use crate::body::{self, StoredBody};
use crate::headers::{
    self, STREAM_EXPIRES_AT, STREAM_FORK_OFFSET, STREAM_FORK_SUB_OFFSET, STREAM_FORKED_FROM, STREAM_RETENTION_MAX_AGE,
    STREAM_RETENTION_MAX_BYTES, STREAM_RETENTION_SNAPSHOT, STREAM_TTL,
};
use crate::{Rejection, Route, request, route};

/// A create, as far as its head says.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateParts {
    /// The stream to create.
    pub key: StreamKey,
    content_type: Option<ContentType>,
    lifetime: Lifetime,
    retention: Retention,
    closed: bool,
    fork: Option<ForkFrom>,
}

impl CreateParts {
    pub(crate) fn parse(key: StreamKey, headers: &HeaderMap) -> Result<Self, Rejection> {
        request::check_length(headers)?;
        Ok(CreateParts {
            key,
            content_type: body::content_type(headers)?,
            lifetime: lifetime(headers)?,
            retention: retention(headers)?,
            closed: headers::closed(headers)?,
            fork: fork(headers)?,
        })
    }

    /// The stream whose type must be known before `body` can be stored: a fork without a type of its
    /// own takes that of its source. Ask it, then [`CreateParts::set_content_type`].
    pub fn needs_source_type(&self, body: &Bytes) -> Option<&StreamKey> {
        let fork = self.fork.as_ref().filter(|_| self.content_type.is_none() && !body.is_empty())?;
        Some(&fork.source)
    }

    /// Sets the type, as if the client had sent it.
    pub fn set_content_type(&mut self, content_type: ContentType) {
        self.content_type = Some(content_type);
    }

    /// Checks the body and gives its stored form; it may be empty.
    ///
    /// # Errors
    /// [`Rejection::InvalidJson`] or [`Rejection::BodyTooLarge`].
    pub fn store(&self, body: Bytes) -> Result<StoredBody, Rejection> {
        match &self.content_type {
            _ if body.is_empty() => Ok(StoredBody::EMPTY),
            Some(content_type) => StoredBody::new(content_type, body),
            None => StoredBody::new(&ContentType::default(), body),
        }
    }

    /// Makes the verb; `body` is what [`CreateParts::store`] gave.
    pub fn into_op(self, body: StoredBody) -> Op {
        Op::Create(Create {
            key: self.key,
            content_type: self.content_type,
            lifetime: self.lifetime,
            retention: self.retention,
            closed: self.closed,
            body: body.into_bytes(),
            fork: self.fork,
            numbered: true,
        })
    }
}

fn lifetime(headers: &HeaderMap) -> Result<Lifetime, Rejection> {
    match (headers::single(headers, STREAM_TTL)?, headers::single(headers, STREAM_EXPIRES_AT)?) {
        (None, None) => Ok(Lifetime::Forever),
        (Some(_), Some(_)) => Err(headers::invalid(STREAM_TTL, "and Stream-Expires-At exclude each other: send one")),
        (Some(text), None) => {
            let problem = "must be a whole number of seconds without leading zeros, at most 100 years";
            let seconds = headers::canonical_digits(text).filter(|seconds| *seconds <= TTL_SECONDS_MAX);
            seconds.map(Lifetime::Ttl).ok_or_else(|| headers::invalid(STREAM_TTL, problem))
        }
        (None, Some(text)) => {
            let problem = "must be an RFC 3339 date and time with a zone, like 2030-01-31T12:00:00Z";
            let at = point_in_time(text).ok_or_else(|| headers::invalid(STREAM_EXPIRES_AT, problem))?;
            Ok(Lifetime::ExpiresAt { text: text.into(), at })
        }
    }
}

fn retention(headers: &HeaderMap) -> Result<Retention, Rejection> {
    let limit = |name: HeaderName, most, problem| match headers::single(headers, name.clone())? {
        None => Ok(None),
        Some(text) => {
            let limit = headers::canonical_digits(text).filter(|limit| (1..=most).contains(limit));
            limit.map(Some).ok_or_else(|| headers::invalid(name, problem))
        }
    };
    let seconds = "must be a whole number of seconds without leading zeros, from 1 to 100 years";
    let bytes = "must be a whole number of bytes without leading zeros, from 1 to 2^53 - 1";
    Ok(Retention {
        max_age: limit(STREAM_RETENTION_MAX_AGE, TTL_SECONDS_MAX, seconds)?,
        max_bytes: limit(STREAM_RETENTION_MAX_BYTES, RETENTION_BYTES_MAX, bytes)?,
        snapshot: match headers::single(headers, STREAM_RETENTION_SNAPSHOT)? {
            None => false,
            Some(text) if text.eq_ignore_ascii_case("true") => true,
            Some(_) => return Err(headers::invalid(STREAM_RETENTION_SNAPSHOT, "must be true, or not be sent")),
        },
    })
}

fn point_in_time(text: &str) -> Option<Millis> {
    if text.len() > EXPIRES_AT_BYTES_MAX {
        return None;
    }
    let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    // Before 1970 is as good as 1970: in the past.
    Some(Millis(u64::try_from(nanos / 1_000_000).unwrap_or(0)))
}

fn fork(headers: &HeaderMap) -> Result<Option<ForkFrom>, Rejection> {
    let source = headers::single(headers, STREAM_FORKED_FROM)?;
    let offset = headers::single(headers, STREAM_FORK_OFFSET)?;
    let sub_offset = headers::single(headers, STREAM_FORK_SUB_OFFSET)?;
    let Some(source) = source else {
        return match (offset, sub_offset) {
            (None, None) => Ok(None),
            (Some(_), _) => Err(headers::invalid(STREAM_FORK_OFFSET, "needs Stream-Forked-From")),
            _ => Err(headers::invalid(STREAM_FORK_SUB_OFFSET, "needs Stream-Forked-From")),
        };
    };
    let offset: Option<Offset> = match offset.map(str::parse) {
        None => None,
        Some(Ok(offset)) => Some(offset),
        Some(Err(_)) => return Err(headers::invalid(STREAM_FORK_OFFSET, "must be an offset of the source")),
    };
    let sub_offset = match sub_offset.map(headers::canonical_digits) {
        None => 0,
        Some(Some(sub_offset)) => sub_offset,
        Some(None) => {
            let problem = "must be a whole number without leading zeros";
            return Err(headers::invalid(STREAM_FORK_SUB_OFFSET, problem));
        }
    };
    Ok(Some(ForkFrom { source: source_key(source)?, offset, sub_offset }))
}

/// The stream that a path, or a whole URL of this server, names.
fn source_key(text: &str) -> Result<StreamKey, Rejection> {
    let problem = "must be the path of a stream on this server, like /v1/stream/<name>";
    match text.parse::<Uri>().ok().and_then(|uri| route(uri.path()).ok()) {
        Some(Route::Stream(key)) => Ok(key),
        _ => Err(headers::invalid(STREAM_FORKED_FROM, problem)),
    }
}

#[cfg(test)]
mod tests;
