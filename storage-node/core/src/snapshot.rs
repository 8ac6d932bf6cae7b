//! The state as bytes, and back; `docs/formats/snapshot.md` describes them. Must not change the meaning
//! of a number that was ever written.
//!
//! A version byte, then records one after the other, each with its length before it: the head, packs, every
//! bucket followed by its streams, sessions, sagas, what was removed lately, the
//! cluster (meta group), and the end.

mod decode;
mod encode;
mod record;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use prost::Message;
use ursula_common::{GroupId, StreamId, StreamKey};

use self::record::{Kind, Record};
use crate::stream::{ContentTypes, Stream};
use crate::{CodecError, PackPlan, State};

/// Persisted: the first byte of every snapshot.
const VERSION: u8 = 1;
/// A chunk ends with the record that reaches this many bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// A state as it was at one moment, to be encoded on another thread while the state goes on.
#[derive(Debug)]
pub struct Frozen(State);

impl Frozen {
    /// What [`State::encode_chunks`] gave at that moment.
    pub fn encode_chunks(&self) -> impl Iterator<Item = Vec<u8>> {
        self.0.encode_chunks()
    }
}

impl State {
    /// The state as it is now, in a small part of the time that encoding it takes: streams are shared until they
    /// change.
    pub fn freeze(&self) -> Frozen {
        Frozen(State {
            group: self.group,
            data_groups: self.data_groups,
            now: self.now,
            next_stream: self.next_stream,
            first_stream: self.first_stream,
            streams: self.streams,
            buckets: self.buckets.clone(),
            dropped: self.dropped.clone(),
            released: self.released.clone(),
            sessions: self.sessions.clone(),
            sagas: self.sagas.clone(),
            cluster: self.cluster.clone(),
            packs: self.packs.as_ref().map(|packs| Box::new(packs.without_streams())),
            import: self.import.clone(),
            // Made again from the streams by whoever decodes.
            deadlines: BTreeMap::new(),
            content_types: ContentTypes::default(),
        })
    }

    /// The whole state as bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.encode_chunks().collect::<Vec<_>>().concat()
    }

    /// The same bytes in chunks of about 256 KiB, made as they are asked for.
    pub fn encode_chunks(&self) -> impl Iterator<Item = Vec<u8>> {
        let mut records = encode::records(self).peekable();
        let mut chunk = vec![VERSION];
        std::iter::from_fn(move || {
            while chunk.len() < CHUNK_BYTES
                && let Some(kind) = records.next()
            {
                put(&mut chunk, kind);
            }
            (!chunk.is_empty()).then(|| std::mem::take(&mut chunk))
        })
    }

    /// Reads what [`State::encode`] wrote.
    ///
    /// # Errors
    /// A [`CodecError`] for anything else, also if something is missing at the end.
    pub fn decode(mut bytes: Bytes) -> Result<State, CodecError> {
        match bytes.try_get_u8() {
            Ok(VERSION) => {}
            Ok(other) => return Err(CodecError::UnknownVersion(other)),
            Err(_) => return Err(CodecError::Damaged),
        }
        let Kind::Head(head) = next_record(&mut bytes)? else { return Err(CodecError::Damaged) };
        let mut decoder = decode::Decoder::new(head)?;
        loop {
            match next_record(&mut bytes)? {
                Kind::End(end) if bytes.is_empty() => return decoder.finish(end),
                kind => decoder.add(kind)?,
            }
        }
    }
}

/// The records of a pack: a snapshot without the streams that are not whole in it. What it has of packs is what is true
/// once the pack counts.
pub(crate) fn encode_pack(state: &State, plan: &PackPlan) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    encode::pack_records(state, plan).for_each(|kind| put(&mut bytes, kind));
    bytes
}

/// The records of a pack that has these streams and nothing else.
pub(crate) fn encode_streams(
    group: GroupId,
    data_groups: u32,
    next_stream: StreamId,
    streams: &BTreeMap<&StreamKey, &Stream>,
) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    encode::stream_records(group, data_groups, next_stream, streams).for_each(|kind| put(&mut bytes, kind));
    bytes
}

fn put(bytes: &mut Vec<u8>, kind: Kind) {
    let record = Record { kind: Some(kind) };
    bytes.reserve(record.encoded_len() + prost::length_delimiter_len(record.encoded_len()));
    // A vector grows as needed, so there is no way to fail.
    let _ = record.encode_length_delimited(bytes);
}

fn next_record(bytes: &mut Bytes) -> Result<Kind, CodecError> {
    Record::decode_length_delimited(bytes)?.kind.ok_or(CodecError::Damaged)
}
