//! The checkpoint of a group: its state at one index of the log, in a file of its own, so that the log
//! before it need not be applied again. `docs/formats/checkpoint.md` describes the bytes.

use std::io;

use bytes::Bytes;
use prost::Message;
use ursula_common::StreamId;
use ursula_wal::{Extent, File, RowRef, SegmentId};

use crate::archive::{Chain, Places};
use crate::sections;

/// Persisted: the first bytes of every checkpoint, with the version of the format at the end.
const MAGIC: [u8; 8] = *b"URSCKPT\x01";
/// A description that is longer than this is none.
const META_BYTES_MAX: u32 = 1 << 20;
/// Streams whose places go into one section.
const SECTION_STREAMS: usize = 4096;

/// Persisted: what a section holds.
mod kind {
    pub(super) const META: u8 = 1;
    pub(super) const STATE: u8 = 2;
    pub(super) const CHAINS: u8 = 3;
    pub(super) const UNINDEXED: u8 = 4;
    pub(super) const END: u8 = 15;
}

/// What a checkpoint holds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// Which entry it was taken after and who the members were, as the consensus layer writes it.
    pub(crate) meta: Bytes,
    /// The state, in the encoding of `stream-core`.
    pub(crate) state: Bytes,
    /// Where the bytes of its streams lie in the log of this node.
    pub(crate) places: Places,
}

/// A checkpoint that is to be written, with the state in parts: it is never whole in memory.
pub(crate) struct Draft {
    /// See [`Checkpoint`].
    pub(crate) meta: Bytes,
    /// Gives the parts of the state in order.
    pub(crate) state: StateParts,
    /// See [`Checkpoint`].
    pub(crate) places: Places,
}

