//! The vocabulary every tier shares: names, ids, offsets, limits, errors, verbs and their one
//! encoding, placement and time.
//!
//! Knows no HTTP, no gRPC, no Raft and no disk. What is parsed here is not checked again below.

#[cfg(feature = "cli")]
pub mod cli;
pub mod clock;
pub mod cluster;
#[cfg(feature = "config")]
pub mod config;
pub mod content_type;
pub mod error;
pub mod ids;
pub mod json;
pub mod limits;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod name;
pub mod offset;
pub mod packs;
pub mod pieces;
pub mod placement;
#[cfg(feature = "traces")]
pub mod traces;
pub mod verb;
pub mod wire;

pub use clock::{Clock, Millis};
pub use cluster::ClusterId;
pub use content_type::ContentType;
pub use error::{Error, Outcome};
pub use ids::{GroupId, NodeId, SagaId, SessionId, Slot, StreamId};
pub use name::{BucketName, StreamKey, StreamName};
pub use offset::Offset;
