//! The node's end of a lane: ops come in frames, answers go out in frames of whatever is ready.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};
use tracing::debug;
use ursula_common::limits::{FRAME_OPS_MAX, SESSION_RESULTS_MAX};
use ursula_common::metrics::OpenGauge;
use ursula_common::verb::{Op, OpResult};
use ursula_common::wire::{self, reply};
use ursula_common::{Error, GroupId, SessionId};
use ursula_proto::{to_status, v1};
use ursula_stream_core::Origin;

use super::Messages;
use crate::core::RequestKind;
use crate::directory::{Directory, core_of};
use crate::group::{Proposal, ReplyTo};
use crate::metrics::Metrics;

/// Ops that a gateway may have unanswered on one lane; also what a session's results are bounded by.
const CREDIT_OPS: usize = SESSION_RESULTS_MAX;

/// A lane with more is cut: its gateway ignores the credit, or reads no answers. Twice the credit, since
/// a gateway that gave up on an op does not count it any more.
const UNANSWERED_OPS_MAX: usize = 2 * CREDIT_OPS;

type Answers = mpsc::UnboundedSender<(u64, OpResult)>;

/// Serves a lane until the gateway ends it. Ops that were taken are carried out all the same.
pub(super) fn open(
    frames: Streaming<v1::OpBatch>,
    directory: Directory,
    metrics: Arc<Metrics>,
) -> Messages<v1::ReplyBatch> {
    let (answers, ready) = mpsc::unbounded_channel();
    let (failed, failure) = mpsc::channel(1);
    let unanswered = Arc::new(AtomicUsize::new(0));
    let open = OpenGauge::new(metrics.lanes.clone());
    let outgoing = Outgoing { ready, failure, unanswered: unanswered.clone(), _open: open };
    tokio::spawn(async move {
        if let Err(status) = take_frames(frames, directory, metrics, answers, &unanswered).await {
            // The other end may have gone, and then nobody wants to know.
            drop(failed.send(status).await);
        }
    });
    let hello = v1::ReplyBatch { credit_ops: CREDIT_OPS as u32, replies: Vec::new() };
    let replies = stream::unfold(outgoing, next_frame);
    stream::once(async { Ok(hello) }).chain(replies).boxed()
}

async fn take_frames(
    mut frames: Streaming<v1::OpBatch>,
    directory: Directory,
    metrics: Arc<Metrics>,
    answers: Answers,
    unanswered: &AtomicUsize,
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
        metrics.frame_ops.record(frame.ops.len() as f64);
        if unanswered.fetch_add(frame.ops.len(), Ordering::Relaxed) > UNANSWERED_OPS_MAX {
            return Err(to_status(Error::Overloaded));
        }
        for (group, proposals) in sort_by_core(frame, &directory, &answers)? {
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
) -> Result<Vec<(GroupId, Vec<Proposal>)>, Status> {
    let v1::OpBatch { session, acked, ops } = frame;
    let mut sorted: BTreeMap<usize, (GroupId, Vec<Proposal>)> = BTreeMap::new();
    for v1::SequencedOp { seq, group, op } in ops {
        let group = GroupId(group);
        let op = client_op(op).map_err(to_status)?;
        let reply = ReplyTo::Lane(answers.clone(), seq);
        if !directory.has(group) {
            reply.send(Err(Error::NOT_HERE));
            continue;
        }
        let origin = Some(Origin { session: SessionId(session), seq, acked });
        let of_core = sorted.entry(core_of(group, directory.cores())).or_insert_with(|| (group, Vec::new()));
        of_core.1.push(Proposal { group, origin, op, reply });
    }
    Ok(sorted.into_values().collect())
}

/// Gateways may send what clients can ask for; what groups tell each other or themselves is not theirs.
fn client_op(bytes: Bytes) -> Result<Op, Error> {
    match wire::decode_op(bytes)? {
        op @ (Op::CreateBucket(_) | Op::DeleteBucket(_) | Op::Create(_) | Op::Append(_) | Op::Delete(_)) => Ok(op),
        _ => Err(Error::Malformed),
    }
}

/// The answers of one lane on their way out.
struct Outgoing {
    ready: mpsc::UnboundedReceiver<(u64, OpResult)>,
    failure: mpsc::Receiver<Status>,
    unanswered: Arc<AtomicUsize>,
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
    unanswered.fetch_sub(answered.len(), Ordering::Relaxed);
    let encode = |(seq, result)| v1::SequencedReply { seq, outcome: reply::encode(&result).into() };
    let replies = answered.into_iter().map(encode).collect();
    Some((Ok(v1::ReplyBatch { credit_ops: 0, replies }), outgoing))
}
