//! Offsets: positions in a stream, opaque to clients and ordered as plain strings.

use std::fmt;
use std::str::FromStr;

/// A position in a stream: a number that tells it from other streams that had its name, and the stored bytes before
/// the position.
///
/// The text form is `<16 digits>_<16 digits>`, the number and the bytes: fixed width, so that the order of the strings
/// is the order of the positions. The value is what its digits say, so positions of one stream can be counted with, and
/// those of streams with other numbers lie before or after all of them. `0000000000000000_0000000000000000` is the
/// start of any stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub u64);

/// Digits in each half of the text form.
const DIGITS: usize = 16;
const TEXT_LEN: usize = 2 * DIGITS + 1;
/// Positions under one number.
const POSITIONS: u64 = 10_000_000_000_000_000;

impl Offset {
    /// The start of every stream.
    pub const ZERO: Offset = Offset(0);
    /// The largest offset that the text form can hold and 64 bits can count.
    pub const MAX: Offset = Offset(Self::NUMBERS * POSITIONS - 1);
    /// How many numbers there are.
    pub const NUMBERS: u64 = u64::MAX / POSITIONS;

    /// Where the streams of a number begin.
    pub fn first_of(number: u64) -> Offset {
        Offset(number % Self::NUMBERS * POSITIONS)
    }

    /// Where the stream begins that this is an offset of.
    pub fn first(self) -> Offset {
        Offset(self.0 - self.bytes())
    }

    /// The number of the stream that this is an offset of.
    pub fn number(self) -> u64 {
        self.0 / POSITIONS
    }

    /// The stored bytes before it.
    pub fn bytes(self) -> u64 {
        self.0 % POSITIONS
    }

    /// The offset that a client means by this one who reads a stream with this tail.
    pub fn within(self, tail: Offset) -> Offset {
        if self == Self::ZERO { tail.first() } else { self }
    }

    /// The position `bytes` further on, or `None` if there is none under its number.
    pub fn checked_add(self, bytes: u64) -> Option<Offset> {
        self.bytes().checked_add(bytes).filter(|at| *at < POSITIONS)?;
        Some(Offset(self.0 + bytes))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016}_{:016}", self.number(), self.bytes())
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
        let (number, position) = (digits(&bytes[..DIGITS])?, digits(&bytes[DIGITS + 1..])?);
        if number < Self::NUMBERS { Ok(Offset(number * POSITIONS + position)) } else { Err(InvalidOffset) }
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
