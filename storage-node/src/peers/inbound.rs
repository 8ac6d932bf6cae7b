//! What another node asks of a group here, on its way to the core of the group and back.

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use ursula_common::{GroupId, NodeId};
use ursula_proto::peer::v1::message::Body;
use ursula_proto::peer::v1::refused::Reason;
use ursula_proto::peer::v1::{Message, Refused, SnapshotHead};
use ursula_proto::raft::v1::Vote;

/// A question of another node to a group.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) from: NodeId,
    pub(crate) group: GroupId,
    pub(crate) body: Body,
    pub(crate) reply: Reply,
}

/// The way of an answer. One that is dropped tells the asker that there will be none.
#[derive(Debug)]
pub(crate) struct Reply(Option<Open>);

#[derive(Debug)]
struct Open {
    id: u64,
    group: GroupId,
    answers: mpsc::UnboundedSender<Outgoing>,
    unanswered: OwnedSemaphorePermit,
}

/// An answer that waits for its frame, and what it counts as until then.
pub(super) type Outgoing = (Message, OwnedSemaphorePermit);

impl Reply {
    /// `unanswered` bounds how many answers may be under way.
    pub(super) fn new(
        id: u64,
        group: GroupId,
        answers: mpsc::UnboundedSender<Outgoing>,
        unanswered: OwnedSemaphorePermit,
    ) -> Reply {
        Reply(Some(Open { id, group, answers, unanswered }))
    }

    /// Answers; whoever asked may have gone.
    pub(crate) fn send(mut self, body: Body) {
        self.put(body);
    }

    /// Says that the question was not looked at.
    pub(crate) fn refuse(self, reason: Reason, sentence: impl Into<String>) {
        self.send(Body::Refused(Refused { reason: reason.into(), sentence: sentence.into() }));
    }

    fn put(&mut self, body: Body) {
        if let Some(Open { id, group, answers, unanswered }) = self.0.take() {
            let message = Message { id, group: group.0, body: Some(body) };
            drop(answers.send((message, unanswered)));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let sentence = "the replica stopped while it was asked".to_owned();
        self.put(Body::Refused(Refused { reason: Reason::Unavailable.into(), sentence }));
    }
}

/// A snapshot that another node sends.
#[derive(Debug)]
pub(crate) struct InboundSnapshot {
    pub(crate) from: NodeId,
    pub(crate) group: GroupId,
    pub(crate) head: SnapshotHead,
    /// Ends without [`Part::End`] if the sender gave up.
    pub(crate) parts: mpsc::Receiver<Part>,
    /// The vote of the replica, or why it did not take the snapshot.
    pub(crate) reply: oneshot::Sender<Result<Vote, String>>,
}

/// A part of a snapshot.
#[derive(Debug)]
pub(crate) enum Part {
    /// The next bytes.
    Data(Bytes),
    /// That was all.
    End,
}
