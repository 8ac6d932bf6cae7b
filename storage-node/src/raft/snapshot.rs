//! The content of a snapshot as it passes from one replica to another: chunk by chunk, never whole.

use std::future::ready;
use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::future::LocalBoxFuture;

/// Bytes in one chunk of what lies in memory.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;

/// Gives a snapshot, chunk by chunk. Whoever reads it waits for the other node between chunks.
pub(crate) trait SnapshotSource {
    /// The next bytes, a part of any size but empty; none at the end.
    fn next(&mut self) -> LocalBoxFuture<'_, io::Result<Option<Bytes>>>;
}

/// Takes a snapshot that arrives. One that is dropped before it was finished must leave nothing behind.
pub(crate) trait SnapshotSink {
    /// Takes the next bytes; the sender waits meanwhile.
    fn write(&mut self, chunk: Bytes) -> LocalBoxFuture<'_, io::Result<()>>;
    /// It is complete: what was taken can be read.
    fn finish(self: Box<Self>) -> LocalBoxFuture<'static, io::Result<SnapshotData>>;
}

/// The content of a snapshot, for whoever sends or installs it.
pub(crate) struct SnapshotData(Box<dyn SnapshotSource>);

impl SnapshotData {
    pub(crate) fn new(source: impl SnapshotSource + 'static) -> SnapshotData {
        SnapshotData(Box::new(source))
    }

    /// A content that lies in memory.
    pub(crate) fn in_memory(bytes: impl Into<Bytes>) -> SnapshotData {
        SnapshotData::new(Memory(bytes.into()))
    }

    /// A snapshot of which only the description is wanted: its content cannot be read.
    pub(crate) fn nothing() -> SnapshotData {
        SnapshotData::new(Nothing)
    }

    /// The next bytes; none at the end.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        self.0.next().await
    }

    /// All of it in one piece, for a state that fits in memory.
    pub(crate) async fn into_bytes(mut self) -> io::Result<Bytes> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.next().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
}

struct Memory(Bytes);

impl SnapshotSource for Memory {
    fn next(&mut self) -> LocalBoxFuture<'_, io::Result<Option<Bytes>>> {
        let chunk = self.0.split_to(self.0.len().min(CHUNK_BYTES));
        Box::pin(ready(Ok((!chunk.is_empty()).then_some(chunk))))
    }
}

struct Nothing;

impl SnapshotSource for Nothing {
    fn next(&mut self) -> LocalBoxFuture<'_, io::Result<Option<Bytes>>> {
        Box::pin(ready(Err(io::ErrorKind::Unsupported.into())))
    }
}

/// Keeps what arrives in memory.
#[derive(Default)]
pub(crate) struct MemorySink(BytesMut);

impl SnapshotSink for MemorySink {
    fn write(&mut self, chunk: Bytes) -> LocalBoxFuture<'_, io::Result<()>> {
        self.0.extend_from_slice(&chunk);
        Box::pin(ready(Ok(())))
    }

    fn finish(self: Box<Self>) -> LocalBoxFuture<'static, io::Result<SnapshotData>> {
        Box::pin(ready(Ok(SnapshotData::in_memory(self.0))))
    }
}
