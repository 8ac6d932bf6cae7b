//! The encoding of packs, and of the command that commits one. A pack may have very many streams, so what is said of each
//! stands in lists of differences.

use prost::Message;

use crate::limits::{MERGED_OBJECTS_MAX, PACK_STREAMS_MAX};
use crate::packs::PackRef;
use crate::verb::{self, PackedStream};
use crate::{Error, Offset, StreamId};

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
    /// From where on the bytes of each were needed; absent if all are.
    #[prost(uint64, repeated, tag = "7")]
    pub floors: Vec<u64>,
    /// Whether the record of each names snapshots; absent if none does.
    #[prost(bool, repeated, tag = "8")]
    pub named: Vec<bool>,
}

/// See [`verb::MergePacks`].
#[derive(Clone, PartialEq, Message)]
pub struct MergePacks {
    /// The objects that it was made of.
    #[prost(message, repeated, tag = "1")]
    pub replaced: Vec<Pack>,
    /// The object.
    #[prost(message, required, tag = "2")]
    pub object: Pack,
}

/// See [`verb::Op::SweepPacks`].
#[derive(Clone, PartialEq, Message)]
pub struct SweepPacks {
    /// The objects.
    #[prost(message, repeated, tag = "1")]
    pub packs: Vec<Pack>,
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
            skipped: unless_none(list.iter().map(|packed| packed.skipped)),
            floors: unless_none(list.iter().map(|packed| packed.floor.0)),
            named: unless_none(list.iter().map(|packed| packed.named)),
        }
    }
}

/// A list that is absent if it says nothing.
fn unless_none<T: Default + PartialEq>(list: impl Iterator<Item = T> + Clone) -> Vec<T> {
    if list.clone().all(|one| one == T::default()) { Vec::new() } else { list.collect() }
}

impl TryFrom<CommitPack> for verb::CommitPack {
    type Error = Error;

    fn try_from(commit: CommitPack) -> Result<verb::CommitPack, Error> {
        let CommitPack { pack, as_of, turns, streams, bytes, mut skipped, mut floors, mut named } = commit;
        let count = turns.len();
        for list in [&mut skipped, &mut floors] {
            if list.is_empty() {
                *list = vec![0; count.min(PACK_STREAMS_MAX)];
            }
        }
        if named.is_empty() {
            named = vec![false; count.min(PACK_STREAMS_MAX)];
        }
        let counts = [streams.len(), bytes.len(), skipped.len(), floors.len(), named.len()];
        if count > PACK_STREAMS_MAX || counts != [count; 5] || floors.iter().any(|floor| *floor > Offset::MAX.0) {
            return Err(Error::Malformed);
        }
        let (mut turn, mut stream) = (0u64, 0u64);
        let packed = |place: usize| {
            let (waited, skipped, bytes, named) = (turns[place], skipped[place], bytes[place], named[place]);
            turn = turn.checked_add(waited).filter(|_| waited > 0).ok_or(Error::Malformed)?;
            stream = stream.wrapping_add_signed(streams[place]);
            Ok(PackedStream { turn, stream: StreamId(stream), skipped, bytes, floor: Offset(floors[place]), named })
        };
        let streams = (0..count).map(packed).collect::<Result<_, Error>>()?;
        Ok(verb::CommitPack { pack: pack.try_into()?, as_of, streams })
    }
}

impl From<verb::MergePacks> for MergePacks {
    fn from(merge: verb::MergePacks) -> MergePacks {
        let verb::MergePacks { replaced, object } = merge;
        MergePacks { replaced: replaced.into_iter().map(Pack::from).collect(), object: object.into() }
    }
}

impl TryFrom<MergePacks> for verb::MergePacks {
    type Error = Error;

    fn try_from(merge: MergePacks) -> Result<verb::MergePacks, Error> {
        Ok(verb::MergePacks { replaced: packs_in(merge.replaced)?, object: merge.object.try_into()? })
    }
}

impl From<Vec<PackRef>> for SweepPacks {
    fn from(packs: Vec<PackRef>) -> SweepPacks {
        SweepPacks { packs: packs.into_iter().map(Pack::from).collect() }
    }
}

impl TryFrom<SweepPacks> for Vec<PackRef> {
    type Error = Error;

    fn try_from(swept: SweepPacks) -> Result<Vec<PackRef>, Error> {
        packs_in(swept.packs)
    }
}

fn packs_in(packs: Vec<Pack>) -> Result<Vec<PackRef>, Error> {
    match (1..=MERGED_OBJECTS_MAX).contains(&packs.len()) {
        true => packs.into_iter().map(PackRef::try_from).collect(),
        false => Err(Error::Malformed),
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
