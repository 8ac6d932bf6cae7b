//! An answer within this process, with the heads of large messages apart. Whoever decodes a message sets memory aside for
//! it when its head has come, and that on top of what came with the head: twice as much, for as long as the message lives.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// What gRPC puts before each message: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;
/// Smaller messages are not worth two frames.
const APART_BYTES_MIN: usize = 16 << 10;

/// See the module.
pub(crate) struct Apart {
    body: Body,
    /// What follows a head.
    rest: Option<Bytes>,
}

impl Apart {
    pub(crate) fn new(body: Body) -> Apart {
        Apart { body, rest: None }
    }
}

impl HttpBody for Apart {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(rest) = self.rest.take() {
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            end => return Poll::Ready(end),
        };
        Poll::Ready(Some(match frame.into_data() {
            Ok(mut head) if head.len() >= APART_BYTES_MIN => {
                self.rest = Some(head.split_off(HEAD_BYTES));
                Ok(Frame::data(head))
            }
            Ok(data) => Ok(Frame::data(data)),
            Err(trailers) => Ok(trailers),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.as_ref().map_or(0, |rest| rest.len() as u64);
        let mut hint = self.body.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
