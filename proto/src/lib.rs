//! The gRPC contract between gateways and storage nodes, and the channel that carries it.
//!
//! Knows no HTTP dialect of clients, no Raft and no stream state: it converts and transports.

mod channel;
mod convert;
mod status;

pub use channel::{ChannelError, NodeChannel, NodeClient, local, node_client, node_server, remote};
pub use convert::{TargetRef, read_from, slot_table};
pub use status::{from_status, to_status};

/// The generated contract; see `node.proto` for what each message means.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("ursula.node.v1");
}

/// What Raft keeps and sends; see `raft.proto`.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod raft {
    tonic::include_proto!("ursula.raft.v1");
}
