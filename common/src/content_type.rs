//! Content types: kept exactly as the creator wrote them, compared by media type alone.

use std::fmt;
use std::sync::Arc;

/// The type of a stream, verbatim as created.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContentType(Arc<str>);

impl ContentType {
    /// The type of a stream whose creator named none, or none that is valid.
    pub const DEFAULT: &'static str = "application/octet-stream";

    /// Takes the text of a header; anything without a `type/subtype` at its start becomes
    /// [`ContentType::DEFAULT`], as the reference server has it.
    pub fn parse(text: &str) -> ContentType {
        let text = text.trim();
        let word = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
        };
        let valid = media_type(text).split_once('/').is_some_and(|(kind, sub)| word(kind) && word(sub));
        ContentType(if valid { text.into() } else { Self::DEFAULT.into() })
    }

    /// The text, exactly as created.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both name the same media type: case and parameters do not count.
    pub fn same_media_type(&self, other: &ContentType) -> bool {
        media_type(&self.0).eq_ignore_ascii_case(media_type(&other.0))
    }

    /// Whether a stream of this type stores JSON messages.
    pub fn is_json(&self) -> bool {
        media_type(&self.0).eq_ignore_ascii_case("application/json")
    }

    /// Whether a stream of this type is sent as text over SSE (`text/*` and JSON), not as base64.
    pub fn is_text(&self) -> bool {
        self.is_json() || media_type(&self.0).get(..5).is_some_and(|kind| kind.eq_ignore_ascii_case("text/"))
    }
}

impl Default for ContentType {
    fn default() -> Self {
        ContentType(Self::DEFAULT.into())
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn media_type(text: &str) -> &str {
    text.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests;
