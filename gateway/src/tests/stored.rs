//! Streams of a fake node: what the test stored.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::watch;
use tonic::Status;
use ursula_common::{Error, Offset};
use ursula_proto::{to_status, v1};

use super::fake::{Role, broken};

/// No test reads a stream more often.
const READS_MAX: usize = 1000;

/// A stream: its own bytes, in records.
pub(crate) struct Stored {
    content_type: String,
    fork: Option<v1::Fork>,
    state: watch::Sender<State>,
    /// Where each tail that was opened began.
    pub(crate) tails: Mutex<Vec<u64>>,
    /// Where each read of own bytes began.
    pub(crate) reads: Mutex<Vec<u64>>,
    /// How often it was described to somebody whose question counts as an access.
    pub(crate) visits: AtomicUsize,
    /// What reads are answered with, whatever they ask.
    pub(crate) scripted: Mutex<Option<Vec<v1::ReadChunk>>>,
}

#[derive(Clone, Default)]
struct State {
    id: u64,
    bytes: Vec<u8>,
    /// Where records end, after the first own byte.
    ends: Vec<usize>,
    closed: bool,
    snapshot: Option<v1::Snapshot>,
    deleted: bool,
    /// Counts how often the connections of tails were broken.
    breaks: u64,
    /// While set, no tail can be opened.
    unreachable: bool,
    /// While set, the node answers nothing about it.
    silent: bool,
    /// The node cannot read its bytes.
    damaged: Option<Error>,
}

impl Stored {
    pub(super) fn new(content_type: &str, fork: Option<v1::Fork>) -> Stored {
        Stored {
            content_type: content_type.to_owned(),
            fork,
            state: watch::channel(State { id: 1, ..State::default() }).0,
            tails: Mutex::default(),
            reads: Mutex::default(),
            visits: AtomicUsize::default(),
            scripted: Mutex::default(),
        }
    }

    /// The first offset of its own.
    fn base(&self) -> u64 {
        self.fork.as_ref().map_or(0, |fork| fork.at)
    }

    pub(crate) fn append(&self, record: &[u8]) {
        self.state.send_modify(|state| {
            state.bytes.extend_from_slice(record);
            state.ends.push(state.bytes.len());
        });
    }

    pub(crate) fn close(&self) {
        self.state.send_modify(|state| state.closed = true);
    }

    /// Says that this is its newest snapshot.
    pub(crate) fn publish(&self, snapshot: v1::Snapshot) {
        self.state.send_modify(|state| state.snapshot = Some(snapshot));
    }

    pub(crate) fn delete(&self) {
        self.state.send_modify(|state| state.deleted = true);
    }

    /// Becomes another stream under the same name.
    pub(crate) fn replace(&self) {
        self.state.send_modify(|state| *state = State { id: state.id + 1, ..State::default() });
    }

    pub(crate) fn fall_silent(&self, silent: bool) {
        self.state.send_modify(|state| state.silent = silent);
    }

    /// From now on a leader answers reads with this.
    pub(crate) fn damage(&self, error: Error) {
        self.state.send_modify(|state| state.damaged = Some(error));
    }

    /// Breaks the connection of every tail; new ones can be opened if `reachable`.
    pub(crate) fn break_tails(&self, reachable: bool) {
        self.state.send_modify(|state| {
            state.breaks += 1;
            state.unreachable = !reachable;
        });
    }

    /// Everything that was appended.
    pub(crate) fn content(&self) -> Vec<u8> {
        self.state.borrow().bytes.clone()
    }

    pub(crate) fn info(&self) -> v1::StreamInfo {
        let state = self.state.borrow();
        v1::StreamInfo {
            id: state.id,
            content_type: self.content_type.clone(),
            tail: self.base() + state.bytes.len() as u64,
            closed: state.closed,
            snapshot: state.snapshot.clone(),
            fork: self.fork.clone(),
            ..v1::StreamInfo::default()
        }
    }

    /// Waits until the node answers questions about it.
    pub(super) async fn speaks(&self) {
        drop(self.state.subscribe().wait_for(|state| !state.silent).await);
    }

