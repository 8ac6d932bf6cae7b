//! The encoding of a batch of commands, one entry of the log; `docs/formats/commands.md` describes it.
//! Must not change the meaning of a number that was ever written.

use bytes::{Buf, Bytes};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use ursula_common::verb::Op;
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

/// What stands before the op in an [`Entry`].
#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(uint64, tag = "1")]
    at: u64,
    #[prost(message, optional, tag = "2")]
    origin: Option<EntryOrigin>,
}

/// The number of an [`Entry`] in a [`Batch`], and of the op in an [`Entry`].
const COMMAND_TAG: u32 = 1;
const OP_TAG: u32 = 3;
/// More than what stands before the bytes of an op.
const HEAD_BYTES: usize = 64;

/// A command to propose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    /// The command.
    pub command: Command,
    /// Its op as [`wire::encode_op`] has it, if that is at hand: then it is taken as it is.
    pub encoded: Option<Bytes>,
}

impl From<Command> for Proposed {
    fn from(command: Command) -> Proposed {
        Proposed { command, encoded: None }
    }
}

/// Encodes commands as one entry of the log.
pub fn encode_batch(commands: &[Command]) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    for command in commands {
        put(&mut bytes, command, &wire::encode_op(&command.op));
    }
    bytes
}

/// Encodes commands as one entry of the log, and gives them back as [`decode_batch`] would: with their bodies
/// in it.
pub fn seal_batch(proposed: Vec<Proposed>) -> (Bytes, Vec<Command>) {
    let op_bytes: usize = proposed.iter().flat_map(|proposed| &proposed.encoded).map(Bytes::len).sum();
    let mut bytes = Vec::with_capacity(op_bytes + HEAD_BYTES * (1 + proposed.len()));
    bytes.push(VERSION);
    let put = |Proposed { command, encoded }| {
        let op = encoded.unwrap_or_else(|| wire::encode_op(&command.op).into());
        let start = put(&mut bytes, &command, &op);
        (command, op, start)
    };
    let put: Vec<(Command, Bytes, usize)> = proposed.into_iter().map(put).collect();
    let bytes = Bytes::from(bytes);
    let place = |(mut command, op, start): (Command, Bytes, usize)| {
        if let Some(body) = body(&mut command.op) {
            let inside = (body.as_ptr() as usize).checked_sub(op.as_ptr() as usize);
            match inside.filter(|inside| inside + body.len() <= op.len()) {
                Some(inside) => *body = bytes.slice(start + inside..start + inside + body.len()),
                None => {
                    let op = wire::decode_op(bytes.slice(start..start + op.len()));
                    command.op = op.expect("invariant: what was just encoded can be decoded");
                }
            }
        }
        command
    };
    let commands = put.into_iter().map(place).collect();
    (bytes, commands)
}

fn body(op: &mut Op) -> Option<&mut Bytes> {
    let body = match op {
        Op::Append(append) => &mut append.body,
        Op::Create(create) => &mut create.body,
        _ => return None,
    };
    (!body.is_empty()).then_some(body)
}

/// Adds a command with these bytes of its op; returns where they begin.
fn put(bytes: &mut Vec<u8>, command: &Command, op: &[u8]) -> usize {
    let origin = |o: Origin| EntryOrigin { session: o.session.0, seq: o.seq, acked: o.acked };
    let head = Head { at: command.at.0, origin: command.origin.map(origin) };
    // The number of the op takes one byte.
    let len = head.encoded_len() + 1 + encoded_len_varint(op.len() as u64) + op.len();
    encode_key(COMMAND_TAG, WireType::LengthDelimited, bytes);
    encode_varint(len as u64, bytes);
    head.encode_raw(bytes);
    encode_key(OP_TAG, WireType::LengthDelimited, bytes);
    encode_varint(op.len() as u64, bytes);
    let start = bytes.len();
    bytes.extend_from_slice(op);
    start
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

impl TryFrom<Entry> for Command {
    type Error = CodecError;

    fn try_from(entry: Entry) -> Result<Command, CodecError> {
        let origin = |o: EntryOrigin| Origin { session: SessionId(o.session), seq: o.seq, acked: o.acked };
        Ok(Command { at: Millis(entry.at), origin: entry.origin.map(origin), op: entry.op.try_into()? })
    }
}

#[cfg(test)]
mod tests;
