//! The encoding of packs, and of the command that commits one. A pack may have very many streams, so what is said of each
//! stands in lists of differences.

use prost::Message;

use crate::limits::PACK_STREAMS_MAX;
use crate::packs::PackRef;
use crate::verb::{self, PackedStream};
use crate::{Error, StreamId};

/// See [`verb::CommitPack`]. The lists are of one length.
#[derive(Clone, PartialEq, Message)]
pub struct CommitPack {
    /// The object.
    #[prost(message, required, tag = "1")]
    pub pack: Pack,
    /// Changes that are in it.
    #[prost(uint64, tag = "2")]
    pub as_of: u64,
    /// The turn of each stream, from the one before; never 0.
    #[prost(uint64, repeated, tag = "3")]
    pub turns: Vec<u64>,
    /// Each stream, from the one before.
    #[prost(sint64, repeated, tag = "4")]
    pub streams: Vec<i64>,
    /// Bytes of each.
    #[prost(uint64, repeated, tag = "5")]
    pub bytes: Vec<u64>,
    /// Bytes before these of each that nobody needs; absent if there are none.
    #[prost(uint64, repeated, tag = "6")]
    pub skipped: Vec<u64>,
}

/// See [`PackRef`].
#[derive(Clone, PartialEq, Message)]
pub struct Pack {
    /// The first pack that it stands for, from 1.
    #[prost(uint64, tag = "1")]
    pub first: u64,
    /// The last.
    #[prost(uint64, tag = "2")]
    pub last: u64,
    /// Drawn at random.
    #[prost(fixed64, tag = "3")]
    pub maker: u64,
    /// Of the object.
    #[prost(uint64, tag = "4")]
    pub bytes: u64,
    /// 32 bytes.
    #[prost(bytes = "vec", tag = "5")]
    pub hash: Vec<u8>,
}

impl From<verb::CommitPack> for CommitPack {
    fn from(commit: verb::CommitPack) -> CommitPack {
        let (mut turn, mut stream) = (0, 0);
        let list = &commit.streams;
        CommitPack {
            pack: commit.pack.into(),
            as_of: commit.as_of,
            turns: list
                .iter()
                .map(|packed| packed.turn.wrapping_sub(std::mem::replace(&mut turn, packed.turn)))
                .collect(),
            streams: list
                .iter()
                .map(|packed| {
                    packed.stream.0.wrapping_sub(std::mem::replace(&mut stream, packed.stream.0)).cast_signed()
                })
                .collect(),
            bytes: list.iter().map(|packed| packed.bytes).collect(),
            skipped: match list.iter().all(|packed| packed.skipped == 0) {
                true => Vec::new(),
                false => list.iter().map(|packed| packed.skipped).collect(),
            },
        }
    }
}

impl TryFrom<CommitPack> for verb::CommitPack {
    type Error = Error;

    fn try_from(commit: CommitPack) -> Result<verb::CommitPack, Error> {
        let CommitPack { pack, as_of, turns, streams, bytes, mut skipped } = commit;
        let count = turns.len();
        if skipped.is_empty() {
            skipped = vec![0; count.min(PACK_STREAMS_MAX)];
        }
        if count > PACK_STREAMS_MAX || [streams.len(), bytes.len(), skipped.len()] != [count; 3] {
            return Err(Error::Malformed);
        }
        let (mut turn, mut stream) = (0u64, 0u64);
        let packed = |(((waited, other), bytes), skipped): (((u64, i64), u64), u64)| {
            turn = turn.checked_add(waited).filter(|_| waited > 0).ok_or(Error::Malformed)?;
            stream = stream.wrapping_add_signed(other);
            Ok(PackedStream { turn, stream: StreamId(stream), skipped, bytes })
        };
        let streams =
            turns.into_iter().zip(streams).zip(bytes).zip(skipped).map(packed).collect::<Result<_, Error>>()?;
        Ok(verb::CommitPack { pack: pack.try_into()?, as_of, streams })
    }
}

impl From<PackRef> for Pack {
    fn from(pack: PackRef) -> Pack {
        let PackRef { first, last, maker, bytes, hash } = pack;
        Pack { first, last, maker, bytes, hash: hash.to_vec() }
    }
}

impl TryFrom<Pack> for PackRef {
    type Error = Error;

    fn try_from(pack: Pack) -> Result<PackRef, Error> {
        let Pack { first, last, maker, bytes, hash } = pack;
        let hash = <[u8; 32]>::try_from(hash).map_err(|_| Error::Malformed)?;
        if first == 0 || last < first { Err(Error::Malformed) } else { Ok(PackRef { first, last, maker, bytes, hash }) }
    }
}
