//! The gRPC contracts between gateways and storage nodes and among storage nodes, and the channel that
//! carries them.
//!
//! Knows no HTTP dialect of clients, no Raft and no stream state: it converts and transports.

mod apart;
mod calls;
mod channel;
mod convert;
mod introduction;
mod status;

pub use calls::{
    AdminClient, PROTOCOL, PROTOCOL_MIN, admin_client, admin_server, cluster_id, cluster_id_bytes, import, propose,
};
pub use channel::{
    ChannelError, NodeChannel, NodeClient, check_address, endpoint, in_cluster, local, meant_cluster, node_client,
    node_server, over, remote,
};
pub use convert::{TargetRef, read_from, slot_table};
pub use introduction::{Introduction, PeerClient, peer_client, peer_server};
pub use status::{from_status, refusal, to_status};

/// The generated contract; see `node.proto` for what each message means.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("ursula.node.v1");
}

/// What operators ask of storage nodes; see `admin.proto`.
pub mod admin {
    #[allow(missing_docs, clippy::all, unreachable_pub)]
    pub mod v1 {
        tonic::include_proto!("ursula.admin.v1");
    }
}

/// What storage nodes say to each other; see `peer.proto`.
pub mod peer {
    #[allow(missing_docs, clippy::all, unreachable_pub)]
    pub mod v1 {
        tonic::include_proto!("ursula.peer.v1");
    }
}

/// What Raft keeps and sends; see `raft.proto`.
pub mod raft {
    #[allow(missing_docs, clippy::all, unreachable_pub)]
    pub mod v1 {
        tonic::include_proto!("ursula.raft.v1");
    }
}
