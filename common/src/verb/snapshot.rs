//! Snapshots of streams: what a client folded a stream into, up to an offset. The bytes are a stream of their own, the
//! companion ([`StreamName::companion`]); here is what is said of them.
//!
//! [`StreamName::companion`]: crate::StreamName::companion

use super::ForkCut;
use crate::{ContentType, Offset, StreamKey};

/// Says that an upload is the newest snapshot of a stream. Its companion must be there, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishSnapshot {
    /// The stream.
    pub key: StreamKey,
    /// The snapshot says what the stream is up to here.
    pub at: Offset,
    /// Where the record begins in which that lies, for a snapshot has whole ones. The leader fills this in before it
    /// proposes, like [`AcquireFork::cut`]; not needed at the tail and where the stream begins.
    ///
    /// [`AcquireFork::cut`]: super::AcquireFork::cut
    pub cut: Option<ForkCut>,
    /// Which companion has the bytes. Drawn at random for each upload, never 0.
    pub upload: u64,
    /// Their type.
    pub content_type: ContentType,
    /// How many there are.
    pub bytes: u64,
    /// SHA-256 of them. The state has no bytes: whoever stored them is believed.
    pub digest: [u8; 32],
    /// What must hold of the snapshot at this offset.
    pub condition: SnapshotCondition,
}

/// Removes the snapshot of a stream, and its companion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveSnapshot {
    /// The stream.
    pub key: StreamKey,
    /// Where the snapshot is.
    pub at: Offset,
    /// What must hold of it.
    pub condition: SnapshotCondition,
}

/// What must hold of the snapshot at an offset for it to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotCondition {
    /// Nothing; but other bytes are not replaced.
    Any,
    /// There is none.
    Absent,
    /// It has this digest.
    Is([u8; 32]),
}

/// The newest snapshot of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// It says what the stream is up to here.
    pub at: Offset,
    /// Which companion has the bytes.
    pub upload: u64,
    /// Their type.
    pub content_type: ContentType,
    /// How many there are.
    pub bytes: u64,
    /// SHA-256 of them.
    pub digest: [u8; 32],
}
