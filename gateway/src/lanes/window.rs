//! The ops of one session that wait for their answer, in the order of their sequence. Knows no node: only whether
//! an op is on its way, and whether a try of it may have been applied.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use ursula_common::Error;
use ursula_common::limits::SESSION_RESULTS_MAX;
use ursula_common::verb::OpResult;
use ursula_proto::v1;

use super::budget::Held;
use super::lane::LaneId;

/// An op on its way to a group.
#[derive(Debug)]
pub(super) struct Pending {
    /// Encoded as `ursula_common::wire` has it.
    pub(super) op: Bytes,
    /// If it is traced.
    pub(super) traceparent: Option<Box<str>>,
    /// When the caller asked.
    pub(super) since: Instant,
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<OpResult>,
    /// Its share of the memory for ops.
    pub(super) _held: Held,
    /// Times it was sent to a node that has not said that it did not do it.
    pub(super) open: u32,
    /// The try whose answer is waited for; without one it is to be sent.
    pub(super) flight: Option<Flight>,
}

impl Pending {
    fn sent(&self, seq: u64) -> v1::SequencedOp {
        v1::SequencedOp { seq, op: self.op.clone(), traceparent: self.traceparent.as_deref().map(str::to_owned) }
    }
}

/// See [`Pending::flight`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Flight {
    pub(super) lane: LaneId,
    pub(super) since: Instant,
}

/// Every op from the oldest unanswered one on.
#[derive(Debug, Default)]
pub(super) struct Window {
    first: u64,
    slots: VecDeque<Option<Pending>>,
    /// Every op before this index is on its way or answered.
    unsent: usize,
    /// How many ops are on their way, and their bytes.
    flying: usize,
    flying_bytes: usize,
}

impl Window {
    /// The sequence of the oldest unanswered op: every smaller one was answered or given up.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Ops between the oldest unanswered and the newest.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Ops that are on their way, and their bytes.
    pub(super) fn flying(&self) -> (usize, usize) {
        (self.flying, self.flying_bytes)
    }

    /// The oldest op that has no answer.
    pub(super) fn oldest(&self) -> Option<&Pending> {
        self.slots.front().and_then(Option::as_ref)
    }

    /// Takes an op in.
    pub(super) fn push(&mut self, pending: Pending) {
        self.slots.push_back(Some(pending));
    }

    /// The next op to send. Its group remembers the answers of a bounded number of ops, so that none is sent
    /// which is too far ahead of the oldest unanswered one.
    pub(super) fn next_unsent(&mut self) -> Option<&Pending> {
        let sent = |slot: &Option<Pending>| slot.as_ref().is_none_or(|pending| pending.flight.is_some());
        while self.slots.get(self.unsent).is_some_and(sent) {
            self.unsent += 1;
        }
        self.slots.get(self.unsent).filter(|_| self.unsent < SESSION_RESULTS_MAX)?.as_ref()
    }

    /// The op that [`Window::next_unsent`] returned leaves for a node.
    pub(super) fn send_next(&mut self, flight: Flight) -> Option<v1::SequencedOp> {
        let pending = self.slots.get_mut(self.unsent)?.as_mut()?;
        pending.flight = Some(flight);
        pending.open += 1;
        self.flying += 1;
        self.flying_bytes += pending.op.len();
        let sent = pending.sent(self.first + self.unsent as u64);
        self.unsent += 1;
        Some(sent)
    }

    /// The oldest unanswered op leaves for one more node, whether it is on its way or not.
    pub(super) fn send_oldest(&mut self) -> Option<v1::SequencedOp> {
        let pending = self.slots.front_mut()?.as_mut()?;
        pending.open += 1;
        Some(pending.sent(self.first))
    }

    /// An op, unless it was answered or given up.
    pub(super) fn get_mut(&mut self, seq: u64) -> Option<&mut Pending> {
        let index = self.index(seq)?;
        self.slots.get_mut(index)?.as_mut()
    }

    /// The op is to be sent again.
    pub(super) fn land(&mut self, seq: u64) {
        let Some(index) = self.index(seq) else { return };
        if let Some(pending) = self.slots.get_mut(index).and_then(Option::as_mut)
            && pending.flight.take().is_some()
        {
            self.flying -= 1;
            self.flying_bytes -= pending.op.len();
            self.unsent = self.unsent.min(index);
        }
    }

    /// Everything that has no answer is to be sent again; returns how many ops were on their way.
    pub(super) fn land_all(&mut self) -> usize {
        self.slots.iter_mut().flatten().for_each(|pending| pending.flight = None);
        self.unsent = 0;
        self.flying_bytes = 0;
        std::mem::take(&mut self.flying)
    }

    /// Answers an op; one that is not in the window was answered or given up before.
    pub(super) fn finish(&mut self, seq: u64, result: OpResult) {
        let Some(index) = self.index(seq) else { return };
        if let Some(pending) = self.slots.get_mut(index).and_then(Option::take) {
            if pending.flight.is_some() {
                self.flying -= 1;
                self.flying_bytes -= pending.op.len();
            }
            // The client may have gone.
            drop(pending.reply.send(result));
        }
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
            self.unsent = self.unsent.saturating_sub(1);
        }
    }

    /// Gives up what is past its deadline: what no node has a try of was not applied.
    pub(super) fn expire(&mut self, now: Instant) {
        self.finish_all(|pending| match pending.open {
            _ if pending.deadline > now => None,
            0 => Some(Error::Unavailable),
            _ => Some(Error::OutcomeUnknown),
        });
    }

    /// Gives up what no node has a try of: the group is not there any more.
    pub(super) fn disband(&mut self) {
        self.finish_all(|pending| (pending.open == 0).then_some(Error::NOT_HERE));
    }

    fn finish_all(&mut self, why: impl Fn(&Pending) -> Option<Error>) {
        let pending = self.slots.iter().enumerate();
        let failed = pending.filter_map(|(index, slot)| Some((self.first + index as u64, why(slot.as_ref()?)?)));
        for (seq, error) in failed.collect::<Vec<_>>() {
            self.finish(seq, Err(error));
        }
    }

    fn index(&self, seq: u64) -> Option<usize> {
        seq.checked_sub(self.first).and_then(|index| usize::try_from(index).ok())
    }
}

#[cfg(test)]
mod tests;
