//! The events of one stream as they come, for all its readers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tracing::debug;
use ursula_common::metrics::OpenGauge;
use ursula_common::{Clock, ContentType, Error, Offset, StreamId, StreamKey};
use ursula_proto::{from_status, v1};
use ursula_protocol::cursor;
use ursula_protocol::sse::DataKind;

use super::frame::{Frame, frameable};
use crate::cluster::{Cluster, Tail};
use crate::metrics::Metrics;

/// Framed events that a feed keeps for readers that are a little behind.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// A feed without readers keeps its tail open for so long.
const LINGER: Duration = Duration::from_secs(1);
/// Pause before a lost tail is opened again.
const REOPEN_PAUSE: Duration = Duration::from_millis(100);

/// A tail that a replica serves in place of the leader is given back to the leader after so long.
const RETURN_AFTER: Duration = Duration::from_secs(5);

/// How a tail was left.
enum Drained {
    /// The stream has ended.
    Ended,
    /// Another node is to serve it.
    Moved,
    Failed(Error),
}

/// What all readers of one stream share.
pub(crate) struct Feed {
    content_type: ContentType,
    kept: Mutex<Kept>,
    /// Counts changes of `kept`.
    news: watch::Sender<u64>,
    readers: AtomicUsize,
    deserted: Notify,
    budget: Arc<KeptBudget>,
    metrics: Arc<Metrics>,
}

/// Bytes that all feeds of a gateway keep, and how many they may.
pub(super) struct KeptBudget {
    used: AtomicUsize,
    max: usize,
}

impl KeptBudget {
    pub(super) fn new(max: usize) -> KeptBudget {
        KeptBudget { used: AtomicUsize::new(0), max }
    }

    fn is_exceeded(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.max
    }
}

struct Kept {
    frames: VecDeque<Arc<Frame>>,
    bytes: usize,
    /// Where the next frame starts.
    next: Offset,
    /// Bytes after `next` that cannot be framed yet.
    rest: BytesMut,
    /// Whether the last frame said that nothing more was there, as far as it went. A replica that stood in for the
    /// leader cannot say so; then the leader is asked when the tail is back there.
    told_up_to_date: bool,
    /// What it said, for readers that have had the last frame.
    up_to_date: Option<Arc<Frame>>,
    /// Why nothing comes any more.
    ended: Option<Error>,
}

/// What a reader does next.
pub(crate) enum Step {
    /// Send this frame. It may begin before the reader's position.
    Frame(Arc<Frame>),
    /// Read pages: what comes next is no longer kept.
    CatchUp,
    /// The stream is gone.
    Ended(Error),
}

/// One reader's place in a feed.
pub(crate) struct Reader {
    feed: Arc<Feed>,
    news: watch::Receiver<u64>,
    next: Offset,
    /// Whether the last frame, or the page before it, said that nothing more was there.
    told_up_to_date: bool,
}

impl Feed {
    pub(super) fn new(
        content_type: &ContentType,
        from: Offset,
        budget: Arc<KeptBudget>,
        metrics: Arc<Metrics>,
    ) -> Feed {
        let kept = Kept {
            frames: VecDeque::new(),
            bytes: 0,
            next: from,
            rest: BytesMut::new(),
            told_up_to_date: true,
            up_to_date: None,
            ended: None,
        };
        Feed {
            content_type: content_type.clone(),
            kept: Mutex::new(kept),
            news: watch::channel(0).0,
            readers: AtomicUsize::new(0),
            deserted: Notify::new(),
            budget,
            metrics,
        }
    }

    pub(crate) fn readers(&self) -> usize {
        self.readers.load(Ordering::SeqCst)
    }

    /// Frames what the node sends. Returns `true` when the stream has ended, `false` when the feed
    /// had no readers for a while.
    pub(crate) async fn pump(
        &self,
        cluster: &Cluster,
        feed: &(StreamKey, StreamId),
        clock: &dyn Clock,
        metrics: &Metrics,
    ) -> bool {
        tokio::select! {
            ended = self.pump_until_end(cluster, feed, clock, metrics) => ended,
            () = self.wait_until_deserted() => false,
        }
    }

