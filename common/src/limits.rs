//! Every limit that more than one crate must agree on, in one place. Sizes are bytes.

use std::time::Duration;

/// The longest bucket name.
pub const BUCKET_NAME_BYTES_MAX: usize = 64;
/// The longest stream name, after percent-decoding.
pub const STREAM_NAME_BYTES_MAX: usize = 1024;
/// The longest content type.
pub const CONTENT_TYPE_BYTES_MAX: usize = 256;
/// The longest `Producer-Id`.
pub const PRODUCER_ID_BYTES_MAX: usize = 256;
/// The longest `Stream-Seq`.
pub const STREAM_SEQ_BYTES_MAX: usize = 256;
/// The largest producer epoch and sequence: what a JavaScript client can count to, 2^53 - 1.
pub const PRODUCER_NUMBER_MAX: u64 = (1 << 53) - 1;
/// The longest sliding time to live, and the longest time to keep records: 100 years in seconds.
pub const TTL_SECONDS_MAX: u64 = 100 * 366 * 24 * 3600;
/// The most bytes that a stream can be told to keep: what a JavaScript client can count to, 2^53 - 1.
pub const RETENTION_BYTES_MAX: u64 = (1 << 53) - 1;
/// The longest `Stream-Expires-At`: a date with nanoseconds and a zone takes 35 bytes.
pub const EXPIRES_AT_BYTES_MAX: usize = 64;
/// The largest body of one create or append, as stored.
pub const APPEND_BYTES_MAX: usize = 16 << 20;
/// A page of a read ends at the first record boundary at or after this many bytes.
pub const PAGE_BYTES_MAX: usize = 4 << 20;
/// Names in one page of a listing.
pub const LIST_ITEMS_MAX: u32 = 1000;
/// The deepest chain of forks of forks.
pub const FORK_DEPTH_MAX: u32 = 64;

/// Producers whose state one stream remembers.
pub const PRODUCERS_MAX: usize = 4096;
/// A producer that was silent for so long may be forgotten to make room for another.
pub const PRODUCER_IDLE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Live forks of one stream.
pub const FORKS_MAX: usize = 100_000;

/// Gateway sessions that one group remembers.
pub const SESSIONS_MAX: usize = 4096;
/// Unacknowledged results that one group remembers of one session: the most ops between the oldest one that
/// a gateway has no answer to and the newest one that it has sent.
pub const SESSION_RESULTS_MAX: usize = 8192;
/// A session that was silent for so long is forgotten; a leap of the clock counts for a quarter of it at most.
pub const SESSION_IDLE: Duration = Duration::from_secs(15 * 60);

/// Streams in one pack, with those that it says were removed.
pub const PACK_STREAMS_MAX: usize = 65_536;

/// Objects that one object may come in the place of, or that are said to be gone at a time.
pub const MERGED_OBJECTS_MAX: usize = 1024;

/// Nodes that one cluster may ever have had.
pub const NODES_MAX: usize = 1024;
/// Voting replicas of one group.
pub const REPLICAS_MAX: usize = 7;
/// The longest address of a node: a DNS name, a colon and a port.
pub const ADDRESS_BYTES_MAX: usize = 260;

/// The most bytes of ops in one frame of a lane, except that one op always fits.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// The most ops in one frame of a lane.
pub const FRAME_OPS_MAX: usize = 1024;
/// The largest gRPC message: a frame that holds the largest append, and room for its names.
pub const MESSAGE_BYTES_MAX: usize = APPEND_BYTES_MAX + FRAME_BYTES_MAX;
