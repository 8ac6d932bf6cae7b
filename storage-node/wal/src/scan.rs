//! Reads a segment from its first record to its end, and tells a write that a crash cut off from damage.
//!
//! Reads in chunks, so memory does not follow the size of records. Does not know what records mean.

use std::io;

use crc32c::{crc32c, crc32c_append};

use crate::io::File;
use crate::record::{self, Header, Kind};
use crate::segment;
use crate::state::STATE_BYTES_MAX;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Payloads up to this size are handed to the visitor.
const SMALL_BYTES: u32 = STATE_BYTES_MAX as u32;

/// What lies at one place of a segment.
#[derive(Debug)]
pub(crate) enum Item<'a> {
    /// A record; the payload is there if it is small.
    Record { at: u32, header: Header, payload: &'a [u8] },
    /// A record that was on disk, and whose payload is damaged now.
    BadPayload { at: u32, header: Header },
    /// Records were on disk from here on, and are damaged now, up to the next item.
    Lost { at: u32 },
}

/// How a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// Behind the last record.
    pub(crate) at: u32,
    /// Where the batch of the last record begins: all before it was synced.
    pub(crate) batch: u32,
    pub(crate) sealed: bool,
}

/// A segment to be read.
pub(crate) struct Scan<'a> {
    window: Window<'a>,
    seed: u32,
    size: u32,
    /// Everything in it was on disk before something newer was written: a bad record is damage, and so is a
    /// missing seal.
    complete: bool,
    /// The largest place that a record later on claims to have been synced, once it was looked for.
    claim: Option<u32>,
}