    async fn pump_until_end(
        &self,
        cluster: &Cluster,
        (key, stream): &(StreamKey, StreamId),
        clock: &dyn Clock,
        metrics: &Metrics,
    ) -> bool {
        let mut not_at = None;
        loop {
            let tell = !self.lock().told_up_to_date;
            let opened = cluster.tail(key, *stream, self.next(), tell, not_at.take()).await;
            let failed = match opened {
                Ok(tail) => {
                    metrics.tail_upstreams_opened.increment(1);
                    let _open = OpenGauge::new(metrics.tail_upstreams.clone());
                    let place = tail.place;
                    match self.drain(cluster, tail, clock).await {
                        Drained::Ended => return true,
                        Drained::Moved => {
                            metrics.tails_moved.increment(1);
                            continue;
                        }
                        Drained::Failed(error) => {
                            if let Error::NotLeader { leader, term } = error {
                                cluster.hear(&place, leader, term);
                            }
                            not_at = Some(place.node);
                            error
                        }
                    }
                }
                Err(error) => error,
            };
            match failed {
                Error::Unavailable | Error::NotLeader { .. } | Error::Overloaded => {
                    debug!(error = %failed, "a tail was lost");
                    sleep(REOPEN_PAUSE).await;
                }
                // Some of what comes next is gone. Who wanted it hears of it from a page; the others go on.
                Error::OffsetGone { earliest } if earliest > self.next() => {
                    not_at = None;
                    let mut kept = self.lock();
                    kept.next = earliest;
                    kept.rest.clear();
                    drop(kept);
                    self.tell();
                }
                error => {
                    self.lock().ended = Some(error);
                    self.tell();
                    return true;
                }
            }
        }
    }

    /// Where the tail goes on.
    fn next(&self) -> Offset {
        let kept = self.lock();
        Offset(kept.next.0 + kept.rest.len() as u64)
    }

    /// Frames the events of one tail, for as long as it is the right one.
    async fn drain(&self, cluster: &Cluster, tail: Tail, clock: &dyn Clock) -> Drained {
        let Tail { mut events, place } = tail;
        let moved = cluster.moved(&place);
        let back = async {
            match place.stands_in() {
                true => sleep(RETURN_AFTER).await,
                false => std::future::pending().await,
            }
        };
        tokio::pin!(moved, back);
        loop {
            tokio::select! {
                biased;
                event = events.message() => match event {
                    // Never a gap, and never a repeat, whoever serves it.
                    Ok(Some(event)) if event.start != self.next().0 => return Drained::Failed(Error::Unavailable),
                    Ok(Some(event)) => {
                        if self.take(event, clock) {
                            return Drained::Ended;
                        }
                    }
                    Ok(None) => return Drained::Failed(Error::Unavailable),
                    Err(status) => return Drained::Failed(from_status(&status)),
                },
                () = &mut moved => return Drained::Moved,
                () = &mut back => return Drained::Moved,
            }
        }
    }

    /// Frames one event; returns whether it was the last.
    fn take(&self, event: v1::TailEvent, clock: &dyn Clock) -> bool {
        let mut kept = self.lock();
        let data = if kept.rest.is_empty() {
            event.data
        } else {
            kept.rest.extend_from_slice(&event.data);
            kept.rest.split().freeze()
        };
        let whole = frameable(&self.content_type, &data, event.closed);
        kept.rest.extend_from_slice(&data[whole..]);
        let data = data.slice(..whole);
        let told = std::mem::replace(&mut kept.told_up_to_date, event.up_to_date);
        let is_news = event.closed || (event.up_to_date && !told);
        if data.is_empty() && !is_news {
            return false;
        }
        let kind = DataKind::of(&self.content_type);
        let cursor = cursor::next(clock.now(), None, 1);
        let frame = Frame::new(kind, kept.next, data, cursor, event.up_to_date, event.closed);
        kept.up_to_date = None;
        if frame.data.is_empty() && !frame.closed {
            kept.up_to_date = Some(Arc::new(frame));
            drop(kept);
            self.tell();
            return false;
        }
        self.metrics.tail_frames.increment(1);
        kept.next = frame.next;
        self.keep(&mut kept, frame);
        drop(kept);
        self.tell();
        event.closed
    }

