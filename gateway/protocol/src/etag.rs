//! ETags of pages and of snapshots, and what a client says it has.

use std::fmt::Write;

use http::header::IF_NONE_MATCH;
use http::{HeaderMap, HeaderValue};
use ursula_common::{GroupId, Offset, StreamId};

/// The tag of the bytes between two offsets of one incarnation of a stream, and of whether they end
/// a closed stream.
pub(crate) fn etag(group: GroupId, stream: StreamId, start: Offset, next: Offset, closed: bool) -> HeaderValue {
    let suffix = if closed { ":c" } else { "" };
    let text = format!("\"{:x}.{:x}:{}:{}{suffix}\"", group.0, stream.0, start.0, next.0);
    HeaderValue::try_from(text).expect("digits, colons and quotes are valid in a header")
}

/// The tag of a snapshot, whose SHA-256 it is.
pub(crate) fn of_digest(digest: &[u8; 32]) -> HeaderValue {
    let mut text = String::with_capacity(2 + 2 * digest.len());
    text.push('"');
    digest.iter().for_each(|byte| write!(text, "{byte:02x}").expect("a string takes all"));
    text.push('"');
    HeaderValue::try_from(text).expect("digits and quotes are valid in a header")
}

/// The SHA-256 of the snapshot that has this tag.
pub(crate) fn to_digest(tag: &str) -> Option<[u8; 32]> {
    let hex = tag.strip_prefix('"')?.strip_suffix('"')?.as_bytes();
    let mut digest = [0; 32];
    if hex.len() != 2 * digest.len() {
        return None;
    }
    let digit = |byte: u8| (!byte.is_ascii_uppercase()).then(|| char::from(byte).to_digit(16))?;
    for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(digest)
}

/// The `If-None-Match` headers of a request; empty if there are none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IfNoneMatch(Vec<HeaderValue>);

impl IfNoneMatch {
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        IfNoneMatch(headers.get_all(IF_NONE_MATCH).iter().cloned().collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the tags is `etag`, which is strong and holds no comma; `W/` does not count.
    pub(crate) fn matches(&self, etag: &HeaderValue) -> bool {
        let tags = self.0.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        tags.map(<[u8]>::trim_ascii).any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
    }
}

#[cfg(test)]
mod tests;
