//! A segment file: its name and its header block. Does no I/O.
//!
//! The header stands twice, in sectors of their own: a sector that went bad does not take the segment with it.

use std::fmt;

use crc32c::crc32c;

use crate::record::{u32_at, u64_at};

/// Bytes before the first record.
pub(crate) const HEADER_BYTES: u32 = 4096;
/// The format that is written.
pub(crate) const VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"ursulwal";
/// Where the two copies of the header stand.
const COPIES: [usize; 2] = [0, 2048];
const COPY_BYTES: usize = 64;

/// A segment, by the order in which segments were begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SegmentId(pub u64);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What the header of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: SegmentId,
    pub(crate) identity: u64,
    pub(crate) salt: u64,
    /// The segment that the same writer wrote before, 0 if this is its first.
    pub(crate) previous: SegmentId,
    pub(crate) writer: u32,
    pub(crate) size: u32,
}

/// What a header block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Header(Header),
    /// Nothing was written yet.
    Blank,
    /// Another program's file.
    Foreign,
    /// A format that is not known here.
    Newer(u16),
    Damaged,
}

impl Header {
    /// The block that a segment starts with.
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES as usize] {
        let mut copy = [0; COPY_BYTES];
        copy[..8].copy_from_slice(&MAGIC);
        copy[8..10].copy_from_slice(&VERSION.to_le_bytes());
        copy[16..24].copy_from_slice(&self.id.0.to_le_bytes());
        copy[24..32].copy_from_slice(&self.identity.to_le_bytes());
        copy[32..40].copy_from_slice(&self.salt.to_le_bytes());
        copy[40..48].copy_from_slice(&self.previous.0.to_le_bytes());
        copy[48..52].copy_from_slice(&self.writer.to_le_bytes());
        copy[52..56].copy_from_slice(&self.size.to_le_bytes());
        let crc = crc32c(&copy);
        copy[12..16].copy_from_slice(&crc.to_le_bytes());
        let mut block = [0; HEADER_BYTES as usize];
        for at in COPIES {
            block[at..at + COPY_BYTES].copy_from_slice(&copy);
        }
        block
    }

    /// What a block says: the first of the two copies that is whole counts.
    pub(crate) fn decode(block: &[u8; HEADER_BYTES as usize]) -> Found {
        let copies = COPIES.map(|at| decode_copy(&block[at..at + COPY_BYTES]));
        let worst = |found: &Found| match found {
            Found::Header(_) => 0,
            Found::Newer(_) => 1,
            Found::Damaged => 2,
            Found::Foreign => 3,
            Found::Blank => 4,
        };
        copies.into_iter().min_by_key(worst).unwrap_or(Found::Blank)
    }
}

fn decode_copy(copy: &[u8]) -> Found {
    if copy.iter().all(|byte| *byte == 0) {
        return Found::Blank;
    }
    if copy[..8] != MAGIC {
        return Found::Foreign;
    }
    let mut unsigned = [0; COPY_BYTES];
    unsigned.copy_from_slice(copy);
    unsigned[12..16].fill(0);
    if crc32c(&unsigned) != u32_at(copy, 12) {
        return Found::Damaged;
    }
    let version = u16::from_le_bytes([copy[8], copy[9]]);
    if version != VERSION {
        return Found::Newer(version);
    }
    Found::Header(Header {
        id: SegmentId(u64_at(copy, 16)),
        identity: u64_at(copy, 24),
        salt: u64_at(copy, 32),
        previous: SegmentId(u64_at(copy, 40)),
        writer: u32_at(copy, 48),
        size: u32_at(copy, 52),
    })
}

/// A name in the log directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    Segment(SegmentId),
    Index(SegmentId, u32),
    Spare(u64),
    Summary(SegmentId),
    /// A file that was being made.
    Unfinished,
    /// Ends like ours, and is not.
    Foreign,
    /// No business of ours.
    Other,
}

impl Name {
    pub(crate) fn parse(name: &str) -> Name {
        let number = |text: &str| {
            let digits = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            digits.then(|| u64::from_str_radix(text, 16).ok()).flatten()
        };
        if name.ends_with(".new") {
            return Name::Unfinished;
        }
        if let Some(text) = name.strip_suffix(".log") {
            return number(text).filter(|id| *id > 0).map_or(Name::Foreign, |id| Name::Segment(SegmentId(id)));
        }
        if let Some(text) = name.strip_suffix(".summary") {
            return number(text).filter(|id| *id > 0).map_or(Name::Foreign, |id| Name::Summary(SegmentId(id)));
        }
        if let Some(text) = name.strip_suffix(".index") {
            let index = text.split_once('-').and_then(|(id, part)| Some((number(id)?, part.parse().ok()?)));
            return index.map_or(Name::Foreign, |(id, part)| Name::Index(SegmentId(id), part));
        }
        if let Some(text) = name.strip_prefix("spare-") {
            return number(text).map_or(Name::Foreign, Name::Spare);
        }
        Name::Other
    }
}

/// The file of a segment.
pub(crate) fn file_name(id: SegmentId) -> String {
    format!("{id}.log")
}

/// A file of the index of a segment.
pub(crate) fn index_name(id: SegmentId, part: u32) -> String {
    format!("{id}-{part}.index")
}

/// The file of the summary of a segment.
pub(crate) fn summary_name(id: SegmentId) -> String {
    format!("{id}.summary")
}

/// The file of a spare.
pub(crate) fn spare_name(number: u64) -> String {
    format!("spare-{number:016x}")
}

#[cfg(test)]
mod tests;
