//! What the cold tier asks of an object store. Must not retry and must not hold state: callers and
//! implementations do.
//!
//! Objects are written once and never changed. Nothing here depends on the order in which a store shows
//! what was written to it: a listing may be stale, and whoever needs an object knows its name.

mod directory;
#[cfg(any(test, feature = "fault"))]
pub mod fault;
mod memory;
mod s3;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{self, BoxStream, StreamExt as _};

pub use directory::DirectoryStore;
pub use memory::MemoryStore;
pub use s3::{Encryption, S3Options, S3Store};

/// An answer that comes later.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Bytes that come piece by piece.
pub type Body<'a> = BoxStream<'a, Result<Bytes, StoreError>>;

/// A place for objects.
pub trait Store: fmt::Debug + Send + Sync {
    /// Stores an object under a name that has none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] leaves open whether the object is there.
    fn put<'a>(&'a self, name: &'a Name, body: Bytes) -> Answer<'a, Put>;

    /// The bytes of an object in a range that is not empty: exactly these, or an error.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Damaged`] if the object ends before the range does.
    fn get<'a>(&'a self, name: &'a Name, range: Range<u64>) -> Answer<'a, Bytes>;

    /// The same bytes as they come, for ranges that need not be in memory at a time. The pieces make up the range, or the last is
    /// an error.
    ///
    /// # Errors
    /// As of [`Store::get`], at once or after some of the bytes.
    fn stream<'a>(&'a self, name: &'a Name, range: Range<u64>) -> Answer<'a, Body<'a>> {
        Box::pin(async move {
            let bytes = self.get(name, range).await?;
            Ok(stream::once(ready(Ok(bytes))).boxed())
        })
    }

    /// The length of an object in bytes.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    fn size<'a>(&'a self, name: &'a Name) -> Answer<'a, u64>;

    /// Removes an object; fine if it is gone already.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] leaves open whether the object is there.
    fn delete<'a>(&'a self, name: &'a Name) -> Answer<'a, ()>;

    /// Objects below a folder with names after `after`, at most 1,000, in the order of their names. An empty
    /// answer is the end. May miss what was stored, and show what was deleted, a short while ago.
    ///
    /// # Errors
    /// Never because the folder has nothing.
    fn list<'a>(&'a self, folder: &'a Name, after: Option<&'a Name>) -> Answer<'a, Vec<Listed>>;
}

/// The most objects in one answer of [`Store::list`].
pub const LISTED_MAX: usize = 1000;

/// What came of [`Store::put`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object is stored.
    Stored,
    /// There was one under this name, which stays as it was.
    Exists,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: Name,
    /// Its length in bytes.
    pub bytes: u64,
}

/// The name of an object or of a folder: parts of `a-z`, `0-9`, `.`, `_` and `-` with `/` between them. So it is the same in every
/// store, whatever its rules are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The most bytes of a name; what S3 allows is 1,024.
    pub const BYTES_MAX: usize = 512;

    /// A name from its text.
    ///
    /// # Errors
    /// If the text is none.
    pub fn parse(text: impl Into<String>) -> Result<Name, NameError> {
        let text = text.into();
        let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(fits);
        match text.len() <= Name::BYTES_MAX && text.split('/').all(is_part) {
            true => Ok(Name(text)),
            false => Err(NameError(text)),
        }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it lies below a folder.
    pub fn is_below(&self, folder: &Name) -> bool {
        self.0.strip_prefix(&folder.0).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no name of an object.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no name of an object: parts of a-z, 0-9, '.', '_' and '-', with '/' between them, not too long")]
pub struct NameError(String);

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("object {0} is not there")]
    NotFound(Name),
    /// The store is busy, out of reach or out of order: the same may work later.
    #[error("the object store does not answer as it should: {0}")]
    Unavailable(String),
    /// The store does not let us: wrong or expired credentials, or missing rights.
    #[error("the object store refuses: {0}; check the credentials and what they may do")]
    Denied(String),
    /// The place for the objects is not there.
    #[error("{0}; create it, or correct its name in the settings")]
    NoPlace(String),
    /// What is there is not ours.
    #[error("{0}")]
    Foreign(String),
    /// The object is not what was stored.
    #[error("object {name} is damaged: {reason}")]
    Damaged {
        /// The object.
        name: Name,
        /// What is wrong with it.
        reason: String,
    },
}

impl StoreError {
    /// Whether the same call may succeed later without anybody's help.
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::Unavailable(_))
    }
}