    fn keep(&self, kept: &mut Kept, frame: Frame) {
        // Readers wait for the end of a stream here; everything else they can read as pages.
        let closed = frame.closed;
        self.account(kept, frame.memory_bytes() as isize);
        kept.frames.push_back(Arc::new(frame));
        while kept.bytes > KEPT_BYTES_MAX || self.budget.is_exceeded() {
            let needed = usize::from(closed || !self.budget.is_exceeded());
            if kept.frames.len() <= needed {
                break;
            }
            let oldest = kept.frames.pop_front().map_or(0, |frame| frame.memory_bytes());
            self.account(kept, -(oldest as isize));
        }
    }

    fn account(&self, kept: &mut Kept, change: isize) {
        kept.bytes = kept.bytes.wrapping_add_signed(change);
        if change > 0 {
            self.budget.used.fetch_add(change.unsigned_abs(), Ordering::Relaxed);
        } else {
            self.budget.used.fetch_sub(change.unsigned_abs(), Ordering::Relaxed);
        }
        self.metrics.tail_frame_bytes.increment(change as f64);
    }

    async fn wait_until_deserted(&self) {
        loop {
            if self.readers() == 0 {
                sleep(LINGER).await;
                if self.readers() == 0 {
                    return;
                }
            }
            self.deserted.notified().await;
        }
    }

    fn tell(&self) {
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let bytes = self.lock().bytes;
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
        self.metrics.tail_frame_bytes.decrement(bytes as f64);
    }
}

impl Kept {
    /// The frame that holds or begins at `from`, if it is kept.
    fn frame_at(&self, from: Offset) -> Option<&Arc<Frame>> {
        let index = self.frames.partition_point(|frame| frame.next <= from && !frame.closed);
        self.frames.get(index)
    }
}

impl Reader {
    pub(super) fn new(feed: Arc<Feed>, from: Offset) -> Reader {
        feed.readers.fetch_add(1, Ordering::SeqCst);
        feed.metrics.tail_readers.increment(1.0);
        // Subscribed before the first look, so that nothing is missed in between.
        Reader { news: feed.news.subscribe(), feed, next: from, told_up_to_date: true }
    }

    /// The offset after what was sent.
    pub(crate) fn next(&self) -> Offset {
        self.next
    }

    /// Waits for what comes next, and moves past it.
    pub(crate) async fn step(&mut self) -> Step {
        loop {
            self.news.mark_unchanged();
            if let Some(step) = self.try_step() {
                return step;
            }
            if self.news.changed().await.is_err() {
                return Step::Ended(Error::Unavailable);
            }
        }
    }

    fn try_step(&mut self) -> Option<Step> {
        let kept = self.feed.lock();
        let frame = kept.frame_at(self.next).cloned();
        let (next, ended) = (kept.next, kept.ended.clone());
        let told = kept.up_to_date.clone().filter(|told| !self.told_up_to_date && told.next == self.next);
        drop(kept);
        match frame.or(told) {
            Some(frame) if frame.start <= self.next => {
                self.feed.metrics.tail_deliveries.increment(1);
                self.feed.metrics.delivered_bytes.increment(frame.next.0.saturating_sub(self.next.0));
                self.next = frame.next;
                self.told_up_to_date = frame.up_to_date;
                Some(Step::Frame(frame))
            }
            Some(_) => {
                self.feed.metrics.tail_lagged.increment(1);
                Some(Step::CatchUp)
            }
            None if self.next < next => Some(Step::CatchUp),
            None => ended.map(Step::Ended),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.feed.metrics.tail_readers.decrement(1.0);
        if self.feed.readers.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.feed.deserted.notify_one();
        }
    }
}

/// The part of a frame that a reader at `from` has not had.
pub(crate) fn unread(frame: &Frame, from: Offset) -> Bytes {
    frame.data.slice(from.0.saturating_sub(frame.start.0).min(frame.data.len() as u64) as usize..)
}