    /// What a node in this role says. An error that is none is for a leader to decide.
    pub(super) fn read(&self, request: &v1::ReadRequest, role: Role) -> Result<Vec<v1::ReadChunk>, Option<Error>> {
        if let Some(chunks) = self.scripted.lock().expect("no panic").clone() {
            return Ok(chunks);
        }
        if role == Role::Leads {
            let damaged = self.state.borrow().damaged.clone();
            return damaged.map_or_else(|| Ok(vec![self.range(request)?]), |error| Err(Some(error)));
        }
        let from = request.from.and_then(|from| from.position);
        let says_which = matches!(from, Some(v1::position::Position::Offset(1..))) && self.fork.is_none();
        let says_which = says_which || request.target.as_ref().is_some_and(|target| target.inherited_id.is_some());
        if !request.applied_is_enough || !says_which {
            return Err(None);
        }
        let mut chunk = self.range(request).map_err(|_| None)?;
        let head = chunk.head.as_mut().expect("a head");
        head.proven = false;
        let says_something = head.next > head.start || head.start < self.base();
        if says_something { Ok(vec![chunk]) } else { Err(None) }
    }

    fn range(&self, request: &v1::ReadRequest) -> Result<v1::ReadChunk, Error> {
        use v1::position::Position;
        let info = self.info();
        let from = match request.from.and_then(|from| from.position).ok_or(Error::Malformed)? {
            Position::Start(_) => 0,
            Position::Now(_) => info.tail,
            Position::Offset(at) => at.min(info.tail),
        };
        let state = self.state.borrow();
        if state.deleted
            || request.target.as_ref().is_some_and(|target| target.inherited_id.is_some_and(|id| id != state.id))
        {
            return Err(Error::StreamNotFound);
        }
        if from < self.base() || from == info.tail {
            return Ok(v1::ReadChunk { head: Some(head(info, from, from)), pieces: vec![] });
        }
        let mut reads = self.reads.lock().expect("no panic");
        assert!(reads.len() < READS_MAX, "somebody reads in a circle");
        reads.push(from);
        let first = (from - self.base()) as usize;
        let wanted = first.saturating_add(usize::try_from(request.bytes_max).unwrap_or(usize::MAX));
        let end = *state.ends.iter().find(|end| **end >= wanted).unwrap_or(&state.bytes.len());
        let until = request.until.map_or(usize::MAX, |until| (until - self.base()) as usize);
        let end = end.min(until);
        let data = Bytes::copy_from_slice(&state.bytes[first..end]);
        Ok(v1::ReadChunk { head: Some(head(info, from, self.base() + end as u64)), pieces: vec![data] })
    }
}

fn head(info: v1::StreamInfo, start: u64, next: u64) -> v1::ReadHead {
    v1::ReadHead { info: Some(info), start, next, proven: true }
}

/// A tail of a stored stream.
pub(super) struct Tail {
    stored: Arc<Stored>,
    proven: bool,
    state: watch::Receiver<State>,
    id: u64,
    breaks: u64,
    at: Offset,
    tells: bool,
    ended: bool,
}

impl Tail {
    pub(super) fn open(stored: Arc<Stored>, id: u64, from: u64, tells: bool, role: Role) -> Result<Tail, Status> {
        let state = stored.state.subscribe();
        let (breaks, unreachable) = (state.borrow().breaks, state.borrow().unreachable);
        if unreachable {
            return Err(broken());
        }
        stored.tails.lock().expect("no panic").push(from);
        let proven = role == Role::Leads;
        Ok(Tail { stored, proven, state, id, breaks, at: Offset(from), tells: tells && proven, ended: false })
    }

    pub(super) async fn next(mut self) -> Option<(Result<v1::TailEvent, Status>, Tail)> {
        if self.ended {
            return None;
        }
        let base = self.stored.base();
        let (id, breaks, at) = (self.id, self.breaks, (self.at.0 - base) as usize);
        let tells = std::mem::take(&mut self.tells);
        let changed = |state: &State| {
            tells || state.breaks > breaks || state.deleted || state.id != id || state.bytes.len() > at || state.closed
        };
        let state = self.state.wait_for(changed).await.ok()?.clone();
        if state.breaks > breaks {
            self.ended = true;
            return Some((Err(broken()), self));
        }
        if state.deleted || state.id != id {
            self.ended = true;
            return Some((Err(to_status(Error::StreamNotFound)), self));
        }
        let data = Bytes::copy_from_slice(&state.bytes[at..]);
        let event =
            v1::TailEvent { start: self.at.0, data, closed: state.closed, up_to_date: self.proven || state.closed };
        self.at = Offset(base + state.bytes.len() as u64);
        self.ended = state.closed;
        Some((Ok(event), self))
    }
}
