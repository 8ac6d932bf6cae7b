//! ETags of pages, and what a client says it has.

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

/// The `If-None-Match` headers of a request; empty if there are none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IfNoneMatch(Vec<HeaderValue>);

impl IfNoneMatch {
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        IfNoneMatch(headers.get_all(IF_NONE_MATCH).iter().cloned().collect())
    }

    /// Whether one of the tags is `etag`, which is strong and holds no comma; `W/` does not count.
    pub(crate) fn matches(&self, etag: &HeaderValue) -> bool {
        let tags = self.0.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        tags.map(<[u8]>::trim_ascii).any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
    }
}

#[cfg(test)]
mod tests;
