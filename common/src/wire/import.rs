//! The encoding of what restores the streams of a group.

use bytes::Bytes;
use prost::Message;

use super::packs::Pack;
use crate::packs::PackRef;
use crate::{Error, StreamId, verb};

/// See [`verb::ImportRun`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Run {
    /// What is taken in.
    #[prost(fixed64, tag = "1")]
    pub import: u64,
    /// Which attempt.
    #[prost(fixed64, tag = "2")]
    pub attempt: u64,
}

/// See [`verb::Import`].
#[derive(Clone, PartialEq, Message)]
pub struct Import {
    /// Which one.
    #[prost(message, required, tag = "1")]
    pub run: Run,
    /// Packs that follow.
    #[prost(message, repeated, tag = "2")]
    pub packs: Vec<Pack>,
    /// A snapshot of the group with some of its streams, as a pack has it.
    #[prost(bytes = "bytes", tag = "3")]
    pub records: Bytes,
}

/// See [`verb::EndImport`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct End {
    /// Which one.
    #[prost(message, required, tag = "1")]
    pub run: Run,
    /// Streams that were taken in.
    #[prost(uint64, tag = "2")]
    pub streams: u64,
    /// The least id of the next stream.
    #[prost(uint64, tag = "3")]
    pub next_stream: u64,
}

/// The answer to the begin of an import.
#[derive(Clone, PartialEq, Message)]
pub struct Begun {
    /// The newest pack of the group.
    #[prost(message, optional, tag = "1")]
    pub newest: Option<Pack>,
}

impl From<verb::ImportRun> for Run {
    fn from(run: verb::ImportRun) -> Run {
        Run { import: run.import, attempt: run.attempt }
    }
}

impl From<Run> for verb::ImportRun {
    fn from(run: Run) -> verb::ImportRun {
        verb::ImportRun { import: run.import, attempt: run.attempt }
    }
}

impl From<verb::Import> for Import {
    fn from(import: verb::Import) -> Import {
        let packs = import.packs.into_iter().map(Pack::from).collect();
        Import { run: import.run.into(), packs, records: import.records }
    }
}

impl TryFrom<Import> for verb::Import {
    type Error = Error;

    fn try_from(import: Import) -> Result<verb::Import, Error> {
        let packs = import.packs.into_iter().map(PackRef::try_from).collect::<Result<_, _>>()?;
        Ok(verb::Import { run: import.run.into(), packs, records: import.records })
    }
}

impl From<verb::EndImport> for End {
    fn from(end: verb::EndImport) -> End {
        End { run: end.run.into(), streams: end.streams, next_stream: end.next_stream.0 }
    }
}

impl From<End> for verb::EndImport {
    fn from(end: End) -> verb::EndImport {
        verb::EndImport { run: end.run.into(), streams: end.streams, next_stream: StreamId(end.next_stream) }
    }
}

impl From<Option<PackRef>> for Begun {
    fn from(newest: Option<PackRef>) -> Begun {
        Begun { newest: newest.map(Pack::from) }
    }
}

impl TryFrom<Begun> for Option<PackRef> {
    type Error = Error;

    fn try_from(begun: Begun) -> Result<Option<PackRef>, Error> {
        begun.newest.map(PackRef::try_from).transpose()
    }
}
