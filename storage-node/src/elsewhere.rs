//! Groups that are led on other nodes: what one group wants of another goes to its leader, wherever that is.
//!
//! Follows who leads as far as it is known, or as the one that was asked tells, and gives up soon: whoever
//! asks asks again. Everything that goes this way may come twice.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use ursula_common::verb::{Op, OpResult, Reply};
use ursula_common::{Error, GroupId, NodeId, Offset, StreamId, StreamKey, wire};
use ursula_proto::from_status;
use ursula_proto::peer::v1;

use crate::cluster::WeakSide;
use crate::core::RecordResult;
use crate::peers::Peers;

/// A node that does not answer in this time is asked again later.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Nodes that are asked one after the other, each told of by the one before.
const HOPS_MAX: usize = 3;

/// The way to other nodes' groups. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Elsewhere {
    peers: Peers,
    /// The engine below it has the directory, which has this.
    side: WeakSide,
}

/// What is asked of the leader of a group.
#[derive(Clone)]
enum Question {
    Deliver(v1::Delivery),
    Record(v1::RecordRequest),
}

enum Answer {
    Delivered(Reply),
    Record(Option<(Offset, Bytes)>),
}

impl Elsewhere {
    pub(crate) fn new(peers: Peers, side: WeakSide) -> Elsewhere {
        Elsewhere { peers, side }
    }

    /// Carries out an op of another group.
    ///
    /// # Errors
    /// What the group answered, or why it could not be asked.
    pub(crate) async fn propose(&self, group: GroupId, op: &Op, hint: Option<NodeId>) -> OpResult {
        let delivery = v1::Delivery { group: group.0, op: wire::encode_op(op).into() };
        match self.ask(group, Question::Deliver(delivery), hint).await? {
            Answer::Delivered(reply) => Ok(reply),
            Answer::Record(_) => Err(Error::Malformed),
        }
    }

    /// The record of one incarnation that `at` lies in, up to `until`.
    ///
    /// # Errors
    /// If the incarnation is gone, or its group cannot be asked.
    pub(crate) async fn record(
        &self,
        group: GroupId,
        key: &StreamKey,
        id: StreamId,
        (at, until): (Offset, Offset),
        hint: Option<NodeId>,
    ) -> RecordResult {
        let request = v1::RecordRequest {
            group: group.0,
            bucket: key.bucket.to_string(),
            name: key.name.to_string(),
            id: id.0,
            at: at.0,
            until: until.0,
        };
        match self.ask(group, Question::Record(request), hint).await? {
            Answer::Record(record) => Ok(record),
            Answer::Delivered(_) => Err(Error::Malformed),
        }
    }

    /// Asks the leader. Cores have no I/O of their own: the runtime of the links does it.
    async fn ask(&self, group: GroupId, question: Question, hint: Option<NodeId>) -> Result<Answer, Error> {
        let this = self.clone();
        let asking = self.peers.runtime().spawn(async move { this.follow(group, question, hint).await });
        asking.await.unwrap_or(Err(Error::OutcomeUnknown))
    }

    async fn follow(&self, group: GroupId, question: Question, hint: Option<NodeId>) -> Result<Answer, Error> {
        let mut next = hint.or_else(|| self.side.leader(group));
        for _ in 0..HOPS_MAX {
            let Some(node) = next.filter(|node| *node != self.peers.node()) else { break };
            match timeout(ANSWER_TIMEOUT, self.ask_node(node, question.clone())).await {
                Ok(Err(Error::NotLeader { leader, .. })) => next = leader.filter(|leader| *leader != node),
                Ok(answer) => return answer,
                Err(_) => return Err(Error::OutcomeUnknown),
            }
        }
        Err(Error::NOT_HERE)
    }

    async fn ask_node(&self, node: NodeId, question: Question) -> Result<Answer, Error> {
        // Whether it came through does not matter: it may come twice.
        let failed = |status: tonic::Status| from_status(&status);
        let mut client = self.peers.client(node).ok_or(Error::Unavailable)?;
        match question {
            Question::Deliver(delivery) => {
                let delivered = client.deliver(self.peers.request(node, delivery)?).await.map_err(failed)?;
                let outcome: OpResult = wire::reply::decode(&delivered.into_inner().outcome)?;
                outcome.map(Answer::Delivered)
            }
            Question::Record(request) => {
                let v1::Record { start, data } =
                    client.record(self.peers.request(node, request)?).await.map_err(failed)?.into_inner();
                Ok(Answer::Record(start.map(|start| (Offset(start), data))))
            }
        }
    }
}
