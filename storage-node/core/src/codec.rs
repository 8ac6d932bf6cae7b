//! What the encodings of commands and of the state share.

use ursula_common::Error;

/// Why bytes cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Written by a later version, or not by this program.
    #[error("unknown format version {0}: it was written by a later version")]
    UnknownVersion(u8),
    /// Not what this version writes.
    #[error("damaged, truncated or empty")]
    Damaged,
}

impl From<prost::DecodeError> for CodecError {
    fn from(_: prost::DecodeError) -> CodecError {
        CodecError::Damaged
    }
}

/// From the checks in the decoder of ops.
impl From<Error> for CodecError {
    fn from(_: Error) -> CodecError {
        CodecError::Damaged
    }
}
