//! Reading records and parts of them. Checks all that it returns; never writes to a segment.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use crc32c::crc32c;
use ursula_common::{GroupId, Offset, StreamId};

use crate::dir::Shared;
use crate::io::File;
use crate::record::{self, Header, Kind, Location};
use crate::scan::{Item, Scan};
use crate::segment::{self, SegmentId};

/// Bytes that cannot be had from this log.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The segment was removed.
    #[error("segment {0} is not there any more")]
    Gone(SegmentId),
    /// The bytes are not those that were written.
    #[error("bytes of segment {segment} at {at} are damaged")]
    Damaged {
        /// Where.
        segment: SegmentId,
        /// Where in it.
        at: u32,
    },
    /// The disk failed.
    #[error("segment {segment} cannot be read: {error}")]
    Io {
        /// Where.
        segment: SegmentId,
        /// How.
        error: io::Error,
    },
}

/// An entry or a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// An entry of a group.
    Entry {
        /// The group.
        group: GroupId,
        /// Which one.
        index: u64,
        /// Its payload.
        at: Location,
    },
    /// Bytes of a stream that came otherwise.
    Slice {
        /// The group.
        group: GroupId,
        /// The stream.
        stream: StreamId,
        /// Of the first byte.
        offset: Offset,
        /// The bytes.
        at: Location,
    },
    /// Something that is damaged.
    Damaged {
        /// The record.
        at: u32,
        /// Whose it was, if that can be told.
        group: Option<GroupId>,
    },
}

/// Open files of segments, those used last at the end.
pub(crate) struct Recent<T>(Vec<(SegmentId, T)>);

impl<T> Default for Recent<T> {
    fn default() -> Recent<T> {
        Recent(Vec::new())
    }
}

impl<T: Clone> Recent<T> {
    pub(crate) fn get(&mut self, segment: SegmentId) -> Option<T> {
        let at = self.0.iter().position(|(id, _)| *id == segment)?;
        self.0[at..].rotate_left(1);
        self.0.last().map(|(_, file)| file.clone())
    }

    pub(crate) fn keep(&mut self, segment: SegmentId, file: T, most: usize) {
        self.close(segment);
        let excess = (self.0.len() + 1).saturating_sub(most.max(1));
        self.0.drain(..excess);
        self.0.push((segment, file));
    }

    pub(crate) fn close(&mut self, segment: SegmentId) {
        self.0.retain(|(id, _)| *id != segment);
    }
}

impl Shared {
    pub(crate) fn read_record(&self, at: Location) -> Result<Bytes, ReadError> {
        let Location { segment, at, len } = at;
        let Some(start) = at.checked_sub(record::HEADER_BYTES) else {
            return Err(ReadError::Damaged { segment, at });
        };
        let (bytes, seed) = self.read(segment, start, len as usize + record::HEADER_BYTES as usize)?;
        let bytes = Bytes::from(bytes);
        let payload = bytes.slice(record::HEADER_BYTES as usize..);
        let whole = Header::decode(&bytes, seed, start)
            .is_some_and(|header| header.len == len && header.payload_crc == crc32c(&payload));
        if whole { Ok(payload) } else { Err(self.unless_gone(segment, at)) }
    }

    pub(crate) fn read_part(&self, segment: SegmentId, at: u32, len: u32, crc: u32) -> Result<Bytes, ReadError> {
        let (bytes, _) = self.read(segment, at, len as usize)?;
        if crc32c(&bytes) == crc { Ok(Bytes::from(bytes)) } else { Err(self.unless_gone(segment, at)) }
    }

    pub(crate) fn contents(&self, segment: SegmentId, visit: &mut dyn FnMut(Content)) -> Result<(), ReadError> {
        let complete =
            self.table().segments.get(&segment).filter(|known| !known.active).map(|known| (known.header, known.len));
        let (header, len) = complete.ok_or(ReadError::Gone(segment))?;
        let failed = |error| ReadError::Io { segment, error };
        let file = self.file(segment).map_err(failed)?;
        let scanned = Scan::new(&*file, &header, len.min(header.size.into()) as u32, true).run(&mut |item| {
            let place = |at: u32, header: &Header| Location { segment, at: at + record::HEADER_BYTES, len: header.len };
            visit(match item {
                Item::Record { at, header, .. } => match header.kind {
                    Kind::Entry => Content::Entry { group: header.group, index: header.index, at: place(at, &header) },
                    Kind::Slice => {
                        let (stream, offset) = (StreamId(header.extra), Offset(header.index));
                        Content::Slice { group: header.group, stream, offset, at: place(at, &header) }
                    }
                    Kind::Vote | Kind::Committed | Kind::Purged | Kind::Truncate => return,
                    Kind::Forget | Kind::State | Kind::Mark | Kind::Seal => return,
                },
                Item::BadPayload { at, header } => Content::Damaged { at, group: Some(header.group) },
                Item::Lost { at } => Content::Damaged { at, group: None },
            });
        });
        scanned.map(|_| ()).map_err(failed)
    }

    /// Bytes of a segment, and the seed of its checksums.
    fn read(&self, segment: SegmentId, at: u32, len: usize) -> Result<(Vec<u8>, u32), ReadError> {
        let known = self.table().segments.get(&segment).map(|segment| (segment.header, segment.len));
        let (header, size) = known.ok_or(ReadError::Gone(segment))?;
        if u64::from(at) + len as u64 > size {
            return Err(ReadError::Damaged { segment, at });
        }
        let failed = |error| match self.is_there(segment) {
            true => ReadError::Io { segment, error },
            false => ReadError::Gone(segment),
        };
        let file = self.file(segment).map_err(failed)?;
        let mut bytes = vec![0; len];
        file.read_at(&mut bytes, u64::from(at)).map_err(failed)?;
        Ok((bytes, record::seed(header.salt, segment)))
    }

    /// A file that was removed while it was read may hold another segment by now.
    fn unless_gone(&self, segment: SegmentId, at: u32) -> ReadError {
        if self.is_there(segment) { ReadError::Damaged { segment, at } } else { ReadError::Gone(segment) }
    }

    fn is_there(&self, segment: SegmentId) -> bool {
        self.table().segments.contains_key(&segment)
    }

    fn file(&self, segment: SegmentId) -> io::Result<Arc<dyn File>> {
        if let Some(file) = self.files().get(segment) {
            return Ok(file);
        }
        let file = self.io.open(&self.path.join(segment::file_name(segment)))?;
        self.files().keep(segment, file.clone(), self.options.files_max);
        Ok(file)
    }
}
