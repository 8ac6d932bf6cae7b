//! What opening must know of a full segment, in a file beside it: its records without the payloads of entries and
//! slices. Made again from the segment at any time, so nothing is lost with it. `docs/formats/log.md` has the bytes.
//!
//! Only of a segment in which everything is whole. Whoever opens by a summary reads those entries nevertheless that
//! are wanted at once, and goes back to the segment if one of them is not what it was.

use std::collections::BTreeMap;
use std::io;

use crc32c::crc32c;
use ursula_common::GroupId;

use crate::dir::Shared;
use crate::io::File;
use crate::record::{self, Kind, u32_at, u64_at};
use crate::scan::{End, Item, Scan};
use crate::segment::{self, SegmentId};

const MAGIC: [u8; 8] = *b"ursulsum";
/// Persisted: the format that is written.
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 36;
const RECORD_HEADER_BYTES: usize = record::HEADER_BYTES as usize;
const CRC_BYTES: usize = 4;

/// A summary that was read, and is whole.
#[derive(Debug)]
pub(crate) struct Summary {
    /// How the segment ends.
    pub(crate) end: End,
    records: Vec<u8>,
    seed: u32,
}

impl Summary {
    /// `None` if it is not one of this segment, is damaged, or of a later format.
    pub(crate) fn decode(mut bytes: Vec<u8>, header: &segment::Header) -> Option<Summary> {
        let len = bytes.len().checked_sub(CRC_BYTES).filter(|len| *len >= HEADER_BYTES)?;
        let whole = crc32c(&bytes[..len]) == u32_at(&bytes, len);
        let ours = bytes[..8] == MAGIC && u32_at(&bytes, 8) == VERSION;
        let of = (SegmentId(u64_at(&bytes, 12)), u64_at(&bytes, 20));
        if !whole || !ours || of != (header.id, header.salt) {
            return None;
        }
        let end = End { at: u32_at(&bytes, 28), batch: u32_at(&bytes, 32), sealed: true };
        bytes.truncate(len);
        bytes.drain(..HEADER_BYTES);
        let summary = Summary { end, records: bytes, seed: record::seed(header.salt, header.id) };
        summary.each(&mut |_| Ok(())).ok()?;
        Some(summary)
    }

    /// Shows what is in the segment, as a scan of it would.
    ///
    /// # Errors
    /// Those of `visit`.
    pub(crate) fn each(&self, visit: &mut dyn FnMut(Item<'_>) -> io::Result<()>) -> io::Result<()> {
        let damaged = || io::Error::from(io::ErrorKind::InvalidData);
        let mut rest = &self.records[..];
        while !rest.is_empty() {
            let (at, after) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
            let at = u32::from_le_bytes(*at);
            let (header, after) = after.split_at_checked(RECORD_HEADER_BYTES).ok_or_else(damaged)?;
            let header = record::Header::decode(header, self.seed, at).ok_or_else(damaged)?;
            let len = if has_payload(header.kind) { header.len as usize } else { 0 };
            let (payload, after) = after.split_at_checked(len).ok_or_else(damaged)?;
            visit(Item::Record { at, header, payload })?;
            rest = after;
        }
        Ok(())
    }

    /// Whether all entries in the segment, the first `len` bytes of a file, that come after those that `applied` tells
    /// are there, and whole.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn has_what_is_wanted(
        &self,
        file: &dyn File,
        header: &segment::Header,
        len: u32,
        applied: &dyn Fn(GroupId) -> Option<u64>,
    ) -> io::Result<bool> {
        let mut scan = Scan::new(file, header, len, true);
        let mut whole = self.end.at <= len;
        self.each(&mut |item| {
            if let Item::Record { at, header, .. } = item
                && header.kind == Kind::Entry
                && applied(header.group).is_none_or(|applied| applied < header.index)
            {
                whole = whole && scan.has(at, &header)?;
            }
            Ok(())
        })?;
        Ok(whole)
    }
}

/// Opening looks at what these say, and they are short.
fn has_payload(kind: Kind) -> bool {
    matches!(kind, Kind::State | Kind::Vote | Kind::Committed | Kind::Purged)
}

