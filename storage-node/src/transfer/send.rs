//! Reads a snapshot, section by section: the state as it is in the checkpoint, the bytes from the log.

use std::collections::VecDeque;
use std::io;

use bytes::{BufMut, Bytes};
use futures_util::future::LocalBoxFuture;
use ursula_common::{GroupId, Offset, StreamId};
use ursula_stream_core::{State, StoredRange};

use super::{SECTION_BYTES, kind};
use crate::archive::Archive;
use crate::raft::SnapshotSource;
use crate::sections;

/// A snapshot that is being sent.
pub(crate) struct Outgoing {
    group: GroupId,
    archive: Archive,
    /// What is left of the state.
    state: Bytes,
    /// What is left of the streams, once they are known.
    streams: Option<VecDeque<StoredRange>>,
    ended: bool,
}

impl Outgoing {
    /// The snapshot of a group with this state. Nothing is read before it is asked for.
    pub(crate) fn new(group: GroupId, state: Bytes, archive: Archive) -> Outgoing {
        Outgoing { group, archive, state, streams: None, ended: false }
    }

    /// The bytes that are still to be sent.
    ///
    /// # Errors
    /// If the state cannot be read.
    fn streams(&mut self) -> io::Result<&mut VecDeque<StoredRange>> {
        if self.streams.is_none() {
            let state = State::decode(self.state.clone()).map_err(io::Error::other)?;
            self.streams = Some(state.stored_ranges().collect());
        }
        Ok(self.streams.get_or_insert_default())
    }

    async fn next_section(&mut self) -> io::Result<Option<Bytes>> {
        let mut section = Vec::new();
        self.streams()?;
        if !self.state.is_empty() {
            let part = self.state.split_to(self.state.len().min(SECTION_BYTES));
            sections::put(&mut section, kind::STATE, &part);
            return Ok(Some(section.into()));
        }
        while let Some(StoredRange { stream, start, end }) = self.streams()?.pop_front() {
            let found = self.archive.read(self.group, stream, start, end, SECTION_BYTES).await?;
            // A stream that has ended since the checkpoint has no bytes any more, and nobody will want them.
            if found.records.is_empty() {
                continue;
            }
            let body = encode(stream, found.start, &found.records);
            let next = Offset(found.start.0 + found.records.iter().map(|record| record.len() as u64).sum::<u64>());
            if next < end {
                self.streams()?.push_front(StoredRange { stream, start: next, end });
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
