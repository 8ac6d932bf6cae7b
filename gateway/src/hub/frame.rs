//! One event, framed once for all readers.

use bytes::Bytes;
use ursula_common::{ContentType, Offset};
use ursula_protocol::sse::{self, DataKind};

/// Stored bytes that came in one event, and their form as server-sent events.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) start: Offset,
    pub(crate) next: Offset,
    /// As stored.
    pub(crate) data: Bytes,
    /// Nothing more was stored when it was made.
    pub(crate) up_to_date: bool,
    /// The stream ends here.
    pub(crate) closed: bool,
    /// The data event and the control event after it, in one piece.
    pub(crate) events: Bytes,
}

impl Frame {
    /// Frames bytes that end at `next`.
    pub(crate) fn new(
        kind: DataKind,
        start: Offset,
        data: Bytes,
        cursor: u64,
        up_to_date: bool,
        closed: bool,
    ) -> Frame {
        let next = Offset(start.0 + data.len() as u64);
        let control = sse::control(next, Some(cursor), up_to_date, closed);
        let events = if data.is_empty() {
            control
        } else {
            Bytes::from([&sse::data(kind, &data, next)[..], &control[..]].concat())
        };
        Frame { start, next, data, up_to_date, closed, events }
    }

    /// Memory it holds.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.data.len() + self.events.len() + size_of::<Frame>()
    }
}

/// How many of `bytes` can be framed now: a character that is not complete waits for its rest.
pub(crate) fn frameable(content_type: &ContentType, bytes: &[u8], closed: bool) -> usize {
    let whole = closed || DataKind::of(content_type) != DataKind::Text;
    if whole { bytes.len() } else { sse::text_boundary(bytes) }
}
