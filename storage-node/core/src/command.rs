//! What goes into the state machine and what comes out. Plain data, no decisions.

use bytes::Bytes;
use ursula_common::verb::{Op, Reply};
use ursula_common::{Error, GroupId, Millis, Offset, SagaId, SessionId, StreamId, StreamKey};

/// One change to a group, as it lies in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// When the leader proposed it. Time in the state never goes back: an earlier stamp counts as the
    /// latest one seen.
    pub at: Millis,
    /// Whose op it is, so that a repeated one is answered and not applied again.
    pub origin: Option<Origin>,
    /// What to do.
    pub op: Op,
}

/// Which op of which session this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The session.
    pub session: SessionId,
    /// The op within the session. Ops may arrive in any order, and more than once.
    pub seq: u64,
    /// Every op before this one was answered and will never be sent again.
    pub acked: u64,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was decided. After an error nothing has changed.
    Done(Result<Reply, Error>),
    /// Other groups have to be asked: [`Effect::Finished`] with this saga brings the answer.
    Pending(SagaId),
}

/// What has to happen outside as a consequence of a command, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Bytes were appended: the ring takes them.
    Appended {
        /// The stream.
        stream: StreamId,
        /// Offset of the first byte.
        at: Offset,
        /// The bytes; never empty.
        bytes: Bytes,
    },
    /// Nobody needs the bytes before this offset any more.
    Trimmed {
        /// The stream.
        stream: StreamId,
        /// Where what is needed begins: a record does there, or it is the tail.
        to: Offset,
    },
    /// No more appends will come: tails end when they reach the tail.
    Closed {
        /// The stream.
        stream: StreamId,
    },
    /// Deleted or expired, but forks still need the bytes: tails end, the bytes stay.
    Detached {
        /// The stream.
        stream: StreamId,
    },
    /// Gone: tails end, the bytes can be dropped.
    Removed {
        /// The stream.
        stream: StreamId,
    },
    /// The leader sends this to another group, and again until an answer comes.
    Send(Message),
    /// The answer for whoever waits for [`Answer::Pending`] of this saga.
    Finished {
        /// The saga.
        saga: SagaId,
        /// The answer.
        outcome: Result<Reply, Error>,
    },
}

/// An op for another group (or for this one). Its answer comes back as `Op::SagaStep` with the same
/// saga and message. It may arrive late, twice and in any order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The saga that sends it.
    pub saga: SagaId,
    /// Which of the saga's messages it is.
    pub message: u32,
    /// Where it goes.
    pub to: Destination,
    /// What the other group shall do.
    pub op: Op,
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// To the group that holds this stream.
    Stream(StreamKey),
    /// To this group.
    Group(GroupId),
}
