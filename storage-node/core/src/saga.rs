//! Sagas: work that needs other groups. Each is a state and the messages that it still waits for; a
//! message is sent until it is answered, so the groups must bear late and repeated ones. Knows how to
//! keep and number them; what they do is in the files of their verbs.

use std::collections::{BTreeMap, BTreeSet};

use ursula_common::error::{Outcome, Retry};
use ursula_common::verb::{Ack, AcquireFork, BucketStep, Create, ForkRef, Op, Reply, SagaStep};
use ursula_common::{BucketName, Error, GroupId, SagaId, StreamId};

use crate::state::Caller;
use crate::{Destination, Effect, Message, State, bucket, fork};

/// Sagas that clients wait for.
const WAITING_MAX: usize = 4096;
/// Bytes of the first content of forks that wait for their source. The largest append always fits.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// Work that needs other groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Saga {
    /// A fork that waits for its source.
    Fork(Box<ForkSaga>),
    /// A reference that is given back. Nobody waits.
    Release(ForkRef),
    /// A bucket that is created or removed.
    Bucket(BucketSaga),
}

/// A fork that waits for its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForkSaga {
    /// As the client asked; it has a source.
    pub(crate) create: Create,
    /// The id that the fork will have.
    pub(crate) id: StreamId,
    pub(crate) caller: Caller,
}

/// A bucket that is created or removed in every group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BucketSaga {
    pub(crate) bucket: BucketName,
    /// When ops in it are acknowledged.
    pub(crate) ack: Ack,
    pub(crate) phase: Phase,
    pub(crate) order: u64,
    /// Groups that have not answered yet; never empty.
    pub(crate) waiting: BTreeSet<GroupId>,
    /// Whether a group refused to drop it.
    pub(crate) refused: bool,
    pub(crate) caller: Caller,
}

/// What the groups are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Create,
    Remove,
    /// Back to where it was, because a group refused to drop it.
    Restore,
}

/// The sagas of a group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sagas {
    pub(crate) running: BTreeMap<SagaId, Saga>,
    /// The last number given out.
    pub(crate) last: u64,
    /// How many of them somebody waits for.
    pub(crate) waiting: usize,
    /// How many bytes of first content they hold.
    pub(crate) waiting_bytes: usize,
}

impl Sagas {
    /// Whether there is room for one more that somebody waits for.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.waiting < WAITING_MAX && self.waiting_bytes + bytes <= WAITING_BYTES_MAX
    }

    /// Adds one under a new id.
    pub(crate) fn start(&mut self, saga: Saga) -> SagaId {
        let id = SagaId(self.new_number());
        self.insert(id, saga);
        id
    }

    /// A number that no saga, and no step for a bucket, had before.
    pub(crate) fn new_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Adds one under its id.
    pub(crate) fn insert(&mut self, id: SagaId, saga: Saga) {
        let (waiting, bytes) = saga.weight();
        self.waiting += waiting;
        self.waiting_bytes += bytes;
        self.running.insert(id, saga);
    }

    /// Takes one out.
    pub(crate) fn end(&mut self, id: SagaId) -> Option<Saga> {
        let saga = self.running.remove(&id)?;
        let (waiting, bytes) = saga.weight();
        self.waiting -= waiting;
        self.waiting_bytes -= bytes;
        Some(saga)
    }

    /// The messages that a saga waits for.
    pub(crate) fn messages(&self, id: SagaId) -> impl Iterator<Item = Message> {
        self.running.get(&id).into_iter().flat_map(move |saga| saga.messages(id))
    }
}

impl Saga {
    /// How many clients wait for it, and the bytes it holds.
    pub(crate) fn weight(&self) -> (usize, usize) {
        match self {
            Saga::Fork(fork) => (1, fork.create.body.len()),
            Saga::Bucket(_) => (1, 0),
            Saga::Release(_) => (0, 0),
        }
    }

    fn messages(&self, saga: SagaId) -> Vec<Message> {
        let to_stream = |to, op| vec![Message { saga, message: 0, to: Destination::Stream(to), op }];
        match self {
            Saga::Fork(fork) => fork.acquire().map_or(Vec::new(), |op| {
                let source = op.fork_ref.source.clone();
                to_stream(source, Op::AcquireFork(op))
            }),
            Saga::Release(fork_ref) => to_stream(fork_ref.source.clone(), Op::ReleaseFork(fork_ref.clone())),
            Saga::Bucket(bucket) => bucket.waiting.iter().map(|group| bucket.message(saga, *group)).collect(),
        }
    }
}

impl ForkSaga {
    fn acquire(&self) -> Option<AcquireFork> {
        let from = self.create.fork.as_ref()?;
        Some(AcquireFork {
            fork_ref: ForkRef { source: from.source.clone(), fork: self.create.key.clone(), fork_id: self.id },
            offset: from.offset,
            sub_offset: from.sub_offset,
            content_type: self.create.content_type.clone(),
            cut: None,
        })
    }
}

impl BucketSaga {
    fn message(&self, saga: SagaId, group: GroupId) -> Message {
        let step = BucketStep { bucket: self.bucket.clone(), order: self.order, ack: self.ack };
        let (message, op) = match self.phase {
            Phase::Create => (2 * group.0, Op::InstallBucket(step)),
            Phase::Remove => (2 * group.0, Op::DropBucket(step)),
            // Another number, so that a late answer of the phase before is not taken for this one's.
            Phase::Restore => (2 * group.0 + 1, Op::InstallBucket(step)),
        };
        Message { saga, message, to: Destination::Group(group), op }
    }

    /// The group that this message went to, if the saga waits for it.
    pub(crate) fn awaited(&self, message: u32) -> Option<GroupId> {
        let group = GroupId(message / 2);
        let phase = message % 2 == u32::from(self.phase == Phase::Restore);
        (phase && self.waiting.contains(&group)).then_some(group)
    }
}

impl State {
    /// Every message without an answer, for a new leader or a retry.
    pub fn outbox(&self) -> impl Iterator<Item = Message> {
        self.sagas.running.iter().flat_map(|(id, saga)| saga.messages(*id))
    }
}

/// Takes the answer to a message. One that nobody waits for, or no more, changes nothing.
pub(crate) fn step(state: &mut State, step: SagaStep, effects: &mut Vec<Effect>) -> Result<Reply, Error> {
    let SagaStep { saga, message, outcome } = step;
    let decided = match &outcome {
        Ok(_) => true,
        Err(error) => error.retry() != Retry::Later && error.outcome() == Outcome::NotApplied,
    };
    // Undecided means to ask again: the message stays in the outbox.
    match state.sagas.running.get(&saga) {
        Some(Saga::Fork(_)) if decided && message == 0 => fork::answered(state, saga, outcome, effects),
        Some(Saga::Release(_)) if decided && message == 0 => drop(state.sagas.end(saga)),
        Some(Saga::Bucket(_)) if decided => bucket::answered(state, saga, message, outcome, effects),
        _ => return Ok(Reply::Done),
    }
    state.mark_group();
    Ok(Reply::Done)
}
