//! Stored bytes in pieces, as they lie in memory or came in messages.

use bytes::Bytes;

/// The pieces as one; a single piece is shared, not copied.
pub fn join(pieces: &[Bytes]) -> Bytes {
    match pieces {
        [] => Bytes::new(),
        [one] => one.clone(),
        many => many.concat().into(),
    }
}
