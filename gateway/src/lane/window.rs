//! The ops of a lane that wait for their answer, in the order of their sequence.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use ursula_common::verb::OpResult;
use ursula_common::{Error, GroupId};

/// An op on its way to a node.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) group: GroupId,
    /// Encoded as `ursula_common::wire` has it.
    pub(super) op: Bytes,
    pub(super) deadline: Instant,
    /// Whether it has left for the node, so that it may have been applied.
    pub(super) sent: bool,
    pub(super) reply: oneshot::Sender<OpResult>,
}

/// Every op from the oldest unanswered one on.
#[derive(Debug, Default)]
pub(super) struct Window {
    first: u64,
    slots: VecDeque<Option<Pending>>,
    /// Every op from here on is to be sent.
    unsent: u64,
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

    /// Takes an op in and returns its sequence.
    pub(super) fn push(&mut self, pending: Pending) -> u64 {
        self.slots.push_back(Some(pending));
        self.first + self.slots.len() as u64 - 1
    }

    /// The next op to send and its sequence, unless there are `credit` ops from the oldest unanswered one
    /// to it.
    pub(super) fn next_unsent(&mut self, credit: usize) -> Option<(u64, &Pending)> {
        let mut index = self.unsent.saturating_sub(self.first) as usize;
        // What was given up before it left is not sent any more.
        while let Some(None) = self.slots.get(index) {
            index += 1;
        }
        self.unsent = self.first + index as u64;
        let pending = self.slots.get(index).filter(|_| index < credit)?.as_ref()?;
        Some((self.unsent, pending))
    }

    /// The op that [`Window::next_unsent`] returned leaves for the node.
    pub(super) fn mark_sent(&mut self) {
        let index = (self.unsent - self.first) as usize;
        if let Some(pending) = self.slots.get_mut(index).and_then(Option::as_mut) {
            pending.sent = true;
        }
        self.unsent += 1;
    }

    /// Everything that has no answer is to be sent again.
    pub(super) fn rewind(&mut self) {
        self.unsent = self.first;
    }

    /// Unanswered ops with their sequence, oldest first.
    fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Pending)> {
        let first = self.first;
        let numbered = self.slots.iter_mut().enumerate();
        numbered.filter_map(move |(index, slot)| slot.as_mut().map(|pending| (first + index as u64, pending)))
    }

    /// Answers an op; one that is not in the window was answered or given up before.
    pub(super) fn finish(&mut self, seq: u64, result: OpResult) {
        let index = seq.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let pending = index.and_then(|index| self.slots.get_mut(index)).and_then(Option::take);
        if let Some(pending) = pending {
            // The client may have gone.
            drop(pending.reply.send(result));
        }
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
    }

    /// Gives up what is past its deadline: what was sent may have been applied, the rest was not.
    pub(super) fn expire(&mut self, now: Instant) {
        let late = self.iter_mut().filter(|(_, pending)| pending.deadline <= now);
        let late: Vec<(u64, bool)> = late.map(|(seq, pending)| (seq, pending.sent)).collect();
        for (seq, sent) in late {
            self.finish(seq, Err(if sent { Error::OutcomeUnknown } else { Error::Unavailable }));
        }
    }
}

#[cfg(test)]
mod tests;
