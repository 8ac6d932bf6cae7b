//! The state machine of one group of streams: `apply(state, command) -> answer + effects`.
//!
//! Pure: the same commands give the same state, answers and effects on every replica. Time enters
//! with the command. Holds what is known about streams, never their bytes: those leave as effects.
//! Knows no clock, no randomness, no file, no network, no unordered map.

mod append;
mod batch;
mod bucket;
mod check;
mod cluster;
mod codec;
mod command;
mod create;
mod expire;
mod fork;
mod image;
mod import;
mod kept;
mod packing;
mod publish;
mod published;
mod query;
mod saga;
mod session;
mod snapshot;
mod state;
mod stream;
mod trim;

pub use batch::{Proposed, decode_batch, encode_batch, seal_batch};
pub use cluster::change_cluster;
pub use codec::CodecError;
pub use command::{Answer, Command, Destination, Effect, Message, Origin};
pub use image::{Images, StreamImage, encode_images};
pub use packing::{PackPlan, Packing, PlannedStream, Replaced, Told, Wanted, merge_records};
pub use query::{Stats, StoredRange};
pub use state::State;

#[cfg(test)]
mod tests;
