//! Live reads: a long poll waits for one answer, an event stream goes on.

use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::Response;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, timeout};
use ursula_common::verb::ReadFrom;
use ursula_common::{ContentType, Offset, StreamId, pieces};
use ursula_protocol::respond::{self, PageHead};
use ursula_protocol::sse::{self, DataKind};
use ursula_protocol::{ReadParts, cursor};

use super::read::page_head;
use super::{PageAnswer, failed};
use crate::app::App;
use crate::hub::{Frame, Reader, Step, frameable, unread};
use crate::pages::{self, Held, Page};

/// Answers when there are bytes after the offset, when the stream ends, or when the time is over.
pub(super) async fn long_poll(gateway: &Arc<App>, parts: &ReadParts) -> PageAnswer {
    let page = pages::read(&gateway.cluster, &gateway.pages, &parts.key, parts.from, true)
        .await
        .map_err(|error| failed(&error))?;
    let cursor = next_cursor(gateway, parts.cursor);
    let tail = page.next;
    let nothing_new = |cursor, closed| respond::nothing_new(tail, cursor, closed).map(Body::from);
    if page.next > page.start {
        let mut response =
            respond::page(&page_head(&page, parts.from, Some(cursor)), &parts.if_none_match, &page.pieces);
        response.extensions_mut().insert(Arc::new(page.held));
        return Ok(response.map(pages::body));
    }
    if page.closed() {
        return Ok(nothing_new(cursor, true));
    }
    let mut reader = gateway.hub.follow(&parts.key, &page.info, page.next);
    let waited = timeout(gateway.config.long_poll_timeout(), wait(gateway, &mut reader)).await;
    let cursor = next_cursor(gateway, parts.cursor);
    match waited {
        Err(_) | Ok(Wait::Draining) => Ok(nothing_new(cursor, false)),
        Ok(Wait::Step(Step::Frame(frame))) if frame.next == page.next => Ok(nothing_new(cursor, frame.closed)),
        Ok(Wait::Step(Step::Frame(frame))) => {
            let head = PageHead {
                next: frame.next,
                up_to_date: frame.up_to_date,
                closed: frame.closed,
                ..page_head(&page, parts.from, Some(cursor))
            };
            Ok(respond::page(&head, &parts.if_none_match, &[unread(&frame, page.next)]).map(pages::body))
        }
        // The client comes back with the same offset and reads what is there.
        Ok(Wait::Step(Step::CatchUp)) => Ok(nothing_new(cursor, false)),
        Ok(Wait::Step(Step::Ended(error))) => Err(failed(&error)),
    }
}

enum Wait {
    Step(Step),
    Draining,
}

async fn wait(gateway: &Arc<App>, reader: &mut Reader) -> Wait {
    let mut draining = gateway.draining.subscribe();
    tokio::select! {
        step = reader.step() => Wait::Step(step),
        _ = draining.wait_for(|draining| *draining) => Wait::Draining,
    }
}

fn next_cursor(gateway: &Arc<App>, client: Option<u64>) -> u64 {
    let jitter = rand::random_range(1..=cursor::JITTER_SECONDS_MAX);
    cursor::next(gateway.clock.now(), client, jitter)
}

/// Sends what is there and then what comes, as server-sent events.
pub(super) async fn events(gateway: &Arc<App>, parts: ReadParts) -> Response<Body> {
    let page = match pages::read(&gateway.cluster, &gateway.pages, &parts.key, parts.from, true).await {
        Ok(page) => page,
        Err(error) => return failed(&error).map(Body::from),
    };
    let content_type = page.info.content_type.clone();
    let kind = DataKind::of(&content_type);
    let lifetime = gateway.config.sse_lifetime().mul_f64(rand::random_range(0.9..=1.1));
    let now = Instant::now();
    let events = Events {
        gateway: gateway.clone(),
        kind,
        content_type,
        parts,
        stream: page.info.id,
        sent: page.start,
        state: State::Page(Box::new(page)),
        draining: gateway.draining.subscribe(),
        held: None,
        silent_since: now,
        ends_at: now + lifetime,
        timer: Box::pin(sleep(gateway.config.sse_heartbeat().min(lifetime))),
    };
    let chunks = stream::unfold(events, |mut events| async move {
        let chunk = events.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), events))
    });
    sse::response(kind).map(|()| Body::from_stream(chunks))
}

/// One reader's events.
struct Events {
    gateway: Arc<App>,
    kind: DataKind,
    content_type: ContentType,
    parts: ReadParts,
    /// The incarnation that is read; under the same name there may be another one by now.
    stream: StreamId,
    state: State,
    /// The offset after the last event.
    sent: Offset,
    draining: watch::Receiver<bool>,
    /// The memory of the page that is being sent.
    held: Option<Held>,
    silent_since: Instant,
    ends_at: Instant,
    timer: Pin<Box<Sleep>>,
}

