//! The types that openraft is instantiated with.

use std::fmt;
use std::rc::Rc;

use ursula_stream_core::{Answer, Command};

openraft::declare_raft_types!(
    /// One group of streams.
    pub(crate) TypeConfig:
        D = Batch,
        R = Answers,
        Node = openraft::impls::EmptyNode,
);

pub(super) type Raft<M> = openraft::Raft<TypeConfig, super::machine::Machine<M>>;

/// The commands of one entry. A clone shares them: the log and the state machine read the same.
#[derive(Clone)]
pub(crate) struct Batch(Rc<[Command]>);

impl Batch {
    pub(super) fn new(commands: Vec<Command>) -> Batch {
        Batch(commands.into())
    }

    pub(super) fn commands(&self) -> &[Command] {
        &self.0
    }

    /// Bytes of bodies, and an estimate for what is around them.
    pub(super) fn memory_bytes(&self) -> usize {
        self.0.iter().map(|command| command.op.body_bytes() + size_of::<Command>()).sum()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch of {}", self.0.len())
    }
}

/// One answer for each command of an entry; empty for entries that carry none.
#[derive(Debug, Default)]
pub(crate) struct Answers(Vec<Answer>);

impl Answers {
    pub(super) fn new(answers: Vec<Answer>) -> Answers {
        Answers(answers)
    }

    pub(super) fn into_inner(self) -> Vec<Answer> {
        self.0
    }
}