impl<'a> Scan<'a> {
    /// The first `len` bytes of a file.
    pub(crate) fn new(file: &'a dyn File, header: &segment::Header, len: u32, complete: bool) -> Scan<'a> {
        let window = Window { file, bytes: Vec::new(), start: 0, end: len };
        Scan { window, seed: record::seed(header.salt, header.id), size: len, complete, claim: None }
    }

    /// Shows all items to `visit`.
    pub(crate) fn run(self, visit: &mut dyn FnMut(Item<'_>)) -> io::Result<End> {
        self.run_from(segment::HEADER_BYTES, visit)
    }

    /// Shows all items from the record at `at` on to `visit`.
    pub(crate) fn run_from(mut self, mut at: u32, visit: &mut dyn FnMut(Item<'_>)) -> io::Result<End> {
        let mut batch = at;
        loop {
            let header = self.header(at)?;
            if let Some(header) = header {
                let next = at + header.record_bytes();
                if self.payload_crc(at, header.len)? == header.payload_crc {
                    let payload = match header.len {
                        0..=SMALL_BYTES => self.window.get(at + record::HEADER_BYTES, header.len)?,
                        _ => &[],
                    };
                    visit(Item::Record { at, header, payload });
                    batch = header.batch;
                    if header.kind == Kind::Seal {
                        return Ok(End { at: next, batch, sealed: true });
                    }
                    at = next;
                    continue;
                }
            }
            if !self.was_synced(at)? {
                return Ok(End { at, batch, sealed: false });
            }
            match header {
                Some(header) => {
                    visit(Item::BadPayload { at, header });
                    at += header.record_bytes();
                }
                None => {
                    visit(Item::Lost { at });
                    let Some((next, _)) = self.next_header(at + record::ALIGN)? else {
                        return Ok(End { at: self.size, batch, sealed: false });
                    };
                    at = next;
                }
            }
        }
    }

    /// Whether there is a whole record at a place.
    pub(crate) fn is_whole(&mut self, at: u32) -> io::Result<bool> {
        let Some(header) = self.header(at)? else { return Ok(false) };
        Ok(self.payload_crc(at, header.len)? == header.payload_crc)
    }

    /// Whether this record lies here, and is whole.
    pub(crate) fn has(&mut self, at: u32, header: &Header) -> io::Result<bool> {
        let there = self.header(at)? == Some(*header);
        Ok(there && self.payload_crc(at, header.len)? == header.payload_crc)
    }

    /// Whether the bytes at this place were on disk before something else was written.
    fn was_synced(&mut self, at: u32) -> io::Result<bool> {
        if self.complete {
            return Ok(true);
        }
        let claim = match self.claim {
            Some(claim) => claim,
            None => {
                // Claims only ever grow: the last one is the largest.
                let mut claim = 0;
                let mut from = at;
                while let Some((next, header)) = self.next_header(from)? {
                    claim = claim.max(header.batch);
                    from = next + record::ALIGN;
                }
                *self.claim.insert(claim)
            }
        };
        Ok(claim > at)
    }

    /// The first valid header at or after a place.
    fn next_header(&mut self, mut at: u32) -> io::Result<Option<(u32, Header)>> {
        while at + record::HEADER_BYTES <= self.size {
            if let Some(header) = self.header(at)? {
                return Ok(Some((at, header)));
            }
            at += record::ALIGN;
        }
        Ok(None)
    }

    /// The header of a record that begins here and ends within the segment.
    fn header(&mut self, at: u32) -> io::Result<Option<Header>> {
        if at + record::HEADER_BYTES > self.size {
            return Ok(None);
        }
        let header = Header::decode(self.window.get(at, record::HEADER_BYTES)?, self.seed, at);
        let room = self.size - at - record::HEADER_BYTES;
        Ok(header.filter(|header| header.len <= room && header.record_bytes() <= self.size - at))
    }

    fn payload_crc(&mut self, at: u32, len: u32) -> io::Result<u32> {
        let (mut from, to) = (at + record::HEADER_BYTES, at + record::HEADER_BYTES + len);
        let mut crc = crc32c(&[]);
        while from < to {
            let part = self.window.get(from, (to - from).min(CHUNK_BYTES as u32))?;
            crc = crc32c_append(crc, part);
            from += part.len() as u32;
        }
        Ok(crc)
    }
}

/// A part of a file in memory.
struct Window<'a> {
    file: &'a dyn File,
    bytes: Vec<u8>,
    start: u32,
    end: u32,
}

impl Window<'_> {
    /// Bytes that lie before the end, at most a chunk of them.
    fn get(&mut self, at: u32, len: u32) -> io::Result<&[u8]> {
        let have = self.start + self.bytes.len() as u32;
        if at < self.start || at + len > have {
            self.start = at;
            let most = (self.end - at).min(CHUNK_BYTES as u32);
            self.bytes.resize(most as usize, 0);
            self.file.read_at(&mut self.bytes, u64::from(at))?;
        }
        let from = (at - self.start) as usize;
        Ok(&self.bytes[from..from + len as usize])
    }
}

/// The header block of a file, or `None` if the file is too short for one.
pub(crate) fn read_header(file: &dyn File) -> io::Result<Option<segment::Found>> {
    let mut block = [0; segment::HEADER_BYTES as usize];
    if file.len()? < block.len() as u64 {
        return Ok(None);
    }
    file.read_at(&mut block, 0)?;
    Ok(Some(segment::Header::decode(&block)))
}

/// Makes sure that what was read of the last segment of a writer stays, and ends it if its writer did not.
pub(crate) fn settle(file: &dyn File, header: &segment::Header, end: End) -> io::Result<()> {
    // The last batch may be in memory only. If its sync failed, another sync would do nothing and say that all is
    // well, so it is written again.
    let mut at = if end.batch == segment::HEADER_BYTES { 0 } else { end.batch };
    let mut bytes = vec![0; CHUNK_BYTES];
    while at < end.at {
        let part = &mut bytes[..(end.at - at).min(CHUNK_BYTES as u32) as usize];
        file.read_at(part, u64::from(at))?;
        file.write_at(part, u64::from(at))?;
        at += part.len() as u32;
    }
    file.sync_data()?;
    if end.sealed {
        return Ok(());
    }
    // Only now: a seal says that all before it is on disk.
    let mut seal = Header::new(Kind::Seal, Default::default(), 0, 0, &[]);
    seal.batch = end.at;
    file.write_at(&seal.encode(record::seed(header.salt, header.id), end.at), u64::from(end.at))?;
    file.sync_data()?;
    // A process that starts again and again must not fill the disk with segments that are nearly empty.
    file.set_len(u64::from(end.at + record::HEADER_BYTES).next_multiple_of(segment::HEADER_BYTES.into()))?;
    file.sync_data()
}
