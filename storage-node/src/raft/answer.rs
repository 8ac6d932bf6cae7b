//! What a replica does with the questions of others.

use std::io;
use std::rc::Rc;
use std::task::{Context, Waker};

use openraft::Snapshot;
use openraft::alias::VoteOf;
use tokio::task::spawn_local;
use tokio::time::Instant;
use ursula_proto::peer::v1::message::Body;
use ursula_proto::peer::v1::refused::Reason;
use ursula_proto::peer::v1::{Append, Ballot, Transfer, Transferred};
use ursula_proto::raft::v1::Vote;

use super::codec::{snapshot_meta_from_wire, vote_from_wire, vote_to_wire};
use super::messages::{append_from_wire, appended_to_wire, ballot_from_wire, transfer_from_wire, voted_to_wire};
use super::snapshot::{MemorySink, SnapshotSink};
use super::{Log, Replica, StateMachine, TypeConfig, compact};
use crate::peers::{Inbound, InboundSnapshot, Part, Reply};
use crate::transfer::IncomingFile;

/// Questions of one group that may wait for its log; the asker tries again.
const QUESTIONS_MAX: usize = 256;
/// What a leader hears that is none any more.
const OUTDATED: &str = "a later leader has let a replica here go since";

impl<M: StateMachine> Replica<M> {
    /// Answers a question of another replica. Those of one asker are taken in the order of these calls.
    pub(crate) fn answer(&self, question: Inbound) {
        let Inbound { body, reply, .. } = question;
        if self.held.get() {
            return reply.refuse(Reason::Unavailable, "the replica may be about to be forgotten");
        }
        if Rc::strong_count(&self.questions) > QUESTIONS_MAX {
            return reply.refuse(Reason::Busy, "too many questions wait for this replica");
        }
        match body {
            Body::Append(append) => self.append(append, reply),
            Body::Vote(Ballot { transfer: false, .. }) | Body::PreVote(_) if self.is_silent() => {
                reply.refuse(Reason::Unavailable, "the replica was restarted a moment ago and does not vote yet");
            }
            Body::Vote(_) | Body::PreVote(_) | Body::Transfer(_) if self.forgotten.get().is_some() => {
                reply.refuse(
                    Reason::Unavailable,
                    "the replica does not have again what one had that was forgotten here",
                );
            }
            Body::Vote(ballot) => self.vote(ballot, reply, false),
            Body::PreVote(ballot) => self.vote(ballot, reply, true),
            Body::Transfer(transfer) => self.transfer(transfer, reply),
            Body::Appended(_) | Body::Voted(_) | Body::Transferred(_) | Body::Refused(_) => {
                reply.refuse(Reason::Unknown, "an answer came where a question was expected");
            }
        }
    }

    /// Answers no question from now on, or again.
    pub(crate) fn hold(&self, held: bool) {
        self.held.set(held);
    }

    /// Whether this replica may have promised something that it does not remember.
    fn is_silent(&self) -> bool {
        self.silent_until.is_some_and(|until| Instant::now() < until)
    }

    /// Whether this is a leader from before the one that let a replica here be forgotten. It may count this one among its
    /// members still, which has forgotten that it follows another one.
    fn is_outdated(&self, leader: &VoteOf<TypeConfig>) -> bool {
        self.forgotten.get().is_some_and(|forgotten| leader.leader_id.term < forgotten.term)
    }

    fn append(&self, append: Append, reply: Reply) {
        let request = match append_from_wire(append) {
            Ok(request) => request,
            Err(error) => return reply.refuse(Reason::Unknown, error.to_string()),
        };
        if self.is_outdated(&request.vote) {
            return reply.refuse(Reason::Unavailable, OUTDATED);
        }
        let (raft, log) = (self.raft.clone(), self.log.clone());
        self.begin(async move {
            match raft.append_entries(request).await {
                Ok(response) => reply.send(Body::Appended(appended_to_wire(&response))),
                Err(error) => reply.refuse(Reason::Unavailable, error.to_string()),
            }
            if let Log::Memory(log) = &log {
                compact(&raft, log).await;
            }
        });
    }

