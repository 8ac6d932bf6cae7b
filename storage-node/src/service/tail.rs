//! The node's end of a tail: page after page, each asked for when the one before it was taken.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio::sync::oneshot;
use tonic::Status;
use ursula_common::metrics::OpenGauge;
use ursula_common::{Error, Offset, StreamId, pieces};
use ursula_proto::{TargetRef, to_status, v1};

use super::Messages;
use crate::core::RequestKind;
use crate::directory::Directory;
use crate::metrics::Metrics;
use crate::tails::{TailPage, Waiter};

/// A page of a tail ends at the first record boundary at or after so many bytes.
const PAGE_BYTES: usize = 256 << 10;

struct Tail {
    target: TargetRef,
    stream: StreamId,
    from: Offset,
    tell_up_to_date: bool,
    ended: bool,
    directory: Directory,
    _open: OpenGauge,
}

/// Streams bytes from `from` on until the stream is closed or gone.
pub(super) fn open(
    target: TargetRef,
    stream: StreamId,
    from: Offset,
    tell_up_to_date: bool,
    directory: Directory,
    metrics: Arc<Metrics>,
) -> Messages<v1::TailEvent> {
    let open = OpenGauge::new(metrics.tails.clone());
    let tail = Tail { target, stream, from, tell_up_to_date, ended: false, directory, _open: open };
    stream::unfold(tail, next_event).boxed()
}

async fn next_event(mut tail: Tail) -> Option<(Result<v1::TailEvent, Status>, Tail)> {
    if tail.ended {
        return None;
    }
    let page = tail.next_page().await;
    tail.ended = !matches!(&page, Ok(page) if !page.closed);
    let event = page.map_err(to_status).map(|page| {
        tail.from = page.next;
        tail.tell_up_to_date = false;
        let data = pieces::join(&page.pieces);
        v1::TailEvent { start: page.start.0, data, closed: page.closed, up_to_date: page.up_to_date }
    });
    Some((event, tail))
}

impl Tail {
    async fn next_page(&self) -> Result<TailPage, Error> {
        let (reply, page) = oneshot::channel();
        let Tail { stream, from, tell_up_to_date, .. } = *self;
        let waiter = Waiter { stream, from, bytes_max: PAGE_BYTES, tell_up_to_date, reply };
        let key = self.target.key.clone();
        self.directory.send(self.target.group, RequestKind::Wait { key, waiter }).await?;
        page.await.unwrap_or(Err(Error::Unavailable))
    }
}
