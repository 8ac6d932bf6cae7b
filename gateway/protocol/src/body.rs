//! Bodies and their stored form: JSON messages as `m1,m2,`, everything else as it came.
//!
//! The text of a message is kept: numbers, duplicate keys and the order of keys. Only white space
//! between tokens goes, so that a message is one line.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::value::RawValue;
use ursula_common::ContentType;
use ursula_common::limits::{APPEND_BYTES_MAX, CONTENT_TYPE_BYTES_MAX};

use crate::{Rejection, headers};

/// How deep arrays and objects of a message may lie in each other. Common parsers take 127 levels,
/// and a read puts one more around all messages: a deeper one would spoil the page that it is in.
pub const JSON_DEPTH_MAX: usize = 126;

/// A body that was checked, in the form in which it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBody(Bytes);

impl StoredBody {
    pub(crate) const EMPTY: StoredBody = StoredBody(Bytes::new());

    pub(crate) fn new(content_type: &ContentType, body: Bytes) -> Result<Self, Rejection> {
        let stored = if content_type.is_json() { flatten(&body)? } else { body };
        if stored.len() > APPEND_BYTES_MAX { Err(Rejection::BodyTooLarge) } else { Ok(StoredBody(stored)) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.0
    }
}

/// The type that a request names; none if it is missing or not a type at all.
pub(crate) fn content_type(headers: &HeaderMap) -> Result<Option<ContentType>, Rejection> {
    let Some(text) = headers::single(headers, CONTENT_TYPE)? else { return Ok(None) };
    if text.len() > CONTENT_TYPE_BYTES_MAX {
        return Err(headers::invalid(CONTENT_TYPE, "is too long: it takes 256 bytes"));
    }
    let parsed = ContentType::parse(text);
    Ok((parsed.as_str() == text.trim()).then_some(parsed))
}

/// One message, or the messages of one array.
fn flatten(body: &[u8]) -> Result<Bytes, Rejection> {
    let value: &RawValue = serde_json::from_slice(body).map_err(|error| Rejection::InvalidJson(error.to_string()))?;
    let text = value.get();
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let mut stored = Vec::with_capacity(text.len() + 1);
    compact(inner.unwrap_or(text).as_bytes(), &mut stored)?;
    if !stored.is_empty() {
        stored.push(b',');
    }
    Ok(stored.into())
}

/// Copies valid JSON without the white space between its tokens.
fn compact(text: &[u8], stored: &mut Vec<u8>) -> Result<(), Rejection> {
    let mut depth = 0usize;
    let mut copied = 0;
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'"' => at = end_of_string(text, at),
            b' ' | b'\t' | b'\n' | b'\r' => {
                stored.extend_from_slice(&text[copied..at]);
                copied = at + 1;
            }
            b'[' | b'{' => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return Err(Rejection::InvalidJson(format!("nested deeper than {JSON_DEPTH_MAX} levels")));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    stored.extend_from_slice(&text[copied..]);
    Ok(())
}

/// The place of the quote that ends the string whose first quote is at `start`.
fn end_of_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < text.len() && text[at] != b'"' {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    at
}

/// What a client is sent for stored bytes that begin and end between messages, in pieces: they are not copied.
pub(crate) fn sent(content_type: &ContentType, stored: &[Bytes]) -> Vec<Bytes> {
    if !content_type.is_json() {
        return stored.to_vec();
    }
    let mut array = Vec::with_capacity(2 + stored.len());
    array.push(Bytes::from_static(b"["));
    array.extend(stored.iter().filter(|piece| !piece.is_empty()).cloned());
    if let Some(last) = array.last_mut().filter(|last| last.ends_with(b",")) {
        last.truncate(last.len() - 1);
    }
    array.push(Bytes::from_static(b"]"));
    array
}

#[cfg(test)]
mod tests;
