//! The gateway's end of a lane: every change of state goes to a node in frames of whatever has queued.
//!
//! After a lost connection the unanswered ops are sent again under their old sequence, and the node
//! answers those that it has applied with the first answer: no op is applied twice.

mod window;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tracing::{debug, warn};
use ursula_common::limits::{FRAME_BYTES_MAX, FRAME_OPS_MAX};
use ursula_common::verb::{Op, Reply};
use ursula_common::wire::{self, reply};
use ursula_common::{Error, GroupId, SessionId};
use ursula_proto::{NodeClient, v1};

use crate::metrics::Metrics;
use window::{Pending, Window};

/// The answer to an op.
pub(crate) type OpResult = Result<Reply, Error>;

/// Ops that may wait to be taken in by the lane.
const QUEUE_OPS_MAX: usize = 4096;
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
                op = self.ops.recv(), if self.window.len() < QUEUE_OPS_MAX => drop(self.window.push(op?)),
            }
        }
    }

    async fn serve(&mut self, frames: mpsc::Sender<v1::OpBatch>, mut answers: Streaming<v1::ReplyBatch>) -> End {
        if self.send_again(&frames).await.is_err() {
            return End::Lost;
        }
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut taken = Vec::new();
        loop {
            let room = self.credit.saturating_sub(self.window.len()).min(FRAME_OPS_MAX);
            tokio::select! {
                biased;
                batch = answers.message() => match batch {
                    Ok(Some(batch)) => self.take_answers(batch),
                    Ok(None) => return End::Lost,
                    Err(status) => {
                        warn!(code = %status.code(), message = status.message(), "a lane was lost");
                        return End::Lost;
                    }
                },
                count = self.ops.recv_many(&mut taken, room), if room > 0 => {
                    if count == 0 {
                        return End::Closed;
                    }
                    self.metrics.frame_ops.record(count as f64);
                    if self.send_taken(&frames, &mut taken).await.is_err() {
                        return End::Lost;
                    }
                }
                _ = tick.tick() => {
                    self.window.expire(Instant::now());
                    self.metrics.window_ops.set(self.window.len() as f64);
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

    /// Sends the ops that were unanswered when the last connection was lost.
    async fn send_again(&mut self, frames: &mpsc::Sender<v1::OpBatch>) -> Result<(), ()> {
        let mut frame = Frame::default();
        let mut full = Vec::new();
        for (seq, pending) in self.window.iter_mut() {
            pending.sent = true;
            full.extend(frame.push(seq, pending.group, pending.op.clone()));
        }
        full.extend(frame.take());
        self.send(frames, full).await
    }

    async fn send_taken(&mut self, frames: &mpsc::Sender<v1::OpBatch>, taken: &mut Vec<Pending>) -> Result<(), ()> {
        let mut frame = Frame::default();
        let mut full = Vec::new();
        for mut pending in taken.drain(..) {
            pending.sent = true;
            let (group, op) = (pending.group, pending.op.clone());
            let seq = self.window.push(pending);
            full.extend(frame.push(seq, group, op));
        }
        full.extend(frame.take());
        self.send(frames, full).await
    }

    async fn send(&self, frames: &mpsc::Sender<v1::OpBatch>, full: Vec<Vec<v1::SequencedOp>>) -> Result<(), ()> {
        for ops in full {
            let batch = v1::OpBatch { session: self.session.0, acked: self.window.first(), ops };
            frames.send(batch).await.map_err(drop)?;
        }
        Ok(())
    }
}

/// Gathers ops into frames of at most [`FRAME_BYTES_MAX`] and [`FRAME_OPS_MAX`].
#[derive(Default)]
struct Frame {
    ops: Vec<v1::SequencedOp>,
    bytes: usize,
}

impl Frame {
    /// Adds an op, and returns what was gathered before if the op does not fit there.
    fn push(&mut self, seq: u64, group: GroupId, op: Bytes) -> Option<Vec<v1::SequencedOp>> {
        let fits = self.bytes + op.len() <= FRAME_BYTES_MAX && self.ops.len() < FRAME_OPS_MAX;
        let full = if fits { None } else { self.take() };
        self.bytes += op.len();
        self.ops.push(v1::SequencedOp { seq, group: group.0, op });
        full
    }

    fn take(&mut self) -> Option<Vec<v1::SequencedOp>> {
        self.bytes = 0;
        (!self.ops.is_empty()).then(|| std::mem::take(&mut self.ops))
    }
}
