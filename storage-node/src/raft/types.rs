//! The types that openraft is instantiated with.

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use ursula_stream_core::{Answer, Command, Proposed, decode_batch, encode_batch, seal_batch};

openraft::declare_raft_types!(
    /// One group of streams.
    pub(crate) TypeConfig:
        D = Batch,
        R = Answers,
        Node = openraft::impls::EmptyNode,
);

pub(super) type Raft<M> = openraft::Raft<TypeConfig, super::machine::Machine<M>>;

/// The commands of one entry. A clone shares them: log, network and state machine have the same.
#[derive(Clone)]
pub(crate) struct Batch(Rc<Content>);

enum Content {
    /// Proposed here. Encoded when a log or a peer asks first, so a group that has neither never pays.
    Proposed { commands: Vec<Command>, encoded: OnceCell<Bytes> },
    /// Proposed here, for a log on disk. Decoded once more only if it is applied once more.
    Sealed { commands: RefCell<Option<Vec<Command>>>, encoded: Bytes },
    /// From a log or from a leader. Decoded by whoever applies it.
    Received(Bytes),
}

impl Batch {
    pub(super) fn new(commands: Vec<Command>) -> Batch {
        Batch(Rc::new(Content::Proposed { commands, encoded: OnceCell::new() }))
    }

    /// A batch that is encoded at once: the commands come with their bodies in it.
    pub(super) fn sealed(proposed: Vec<Proposed>) -> Batch {
        let (encoded, commands) = seal_batch(proposed);
        Batch(Rc::new(Content::Sealed { commands: RefCell::new(Some(commands)), encoded }))
    }

    /// A batch that was encoded elsewhere; nothing is decoded yet.
    pub(super) fn from_encoded(encoded: Bytes) -> Batch {
        Batch(Rc::new(Content::Received(encoded)))
    }

    /// In the encoding of `stream-core`. Clones share the bytes.
    pub(super) fn encoded(&self) -> &Bytes {
        match &*self.0 {
            Content::Proposed { commands, encoded } => encoded.get_or_init(|| encode_batch(commands).into()),
            Content::Sealed { encoded, .. } | Content::Received(encoded) => encoded,
        }
    }

    /// The commands. Bodies of a batch that is sealed or was received are slices of [`Batch::encoded`].
    ///
    /// # Errors
    /// If the bytes are damaged or of a later version.
    pub(super) fn commands(&self) -> io::Result<Vec<Command>> {
        match &*self.0 {
            Content::Proposed { commands, .. } => Ok(commands.clone()),
            Content::Sealed { commands, encoded } => match commands.take() {
                Some(commands) => Ok(commands),
                None => decode_batch(encoded.clone()).map_err(io::Error::other),
            },
            Content::Received(encoded) => decode_batch(encoded.clone()).map_err(io::Error::other),
        }
    }

    /// Bytes of bodies, and an estimate for what is around them; the same for the life of the batch.
    pub(super) fn memory_bytes(&self) -> usize {
        match &*self.0 {
            Content::Proposed { commands, .. } => {
                commands.iter().map(|command| command.op.body_bytes() + size_of::<Command>()).sum()
            }
            Content::Sealed { encoded, .. } | Content::Received(encoded) => encoded.len() + size_of::<Content>(),
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Content::Proposed { commands, .. } => write!(f, "batch of {}", commands.len()),
            Content::Sealed { encoded, .. } | Content::Received(encoded) => {
                write!(f, "batch of {} bytes", encoded.len())
            }
        }
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