/// A summary while its segment is read.
struct Draft {
    seed: u32,
    bytes: Vec<u8>,
    /// The latest of those that change all the time: the others mean nothing any more.
    latest: BTreeMap<(GroupId, u8), Vec<u8>>,
    whole: bool,
}

impl Draft {
    fn add(&mut self, item: Item<'_>) {
        let Item::Record { at, header, payload } = item else {
            self.whole = false;
            return;
        };
        let (group, kind) = (header.group, header.kind);
        match kind {
            Kind::Mark | Kind::Seal => return,
            Kind::State | Kind::Forget => {
                self.latest.retain(|(of, _), _| *of != group);
            }
            Kind::Entry | Kind::Vote | Kind::Committed | Kind::Purged | Kind::Truncate | Kind::Slice => {}
        }
        let to = match kind {
            Kind::Vote | Kind::Committed => self.latest.entry((group, kind as u8)).or_default(),
            _ => &mut self.bytes,
        };
        if matches!(kind, Kind::Vote | Kind::Committed) {
            to.clear();
        }
        to.extend_from_slice(&at.to_le_bytes());
        to.extend_from_slice(&header.encode(self.seed, at));
        if has_payload(kind) {
            to.extend_from_slice(payload);
        }
    }
}

/// The bytes of a summary; `None` if something in the segment is not whole.
fn summarize(file: &dyn File, header: &segment::Header, len: u32) -> io::Result<Option<Vec<u8>>> {
    let seed = record::seed(header.salt, header.id);
    let mut draft = Draft { seed, bytes: vec![0; HEADER_BYTES], latest: BTreeMap::new(), whole: true };
    let end = Scan::new(file, header, len, true).run(&mut |item| draft.add(item))?;
    if !draft.whole || !end.sealed {
        return Ok(None);
    }
    let Draft { mut bytes, latest, .. } = draft;
    latest.into_values().for_each(|record| bytes.extend_from_slice(&record));
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..20].copy_from_slice(&header.id.0.to_le_bytes());
    bytes[20..28].copy_from_slice(&header.salt.to_le_bytes());
    bytes[28..32].copy_from_slice(&end.at.to_le_bytes());
    bytes[32..36].copy_from_slice(&end.batch.to_le_bytes());
    let crc = crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    Ok(Some(bytes))
}

impl Shared {
    /// Writes the summary of the oldest complete segment that has none, if there is one.
    pub(crate) fn summarize_next(&self) -> io::Result<bool> {
        let next = {
            let table = self.table();
            let wanted = table.segments.values().find(|segment| !segment.active && !segment.summarized);
            wanted.map(|segment| (segment.header, segment.len))
        };
        let Some((header, len)) = next else { return Ok(false) };
        let made = self.summarize(&header, len);
        let mut table = self.table();
        let Some(segment) = table.segments.get_mut(&header.id) else {
            // It was removed meanwhile.
            drop(table);
            return self.remove_summary(header.id).map(|()| true);
        };
        // A segment that is damaged has none, and is not read again and again.
        segment.summarized = made.is_ok();
        made.map(|()| true)
    }

    fn summarize(&self, header: &segment::Header, len: u64) -> io::Result<()> {
        let file = self.io.open(&self.path.join(segment::file_name(header.id)))?;
        let Some(bytes) = summarize(&*file, header, len.min(header.size.into()) as u32)? else { return Ok(()) };
        let name = segment::summary_name(header.id);
        let unfinished = self.path.join(format!("{name}.new"));
        let written = self.io.create(&unfinished).and_then(|file| {
            file.write_at(&bytes, 0)?;
            file.sync_data()?;
            // If the name is lost with a crash, it is written once more.
            self.io.rename(&unfinished, &self.path.join(&name))
        });
        if written.is_err() {
            // It may be there or not, under either name; nobody counts on it.
            let _ = self.io.remove(&unfinished);
        }
        written
    }

    /// Removes the summary of a segment that is gone.
    pub(crate) fn remove_summary(&self, segment: SegmentId) -> io::Result<()> {
        match self.io.remove(&self.path.join(segment::summary_name(segment))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
