//! The node's end of a lane: ops come in frames, answers go out in frames of whatever is ready.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tonic::{Status, Streaming};
use tracing::debug;
use ursula_common::limits::{FRAME_OPS_MAX, SESSION_RESULTS_MAX};
use ursula_common::metrics::OpenGauge;
use ursula_common::traces::Traces;
use ursula_common::verb::{Op, OpResult};
use ursula_common::wire::{self, reply};
use ursula_common::{Error, GroupId, SessionId};
use ursula_proto::{to_status, v1};
use ursula_stream_core::Origin;

use super::Messages;
use crate::core::RequestKind;
use crate::directory::{Directory, core_of};
use crate::group::{LaneOp, Proposal, ReplyTo};
use crate::metrics::Metrics;

/// Ops that a gateway may have unanswered on one lane: several groups of it may stand still, each with as
/// many as a session has results, and the others go on.
const CREDIT_OPS: usize = 4 * SESSION_RESULTS_MAX;
/// Bytes of these ops.
const CREDIT_BYTES: usize = 64 << 20;

type Answers = mpsc::UnboundedSender<(LaneOp, OpResult)>;

/// What a lane has not answered yet.
#[derive(Default)]
struct Unanswered {
    ops: AtomicUsize,
    bytes: AtomicUsize,
}

impl Unanswered {
    /// Counts the ops of a frame.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if its gateway ignores the credit, or reads no answers.
    fn add(&self, ops: usize, bytes: usize) -> Result<(), Error> {
        let all_ops = self.ops.fetch_add(ops, Ordering::Relaxed) + ops;
        let all_bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let kept = all_ops <= CREDIT_OPS && (all_bytes <= CREDIT_BYTES || all_ops == 1);
        if kept { Ok(()) } else { Err(Error::Overloaded) }
    }
}

/// Serves a lane until the gateway ends it. Ops that were taken are carried out all the same.
pub(super) fn open(
    frames: Streaming<v1::OpBatch>,
    directory: Directory,
    metrics: Arc<Metrics>,
    traces: Traces,
) -> Messages<v1::ReplyBatch> {
    let (answers, ready) = mpsc::unbounded_channel();
    let (failed, failure) = mpsc::channel(1);
    let unanswered = Arc::new(Unanswered::default());
    let open = OpenGauge::new(metrics.lanes.clone());
    let outgoing = Outgoing { ready, failure, unanswered: unanswered.clone(), _open: open };
    tokio::spawn(async move {
        if let Err(status) = take_frames(frames, directory, metrics, traces, answers, &unanswered).await {
            // The other end may have gone, and then nobody wants to know.
            drop(failed.send(status).await);
        }
    });
    let hello = v1::ReplyBatch {
        credit_ops: CREDIT_OPS as u32,
        credit_bytes: CREDIT_BYTES as u64,
        ..v1::ReplyBatch::default()
    };
    let replies = stream::unfold(outgoing, next_frame);
    stream::once(async { Ok(hello) }).chain(replies).boxed()
}

async fn take_frames(
    mut frames: Streaming<v1::OpBatch>,
    directory: Directory,
    metrics: Arc<Metrics>,
    traces: Traces,
    answers: Answers,
    unanswered: &Unanswered,
) -> Result<(), Status> {
    loop {
        let frame = match frames.message().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(()),
            Err(status) => {
                debug!(%status, "a lane was cut");
                return Ok(());
            }
        };
        let ops = || frame.sessions.iter().flat_map(|session| &session.ops);
        let count = ops().count();
        metrics.frame_ops.record(count as f64);
        unanswered.add(count, ops().map(|op| op.op.len()).sum()).map_err(to_status)?;
        for (group, proposals) in sort_by_core(frame, &directory, &answers, &traces)? {
            directory.send(group, RequestKind::Propose(proposals)).await.map_err(to_status)?;
        }
    }
}