/// Gives the parts of a state to whoever writes them, on any thread.
pub(crate) type StateParts = Box<dyn FnOnce(Put<'_>) -> io::Result<()> + Send>;

/// Takes the next bytes.
pub(crate) type Put<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

#[derive(Clone, PartialEq, Message)]
struct ChainsSection {
    #[prost(message, repeated, tag = "1")]
    chains: Vec<StoredChain>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredChain {
    #[prost(uint64, tag = "1")]
    stream: u64,
    #[prost(uint64, tag = "2")]
    oldest: u64,
    #[prost(uint64, optional, tag = "3")]
    newest_segment: Option<u64>,
    #[prost(uint32, tag = "4")]
    newest_part: u32,
    #[prost(uint32, tag = "5")]
    newest_row: u32,
}

#[derive(Clone, PartialEq, Message)]
struct UnindexedSection {
    #[prost(uint64, tag = "1")]
    segment: u64,
    #[prost(message, repeated, tag = "2")]
    streams: Vec<StoredExtents>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredExtents {
    #[prost(uint64, tag = "1")]
    stream: u64,
    /// The offset of the first; each continues the one before it.
    #[prost(uint64, tag = "2")]
    offset: u64,
    #[prost(uint32, repeated, tag = "3")]
    at: Vec<u32>,
    #[prost(uint32, repeated, tag = "4")]
    len: Vec<u32>,
    #[prost(uint32, repeated, tag = "5")]
    crc: Vec<u32>,
}

impl Draft {
    /// Gives the bytes of the file, section by section.
    ///
    /// # Errors
    /// Those of `put`.
    pub(crate) fn write(self, put: Put<'_>) -> io::Result<()> {
        let Draft { meta, state, places } = self;
        put(&MAGIC)?;
        let mut section = |kind, body: &[u8]| {
            let mut section = Vec::new();
            sections::put(&mut section, kind, body);
            put(&section)
        };
        put_all(&mut section, meta, state, places)
    }
}

fn put_all(
    section: &mut dyn FnMut(u8, &[u8]) -> io::Result<()>,
    meta: Bytes,
    state: StateParts,
    places: Places,
) -> io::Result<()> {
    section(kind::META, &meta)?;
    state(&mut |part| section(kind::STATE, part))?;
    let mut chains: Vec<(StreamId, Chain)> = places.chains.into_iter().collect();
    chains.sort_unstable_by_key(|(stream, _)| *stream);
    for chains in chains.chunks(SECTION_STREAMS) {
        let chains = chains.iter().map(stored_chain).collect();
        section(kind::CHAINS, &ChainsSection { chains }.encode_to_vec())?;
    }
    for (segment, streams) in places.unindexed {
        for streams in streams.chunks(SECTION_STREAMS) {
            let streams = streams.iter().map(stored_extents).collect();
            section(kind::UNINDEXED, &UnindexedSection { segment: segment.0, streams }.encode_to_vec())?;
        }
    }
    section(kind::END, &[])
}

/// The version of a checkpoint that begins so, if it is one of another version than this.
pub(crate) fn other_version(begin: [u8; 8]) -> Option<u8> {
    (begin[..7] == MAGIC[..7] && begin[7] != MAGIC[7]).then_some(begin[7])
}

/// Whether a file is whole, without a look at what is in it.
///
/// # Errors
/// If it has another version, is damaged or not whole.
pub(crate) fn check(mut file: Bytes) -> io::Result<()> {
    if file.len() < MAGIC.len() || file.split_to(MAGIC.len()) != MAGIC[..] {
        return Err(damaged("it does not begin like a checkpoint of this version"));
    }
    loop {
        let section = sections::take(&mut file).map_err(|error| damaged(&error.to_string()))?;
        let (kind, _) = section.ok_or_else(|| damaged("it ends too early"))?;
        if kind == kind::END {
            return if file.is_empty() { Ok(()) } else { Err(damaged("it goes on behind its end")) };
        }
    }
}

impl Checkpoint {
    /// What the file of a checkpoint says first: see [`Checkpoint::meta`]. The rest is not looked at.
    ///
    /// # Errors
    /// If it cannot be read, has another version or is damaged.
    pub(crate) fn read_meta(file: &dyn File) -> io::Result<Bytes> {
        let mut head = [0; MAGIC.len() + sections::HEAD_BYTES];
        file.read_at(&mut head, 0)?;
        let (magic, section) = head.split_at(MAGIC.len());
        let len = sections::body_bytes(section);
        if *magic != MAGIC || section[0] != kind::META || len > META_BYTES_MAX {
            return Err(damaged("it does not begin like a checkpoint of this version"));
        }
        let mut bytes = vec![0; sections::HEAD_BYTES + len as usize + sections::CRC_BYTES];
        file.read_at(&mut bytes, MAGIC.len() as u64)?;
        let section = sections::take(&mut Bytes::from(bytes)).map_err(|error| damaged(&error.to_string()))?;
        section.map(|(_, meta)| meta).ok_or_else(|| damaged("it ends too early"))
    }

    /// Reads what [`Draft::write`] wrote.
    ///
    /// # Errors
    /// If the file has another version, is damaged or not whole.
    pub(crate) fn decode(mut file: Bytes) -> io::Result<Checkpoint> {
        if file.len() < MAGIC.len() || file.split_to(MAGIC.len()) != MAGIC[..] {
            return Err(damaged("it does not begin like a checkpoint of this version"));
        }
        let mut checkpoint = Checkpoint::default();
        let mut state: Vec<Bytes> = Vec::new();
        loop {
            let section = sections::take(&mut file).map_err(|error| damaged(&error.to_string()))?;
            let (kind, body) = section.ok_or_else(|| damaged("it ends too early"))?;
            match kind {
                kind::META => checkpoint.meta = body,
                kind::STATE => state.push(body),
                kind::CHAINS => {
                    let section = ChainsSection::decode(body).map_err(io::Error::other)?;
                    checkpoint.places.chains.extend(section.chains.into_iter().map(chain));
                }
                kind::UNINDEXED => add_unindexed(&mut checkpoint.places, body)?,
                kind::END if file.is_empty() => break,
                _ => return Err(damaged("a section has an unknown kind")),
            }
        }
        checkpoint.state = ursula_common::pieces::join(&state);
        Ok(checkpoint)
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("this checkpoint cannot be used: {what}"))
}

fn stored_chain((stream, chain): &(StreamId, Chain)) -> StoredChain {
    StoredChain {
        stream: stream.0,
        oldest: chain.oldest.0,
        newest_segment: chain.newest.map(|row| row.segment.0),
        newest_part: chain.newest.map_or(0, |row| row.part),
        newest_row: chain.newest.map_or(0, |row| row.row),
    }
}

fn chain(stored: StoredChain) -> (StreamId, Chain) {
    let row = |segment| RowRef { segment: SegmentId(segment), part: stored.newest_part, row: stored.newest_row };
    let newest = stored.newest_segment.map(row);
    (StreamId(stored.stream), Chain { newest, oldest: SegmentId(stored.oldest) })
}

fn stored_extents((stream, extents): &(StreamId, Vec<Extent>)) -> StoredExtents {
    StoredExtents {
        stream: stream.0,
        offset: extents.first().map_or(0, |first| first.offset),
        at: extents.iter().map(|extent| extent.at).collect(),
        len: extents.iter().map(|extent| extent.len).collect(),
        crc: extents.iter().map(|extent| extent.crc).collect(),
    }
}

fn add_unindexed(places: &mut Places, body: Bytes) -> io::Result<()> {
    let section = UnindexedSection::decode(body).map_err(io::Error::other)?;
    let segment = SegmentId(section.segment);
    let streams = section.streams.into_iter().map(extents).collect::<io::Result<Vec<_>>>()?;
    match places.unindexed.last_mut().filter(|(last, _)| *last == segment) {
        Some((_, known)) => known.extend(streams),
        None => places.unindexed.push((segment, streams)),
    }
    Ok(())
}

fn extents(stored: StoredExtents) -> io::Result<(StreamId, Vec<Extent>)> {
    let StoredExtents { stream, mut offset, at, len, crc } = stored;
    if at.len() != len.len() || at.len() != crc.len() {
        return Err(damaged("the places of a stream do not fit together"));
    }
    let places = at.into_iter().zip(len).zip(crc);
    let extents = places.map(|((at, len), crc)| {
        let extent = Extent { offset, at, len, crc };
        offset += u64::from(len);
        extent
    });
    Ok((StreamId(stream), extents.collect()))
}

#[cfg(test)]
mod tests;
