//! Calls of operators: the client and the server half, and which versions of nodes fit together.

use ursula_common::cluster::{Cluster, ClusterOp};
use ursula_common::limits::MESSAGE_BYTES_MAX;
use ursula_common::verb::{Op, OpResult};
use ursula_common::{ClusterId, Error, GroupId, wire};

use crate::admin::v1::admin_client::AdminClient as Generated;
use crate::admin::v1::admin_server::{Admin, AdminServer};
use crate::admin::v1::{ImportReply, ImportRequest, NodeStatus, ProposeReply, ProposeRequest};
use crate::{NodeChannel, from_status};

/// The latest protocol between nodes that this version speaks. Two nodes speak the latest that both know, and refuse
/// each other if there is none.
pub const PROTOCOL: u32 = 1;
/// The oldest one that it still speaks: that of the release before, so that nodes can be upgraded one by one.
pub const PROTOCOL_MIN: u32 = 1;

/// The client half of the contract over any channel.
pub type AdminClient = Generated<NodeChannel>;

/// The server half of the contract.
pub fn admin_server<A: Admin>(admin: A) -> AdminServer<A> {
    AdminServer::new(admin).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// A client.
pub fn admin_client(channel: NodeChannel) -> AdminClient {
    AdminClient::new(channel)
}

/// Asks a node to change the cluster, or with `dry_run` what would become of it.
///
/// # Errors
/// What the node answered; [`Error::OutcomeUnknown`] if the answer was lost.
pub async fn propose(client: &mut AdminClient, op: ClusterOp, dry_run: bool) -> Result<(), Error> {
    let op = wire::encode_op(&Op::Cluster(Box::new(op))).into();
    let lost = |status: tonic::Status| match from_status(&status) {
        Error::Unavailable if !dry_run => Error::OutcomeUnknown,
        error => error,
    };
    let ProposeReply { outcome } = client.propose(ProposeRequest { op, dry_run }).await.map_err(lost)?.into_inner();
    let outcome: OpResult = wire::reply::decode(&outcome)?;
    outcome.map(drop)
}

/// Asks a node for a step of an import, in any group.
///
/// # Errors
/// What the group answered; [`Error::OutcomeUnknown`] if the answer was lost: a step may come twice.
pub async fn import(client: &mut AdminClient, group: GroupId, op: &Op) -> OpResult {
    let request = ImportRequest { group: group.0, op: wire::encode_op(op).into() };
    let lost = |status: tonic::Status| match from_status(&status) {
        Error::Unavailable => Error::OutcomeUnknown,
        error => error,
    };
    let ImportReply { outcome } = client.import(request).await.map_err(lost)?.into_inner();
    wire::reply::decode(&outcome)?
}

impl NodeStatus {
    /// The cluster that the node belongs to.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is none.
    pub fn cluster_id(&self) -> Result<Option<ClusterId>, Error> {
        if self.cluster.is_empty() { Ok(None) } else { cluster_id(&self.cluster).map(Some) }
    }

    /// The cluster as far as the node knows it.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it cannot be read.
    pub fn known_cluster(&self) -> Result<Option<Cluster>, Error> {
        let decode = |bytes| wire::cluster::decode(bytes);
        if self.state.is_empty() { Ok(None) } else { decode(self.state.clone()).map(Some) }
    }
}

/// A cluster id as it is sent.
///
/// # Errors
/// [`Error::Malformed`] if it is none.
pub fn cluster_id(bytes: &[u8]) -> Result<ClusterId, Error> {
    bytes.try_into().map(|bytes| ClusterId(u128::from_be_bytes(bytes))).map_err(|_| Error::Malformed)
}

/// A cluster id as [`cluster_id`] reads it.
pub fn cluster_id_bytes(cluster: ClusterId) -> bytes::Bytes {
    cluster.0.to_be_bytes().to_vec().into()
}
