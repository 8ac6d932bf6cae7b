//! Reads a snapshot, section by section: the state as it is in the checkpoint, the bytes from the log.

use std::collections::VecDeque;
use std::io;

use bytes::{BufMut, Bytes};
use futures_util::future::LocalBoxFuture;
use ursula_common::{GroupId, Offset, StreamId};
use ursula_stream_core::{State, StoredRange};

use super::kind;
use crate::archive::{Archive, Hold};
use crate::raft::SnapshotSource;
use crate::sections;

/// A snapshot that is being sent.
pub(crate) struct Outgoing {
    group: GroupId,
    archive: Archive,
    _hold: Hold,
    section_bytes: usize,
    /// Reads the state, until that was done.
    open: Option<ReadState>,
    /// What is left of the state.
    state: Bytes,
    /// What is left of the streams.
    streams: VecDeque<StoredRange>,
    ended: bool,
}

/// Reads a state; blocks.
type ReadState = Box<dyn FnOnce() -> io::Result<Bytes> + Send>;

impl Outgoing {
    /// The snapshot of a group whose state `open` reads, in sections of about so many bytes. Nothing is read before it
    /// is asked for; bytes that the state speaks of are held until it ends.
    pub(crate) fn new(
        group: GroupId,
        open: impl FnOnce() -> io::Result<Bytes> + Send + 'static,
        archive: Archive,
        hold: Hold,
        section_bytes: usize,
    ) -> Outgoing {
        let (open, state, streams): (Option<ReadState>, _, _) = (Some(Box::new(open)), Bytes::new(), VecDeque::new());
        Outgoing { group, archive, _hold: hold, section_bytes, open, state, streams, ended: false }
    }

    async fn read_state(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let read = move || {
            let bytes = open()?;
            let state = State::decode(bytes.clone()).map_err(io::Error::other)?;
            Ok((bytes, state.stored_ranges().collect()))
        };
        (self.state, self.streams) = self.archive.journal().blocking_read(self.group, read).await?;
        Ok(())
    }

    async fn next_section(&mut self) -> io::Result<Option<Bytes>> {
        let mut section = Vec::new();
        self.read_state().await?;
        if !self.state.is_empty() {
            let part = self.state.split_to(self.state.len().min(self.section_bytes));
            sections::put(&mut section, kind::STATE, &part);
            return Ok(Some(section.into()));
        }
        while let Some(StoredRange { stream, start, end }) = self.streams.pop_front() {
            let found = self.archive.read(self.group, stream, start, end, self.section_bytes).await?;
            // A stream that has ended since the checkpoint has no bytes any more, and nobody will want them.
            if found.records.is_empty() {
                continue;
            }
            let body = encode(stream, found.start, &found.records);
            let next = Offset(found.start.0 + found.records.iter().map(|record| record.len() as u64).sum::<u64>());
            if next < end {
                self.streams.push_front(StoredRange { stream, start: next, end });
            }
            sections::put(&mut section, kind::RECORDS, &body);
            return Ok(Some(section.into()));
        }
        if std::mem::replace(&mut self.ended, true) {
            return Ok(None);
        }
        sections::put(&mut section, kind::END, &[]);
        Ok(Some(section.into()))
    }
}

impl SnapshotSource for Outgoing {
    fn next(&mut self) -> LocalBoxFuture<'_, io::Result<Option<Bytes>>> {
        Box::pin(self.next_section())
    }
}

/// `stream (8), offset of the first record (8), { length (4), record }`, little endian.
fn encode(stream: StreamId, start: Offset, records: &[Bytes]) -> Vec<u8> {
    let bytes: usize = records.iter().map(|record| 4 + record.len()).sum();
    let mut body = Vec::with_capacity(16 + bytes);
    body.put_u64_le(stream.0);
    body.put_u64_le(start.0);
    for record in records {
        body.put_u32_le(record.len() as u32);
        body.put_slice(record);
    }
    body
}
