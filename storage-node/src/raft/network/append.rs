//! Entries on their way to one replica: several questions are under way at a time, their answers are given
//! back in the order of the questions.

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use futures_util::future::LocalBoxFuture;
use openraft::alias::{LeaderIdOf, LogIdOf};
use openraft::errors::RPCError;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, StreamAppendResult};
use prost::Message;
use tokio::time::{Instant, Sleep, sleep_until};
use ursula_common::{GroupId, NodeId};
use ursula_proto::peer::v1::message::Body;

use super::super::lease::Acks;
use super::super::messages::{append_to_wire, appended_from_wire};
use super::super::types::TypeConfig;
use super::{Client, failed};
use crate::peers::{Answer, Link, PeerError, Room};

/// Questions without an answer, and bytes of entries in them: beyond either the next one waits.
const IN_FLIGHT_MAX: usize = 64;
const IN_FLIGHT_BYTES_MAX: usize = 8 << 20;
/// How long the answer to the oldest question may take: the other node writes to disk before it answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

type Item = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// See the module. Ends after the first answer that is not a success.
pub(super) struct Session<S> {
    input: Option<S>,
    target: NodeId,
    group: GroupId,
    acks: Rc<Acks>,
    link: Link,
    /// A question that waits for room in the queue of the link.
    blocked: Option<(Pending, Body, LocalBoxFuture<'static, Room>)>,
    in_flight: VecDeque<(Pending, Answer)>,
    bytes: usize,
    /// When the oldest question will have waited too long.
    deadline: Pin<Box<Sleep>>,
    ended: bool,
}

/// What has to be remembered of a question.
struct Pending {
    leader: LeaderIdOf<TypeConfig>,
    previous: Option<LogIdOf<TypeConfig>>,
    last: Option<LogIdOf<TypeConfig>>,
    sent: Instant,
    bytes: usize,
}

impl<S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin> Session<S> {
    pub(super) fn new(client: &Client, link: Link, input: S) -> Session<S> {
        Session {
            input: Some(input),
            target: client.target,
            group: client.group,
            acks: client.acks.clone(),
            link,
            blocked: None,
            in_flight: VecDeque::new(),
            bytes: 0,
            deadline: Box::pin(sleep_until(Instant::now() + ANSWER_TIMEOUT)),
            ended: false,
        }
    }

    /// Asks as much as is there and allowed.
    fn poll_input(&mut self, context: &mut Context<'_>) {
        loop {
            if let Some((_, _, room)) = &mut self.blocked {
                let Poll::Ready(room) = room.as_mut().poll(context) else { return };
                let (pending, body, _) = self.blocked.take().expect("invariant: it was there");
                self.ask(pending, body, room);
            }
            if self.in_flight.len() >= IN_FLIGHT_MAX || self.bytes >= IN_FLIGHT_BYTES_MAX {
                return;
            }
            let Some(input) = &mut self.input else { return };
            match Pin::new(input).poll_next(context) {
                Poll::Pending => return,
                Poll::Ready(None) => self.input = None,
                Poll::Ready(Some(request)) => {
                    let append = append_to_wire(&request);
                    let pending = Pending {
                        leader: request.vote.leader_id,
                        previous: request.prev_log_id,
                        last: request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id),
                        sent: Instant::now(),
                        bytes: append.encoded_len(),
                    };
                    let body = Body::Append(append);
                    match self.link.try_room(pending.bytes) {
                        Some(room) => self.ask(pending, body, room),
                        None => {
                            let room = Box::pin(self.link.room(pending.bytes));
                            self.blocked = Some((pending, body, room));
                        }
                    }
                }
            }
        }
    }

    fn ask(&mut self, pending: Pending, body: Body, room: Room) {
        if self.in_flight.is_empty() {
            self.deadline.as_mut().reset(Instant::now() + ANSWER_TIMEOUT);
        }
        self.bytes += pending.bytes;
        let answer = self.link.ask(self.group, body, room);
        self.in_flight.push_back((pending, answer));
    }

    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<Option<Item>> {
        let Some((_, answer)) = self.in_flight.front_mut() else {
            let more = self.input.is_some() || self.blocked.is_some();
            return if more { Poll::Pending } else { Poll::Ready(None) };
        };
        let answer = match Pin::new(answer).poll(context) {
            Poll::Ready(answer) => answer,
            Poll::Pending => {
                ready!(self.deadline.as_mut().poll(context));
                Err(PeerError::TimedOut)
            }
        };
        let (pending, _) = self.in_flight.pop_front().expect("invariant: it was there");
        self.bytes -= pending.bytes;
        if let Some((next, _)) = self.in_flight.front() {
            self.deadline.as_mut().reset(next.sent + ANSWER_TIMEOUT);
        }
        Poll::Ready(Some(self.judge(&pending, answer)))
    }

    fn judge(&self, pending: &Pending, answer: Result<Body, PeerError>) -> Item {
        let Body::Appended(appended) = answer.map_err(failed)? else { return Err(failed(PeerError::Malformed)) };
        let response = appended_from_wire(appended);
        match &response {
            AppendEntriesResponse::Conflict if pending.previous.is_none() => return Err(failed(PeerError::Malformed)),
            AppendEntriesResponse::HigherVote(_) => {}
            _ => self.acks.note(self.target.0, pending.leader, pending.sent),
        }
        Ok(response.into_stream_result(pending.previous, pending.last))
    }
}

impl<S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin> Stream for Session<S> {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.poll_input(context);
        let item = ready!(self.poll_answer(context));
        self.ended = !matches!(item, Some(Ok(Ok(_))));
        Poll::Ready(item)
    }
}
