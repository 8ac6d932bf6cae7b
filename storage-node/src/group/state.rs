//! The state of one group as its core sees it: the pure state machine, the bytes it speaks of, and
//! the tails that wait for more.
//!
//! The order within one entry is an invariant: first the bytes are stored, then tails are woken, then
//! answers go out. So whoever hears of an append can read it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use ursula_common::verb::{Lifetime, OpResult, StreamInfo};
use ursula_common::{BucketName, Error, GroupId, Millis, Offset, SagaId, StreamId, StreamKey, StreamName, pieces};
use ursula_stream_core::{Answer, Command, Effect, Message, State, Stats};

use crate::hot::{Hot, Range};
use crate::raft::StateMachine;
use crate::tails::{TailPage, Tails, Waiter};

/// The state of one group.
pub(crate) struct GroupState {
    group: GroupId,
    streams: State,
    hot: Rc<RefCell<Hot>>,
    tails: Tails,
    outgoing: Vec<Message>,
    finished: Vec<(SagaId, OpResult)>,
    /// Whether what is applied is all there is; see [`GroupState::prove_with`].
    proof: Box<dyn Fn() -> Result<(), Error>>,
}

impl GroupState {
    /// The state of a group that begins its life, in memory, at `now`.
    pub(crate) fn new(group: GroupId, data_groups: u32, hot: Rc<RefCell<Hot>>, now: Millis) -> GroupState {
        // A million streams for each millisecond that an earlier life may have lasted.
        let first = StreamId(now.0 << 20);
        GroupState {
            group,
            streams: State::new(group, data_groups).with_first_stream(first),
            hot,
            tails: Tails::default(),
            outgoing: Vec::new(),
            finished: Vec::new(),
            proof: Box::new(|| Err(Error::NOT_HERE)),
        }
    }

    /// What tails are told of the end of a stream is true while `proof` succeeds. Until this is called nothing is.
    pub(crate) fn prove_with(&mut self, proof: impl Fn() -> Result<(), Error> + 'static) {
        self.proof = Box::new(proof);
    }

    /// Everything about a stream but its bytes; `inherited` asks on behalf of a fork.
    pub(crate) fn info(&self, key: &StreamKey, inherited: Option<StreamId>, now: Millis) -> Result<StreamInfo, Error> {
        match inherited {
            Some(id) => self.streams.inherited(key, id),
            None => self.streams.info(key, now),
        }
    }

    pub(crate) fn bucket(&self, name: &BucketName) -> Result<(), Error> {
        self.streams.bucket(name)
    }

    pub(crate) fn list(
        &self,
        bucket: &BucketName,
        prefix: &str,
        after: &str,
        limit: usize,
        now: Millis,
    ) -> Result<Vec<(StreamName, StreamInfo)>, Error> {
        self.streams.list(bucket, prefix, after, limit, now)
    }

    pub(crate) fn touch_due(&self, key: &StreamKey, now: Millis) -> bool {
        self.streams.touch_due(key, now)
    }

    pub(crate) fn next_expiry(&self) -> Option<Millis> {
        self.streams.next_expiry()
    }

    pub(crate) fn outbox(&self) -> Vec<Message> {
        self.streams.outbox().collect()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.streams.stats()
    }

    pub(crate) fn waiting_tails(&self) -> usize {
        self.tails.len()
    }

    /// Sets memory aside for an op; see [`Hot::reserve`].
    pub(crate) fn reserve(&self, bytes: usize) -> bool {
        self.hot.borrow_mut().reserve(bytes)
    }

    /// Gives back what [`GroupState::reserve`] set aside.
    pub(crate) fn release(&self, bytes: usize) {
        self.hot.borrow_mut().release(bytes);
    }

    /// Stored bytes of one incarnation; see [`Hot::read`].
    pub(crate) fn read(&self, stream: StreamId, from: Offset, until: Option<Offset>, bytes_max: usize) -> Range {
        self.hot.borrow().read(self.group, stream, from, until, bytes_max)
    }

    /// The record that `at` lies in: its start, and its bytes up to `until`.
    pub(crate) fn record_at(&self, stream: StreamId, at: Offset, until: Option<Offset>) -> Option<(Offset, Bytes)> {
        let hot = self.hot.borrow();
        let (start, end) = hot.record_at(self.group, stream, at)?;
        let end = until.map_or(end, |until| until.min(end));
        let range = hot.read(self.group, stream, start, Some(end), usize::MAX);
        Some((start, pieces::join(&range.pieces)))
    }

    /// Where the record begins that `at` lies in.
    pub(crate) fn record_start(&self, stream: StreamId, at: Offset) -> Offset {
        self.hot.borrow().record_at(self.group, stream, at).map_or(at, |(start, _)| start)
    }