/// The ops of a frame by core, each addressed to the first of that core's groups that has one.
///
/// A gateway that sends what is not an op has another version: its lane ends.
fn sort_by_core(
    frame: v1::OpBatch,
    directory: &Directory,
    answers: &Answers,
    traces: &Traces,
) -> Result<Vec<(GroupId, Vec<Proposal>)>, Status> {
    let mut sorted: BTreeMap<usize, (GroupId, Vec<Proposal>)> = BTreeMap::new();
    for v1::SessionOps { group, session, acked, ops } in frame.sessions {
        let (group, session) = (GroupId(group), SessionId(session));
        let here = directory.has(group);
        for v1::SequencedOp { seq, op, traceparent } in ops {
            let mut reply = ReplyTo::Lane(answers.clone(), LaneOp { session, seq, bytes: op.len() });
            if let Some(mut span) = traces.part("op", traceparent.as_deref()) {
                span.note("ursula.group", i64::from(group.0));
                reply = ReplyTo::Traced(Box::new((span, reply)));
            }
            let (op, encoded) = client_op(op).map_err(to_status)?;
            if !here {
                reply.send(Err(Error::NOT_HERE));
                continue;
            }
            let origin = Some(Origin { session, seq, acked });
            let of_core = sorted.entry(core_of(group, directory.cores())).or_insert_with(|| (group, Vec::new()));
            of_core.1.push(Proposal { group, origin, op, encoded, reply });
        }
    }
    Ok(sorted.into_values().collect())
}

/// An op, and its bytes if the log may have them as they are. Gateways may send what clients can ask for; what
/// groups tell each other or themselves is not theirs.
fn client_op(bytes: Bytes) -> Result<(Op, Option<Bytes>), Error> {
    let (op, whole) = wire::decode_whole_op(bytes.clone())?;
    match op {
        Op::CreateBucket(..)
        | Op::DeleteBucket(_)
        | Op::Create(_)
        | Op::Append(_)
        | Op::Delete(_)
        | Op::Trim(_)
        | Op::PublishSnapshot(_)
        | Op::RemoveSnapshot(_) => Ok((op, whole.then_some(bytes))),
        _ => Err(Error::Malformed),
    }
}

/// The answers of one lane on their way out.
struct Outgoing {
    ready: mpsc::UnboundedReceiver<(LaneOp, OpResult)>,
    failure: mpsc::Receiver<Status>,
    unanswered: Arc<Unanswered>,
    _open: OpenGauge,
}

async fn next_frame(mut outgoing: Outgoing) -> Option<(Result<v1::ReplyBatch, Status>, Outgoing)> {
    let mut answered = Vec::new();
    let Outgoing { ready, failure, unanswered, .. } = &mut outgoing;
    let status = tokio::select! {
        biased;
        count = ready.recv_many(&mut answered, FRAME_OPS_MAX) => if count == 0 { failure.recv().await } else { None },
        Some(status) = failure.recv() => Some(status),
    };
    if let Some(status) = status {
        return Some((Err(status), outgoing));
    }
    if answered.is_empty() {
        return None;
    }
    // A core that is giving answers gives more: those have their place in the same frame.
    yield_now().await;
    let room = FRAME_OPS_MAX - answered.len();
    answered.extend(std::iter::from_fn(|| ready.try_recv().ok()).take(room));
    let bytes = answered.iter().map(|(op, _)| op.bytes).sum();
    unanswered.ops.fetch_sub(answered.len(), Ordering::Relaxed);
    unanswered.bytes.fetch_sub(bytes, Ordering::Relaxed);
    let sessions = by_session(answered);
    Some((Ok(v1::ReplyBatch { sessions, answered_bytes: bytes as u64, ..v1::ReplyBatch::default() }), outgoing))
}

/// Answers of one session that stand side by side, as those of one entry do, go together.
fn by_session(answered: Vec<(LaneOp, OpResult)>) -> Vec<v1::SessionReplies> {
    let mut sessions: Vec<v1::SessionReplies> = Vec::new();
    for (LaneOp { session, seq, .. }, result) in answered {
        let reply = v1::SequencedReply { seq, outcome: reply::encode(&result).into() };
        match sessions.last_mut().filter(|last| last.session == session.0) {
            Some(last) => last.replies.push(reply),
            None => sessions.push(v1::SessionReplies { session: session.0, replies: vec![reply] }),
        }
    }
    sessions
}
