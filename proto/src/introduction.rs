//! Calls between storage nodes: limits, and how a call says who calls and who is meant.
//!
//! Knows nothing of who may call whom: the storage node decides.

use tonic::metadata::{AsciiMetadataValue, MetadataMap};

use crate::NodeChannel;
use crate::channel::CLUSTER;
use crate::peer::v1::peer_client;
use crate::peer::v1::peer_server::{Peer, PeerServer};

/// The client half of the contract over any channel.
pub type PeerClient = peer_client::PeerClient<NodeChannel>;

/// An entry may hold one body of the largest size after almost a whole batch, and frames hold a bit more.
const MESSAGE_BYTES_MAX: usize = 32 << 20;

const VERSION: &str = "ursula-peer-version";
const VERSION_MIN: &str = "ursula-peer-version-min";
const FROM: &str = "ursula-from";
const FROM_INCARNATION: &str = "ursula-from-incarnation";
const TO: &str = "ursula-to";
const TO_INCARNATION: &str = "ursula-to-incarnation";

/// Who calls, and whom it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Introduction {
    /// See [`PROTOCOL`](crate::PROTOCOL).
    pub version: u64,
    /// See [`PROTOCOL_MIN`](crate::PROTOCOL_MIN).
    pub version_min: u64,
    /// The cluster of the caller.
    pub cluster: u128,
    /// The id of the caller.
    pub from: u64,
    /// The data directory of the caller.
    pub from_incarnation: u64,
    /// The id of the node that is meant.
    pub to: u64,
    /// The data directory of the node that is meant.
    pub to_incarnation: u64,
}

impl Introduction {
    /// Writes itself into the metadata of a call.
    pub fn write(&self, metadata: &mut MetadataMap) {
        let mut number = |key: &'static str, value: u64| drop(metadata.insert(key, AsciiMetadataValue::from(value)));
        number(VERSION, self.version);
        number(VERSION_MIN, self.version_min);
        number(FROM, self.from);
        number(FROM_INCARNATION, self.from_incarnation);
        number(TO, self.to);
        number(TO_INCARNATION, self.to_incarnation);
        let cluster = format!("{:032x}", self.cluster);
        metadata.insert(CLUSTER, cluster.parse().expect("invariant: digits are ASCII"));
    }

    /// Reads what a caller wrote; nothing, if it wrote none or not as [`Introduction::write`] does.
    pub fn read(metadata: &MetadataMap) -> Option<Introduction> {
        let text = |key: &str| metadata.get(key)?.to_str().ok();
        let number = |key: &str| text(key)?.parse().ok();
        let version = number(VERSION)?;
        Some(Introduction {
            version,
            version_min: number(VERSION_MIN).unwrap_or(version),
            cluster: u128::from_str_radix(text(CLUSTER)?, 16).ok()?,
            from: number(FROM)?,
            from_incarnation: number(FROM_INCARNATION)?,
            to: number(TO)?,
            to_incarnation: number(TO_INCARNATION)?,
        })
    }
}

/// The server half of the contract with its limits.
pub fn peer_server<P: Peer>(peer: P) -> PeerServer<P> {
    PeerServer::new(peer).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// A client with the contract's limits.
pub fn peer_client(channel: NodeChannel) -> PeerClient {
    PeerClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
}
