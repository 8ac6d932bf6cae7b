//! The bytes of a snapshot, page by page.

use std::sync::Arc;
use std::vec;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use ursula_common::verb::{ReadFrom, SnapshotInfo};
use ursula_common::{Error, Offset, StreamId, StreamKey};

use crate::app::App;
use crate::pages::{self, Held};

/// The incarnation of a stream, and its snapshot at `at`, or the newest, if there is one; counts as an access if `touch`. One
/// that lies before the beginning, because age or bytes let that go since, is none: nobody can read on from it.
pub(super) async fn find(
    gateway: &App,
    key: &StreamKey,
    at: Option<Offset>,
    touch: bool,
) -> Result<(StreamId, Option<Box<SnapshotInfo>>), Error> {
    let info = gateway.cluster.visit(key, touch).await?;
    let at = at.map(|at| at.within(info.tail));
    let earliest = info.earliest;
    let snapshot = info.snapshot.filter(|snapshot| at.is_none_or(|at| at == snapshot.at) && snapshot.at >= earliest);
    Ok((info.id, snapshot))
}

/// The same, with its first bytes. A snapshot whose bytes are not all there is none: a restore may have found it so.
pub(super) async fn open(
    gateway: &Arc<App>,
    key: &StreamKey,
    at: Option<Offset>,
) -> Result<(StreamId, Option<(Box<SnapshotInfo>, Content)>), Error> {
    let mut missing = None;
    loop {
        let (stream, found) = find(gateway, key, at, true).await?;
        let Some(info) = found.filter(|info| missing != Some(info.upload)) else { return Ok((stream, None)) };
        let mut content = Content::new(gateway.clone(), key, &info);
        match content.fetch().await {
            Ok(()) => return Ok((stream, Some((info, content)))),
            // It may have been replaced since.
            Err(Error::StreamNotFound | Error::SnapshotIncomplete) => missing = Some(info.upload),
            Err(error) => return Err(error),
        }
    }
}

/// Bytes of a snapshot on their way to a client. Holds one page.
pub(super) struct Content {
    gateway: Arc<App>,
    companion: StreamKey,
    from: ReadFrom,
    bytes: u64,
    /// Those that were not read yet.
    left: u64,
    page: vec::IntoIter<Bytes>,
    held: Option<Held>,
}

impl Content {
    fn new(gateway: Arc<App>, key: &StreamKey, info: &SnapshotInfo) -> Content {
        let (companion, from, bytes) = (key.companion(info.upload), ReadFrom::Start, info.bytes);
        Content { gateway, companion, from, bytes, left: bytes, page: Vec::new().into_iter(), held: None }
    }

    /// Reads the next page, unless all were read.
    async fn fetch(&mut self) -> Result<(), Error> {
        if self.left == 0 {
            return Ok(());
        }
        let App { cluster, pages, .. } = &*self.gateway;
        let page = pages::read(cluster, pages, &self.companion, self.from, false).await?;
        if page.info.tail.bytes() != self.bytes {
            // Who stands in for a leader may not have it yet.
            return Err(if page.is_proven() { Error::SnapshotIncomplete } else { Error::Unavailable });
        }
        let bytes = page.pieces.iter().map(|piece| piece.len() as u64).sum();
        self.left = self.left.checked_sub(bytes).filter(|_| bytes > 0).ok_or(Error::SnapshotIncomplete)?;
        self.from = ReadFrom::At(page.next);
        self.page = page.pieces.into_iter();
        self.held = Some(page.held);
        Ok(())
    }

    /// The next bytes; `None` after the last ones.
    ///
    /// # Errors
    /// If the rest is not there: what was sent must not look whole.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(piece) = self.page.next() {
                return Ok(Some(piece));
            }
            // Asked for more, so what was sent last has left.
            self.held = None;
            if self.left == 0 {
                return Ok(None);
            }
            self.fetch().await?;
        }
    }

    pub(super) fn into_body(self) -> Body {
        Body::from_stream(stream::try_unfold(self, async |mut content| {
            Ok::<_, Error>(content.next().await?.map(|bytes| (bytes, content)))
        }))
    }
}
