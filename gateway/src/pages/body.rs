//! The body of a response in pieces, as they came from storage nodes: put together, a page would be there twice.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

/// Bytes are below this cheaper to copy than to send apart.
const JOINED_BYTES_MAX: usize = 16 << 10;

struct Pieces(VecDeque<Bytes>);

/// A body of these pieces, one after the other.
pub(crate) fn body(pieces: Vec<Bytes>) -> Body {
    let bytes: usize = pieces.iter().map(Bytes::len).sum();
    match bytes <= JOINED_BYTES_MAX {
        true => Body::from(ursula_common::pieces::join(&pieces)),
        false => Body::new(Pieces(pieces.into_iter().filter(|piece| !piece.is_empty()).collect())),
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}
