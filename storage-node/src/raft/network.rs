//! How a replica reaches the others: openraft asks, links carry.

mod append;
mod transfer;

use std::future::Future;
use std::io;
use std::rc::Rc;

use futures_util::{Stream, StreamExt, stream};
use openraft::OptionalSend;
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::EmptyNode;
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tokio::time::timeout;
use ursula_common::{GroupId, NodeId};
use ursula_proto::peer::v1::message::Body;

use super::lease::Acks;
use super::messages::{ballot_to_wire, transfer_to_wire, voted_from_wire};
use super::snapshot::SnapshotData;
use super::types::TypeConfig;
use crate::peers::{Link, PeerError, Peers, Priority};
use append::Session;

/// Makes clients for the replicas of one group.
pub(super) struct Network {
    pub(super) group: GroupId,
    pub(super) peers: Peers,
    pub(super) acks: Rc<Acks>,
}

/// The way to one other replica.
pub(super) struct Client {
    target: NodeId,
    group: GroupId,
    peers: Peers,
    acks: Rc<Acks>,
    /// For appends; votes are always urgent.
    priority: Priority,
}

impl Network {
    fn client(&self, target: u64, priority: Priority) -> Client {
        let Network { group, peers, acks } = self;
        Client { target: NodeId(target), group: *group, peers: peers.clone(), acks: acks.clone(), priority }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Client {
        self.client(target, Priority::Bulk)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _node: &EmptyNode) -> Client {
        self.client(target, Priority::Urgent)
    }
}

impl Client {
    fn link(&self, priority: Priority) -> Result<Link, PeerError> {
        self.peers.link(self.target, priority)
    }

    /// Asks what has no entries, within the time that openraft gives.
    async fn ask(&self, body: Body, option: &RPCOption) -> Result<Body, PeerError> {
        let link = self.link(Priority::Urgent)?;
        let asked = async {
            let room = link.room(0).await;
            link.ask(self.group, body, room).await
        };
        timeout(option.soft_ttl(), asked).await.unwrap_or(Err(PeerError::TimedOut))
    }

    async fn ballot(&self, body: Body, option: &RPCOption) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.ask(body, option).await.map_err(failed)? {
            Body::Voted(voted) => voted_from_wire(voted).map_err(|error| NetworkError::new(&error).into()),
            _ => Err(failed(PeerError::Malformed)),
        }
    }
}

/// What openraft is told: after the first kind it waits before it tries again, after the second it does not.
fn failed(error: PeerError) -> RPCError<TypeConfig> {
    match &error {
        PeerError::Unreachable(_) | PeerError::Refused { .. } | PeerError::Lost => Unreachable::new(&error).into(),
        PeerError::TimedOut | PeerError::Malformed => NetworkError::new(&error).into(),
    }
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let one = futures_util::stream::iter([request]);
        let mut answers = RaftNetworkV2::stream_append(self, one, option).await?;
        match answers.next().await {
            Some(answer) => Ok(answer?.into()),
            None => Err(failed(PeerError::Lost)),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>, RPCError<TypeConfig>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let answers: BoxStream<'s, _> = match self.link(self.priority) {
            Ok(link) => Session::new(self, link, input).boxed_local(),
            // openraft pauses when it is asked for what to send, and nowhere else: without that it would try again at
            // once, for ever.
            Err(error) => Box::pin(stream::once(async move {
                input.next().await;
                Err(failed(error))
            })),
        };
        Box::pin(async { Ok(answers) })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ballot(Body::Vote(ballot_to_wire(&request)), &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ballot(Body::PreVote(ballot_to_wire(&request)), &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = transfer::send(self, vote, snapshot) => sent.map_err(|error| Unreachable::new(&error).into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.ask(Body::Transfer(transfer_to_wire(&request)), &option).await.map_err(failed)? {
            Body::Transferred(_) => Ok(Ok(())),
            _ => Err(failed(PeerError::Malformed)),
        }
    }
}

/// An error of I/O, as openraft wants them.
fn refused(error: &PeerError) -> io::Error {
    io::Error::other(error.to_string())
}

#[cfg(test)]
mod tests;
