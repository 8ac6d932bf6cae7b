//! Carries messages between groups: delivers what the state machine wants to tell another group, and
//! brings the answer back as a command.
//!
//! A message stays in the replicated outbox until its answer is applied, so whatever is lost on the way
//! (a leader, a node, an answer) is sent again. Every message is idempotent.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use ursula_common::verb::{Op, SagaStep};
use ursula_common::{SagaId, error::Retry};
use ursula_stream_core::{Destination, Message};

use super::Group;
use crate::directory::Directory;

/// How long to wait before a message is sent again that another group could not take.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// The courier of one group.
pub(crate) struct Courier {
    group: Rc<Group>,
    directory: Directory,
    under_way: RefCell<BTreeSet<(SagaId, u32)>>,
}

impl Courier {
    pub(crate) fn new(group: Rc<Group>, directory: Directory) -> Rc<Courier> {
        Rc::new(Courier { group, directory, under_way: RefCell::default() })
    }

    /// Sends what came up in the entries applied since the last call.
    pub(crate) fn send_new(self: &Rc<Self>) {
        let messages = self.group.state.borrow_mut().take_outgoing();
        // A leader sends what is in the outbox; others have nothing to say.
        if self.group.replica.leads() {
            messages.into_iter().for_each(|message| self.send(message));
        }
    }

    /// Sends everything that has no answer yet and is not under way.
    pub(crate) fn send_again(self: &Rc<Self>) {
        let messages = self.group.state.borrow().outbox();
        messages.into_iter().for_each(|message| self.send(message));
    }

    fn send(self: &Rc<Self>, message: Message) {
        if self.under_way.borrow_mut().insert((message.saga, message.message)) {
            spawn_local(self.clone().deliver(message));
        }
    }

    async fn deliver(self: Rc<Self>, message: Message) {
        let Message { saga, message, to, op } = message;
        let outcome = loop {
            if !self.group.replica.leads() {
                // The next leader finds it in its outbox.
                self.under_way.borrow_mut().remove(&(saga, message));
                return;
            }
            let group = match &to {
                Destination::Stream(key) => self.directory.group_of(key),
                Destination::Group(group) => *group,
            };
            match self.directory.propose(group, op.clone()).await {
                Err(error) if error.retry() != Retry::Useless => tokio::time::sleep(RETRY_AFTER).await,
                outcome => break outcome,
            }
        };
        self.under_way.borrow_mut().remove(&(saga, message));
        self.group.enqueue_own(Op::SagaStep(SagaStep { saga, message, outcome }));
    }
}

#[cfg(test)]
mod tests;
