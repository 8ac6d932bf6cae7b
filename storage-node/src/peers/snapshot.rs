//! Sends a snapshot to another node, over a connection of its own.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use ursula_common::NodeId;
use ursula_proto::peer::v1::refused::Reason;
use ursula_proto::peer::v1::snapshot_part::Part;
use ursula_proto::peer::v1::{SnapshotEnd, SnapshotHead, SnapshotPart};
use ursula_proto::peer_client;
use ursula_proto::raft::v1::Vote;

use super::{PeerAddress, PeerError, Peers, unknown};

/// Parts that wait for the connection.
const PARTS_MAX: usize = 4;

/// A snapshot on its way. Dropping it ends the call.
pub(crate) struct Sending {
    parts: mpsc::Sender<SnapshotPart>,
    bytes: u64,
    /// The vote of the other replica.
    pub(crate) done: oneshot::Receiver<Result<Vote, PeerError>>,
}

impl Peers {
    /// Begins to send a snapshot to `to`.
    ///
    /// # Errors
    /// If nobody knows where it is.
    pub(crate) fn send_snapshot(&self, to: NodeId, head: SnapshotHead) -> Result<Sending, PeerError> {
        let address = self.read().peers.get(&to).map(|peer| peer.address.clone()).ok_or_else(|| unknown(to))?;
        let (parts, outgoing) = mpsc::channel(PARTS_MAX);
        let (report, done) = oneshot::channel();
        let peers = self.clone();
        self.0.runtime.spawn(async move {
            let mut report = report;
            tokio::select! {
                result = peers.call_snapshot(to, &address, head, outgoing) => drop(report.send(result)),
                () = report.closed() => {}
            }
        });
        Ok(Sending { parts, bytes: 0, done })
    }

    async fn call_snapshot(
        &self,
        to: NodeId,
        address: &PeerAddress,
        head: SnapshotHead,
        parts: mpsc::Receiver<SnapshotPart>,
    ) -> Result<Vote, PeerError> {
        let head = SnapshotPart { part: Some(Part::Head(head)) };
        let first = futures_util::stream::iter([head]);
        let all = futures_util::StreamExt::chain(first, ReceiverStream::new(parts));
        let mut request = Request::new(all);
        self.introduction(to, address)?.write(request.metadata_mut());
        let channel = address.connect().ok_or(PeerError::Malformed)?;
        match peer_client(channel).snapshot(request).await {
            Ok(done) => done.into_inner().vote.ok_or(PeerError::Malformed),
            Err(status) => Err(PeerError::Refused { reason: Reason::Unavailable, sentence: status.message().into() }),
        }
    }
}

impl Sending {
    /// Waits for room and sends the next bytes. False if the other end wants no more: `done` says why.
    pub(crate) async fn send(&mut self, data: Bytes) -> bool {
        self.bytes += data.len() as u64;
        self.parts.send(SnapshotPart { part: Some(Part::Data(data)) }).await.is_ok()
    }

    /// Says that this was all.
    pub(crate) async fn end(&mut self) -> bool {
        let end = SnapshotEnd { bytes: self.bytes };
        self.parts.send(SnapshotPart { part: Some(Part::End(end)) }).await.is_ok()
    }
}