enum State {
    /// A page that is to be sent.
    Page(Box<Page>),
    /// Pages are to be read.
    CatchUp,
    /// The tail was reached.
    Follow(Box<Reader>),
    /// The last event was sent.
    Ended,
}

impl Events {
    /// The next bytes to send: whole events, or a comment. `None` ends the response.
    async fn next(&mut self) -> Option<Bytes> {
        // Asked for more, so what was sent last has left.
        self.held = None;
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return None,
                State::Page(page) => return Some(self.page(*page).events),
                State::CatchUp => {
                    let App { cluster, pages, .. } = &*self.gateway;
                    let read = pages::read(cluster, pages, &self.parts.key, ReadFrom::At(self.sent), false).await;
                    // Without an answer the stream of events ends, and the client comes back.
                    let page = read.ok().filter(|page| page.info.id == self.stream)?;
                    let frame = self.page(page);
                    if !frame.data.is_empty() || frame.closed {
                        return Some(frame.events);
                    }
                }
                State::Follow(reader) => {
                    if let Some(chunk) = self.follow(reader).await? {
                        return Some(chunk);
                    }
                }
            }
        }
    }

    /// Frames a page, and says where to go on from there.
    fn page(&mut self, page: Page) -> Frame {
        let (up_to_date, closed) = (page.up_to_date(), page.closed());
        let stored = pieces::join(&page.pieces);
        let data = stored.slice(..frameable(&self.content_type, &stored, closed));
        let frame = Frame::new(self.kind, page.start, data, self.cursor(), up_to_date, closed);
        self.state = if closed {
            State::Ended
        } else if up_to_date {
            // Nothing but the start of a character is there. A feed may have begun behind it, and would send
            // this reader back to the same page again and again.
            let from = if frame.data.is_empty() { page.next } else { frame.next };
            State::Follow(Box::new(self.gateway.hub.follow(&self.parts.key, &page.info, from)))
        } else {
            State::CatchUp
        };
        self.sent = frame.next;
        self.silent_since = Instant::now();
        self.held = Some(page.held);
        frame
    }

    /// Waits for the next frame, but not longer than for a comment or the end of this response.
    /// The outer `None` ends the response; the inner one means to look at the state again.
    async fn follow(&mut self, mut reader: Box<Reader>) -> Option<Option<Bytes>> {
        let from = self.sent;
        let begins_whole = reader.next() == from;
        let step = tokio::select! {
            step = reader.step() => Some(step),
            () = self.timer.as_mut() => None,
            // Every event was followed by its offset: the client resumes there, elsewhere.
            _ = self.draining.wait_for(|draining| *draining) => return None,
        };
        let Some(step) = step else {
            self.state = State::Follow(reader);
            return self.heartbeat();
        };
        match step {
            Step::CatchUp => self.state = State::CatchUp,
            Step::Ended(_) => return None,
            Step::Frame(_) if !begins_whole => self.state = State::CatchUp,
            Step::Frame(frame) => {
                self.sent = frame.next;
                self.silent_since = Instant::now();
                if !frame.closed {
                    self.state = State::Follow(reader);
                }
                return Some(Some(self.frame(&frame, from)));
            }
        }
        Some(None)
    }

    /// The bytes of a frame for this reader: the shared ones, unless it has had a part of them or has a
    /// cursor of its own.
    fn frame(&self, frame: &Frame, from: Offset) -> Bytes {
        let own_cursor = self.parts.cursor.is_some_and(|own| own >= cursor::next(self.gateway.clock.now(), None, 1));
        if frame.start == from && !own_cursor {
            return frame.events.clone();
        }
        let data = unread(frame, from);
        Frame::new(self.kind, from, data, self.cursor(), frame.up_to_date, frame.closed).events
    }

    /// A comment if the reader has heard nothing for a while.
    fn heartbeat(&mut self) -> Option<Option<Bytes>> {
        let now = Instant::now();
        if now >= self.ends_at {
            return None;
        }
        let pause = self.gateway.config.sse_heartbeat();
        let silent = now.duration_since(self.silent_since) >= pause;
        if silent {
            self.silent_since = now;
        }
        let next = (self.silent_since + pause).min(self.ends_at);
        self.timer.as_mut().reset(next);
        Some(silent.then_some(sse::HEARTBEAT))
    }

    fn cursor(&self) -> u64 {
        next_cursor(&self.gateway, self.parts.cursor)
    }
}

#[cfg(test)]
mod tests;
