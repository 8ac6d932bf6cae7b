//! The receiving end of a link: questions go to the cores of their groups, answers go back in frames of
//! whatever is ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio::sync::{Semaphore, mpsc};
use tonic::{Status, Streaming};
use tracing::debug;
use ursula_common::{GroupId, NodeId};
use ursula_proto::peer::v1::{Frame, Message};
use ursula_proto::{Introduction, refusal};

use super::inbound::{Outgoing, Reply};
use super::link::FRAME_MESSAGES_MAX;
use super::service::Messages;
use super::{Inbound, Peers};
use crate::directory::Directory;

/// Questions of one link that may be unanswered; the next ones wait in the connection.
const UNANSWERED_MAX: usize = 4096;
const _: () = assert!(FRAME_MESSAGES_MAX < UNANSWERED_MAX);
/// Most answers in a frame; they are small.
const FRAME_ANSWERS_MAX: usize = 1024;

/// Serves a link until the other node ends it or may call no more.
pub(super) fn open(
    frames: Streaming<Frame>,
    caller: Introduction,
    peers: Peers,
    directory: Directory,
) -> Messages<Frame> {
    let (answers, ready) = mpsc::unbounded_channel();
    let (probed, probes) = mpsc::channel(1);
    let (failed, failure) = mpsc::channel(1);
    tokio::spawn(async move {
        let unanswered = Arc::new(Semaphore::new(UNANSWERED_MAX));
        let questions = Questions { caller, peers, directory, answers, unanswered, probed };
        if let Err(status) = questions.take(frames).await {
            drop(failed.send(status).await);
        }
    });
    stream::unfold((ready, probes, failure), next_frame).boxed()
}

struct Questions {
    caller: Introduction,
    peers: Peers,
    directory: Directory,
    answers: mpsc::UnboundedSender<Outgoing>,
    unanswered: Arc<Semaphore>,
    probed: mpsc::Sender<()>,
}

impl Questions {
    async fn take(self, mut frames: Streaming<Frame>) -> Result<(), Status> {
        let mut version = None;
        loop {
            let next = tokio::select! {
                next = frames.message() => next,
                // Nobody reads answers any more.
                () = self.answers.closed() => return Ok(()),
            };
            let frame = match next {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(status) => {
                    debug!(%status, peer = self.caller.from, "a link was cut");
                    return Err(status);
                }
            };
            let current = Some(self.peers.version());
            if version != current {
                self.peers.check(&self.caller).map_err(refusal)?;
                version = current;
            }
            if frame.messages.is_empty() {
                // One that is under way says the same.
                let _ = self.probed.try_send(());
            }
            self.distribute(frame).await?;
        }
    }

    async fn distribute(&self, frame: Frame) -> Result<(), Status> {
        if frame.messages.len() > FRAME_MESSAGES_MAX {
            return Err(refusal("more questions in a frame than a node takes"));
        }
        let mut cores: BTreeMap<usize, Vec<Inbound>> = BTreeMap::new();
        for Message { id, group, body } in frame.messages {
            let body = body.ok_or_else(|| refusal("a message without a question"))?;
            let group = GroupId(group);
            let permit = self.unanswered.clone().acquire_owned().await.expect("invariant: never closed");
            let reply = Reply::new(id, group, self.answers.clone(), permit);
            let inbound = Inbound { from: NodeId(self.caller.from), group, body, reply };
            cores.entry(self.directory.core_of(group)).or_default().push(inbound);
        }
        for (core, questions) in cores {
            // Questions to a core that has stopped are dropped, which answers them.
            self.directory.ask(core, questions).await;
        }
        Ok(())
    }
}

type Sources = (mpsc::UnboundedReceiver<Outgoing>, mpsc::Receiver<()>, mpsc::Receiver<Status>);

async fn next_frame((mut ready, mut probes, mut failure): Sources) -> Option<(Result<Frame, Status>, Sources)> {
    let mut taken = Vec::new();
    tokio::select! {
        biased;
        Some(status) = failure.recv() => return Some((Err(status), (ready, probes, failure))),
        count = ready.recv_many(&mut taken, FRAME_ANSWERS_MAX) => if count == 0 { return None },
        Some(()) = probes.recv() => {}
    }
    let messages = taken.into_iter().map(|(message, _unanswered)| message).collect();
    Some((Ok(Frame { messages }), (ready, probes, failure)))
}