    /// Answers `waiter` as soon as the stream has bytes from its offset on, has ended, or is gone.
    pub(crate) fn wait(&mut self, key: &StreamKey, now: Millis, waiter: Waiter) {
        let info = match self.streams.info(key, now) {
            Ok(info) if waiter.stream != info.id => Err(Error::StreamNotFound),
            Ok(info) if waiter.from > info.tail => Err(Error::OffsetInvalid),
            Ok(info) if info.fork.as_ref().is_some_and(|fork| waiter.from < fork.at) => Err(Error::OffsetInvalid),
            info => info,
        };
        let info = match info {
            Ok(info) => info,
            // A replica that lags may not have heard of the stream yet, nor of its last bytes.
            Err(error) => return waiter.answer(Err((self.proof)().err().unwrap_or(error))),
        };
        let tell = || waiter.tell_up_to_date && (self.proof)().is_ok();
        if waiter.from < info.tail || info.closed || tell() {
            let page = self.page(info.id, waiter.from, info.tail, info.closed, waiter.bytes_max);
            return waiter.answer(Ok(page));
        }
        self.tails.add(info.id, key, matches!(info.lifetime, Lifetime::Ttl(_)), waiter);
    }

    /// Messages to other groups that came up since the last call.
    pub(crate) fn take_outgoing(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.outgoing)
    }

    /// Sagas that were finished since the last call.
    pub(crate) fn take_finished(&mut self) -> Vec<(SagaId, OpResult)> {
        std::mem::take(&mut self.finished)
    }

    /// Streams with a sliding time to live that somebody tails.
    pub(crate) fn tailed_sliding(&self) -> Vec<StreamKey> {
        self.tails.sliding().cloned().collect()
    }

    /// Lets go of tails whose reader has gone.
    pub(crate) fn forget_abandoned_tails(&mut self) {
        self.tails.forget_abandoned();
    }

    fn page(&self, stream: StreamId, from: Offset, tail: Offset, closed: bool, bytes_max: usize) -> TailPage {
        let range = self.read(stream, from, None, bytes_max);
        let whole = range.next == tail;
        // What was closed has its end on every replica that knows of it.
        let closed = closed && whole;
        let up_to_date = closed || (whole && (self.proof)().is_ok());
        TailPage { start: from, pieces: range.pieces, next: range.next, closed, up_to_date }
    }

    fn wake(&mut self, stream: StreamId, now: Millis) {
        let Some((key, waiters)) = self.tails.take(stream) else { return };
        let info = self.streams.info(&key, now).ok().filter(|info| info.id == stream);
        for waiter in waiters {
            let page = match &info {
                Some(info) => Ok(self.page(stream, waiter.from, info.tail, info.closed, waiter.bytes_max)),
                None => Err(Error::StreamNotFound),
            };
            waiter.answer(page);
        }
    }
}

impl StateMachine for GroupState {
    fn apply(&mut self, commands: Vec<Command>) -> Vec<Answer> {
        let now = commands.last().map_or(Millis(0), |command| command.at);
        let mut effects = Vec::new();
        let mut woken = BTreeSet::new();
        let mut ended = Vec::new();
        let mut answers = Vec::with_capacity(commands.len());
        for command in commands {
            answers.push(self.streams.apply(command, &mut effects));
            for effect in effects.drain(..) {
                match effect {
                    Effect::Appended { stream, at, bytes } => {
                        self.hot.borrow_mut().append(self.group, stream, at, &bytes);
                        woken.insert(stream);
                    }
                    Effect::Closed { stream } => drop(woken.insert(stream)),
                    Effect::Detached { stream } => ended.push((stream, Error::StreamGone)),
                    Effect::Removed { stream } => {
                        self.hot.borrow_mut().remove(self.group, stream);
                        ended.push((stream, Error::StreamNotFound));
                    }
                    Effect::Send(message) => self.outgoing.push(message),
                    Effect::Finished { saga, outcome } => self.finished.push((saga, outcome)),
                }
            }
        }
        // A stream that ended may have had its last bytes in this entry.
        woken.into_iter().for_each(|stream| self.wake(stream, now));
        ended.into_iter().for_each(|(stream, error)| self.tails.end(stream, &error));
        answers
    }

    fn snapshot(&self) -> Vec<u8> {
        self.streams.encode()
    }

    fn restore(&mut self, snapshot: Bytes) -> io::Result<()> {
        self.streams = State::decode(snapshot).map_err(io::Error::other)?;
        // What they wait for may have come with it.
        self.tails.end_all(&Error::NOT_HERE);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
