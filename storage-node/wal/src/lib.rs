//! The log on disk: one format of segments, its writer, its recovery, and the index of what segments hold.
//!
//! Owns every byte below the log directory. Knows no Raft, no network, no clock, no randomness and no threads;
//! payloads are opaque. Everything is synchronous and goes through [`Io`], so that tests can put any disk below it.
//!
//! An [`Appender`] on the thread that decides assigns places and encodes; a [`Writer`] on a thread of its own makes
//! batches durable; a [`LogDir`], shared by all, reads, and knows which segments there are.
//!
//! ```text
//! anchor, live entries, needed bytes  keep a segment; everything else may be removed
//! purged < first <= next              entries of a group are [first, next)
//! batch start <= record               everything before the batch was synced before the batch was written
//! ```

mod appender;
mod dir;
pub mod dump;
mod fact;
mod index;
pub mod io;
mod open;
mod options;
mod read;
mod record;
mod recover;
mod remove;
mod scan;
mod segment;
mod spare;
mod state;
mod summary;
mod table;
mod writer;

pub use appender::{Appender, Batch};
pub use dir::{LogDir, Space};
pub use fact::{FACT_BYTES_MAX, Fact};
pub use index::{Extent, NewRow, Row, RowRef};
#[cfg(any(test, feature = "fault"))]
pub use io::FaultIo;
pub use io::{File, Io, ReadOnlyIo, SystemIo};
pub use open::OpenError;
pub use options::{Options, OptionsError};
pub use read::{Content, ReadError};
pub use record::Location;
pub use recover::{Damage, Recovered, RecoveredGroup, Slice};
pub use segment::SegmentId;
pub use writer::{Poisoned, Writer};

#[cfg(test)]
mod tests;