    fn vote(&self, ballot: Ballot, reply: Reply, only_ask: bool) {
        let request = match ballot_from_wire(ballot) {
            Ok(request) => request,
            Err(error) => return reply.refuse(Reason::Unknown, error.to_string()),
        };
        let raft = self.raft.clone();
        self.begin(async move {
            let voted = if only_ask { raft.pre_vote(request).await } else { raft.vote(request).await };
            match voted {
                Ok(response) => reply.send(Body::Voted(voted_to_wire(&response))),
                Err(error) => reply.refuse(Reason::Unavailable, error.to_string()),
            }
        });
    }

    fn transfer(&self, transfer: Transfer, reply: Reply) {
        let request = match transfer_from_wire(transfer) {
            Ok(request) => request,
            Err(error) => return reply.refuse(Reason::Unknown, error.to_string()),
        };
        let raft = self.raft.clone();
        self.begin(async move {
            match raft.handle_transfer_leader(request).await {
                Ok(Ok(())) => reply.send(Body::Transferred(Transferred {})),
                Ok(Err(error)) => reply.refuse(Reason::Unavailable, error.to_string()),
                Err(error) => reply.refuse(Reason::Unavailable, error.to_string()),
            }
        });
    }

    /// Runs `work` on, after it has been looked at once: its question is in the queue of the replica
    /// before that of the next call.
    fn begin(&self, work: impl Future<Output = ()> + 'static) {
        let counted = self.questions.clone();
        let mut work = Box::pin(async move {
            work.await;
            drop(counted);
        });
        if work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            spawn_local(work);
        }
    }

    /// Takes a snapshot of another replica, one at a time.
    pub(crate) fn install(&self, snapshot: InboundSnapshot) {
        let vote = snapshot.head.vote.map(vote_from_wire);
        let sink = if self.held.get() {
            Err(io::Error::other("the node asks whether it may forget this replica"))
        } else if vote.as_ref().is_some_and(|leader| self.is_outdated(leader)) {
            Err(io::Error::other(OUTDATED))
        } else if Rc::strong_count(&self.installing) > 1 {
            Err(io::Error::other("a snapshot is being taken already"))
        } else {
            self.sink()
        };
        let (raft, counted) = (self.raft.clone(), self.installing.clone());
        spawn_local(async move {
            let InboundSnapshot { head, mut parts, reply, .. } = snapshot;
            let taken = async {
                let sink = sink?;
                let vote = vote.ok_or(io::ErrorKind::InvalidData)?;
                let meta = snapshot_meta_from_wire(head.meta.ok_or(io::ErrorKind::InvalidData)?)?;
                let snapshot = Snapshot { meta, snapshot: receive(&mut parts, sink).await? };
                let installed = raft.install_full_snapshot(vote, snapshot).await;
                installed.map(|done| vote_to_wire(&done.vote)).map_err(io::Error::other)
            };
            let taken: io::Result<Vote> = taken.await;
            drop(counted);
            // The sender may have gone.
            drop(reply.send(taken.map_err(|error| error.to_string())));
        });
    }

    /// Where a snapshot of another replica is kept until it is complete.
    fn sink(&self) -> io::Result<Box<dyn SnapshotSink>> {
        Ok(match &self.log {
            Log::Memory(_) => Box::new(MemorySink::default()),
            Log::Disk(disk) => Box::new(IncomingFile::create(&disk.dir, disk.group)?),
        })
    }
}

async fn receive(
    parts: &mut tokio::sync::mpsc::Receiver<Part>,
    mut sink: Box<dyn SnapshotSink>,
) -> io::Result<super::SnapshotData> {
    loop {
        match parts.recv().await {
            Some(Part::Data(chunk)) => sink.write(chunk).await?,
            Some(Part::End) => return sink.finish().await,
            None => return Err(io::Error::other("the sender gave up")),
        }
    }
}
