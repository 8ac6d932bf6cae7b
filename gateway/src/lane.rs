//! The gateway's end of a lane: every change of state goes to a node in frames of whatever has queued.
//!
//! After a lost connection the unanswered ops are sent again under their old sequence, and the node
//! answers those that it has applied with the first answer: no op is applied twice.

mod window;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tracing::{debug, warn};
use ursula_common::limits::{FRAME_BYTES_MAX, FRAME_OPS_MAX, SESSION_RESULTS_MAX};
use ursula_common::verb::{Op, OpResult};
use ursula_common::wire::{self, reply};
use ursula_common::{Error, GroupId, SessionId};
use ursula_proto::{NodeClient, v1};

use crate::metrics::Metrics;
use window::{Pending, Window};

/// Ops that may wait to be taken in by the lane.
const QUEUE_OPS_MAX: usize = 4096;
/// Ops that the lane takes in before some are answered; no node grants more credit.
const WINDOW_OPS_MAX: usize = SESSION_RESULTS_MAX;
/// Frames that may wait for the connection.
const FRAMES_MAX: usize = 8;
/// How often deadlines are looked after.
const TICK: Duration = Duration::from_millis(50);
/// Pause before a lost lane is opened again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// A handle to the lane to one node. Cheap to clone; the lane ends with the last handle.
#[derive(Debug, Clone)]
pub(crate) struct Lane(mpsc::Sender<Pending>);

impl Lane {
    /// Opens a lane, and opens it again whenever it is lost.
    pub(crate) fn open(client: NodeClient, metrics: Arc<Metrics>) -> Lane {
        let (queue, ops) = mpsc::channel(QUEUE_OPS_MAX);
        let session = SessionId(rand::random());
        tokio::spawn(LaneTask { client, session, ops, window: Window::default(), credit: 0, metrics }.run());
        Lane(queue)
    }

    /// Sends an op and waits for its answer until `deadline`.
    ///
    /// # Errors
    /// What the group answered; [`Error::Overloaded`] if the queue is full, [`Error::Unavailable`] if
    /// the op never left, [`Error::OutcomeUnknown`] if it left and no answer came.
    pub(crate) async fn submit(&self, group: GroupId, op: &Op, deadline: Instant) -> OpResult {
        let (reply, answer) = oneshot::channel();
        let pending = Pending { group, op: wire::encode_op(op).into(), deadline, sent: false, reply };
        self.0.try_send(pending).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Error::Unavailable,
        })?;
        answer.await.unwrap_or(Err(Error::OutcomeUnknown))
    }
}

struct LaneTask {
    client: NodeClient,
    session: SessionId,
    ops: mpsc::Receiver<Pending>,
    window: Window,
    /// Ops that may be unanswered, as the node allows.
    credit: usize,
    metrics: Arc<Metrics>,
}

/// How a connection of a lane ended.
enum End {
    /// The gateway wants no lane any more.
    Closed,
    /// It was lost.
    Lost,
}

impl LaneTask {
    async fn run(mut self) {
        loop {
            match self.connect_and_serve().await {
                End::Closed => return,
                End::Lost => {
                    if self.wait_for(sleep(RECONNECT_PAUSE)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    async fn connect_and_serve(&mut self) -> End {
        let (frames, outgoing) = mpsc::channel(FRAMES_MAX);
        let mut client = self.client.clone();
        let connecting = async move { client.lane(ReceiverStream::new(outgoing)).await };
        match self.wait_for(connecting).await {
            None => End::Closed,
            Some(Ok(answers)) => self.serve(frames, answers.into_inner()).await,
            Some(Err(status)) => {
                debug!(code = %status.code(), "a lane could not be opened");
                End::Lost
            }
        }
    }

    /// Waits for `event`, and keeps deadlines meanwhile. `None` if nobody holds the lane any more.
    async fn wait_for<T>(&mut self, event: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(event);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                output = &mut event => return Some(output),
                _ = tick.tick() => self.window.expire(Instant::now()),
                op = self.ops.recv(), if self.window.len() < WINDOW_OPS_MAX => drop(self.window.push(op?)),
            }
        }
    }

    async fn serve(&mut self, frames: mpsc::Sender<v1::OpBatch>, mut answers: Streaming<v1::ReplyBatch>) -> End {
        // What the last connection left unanswered is sent again, as soon as this one grants credit.
        self.credit = 0;
        self.window.rewind();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut taken = Vec::new();
        loop {
            let room = WINDOW_OPS_MAX.saturating_sub(self.window.len()).min(FRAME_OPS_MAX);
            let sendable = self.window.next_unsent(self.credit).is_some();
            tokio::select! {
                biased;
                _ = tick.tick() => {
                    self.window.expire(Instant::now());
                    self.metrics.window_ops.set(self.window.len() as f64);
                }
                batch = answers.message() => match batch {
                    Ok(Some(batch)) => self.take_answers(batch),
                    Ok(None) => return End::Lost,
                    Err(status) => {
                        warn!(code = %status.code(), message = status.message(), "a lane was lost");
                        return End::Lost;
                    }
                },
                place = frames.reserve(), if sendable => match place {
                    Ok(place) => place.send(self.next_frame()),
                    Err(_) => return End::Lost,
                },
                count = self.ops.recv_many(&mut taken, room), if room > 0 => {
                    if count == 0 {
                        return End::Closed;
                    }
                    for pending in taken.drain(..) {
                        self.window.push(pending);
                    }
                }
            }
        }
    }

    fn take_answers(&mut self, batch: v1::ReplyBatch) {
        if batch.credit_ops > 0 {
            self.credit = batch.credit_ops as usize;
        }
        for v1::SequencedReply { seq, outcome } in batch.replies {
            self.window.finish(seq, reply::decode(&outcome).unwrap_or(Err(Error::OutcomeUnknown)));
        }
    }

    /// As many of the next ops as credit and the bounds of a frame allow.
    fn next_frame(&mut self) -> v1::OpBatch {
        let (mut ops, mut bytes) = (Vec::new(), 0);
        while let Some((seq, pending)) = self.window.next_unsent(self.credit) {
            bytes += pending.op.len();
            if !ops.is_empty() && (bytes > FRAME_BYTES_MAX || ops.len() >= FRAME_OPS_MAX) {
                break;
            }
            ops.push(v1::SequencedOp { seq, group: pending.group.0, op: pending.op.clone() });
            self.window.mark_sent();
        }
        self.metrics.frame_ops.record(ops.len() as f64);
        v1::OpBatch { session: self.session.0, acked: self.window.first(), ops }
    }
}

#[cfg(test)]
mod tests;
