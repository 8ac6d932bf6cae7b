//! From paths to routes. Everything that names a stream by its path comes through here.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use ursula_common::name::DEFAULT_BUCKET;
use ursula_common::{BucketName, Offset, StreamKey};

use crate::Rejection;

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Whether the process lives.
    Health,
    /// Whether it can serve.
    Ready,
    /// A bucket.
    Bucket(BucketName),
    /// A stream.
    Stream(StreamKey),
    /// The newest snapshot of a stream.
    NewestSnapshot(StreamKey),
    /// The snapshot of a stream at an offset.
    Snapshot(StreamKey, Offset),
    /// The newest snapshot of a stream, and what follows it.
    Bootstrap(StreamKey),
}

/// The protocol's own mount; names below it are those of streams in the default bucket.
const MOUNT: &str = "v1/stream";
/// What follows the name of a stream in the paths that lead to its snapshots. So no stream has a name that ends like them.
const SNAPSHOT: &str = "/snapshot";
const BOOTSTRAP: &str = "/bootstrap";

/// Finds the route of a path, which is still percent-encoded.
///
/// # Errors
/// [`Rejection::NotFound`], [`Rejection::InvalidPath`], [`Rejection::Name`] or [`Rejection::SnapshotPath`].
pub fn route(path: &str) -> Result<Route, Rejection> {
    let path = path.strip_prefix('/').ok_or(Rejection::NotFound)?;
    match path {
        "" | "v1" => return Err(Rejection::NotFound),
        "health" => return Ok(Route::Health),
        "ready" => return Ok(Route::Ready),
        _ => {}
    }
    let (bucket, name) = match path.strip_prefix(MOUNT) {
        Some("") => (DEFAULT_BUCKET, Some("")),
        Some(rest) if rest.starts_with('/') => (DEFAULT_BUCKET, Some(&rest[1..])),
        _ if path.starts_with("v1/") => return Err(Rejection::NotFound),
        _ => path.split_once('/').map_or((path, None), |(bucket, name)| (bucket, Some(name))),
    };
    let bucket = decode(bucket)?;
    Ok(match name {
        Some(name) => within(&bucket, &decode(name)?)?,
        None => Route::Bucket(BucketName::parse(&bucket)?),
    })
}

/// A stream, or what there is beside it.
fn within(bucket: &str, name: &str) -> Result<Route, Rejection> {
    let key = |name| StreamKey::parse(bucket, name);
    if let Some((rest, last)) = name.rsplit_once('/')
        && let Some(stream) = rest.strip_suffix(SNAPSHOT)
    {
        let key = key(stream)?;
        return last.parse().map(|at| Route::Snapshot(key, at)).map_err(|_| Rejection::SnapshotPath);
    }
    Ok(match (name.strip_suffix(SNAPSHOT), name.strip_suffix(BOOTSTRAP)) {
        (Some(stream), _) => Route::NewestSnapshot(key(stream)?),
        (_, Some(stream)) => Route::Bootstrap(key(stream)?),
        (None, None) => Route::Stream(key(name)?),
    })
}

/// Decodes what is percent-encoded.
pub(crate) fn decode(text: &str) -> Result<Cow<'_, str>, Rejection> {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        match rest[at..] {
            [_, high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest = &rest[at + 3..],
            _ => return Err(Rejection::InvalidPath),
        }
    }
    percent_decode_str(text).decode_utf8().map_err(|_| Rejection::InvalidPath)
}

#[cfg(test)]
mod tests;
