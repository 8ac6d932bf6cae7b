//! Sends a snapshot to one replica, as fast as the other end takes it.

use std::time::Duration;

use openraft::alias::{SnapshotOf, VoteOf};
use openraft::raft::SnapshotResponse;
use std::io;
use tokio::time::timeout;
use ursula_proto::peer::v1::SnapshotHead;

use super::super::codec::{snapshot_meta_to_wire, vote_from_wire, vote_to_wire};
use super::super::snapshot::SnapshotData;
use super::super::types::TypeConfig;
use super::{Client, refused};

/// How long the other end may take for one chunk, and for the whole at the end.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(20);
const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);

/// # Errors
/// If it could not be sent whole, or was not taken.
pub(super) async fn send(
    client: &Client,
    vote: VoteOf<TypeConfig>,
    snapshot: SnapshotOf<TypeConfig, SnapshotData>,
) -> io::Result<SnapshotResponse<TypeConfig>> {
    let head = SnapshotHead {
        group: client.group.0,
        vote: Some(vote_to_wire(&vote)),
        meta: Some(snapshot_meta_to_wire(&snapshot.meta)),
    };
    let mut sending = client.peers.send_snapshot(client.target, head).map_err(|error| refused(&error))?;
    let mut data = snapshot.snapshot;
    let mut wanted = true;
    while wanted {
        wanted = match data.next().await? {
            Some(chunk) => timeout(CHUNK_TIMEOUT, sending.send(chunk)).await?,
            None => {
                timeout(CHUNK_TIMEOUT, sending.end()).await?;
                break;
            }
        };
    }
    let gone = |_| io::Error::other("the call was lost");
    let vote = timeout(INSTALL_TIMEOUT, &mut sending.done).await?.map_err(gone)?;
    Ok(SnapshotResponse::new(vote_from_wire(vote.map_err(|error| refused(&error))?)))
}
