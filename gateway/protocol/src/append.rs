//! POST: append to a stream, close it, or both.

use std::sync::Arc;

use bytes::Bytes;
use http::header::IF_MATCH;
use http::{HeaderMap, HeaderName};
use ursula_common::limits::{PRODUCER_ID_BYTES_MAX, PRODUCER_NUMBER_MAX, STREAM_SEQ_BYTES_MAX};
use ursula_common::verb::{Append, Op, Producer};
use ursula_common::{ContentType, Offset, StreamKey};

use crate::body::{self, StoredBody};
use crate::headers::{self, PRODUCER_EPOCH, PRODUCER_ID, PRODUCER_SEQ, STREAM_EXPECTED_OFFSET, STREAM_SEQ};
use crate::{Rejection, request};

/// An append, as far as its head says.
#[derive(Debug, Clone, PartialEq)]
pub struct AppendParts {
    /// The stream.
    pub key: StreamKey,
    /// The type of the body.
    pub content_type: Option<ContentType>,
    close: bool,
    producer: Option<Producer>,
    stream_seq: Option<Arc<str>>,
    expected_offset: Option<Offset>,
    if_match: bool,
}

/// An append, and what is to be remembered of the request until it is answered.
#[derive(Debug, Clone, PartialEq)]
pub struct AppendOp {
    /// The verb.
    pub op: Op,
    /// For the answer.
    pub context: Context,
}

/// What an answer depends on besides the reply or the error itself. The default is right for
/// everything but appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Context {
    /// The expected offset came as `If-Match`.
    pub if_match: bool,
    /// The request has no body and only closes.
    pub close_only: bool,
    /// A second copy of the request would be applied too.
    pub repeatable: bool,
}

impl AppendParts {
    /// Reads the headers; those of producers first, as the reference server does.
    pub(crate) fn parse(key: StreamKey, headers: &HeaderMap) -> Result<Self, Rejection> {
        let producer = producer(headers)?;
        request::check_length(headers)?;
        let (expected_offset, if_match) = expected_offset(headers)?;
        Ok(AppendParts {
            key,
            content_type: body::content_type(headers)?,
            close: headers::closed(headers)?,
            producer,
            stream_seq: stream_seq(headers)?.map(Into::into),
            expected_offset,
            if_match,
        })
    }

    /// Checks the body and gives its stored form.
    ///
    /// # Errors
    /// [`Rejection::EmptyBody`], [`Rejection::MissingContentType`], [`Rejection::BodyTooLarge`], and
    /// those that [yield](Rejection::yields_to_stream_state) to the state of the stream.
    pub fn store(&self, body: Bytes) -> Result<StoredBody, Rejection> {
        if body.is_empty() {
            return if self.close { Ok(StoredBody::EMPTY) } else { Err(Rejection::EmptyBody) };
        }
        let content_type = self.content_type.as_ref().ok_or(Rejection::MissingContentType)?;
        let stored = StoredBody::new(content_type, body)?;
        if stored.is_empty() { Err(Rejection::EmptyArray) } else { Ok(stored) }
    }

    /// Makes the verb; `body` is what [`AppendParts::store`] gave.
    pub fn into_op(self, body: StoredBody) -> AppendOp {
        let close_only = body.is_empty();
        // Each of these makes a second copy of the same append a duplicate or a conflict.
        let guarded =
            self.close || self.producer.is_some() || self.stream_seq.is_some() || self.expected_offset.is_some();
        let context = Context { if_match: self.if_match, close_only, repeatable: !guarded };
        let op = Op::Append(Append {
            key: self.key,
            content_type: if close_only { None } else { self.content_type },
            body: body.into_bytes(),
            close: self.close,
            producer: self.producer,
            stream_seq: self.stream_seq,
            expected_offset: self.expected_offset,
        });
        AppendOp { op, context }
    }
}

fn producer(headers: &HeaderMap) -> Result<Option<Producer>, Rejection> {
    let id = headers::single(headers, PRODUCER_ID)?;
    let epoch = headers::single(headers, PRODUCER_EPOCH)?;
    let seq = headers::single(headers, PRODUCER_SEQ)?;
    let (id, epoch, seq) = match (id, epoch, seq) {
        (None, None, None) => return Ok(None),
        (Some(id), Some(epoch), Some(seq)) => (id, epoch, seq),
        _ => {
            return Err(headers::invalid(PRODUCER_ID, "must come with Producer-Epoch and Producer-Seq, or not at all"));
        }
    };
    if id.is_empty() {
        return Err(headers::invalid(PRODUCER_ID, "must not be empty"));
    }
    if id.len() > PRODUCER_ID_BYTES_MAX {
        return Err(headers::invalid(PRODUCER_ID, "is too long: it takes 256 bytes"));
    }
    let number = |name: HeaderName, text| {
        let number = headers::digits(text).filter(|number| *number <= PRODUCER_NUMBER_MAX);
        number.ok_or_else(|| headers::invalid(name, "must be a whole number from 0 to 2^53 - 1"))
    };
    let (epoch, seq) = (number(PRODUCER_EPOCH, epoch)?, number(PRODUCER_SEQ, seq)?);
    Ok(Some(Producer { id: id.into(), epoch, seq }))
}

fn stream_seq(headers: &HeaderMap) -> Result<Option<&str>, Rejection> {
    match headers::single(headers, STREAM_SEQ)? {
        Some("") => Err(headers::invalid(STREAM_SEQ, "must not be empty")),
        Some(text) if text.len() > STREAM_SEQ_BYTES_MAX => {
            Err(headers::invalid(STREAM_SEQ, "is too long: it takes 256 bytes"))
        }
        text => Ok(text),
    }
}

/// The offset, and whether it came as `If-Match`.
fn expected_offset(headers: &HeaderMap) -> Result<(Option<Offset>, bool), Rejection> {
    let problem = "must be an offset that this stream returned";
    let if_match = headers::single(headers, IF_MATCH)?;
    let expected = headers::single(headers, STREAM_EXPECTED_OFFSET)?;
    match (if_match, expected) {
        (None, None) => Ok((None, false)),
        (Some(_), Some(_)) => Err(headers::invalid(STREAM_EXPECTED_OFFSET, "and If-Match exclude each other")),
        (None, Some(text)) => {
            let offset = text.parse().map_err(|_| headers::invalid(STREAM_EXPECTED_OFFSET, problem))?;
            Ok((Some(offset), false))
        }
        (Some(text), None) => {
            let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            let offset = quoted.and_then(|text| text.parse().ok());
            let problem = "must be an offset that this stream returned, in double quotes";
            Ok((Some(offset.ok_or_else(|| headers::invalid(IF_MATCH, problem))?), true))
        }
    }
}

#[cfg(test)]
mod tests;
