//! Offsets: positions in a stream, opaque to clients and ordered as plain strings.

use std::fmt;
use std::str::FromStr;

/// A position in a stream: the number of stored bytes before it.
///
/// The text form is `0000000000000000_<16 digits>`: fixed width, so that the order of the strings is
/// the order of the positions. The first part is reserved and always zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub u64);

/// Digits in each half of the text form.
const DIGITS: usize = 16;
const TEXT_LEN: usize = 2 * DIGITS + 1;

impl Offset {
    /// The start of every stream.
    pub const ZERO: Offset = Offset(0);
    /// The largest offset that the text form can hold.
    pub const MAX: Offset = Offset(9_999_999_999_999_999);

    /// The position `bytes` further on, or `None` past [`Offset::MAX`].
    pub fn checked_add(self, bytes: u64) -> Option<Offset> {
        self.0.checked_add(bytes).map(Offset).filter(|at| *at <= Self::MAX)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016}_{:016}", 0, self.0)
    }
}

/// The text is not an offset of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an offset of this server: use one that it returned, or -1, or now")]
pub struct InvalidOffset;

impl FromStr for Offset {
    type Err = InvalidOffset;

    fn from_str(text: &str) -> Result<Self, InvalidOffset> {
        let bytes = text.as_bytes();
        if bytes.len() != TEXT_LEN || bytes[DIGITS] != b'_' {
            return Err(InvalidOffset);
        }
        let (epoch, position) = (digits(&bytes[..DIGITS])?, digits(&bytes[DIGITS + 1..])?);
        if epoch != 0 { Err(InvalidOffset) } else { Ok(Offset(position)) }
    }
}

fn digits(text: &[u8]) -> Result<u64, InvalidOffset> {
    text.iter().try_fold(0u64, |value, byte| match byte {
        b'0'..=b'9' => Ok(value * 10 + u64::from(byte - b'0')),
        _ => Err(InvalidOffset),
    })
}

#[cfg(test)]
mod tests;
