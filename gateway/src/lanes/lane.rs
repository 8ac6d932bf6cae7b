//! The lane to one node: a connection that is opened again whenever it is lost, what the node allows to be
//! unanswered on it, and whose turn it is to send.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{AbortHandle, BoxStream, abortable};
use futures_util::{StreamExt, stream};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tracing::{debug, warn};
use ursula_common::NodeId;
use ursula_common::limits::{FRAME_BYTES_MAX, FRAME_OPS_MAX};
use ursula_proto::v1;

use super::session::Session;
use super::window::Flight;
use crate::link::Link;

/// Frames that may wait for the connection.
const FRAMES_MAX: usize = 8;
/// How long a node may take to accept a lane.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause before a lane is opened again, at first and at most.
const REOPEN_PAUSE_MIN: Duration = Duration::from_millis(50);
const REOPEN_PAUSE_MAX: Duration = Duration::from_millis(400);
/// A session may have so many times what is left of the credit, so that there is always some left for others.
const SHARE: usize = 3;

/// One connection of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneId {
    pub(super) node: NodeId,
    connection: u64,
}

/// What comes of a connection.
pub(super) enum Event {
    Opened,
    Answers(v1::ReplyBatch),
    /// The last one.
    Lost,
}

pub(super) type Events = BoxStream<'static, (LaneId, Event)>;

/// See the module.
pub(super) struct Lane {
    id: LaneId,
    pub(super) link: Link,
    state: State,
    reopen_pause: Duration,
    credit: Amount,
    unanswered: Amount,
    /// Sessions that have something to send here, by their index, in the order of their turns.
    ready: VecDeque<usize>,
    /// Sessions that have used up their share of the credit.
    blocked: Vec<usize>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Amount {
    ops: usize,
    bytes: usize,
}

enum State {
    Closed { reopen_at: Instant },
    Opening { since: Instant, frames: mpsc::Sender<v1::OpBatch>, connection: AbortHandle },
    Open { frames: mpsc::Sender<v1::OpBatch>, connection: AbortHandle },
}

/// Wakes the task that makes frames when a connection has taken one that had no place for more.
#[derive(Default)]
pub(super) struct Room {
    wanted: AtomicBool,
    made: Notify,
}

impl Room {
    pub(super) async fn made(&self) {
        self.made.notified().await;
    }

