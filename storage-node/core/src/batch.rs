//! The encoding of a batch of commands, one entry of the log; `docs/formats/commands.md` describes it.
//! Must not change the meaning of a number that was ever written.

use bytes::{Buf, Bytes};
use prost::Message;
use ursula_common::{Millis, SessionId, wire};

use crate::{CodecError, Command, Origin};

/// Persisted: the first byte of every batch.
const VERSION: u8 = 1;

#[derive(Clone, PartialEq, Message)]
struct Batch {
    #[prost(message, repeated, tag = "1")]
    commands: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(uint64, tag = "1")]
    at: u64,
    #[prost(message, optional, tag = "2")]
    origin: Option<EntryOrigin>,
    #[prost(message, required, tag = "3")]
    op: wire::Op,
}

#[derive(Clone, PartialEq, Message)]
struct EntryOrigin {
    #[prost(fixed64, tag = "1")]
    session: u64,
    #[prost(uint64, tag = "2")]
    seq: u64,
    #[prost(uint64, tag = "3")]
    acked: u64,
}

/// Encodes commands as one entry of the log.
pub fn encode_batch(commands: &[Command]) -> Vec<u8> {
    let batch = Batch { commands: commands.iter().map(Entry::from).collect() };
    let mut bytes = Vec::with_capacity(1 + batch.encoded_len());
    bytes.push(VERSION);
    batch.encode_raw(&mut bytes);
    bytes
}

/// Decodes an entry of the log. The bodies are slices of `bytes`, not copies.
///
/// # Errors
/// A [`CodecError`] for anything that [`encode_batch`] does not write.
pub fn decode_batch(mut bytes: Bytes) -> Result<Vec<Command>, CodecError> {
    match bytes.try_get_u8() {
        Ok(VERSION) => Batch::decode(bytes)?.commands.into_iter().map(Command::try_from).collect(),
        Ok(other) => Err(CodecError::UnknownVersion(other)),
        Err(_) => Err(CodecError::Damaged),
    }
}

impl From<&Command> for Entry {
    fn from(command: &Command) -> Entry {
        let origin = |o: Origin| EntryOrigin { session: o.session.0, seq: o.seq, acked: o.acked };
        Entry { at: command.at.0, origin: command.origin.map(origin), op: command.op.clone().into() }
    }
}

impl TryFrom<Entry> for Command {
    type Error = CodecError;

    fn try_from(entry: Entry) -> Result<Command, CodecError> {
        let origin = |o: EntryOrigin| Origin { session: SessionId(o.session), seq: o.seq, acked: o.acked };
        Ok(Command { at: Millis(entry.at), origin: entry.origin.map(origin), op: entry.op.try_into()? })
    }
}

#[cfg(test)]
mod tests;
