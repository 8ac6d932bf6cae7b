//! Names of buckets and streams, checked once where they enter.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::limits::{BUCKET_NAME_BYTES_MAX, STREAM_NAME_BYTES_MAX};

/// Bucket names that the server keeps for its own routes.
pub const RESERVED_BUCKETS: [&str; 5] = ["v1", "health", "ready", "metrics", "console"];
/// The bucket behind the protocol's own mount, `/v1/stream/`; it always exists.
pub const DEFAULT_BUCKET: &str = "default";
/// First segment of a stream name that is kept for the protocol's control routes.
pub const RESERVED_SEGMENT: &str = "__ds";
/// Between the name of a stream and the number of an upload. No client can have written an empty segment.
const COMPANION: &str = "//";

/// Why a name is not allowed; the text says what would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// A bucket name outside `[a-z0-9][a-z0-9_-]{1,63}`.
    #[error("a bucket name is 2 to 64 characters of a-z, 0-9, _ and -, and starts with a letter or digit")]
    Bucket,
    /// A bucket name that the server needs itself.
    #[error("this bucket name is reserved for the server: choose another")]
    ReservedBucket,
    /// An empty stream name.
    #[error("the stream name is empty: name a stream after the bucket")]
    EmptyStream,
    /// A stream name beyond [`STREAM_NAME_BYTES_MAX`].
    #[error("a stream name is at most {STREAM_NAME_BYTES_MAX} bytes of UTF-8")]
    LongStream,
    /// A control character in a stream name.
    #[error("a stream name must not contain control characters")]
    ControlCharacter,
    /// An empty, `.` or `..` segment in a stream name.
    #[error("a stream name must not contain an empty, `.` or `..` segment")]
    Segment,
    /// A stream name below `__ds/`.
    #[error("stream names under `__ds` are reserved for the protocol's control routes")]
    ReservedStream,
}

/// The name of a bucket: `[a-z0-9][a-z0-9_-]{1,63}` and not reserved.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketName(Arc<str>);

impl BucketName {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`InvalidName::Bucket`] or [`InvalidName::ReservedBucket`].
    pub fn parse(name: &str) -> Result<Self, InvalidName> {
        let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = name.as_bytes();
        let valid = (2..=BUCKET_NAME_BYTES_MAX).contains(&bytes.len())
            && word(bytes[0])
            && bytes.iter().all(|b| word(*b) || matches!(b, b'_' | b'-'));
        if RESERVED_BUCKETS.contains(&name) {
            Err(InvalidName::ReservedBucket)
        } else if !valid {
            Err(InvalidName::Bucket)
        } else {
            Ok(BucketName(name.into()))
        }
    }

    /// The bucket behind `/v1/stream/`.
    pub fn default_bucket() -> Self {
        BucketName(DEFAULT_BUCKET.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a stream within its bucket: UTF-8 segments divided by `/`. Or that of a companion, `<stream>//<upload>`,
/// which has the bytes of a snapshot and which no client can name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName(Arc<str>);

impl StreamName {
    /// Checks `name`, already percent-decoded.
    ///
    /// # Errors
    /// An [`InvalidName`] that says which rule is broken.
    pub fn parse(name: &str) -> Result<Self, InvalidName> {
        if name.is_empty() {
            return Err(InvalidName::EmptyStream);
        }
        if name.len() > STREAM_NAME_BYTES_MAX {
            return Err(InvalidName::LongStream);
        }
        if name.chars().any(char::is_control) {
            return Err(InvalidName::ControlCharacter);
        }
        let mut segments = name.split('/');
        if segments.clone().any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(InvalidName::Segment);
        }
        if segments.next() == Some(RESERVED_SEGMENT) {
            return Err(InvalidName::ReservedStream);
        }
        Ok(StreamName(name.into()))
    }

    /// Checks a name that was stored, or comes from another tier: it may be that of a companion.
    ///
    /// # Errors
    /// An [`InvalidName`] that says which rule is broken.
    pub fn parse_any(name: &str) -> Result<Self, InvalidName> {
        let companion = name.split_once(COMPANION).and_then(|(owner, upload)| {
            let companion = Self::parse(owner).ok()?.companion(u64::from_str_radix(upload, 16).ok()?);
            (companion.as_str() == name).then_some(companion)
        });
        companion.map_or_else(|| Self::parse(name), Ok)
    }

    /// The name of the stream that has the bytes of an upload for this one.
    pub fn companion(&self, upload: u64) -> Self {
        StreamName(format!("{}{COMPANION}{upload:016x}", self.owner()).into())
    }

    /// Whether this is the name of a companion.
    pub fn is_companion(&self) -> bool {
        self.owner().len() < self.0.len()
    }

    /// Whether this is the name of a companion of this stream.
    pub fn is_companion_of(&self, stream: &StreamName) -> bool {
        self.is_companion() && self.owner() == stream.as_str()
    }

    /// The name of the stream that this is a companion of; its own if it is none.
    pub fn owner(&self) -> &str {
        self.0.split_once(COMPANION).map_or(&self.0, |(owner, _)| owner)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lets an ordered map of names be searched for any text, which need not be a name.
impl Borrow<str> for StreamName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The full name of a stream.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    /// The bucket it lives in.
    pub bucket: BucketName,
    /// Its name there.
    pub name: StreamName,
}

impl StreamKey {
    /// Checks both parts.
    ///
    /// # Errors
    /// An [`InvalidName`] that says which rule is broken.
    pub fn parse(bucket: &str, name: &str) -> Result<Self, InvalidName> {
        Ok(StreamKey { bucket: BucketName::parse(bucket)?, name: StreamName::parse(name)? })
    }

    /// Checks both parts; the stream may be a companion.
    ///
    /// # Errors
    /// An [`InvalidName`] that says which rule is broken.
    pub fn parse_any(bucket: &str, name: &str) -> Result<Self, InvalidName> {
        Ok(StreamKey { bucket: BucketName::parse(bucket)?, name: StreamName::parse_any(name)? })
    }

    /// The key of the stream that this is a companion of; its own if it is none.
    pub fn owner(&self) -> Self {
        StreamKey { bucket: self.bucket.clone(), name: StreamName(self.name.owner().into()) }
    }

    /// The key of the stream that has the bytes of an upload for this one.
    pub fn companion(&self, upload: u64) -> Self {
        StreamKey { bucket: self.bucket.clone(), name: self.name.companion(upload) }
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket, self.name)
    }
}

impl fmt::Debug for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests;
