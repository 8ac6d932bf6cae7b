//! Sessions: an op that is sent again gets its first answer. Knows nothing of what ops mean.

use std::collections::BTreeMap;
use std::time::Duration;

use ursula_common::error::Retry;
use ursula_common::limits::{SESSION_IDLE, SESSION_RESULTS_MAX, SESSIONS_MAX};
use ursula_common::verb::Reply;
use ursula_common::{Error, Millis, SagaId, SessionId};

use crate::{Answer, Origin, State};

/// The time between two commands counts no more than this: clocks that leap forward, however many one after the other, must
/// not make a session forgotten while ops of it are still sent again. A group that seldom hears anything remembers longer.
const SILENCE_COUNTED_MAX: Duration = SESSION_IDLE.checked_div(100).expect("it is not divided by zero");

/// The sessions of a group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sessions {
    pub(crate) known: BTreeMap<SessionId, Session>,
    /// No session is idle for too long before this. May be earlier than the truth, as sessions move on.
    idle_from: Option<Millis>,
}

/// What is kept of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// Every op before this one was answered and acknowledged.
    pub(crate) floor: u64,
    /// Its last op.
    pub(crate) last: Millis,
    /// Answers to ops from `floor` on. Between two of them there may be ops that did not come yet.
    pub(crate) results: BTreeMap<u64, Answer>,
}

impl State {
    /// Whether an op was decided before, and its answer is kept.
    pub fn remembers(&self, origin: &Origin) -> bool {
        let session = self.sessions.known.get(&origin.session);
        session.is_some_and(|session| session.results.contains_key(&origin.seq))
    }
}

impl Sessions {
    /// Takes note of an op. `Some` is its answer without doing it; `None` means to do it, then to
    /// [`Sessions::record`] its answer.
    pub(crate) fn admit(&mut self, origin: &Origin, now: Millis) -> Option<Answer> {
        if !self.known.contains_key(&origin.session) {
            self.make_room();
            self.insert(origin.session, Session { floor: 0, last: now, results: BTreeMap::new() });
        }
        let session = self.known.get_mut(&origin.session)?;
        session.last = now;
        if origin.acked > session.floor {
            session.floor = origin.acked;
            session.results = session.results.split_off(&origin.acked);
        }
        if origin.seq < session.floor {
            return Some(Answer::Done(Err(Error::ResultForgotten)));
        }
        if let Some(known) = session.results.get(&origin.seq) {
            return Some(known.clone());
        }
        (session.results.len() >= SESSION_RESULTS_MAX).then_some(Answer::Done(Err(Error::Overloaded)))
    }

    /// Keeps an answer. Those that say "later" are not kept: the same op may be tried again.
    pub(crate) fn record(&mut self, origin: &Origin, answer: &Answer) {
        if matches!(answer, Answer::Done(Err(error)) if error.retry() == Retry::Later) {
            return;
        }
        if let Some(session) = self.known.get_mut(&origin.session) {
            session.results.insert(origin.seq, answer.clone());
        }
    }

    /// Replaces the answer "pending" of an op by the outcome of its saga, if the op is still remembered.
    pub(crate) fn settle(&mut self, (session, seq): (SessionId, u64), saga: SagaId, outcome: &Result<Reply, Error>) {
        let result = self.known.get_mut(&session).and_then(|session| session.results.get_mut(&seq));
        if let Some(answer) = result.filter(|answer| **answer == Answer::Pending(saga)) {
            *answer = Answer::Done(outcome.clone());
        }
    }

    /// Time passes between one command and the next.
    pub(crate) fn pass(&mut self, time: Duration) {
        let leap = time.saturating_sub(SILENCE_COUNTED_MAX);
        if !leap.is_zero() {
            self.known.values_mut().for_each(|session| session.last = session.last.after(leap));
            self.idle_from = self.idle_from.map(|at| at.after(leap));
        }
    }

    /// Forgets the sessions that were silent for too long.
    pub(crate) fn expire(&mut self, now: Millis) {
        if self.idle_from.is_some_and(|at| at <= now) {
            self.known.retain(|_, session| session.last.after(SESSION_IDLE) > now);
            self.idle_from = self.known.values().map(|session| session.last.after(SESSION_IDLE)).min();
        }
    }

    /// When [`Sessions::expire`] has something to do, or to look again.
    pub(crate) fn next_expiry(&self) -> Option<Millis> {
        self.idle_from
    }

    /// Adds a session as it is.
    pub(crate) fn insert(&mut self, id: SessionId, session: Session) {
        let idle_from = session.last.after(SESSION_IDLE);
        self.idle_from = Some(self.idle_from.map_or(idle_from, |at| at.min(idle_from)));
        self.known.insert(id, session);
    }

    /// Forgets the session that was silent for longest if there are too many.
    fn make_room(&mut self) {
        if self.known.len() >= SESSIONS_MAX
            && let Some((_, id)) = self.known.iter().map(|(id, session)| (session.last, *id)).min()
        {
            self.known.remove(&id);
        }
    }
}
