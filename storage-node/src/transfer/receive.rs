//! Takes a snapshot: first into a file, until it is whole, then into the log of this node.

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::future::LocalBoxFuture;
use ursula_common::{GroupId, Offset, StreamId};
use ursula_wal::File;

use super::kind;
use crate::archive::Archive;
use crate::data_dir::{DataDir, TemporaryFile};
use crate::raft::{SnapshotData, SnapshotSink, SnapshotSource};
use crate::sections::Assembler;

/// Of the file, read at a time.
const READ_BYTES: u64 = 1 << 20;

/// The file that a snapshot is kept in until it is whole.
pub(crate) struct IncomingFile {
    file: TemporaryFile,
    len: u64,
}

impl IncomingFile {
    /// # Errors
    /// If the file cannot be made.
    pub(crate) fn create(dir: &DataDir, group: GroupId) -> io::Result<IncomingFile> {
        Ok(IncomingFile { file: dir.temporary_file(group)?, len: 0 })
    }

    async fn append(&mut self, chunk: Bytes) -> io::Result<()> {
        let (file, at) = (self.file.file(), self.len);
        self.len += chunk.len() as u64;
        self.file.runtime().blocking(move || file.write_at(&chunk, at)).await
    }
}

impl SnapshotSink for IncomingFile {
    fn write(&mut self, chunk: Bytes) -> LocalBoxFuture<'_, io::Result<()>> {
        Box::pin(self.append(chunk))
    }

    fn finish(self: Box<Self>) -> LocalBoxFuture<'static, io::Result<SnapshotData>> {
        let IncomingFile { file, len } = *self;
        Box::pin(async move { Ok(SnapshotData::new(Reader { file, at: 0, len })) })
    }
}

/// Reads such a file again, and removes it when it is dropped.
struct Reader {
    file: TemporaryFile,
    at: u64,
    len: u64,
}

impl Reader {
    async fn read(&mut self) -> io::Result<Option<Bytes>> {
        let wanted = (self.len - self.at).min(READ_BYTES);
        if wanted == 0 {
            return Ok(None);
        }
        let (file, at): (Arc<dyn File>, u64) = (self.file.file(), self.at);
        self.at += wanted;
        let read = move || {
            let mut bytes = vec![0; wanted as usize];
            file.read_at(&mut bytes, at)?;
            Ok(Some(bytes.into()))
        };
        self.file.runtime().blocking(read).await
    }
}

impl SnapshotSource for Reader {
    fn next(&mut self) -> LocalBoxFuture<'_, io::Result<Option<Bytes>>> {
        Box::pin(self.read())
    }
}

/// Writes the bytes of a snapshot to the log of `archive`. Returns the state, and where its bytes are now, on disk:
/// aside, so they are kept only as long as that is.
///
/// # Errors
/// If the snapshot is damaged or not whole, or the log fails.
pub(crate) async fn install(
    group: GroupId,
    archive: &Archive,
    mut snapshot: SnapshotData,
) -> io::Result<(Bytes, Archive)> {
    // The bytes belong to nobody until all are here.
    let (arrived, journal) = (archive.aside(), archive.journal());
    let (mut sections, mut state) = (Assembler::default(), Vec::new());
    while let Some(chunk) = snapshot.next().await? {
        sections.push(&chunk);
        while let Some((kind, body)) = sections.next()? {
            match kind {
                kind::STATE => state.push(body),
                kind::RECORDS => add(&arrived, group, body)?,
                kind::END => {
                    journal.sync().await?;
                    return Ok((ursula_common::pieces::join(&state), arrived));
                }
                _ => return Err(invalid("a section has an unknown kind")),
            }
        }
        // Bounds what waits to be written, and what memory knows of single records.
        journal.sync().await?;
        while arrived.index_oldest(|segment| journal.dir().is_complete(segment)).await? {}
    }
    Err(invalid("it ends too early"))
}

fn add(arrived: &Archive, group: GroupId, mut body: Bytes) -> io::Result<()> {
    if body.len() < 16 {
        return Err(invalid("a section is too short"));
    }
    let (stream, start) = (StreamId(body.get_u64_le()), Offset(body.get_u64_le()));
    let mut records = Vec::new();
    while !body.is_empty() {
        if body.len() < 4 {
            return Err(invalid("a record has no length"));
        }
        let len = body.get_u32_le() as usize;
        if len == 0 || body.len() < len {
            return Err(invalid("a record has another length than it says"));
        }
        records.push(body.split_to(len));
    }
    arrived.copy(group, stream, start, &records);
    Ok(())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a snapshot of another node cannot be used: {what}"))
}
