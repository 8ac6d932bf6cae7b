//! Snapshots of a stream: publish, remove, read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName};
use ursula_common::verb::{Op, PublishSnapshot, RemoveSnapshot, SnapshotCondition};
use ursula_common::{ContentType, Offset, StreamKey};

use crate::headers::{self, CONTENT_DIGEST, REPR_DIGEST};
use crate::{IfNoneMatch, Rejection, body, etag};

/// The algorithm of [`CONTENT_DIGEST`] and [`REPR_DIGEST`] that is understood.
const SHA_256: &str = "sha-256";

/// A snapshot that is to be published, as far as its head says.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishParts {
    /// The stream.
    pub key: StreamKey,
    /// Where.
    pub at: Offset,
    content_type: ContentType,
    condition: SnapshotCondition,
    /// What the SHA-256 of the body must be, and which header says so.
    digests: Vec<(HeaderName, [u8; 32])>,
    /// As the client says; more than can be counted is as good as the most that can.
    length: Option<u64>,
}

impl PublishParts {
    pub(crate) fn parse(key: StreamKey, at: Offset, headers: &HeaderMap) -> Result<Self, Rejection> {
        if headers.contains_key(CONTENT_RANGE) {
            return Err(headers::invalid(CONTENT_RANGE, "is not kept here: send the whole snapshot"));
        }
        let mut digests = Vec::new();
        for name in [CONTENT_DIGEST, REPR_DIGEST] {
            digests.extend(sha_256(headers, &name)?.map(|digest| (name, digest)));
        }
        let length = headers::single(headers, CONTENT_LENGTH)?;
        Ok(PublishParts {
            key,
            at,
            content_type: body::content_type(headers)?.unwrap_or_default(),
            condition: condition(headers)?,
            digests,
            length: length.map(|text| headers::digits(text).unwrap_or(u64::MAX)),
        })
    }

    /// Refuses a body that says beforehand that it is larger than `bytes_max`.
    ///
    /// # Errors
    /// [`Rejection::SnapshotTooLarge`].
    pub fn check_length(&self, bytes_max: u64) -> Result<(), Rejection> {
        match self.length {
            Some(length) if length > bytes_max => Err(Rejection::SnapshotTooLarge { bytes_max }),
            _ => Ok(()),
        }
    }

    /// Makes the verb, for a body of so many bytes with this SHA-256.
    ///
    /// # Errors
    /// [`Rejection::DigestMismatch`].
    pub fn into_op(self, upload: u64, bytes: u64, digest: [u8; 32]) -> Result<Op, Rejection> {
        if let Some((name, _)) = self.digests.into_iter().find(|(_, expected)| *expected != digest) {
            return Err(Rejection::DigestMismatch(name));
        }
        Ok(Op::PublishSnapshot(PublishSnapshot {
            key: self.key,
            at: self.at,
            cut: None,
            upload,
            content_type: self.content_type,
            bytes,
            digest,
            condition: self.condition,
        }))
    }
}

/// A snapshot that is to be read.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotParts {
    /// The stream.
    pub key: StreamKey,
    /// Where; `None` for the newest.
    pub at: Option<Offset>,
    /// What the client has already.
    pub if_none_match: IfNoneMatch,
}

impl SnapshotParts {
    pub(crate) fn new(key: StreamKey, at: Option<Offset>, headers: &HeaderMap) -> Self {
        SnapshotParts { key, at, if_none_match: IfNoneMatch::from_headers(headers) }
    }
}

/// The verb that removes a snapshot.
pub(crate) fn remove(key: StreamKey, at: Offset, headers: &HeaderMap) -> Result<RemoveSnapshot, Rejection> {
    match condition(headers)? {
        SnapshotCondition::Absent => Err(headers::invalid(IF_NONE_MATCH, "is not kept here: there is If-Match")),
        condition => Ok(RemoveSnapshot { key, at, condition }),
    }
}

fn condition(headers: &HeaderMap) -> Result<SnapshotCondition, Rejection> {
    match (headers::single(headers, IF_MATCH)?, headers::single(headers, IF_NONE_MATCH)?) {
        (None, None) => Ok(SnapshotCondition::Any),
        (Some(_), Some(_)) => Err(headers::invalid(IF_MATCH, "and If-None-Match exclude each other")),
        (Some(tag), None) => match etag::to_digest(tag) {
            Some(digest) => Ok(SnapshotCondition::Is(digest)),
            None => Err(headers::invalid(IF_MATCH, "must be the ETag of a snapshot, and no other")),
        },
        (None, Some("*")) => Ok(SnapshotCondition::Absent),
        (None, Some(_)) => Err(headers::invalid(IF_NONE_MATCH, "must be * here")),
    }
}

/// The SHA-256 that a digest header names, as RFC 9530 has it; none if it names others only.
fn sha_256(headers: &HeaderMap, name: &HeaderName) -> Result<Option<[u8; 32]>, Rejection> {
    let text = headers::single(headers, name.clone())?.unwrap_or_default();
    // Of several the last one counts.
    let mut members = text.rsplit(',').filter_map(|member| member.split_once('='));
    let Some((_, value)) = members.find(|(algorithm, _)| algorithm.trim() == SHA_256) else {
        return Ok(None);
    };
    let value = value.split(';').next().unwrap_or_default().trim();
    let base64 = value.strip_prefix(':').and_then(|value| value.strip_suffix(':'));
    let digest = base64.and_then(|base64| STANDARD.decode(base64).ok()).and_then(|digest| digest.try_into().ok());
    match digest {
        Some(digest) => Ok(Some(digest)),
        None => Err(headers::invalid(name.clone(), "must have 32 bytes in base64 between colons after sha-256=")),
    }
}

/// The value of [`REPR_DIGEST`] for this SHA-256.
pub(crate) fn repr_digest(digest: &[u8; 32]) -> String {
    format!("{SHA_256}=:{}:", STANDARD.encode(digest))
}

#[cfg(test)]
mod tests;
