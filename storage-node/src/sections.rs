//! Sections with a checksum: the frame of checkpoints, and of snapshots on their way between nodes.
//!
//! `kind (1 byte), length of the body (4, little endian), body, CRC32C of all three (4)`

use std::io;

use bytes::{Buf, Bytes, BytesMut};

/// Before the body.
pub(crate) const HEAD_BYTES: usize = 5;
/// After the body.
pub(crate) const CRC_BYTES: usize = 4;

/// Adds a section.
///
/// # Panics
/// If the body has 4 GiB or more.
pub(crate) fn put(to: &mut Vec<u8>, kind: u8, body: &[u8]) {
    let len = u32::try_from(body.len()).expect("invariant: sections are small");
    let start = to.len();
    to.push(kind);
    to.extend_from_slice(&len.to_le_bytes());
    to.extend_from_slice(body);
    let crc = crc32c::crc32c(&to[start..]);
    to.extend_from_slice(&crc.to_le_bytes());
}

/// The length of the body that follows this head.
pub(crate) fn body_bytes(head: &[u8]) -> u32 {
    u32::from_le_bytes([head[1], head[2], head[3], head[4]])
}

/// Takes the first section off: its kind and its body. `None` if it is not whole yet.
///
/// # Errors
/// If its checksum is wrong.
pub(crate) fn take(from: &mut Bytes) -> io::Result<Option<(u8, Bytes)>> {
    if from.len() < HEAD_BYTES {
        return Ok(None);
    }
    let body = body_bytes(from) as usize;
    if from.len() - HEAD_BYTES < body + CRC_BYTES {
        return Ok(None);
    }
    let mut section = from.split_to(HEAD_BYTES + body);
    if crc32c::crc32c(&section) != from.get_u32_le() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a checksum is wrong"));
    }
    let kind = section[0];
    section.advance(HEAD_BYTES);
    Ok(Some((kind, section)))
}

/// Puts sections together again that come in chunks of any size.
#[derive(Debug, Default)]
pub(crate) struct Assembler(BytesMut);

impl Assembler {
    /// Adds the next bytes.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.0.extend_from_slice(chunk);
    }

    /// The next section, if it is whole.
    ///
    /// # Errors
    /// If its checksum is wrong.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u8, Bytes)>> {
        let mut bytes = std::mem::take(&mut self.0).freeze();
        let section = take(&mut bytes);
        self.0 = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        section
    }
}

#[cfg(test)]
mod tests;