    fn took_one(&self) {
        if self.wanted.swap(false, Ordering::AcqRel) {
            self.made.notify_one();
        }
    }
}

impl Lane {
    pub(super) fn new(node: NodeId, link: Link, now: Instant) -> Lane {
        Lane {
            id: LaneId { node, connection: 0 },
            link,
            state: State::Closed { reopen_at: now },
            reopen_pause: REOPEN_PAUSE_MIN,
            credit: Amount::default(),
            unanswered: Amount::default(),
            ready: VecDeque::new(),
            blocked: Vec::new(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Whether `id` is its connection at this moment.
    pub(super) fn is(&self, id: LaneId) -> bool {
        self.id == id
    }

    /// Opens a lane that is closed, when it is time. Returns what will come of it.
    pub(super) fn open(&mut self, now: Instant, room: &Arc<Room>) -> Option<Events> {
        if !matches!(self.state, State::Closed { reopen_at } if reopen_at <= now) {
            return None;
        }
        self.id.connection += 1;
        let (frames, outgoing) = mpsc::channel(FRAMES_MAX);
        let room = room.clone();
        let outgoing = ReceiverStream::new(outgoing).inspect(move |_| room.took_one());
        let mut client = self.link.client();
        let connecting = async move { client.lane(outgoing).await };
        let id = self.id;
        let answers = stream::once(connecting).flat_map(move |opened| match opened {
            Ok(answers) => stream::iter([Event::Opened]).chain(take(answers.into_inner())).boxed(),
            Err(status) => {
                debug!(node = %id.node, code = %status.code(), "a lane could not be opened");
                stream::iter([Event::Lost]).boxed()
            }
        });
        let (events, connection) = abortable(answers.map(move |event| (id, event)));
        self.state = State::Opening { since: now, frames, connection };
        Some(events.boxed())
    }

    /// The node has accepted the lane. It grants credit next.
    pub(super) fn opened(&mut self) {
        let closed = State::Closed { reopen_at: Instant::now() };
        self.state = match std::mem::replace(&mut self.state, closed) {
            State::Opening { frames, connection, .. } => State::Open { frames, connection },
            state => state,
        };
    }

    /// Whether the node has not said anything to an attempt to open the lane for too long.
    pub(super) fn is_refused_by_silence(&self, now: Instant) -> bool {
        matches!(self.state, State::Opening { since, .. } if now >= since + OPEN_TIMEOUT)
    }

    /// Gives the connection up. What was on its way there is the sessions' to care for.
    pub(super) fn close(&mut self, now: Instant) {
        if let State::Opening { connection, .. } | State::Open { connection, .. } = &self.state {
            connection.abort();
        }
        self.state = State::Closed { reopen_at: now + self.reopen_pause };
        self.reopen_pause = (2 * self.reopen_pause).min(REOPEN_PAUSE_MAX);
        (self.credit, self.unanswered) = Default::default();
        self.ready.extend(self.blocked.drain(..));
    }

    /// Takes note of credit that is granted or given back.
    pub(super) fn settle(&mut self, batch: &v1::ReplyBatch) {
        if batch.credit_ops > 0 {
            let bytes = usize::try_from(batch.credit_bytes).unwrap_or(usize::MAX);
            self.credit = Amount { ops: batch.credit_ops as usize, bytes };
            self.reopen_pause = REOPEN_PAUSE_MIN;
        }
        let ops = batch.sessions.iter().map(|session| session.replies.len()).sum();
        self.unanswered.ops = self.unanswered.ops.saturating_sub(ops);
        let bytes = usize::try_from(batch.answered_bytes).unwrap_or(usize::MAX);
        self.unanswered.bytes = self.unanswered.bytes.saturating_sub(bytes);
        self.ready.extend(self.blocked.drain(..));
    }

    /// A session has something to send.
    pub(super) fn enqueue(&mut self, index: usize, session: &mut Session) {
        if session.queued.replace(self.id.node) != Some(self.id.node) {
            self.ready.push_back(index);
        }
    }

    /// Sends as many frames as there are ops for, and places. Returns the ops in each.
    pub(super) fn flush(&mut self, sessions: &mut [Session], room: &Room, now: Instant) -> Vec<usize> {
        let mut sent = Vec::new();
        let State::Open { frames, .. } = &self.state else { return sent };
        let frames = frames.clone();
        while !self.ready.is_empty() {
            let Some(place) = place(&frames, room) else { break };
            let frame = self.next_frame(sessions, now);
            let ops = frame.sessions.iter().map(|session| session.ops.len()).sum();
            if ops == 0 {
                break;
            }
            place.send(frame);
            sent.push(ops);
        }
        sent
    }

    /// Sends the oldest op of a session alone, to hear whether this node leads the group.
    pub(super) fn send_scout(&mut self, session: &mut Session, room: &Room) -> Option<LaneId> {
        let State::Open { frames, .. } = &self.state else { return None };
        if self.unanswered.ops >= self.credit.ops {
            return None;
        }
        let place = place(frames, room)?;
        let op = session.window.send_oldest()?;
        self.unanswered.ops += 1;
        self.unanswered.bytes += op.op.len();
        place.send(v1::OpBatch { sessions: vec![session.frame(vec![op])] });
        Some(self.id)
    }

    /// As many of the next ops as credit and the bounds of a frame allow.
    fn next_frame(&mut self, sessions: &mut [Session], now: Instant) -> v1::OpBatch {
        let flight = Flight { lane: self.id, since: now };
        let mut frame = v1::OpBatch::default();
        let mut in_frame = Amount::default();
        for _ in 0..self.ready.len() {
            let Some(index) = self.ready.pop_front() else { break };
            let session = &mut sessions[index];
            if session.queued.take_if(|node| *node == self.id.node).is_none() || !session.sends_to(self.id.node, now) {
                continue;
            }
            let mut ops = Vec::new();
            let (mut full, mut blocked) = (false, false);
            while let Some(pending) = session.window.next_unsent() {
                let bytes = pending.op.len();
                full = in_frame.ops > 0 && (in_frame.bytes + bytes > FRAME_BYTES_MAX || in_frame.ops >= FRAME_OPS_MAX);
                blocked = !full && !self.may_send(session.window.flying(), bytes);
                if full || blocked {
                    break;
                }
                let Some(op) = session.window.send_next(flight) else { break };
                in_frame = Amount { ops: in_frame.ops + 1, bytes: in_frame.bytes + bytes };
                self.unanswered.ops += 1;
                self.unanswered.bytes += bytes;
                ops.push(op);
            }
            session.queued = (full || blocked).then_some(self.id.node);
            if !ops.is_empty() {
                frame.sessions.push(session.frame(ops));
            }
            if blocked {
                self.blocked.push(index);
            }
            if full {
                self.ready.push_back(index);
                break;
            }
        }
        frame
    }

    fn may_send(&self, flying: (usize, usize), bytes: usize) -> bool {
        let Amount { ops, bytes: used } = self.unanswered;
        if ops == 0 {
            return self.credit.ops > 0;
        }
        let left = Amount { ops: self.credit.ops.saturating_sub(ops), bytes: self.credit.bytes.saturating_sub(used) };
        left.ops > 0
            && left.bytes >= bytes
            && flying.0 < left.ops.saturating_mul(SHARE)
            && flying.1 < left.bytes.saturating_mul(SHARE)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let State::Opening { connection, .. } | State::Open { connection, .. } = &self.state {
            connection.abort();
        }
    }
}

/// A place for a frame; without one, `room` tells when there is.
fn place<'a>(frames: &'a mpsc::Sender<v1::OpBatch>, room: &Room) -> Option<mpsc::Permit<'a, v1::OpBatch>> {
    let place = frames.try_reserve().ok();
    if place.is_some() || frames.is_closed() {
        return place;
    }
    room.wanted.store(true, Ordering::Release);
    // One may have been taken in between.
    frames.try_reserve().ok()
}

fn take(answers: Streaming<v1::ReplyBatch>) -> impl stream::Stream<Item = Event> {
    stream::unfold(Some(answers), async |answers| {
        let mut answers = answers?;
        Some(match answers.message().await {
            Ok(Some(batch)) => (Event::Answers(batch), Some(answers)),
            Ok(None) => (Event::Lost, None),
            Err(status) => {
                warn!(code = %status.code(), message = status.message(), "a lane was lost");
                (Event::Lost, None)
            }
        })
    })
}
