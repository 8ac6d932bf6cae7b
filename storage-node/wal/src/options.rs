//! Settings of a log directory, and what they must satisfy. Reads no configuration.

use crate::record;
use crate::segment;
use crate::state::STATE_BYTES_MAX;

/// How a log directory is laid out and by whom it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Bytes of a segment.
    pub segment_bytes: u32,
    /// The largest payload of a record.
    pub record_bytes_max: u32,
    /// Groups that one writer may have. Their state must fit in a segment beside the largest record.
    pub groups_max: u32,
    /// Whose log this is, such as a hash of cluster and node. Segments of another identity are refused.
    pub identity: u64,
    /// Drawn at random for each life of the process; binds records to it.
    pub salt: u64,
    /// Files to hold ready for coming segments. Those of removed segments are kept up to this number.
    pub spares: u32,
    /// The log is at its high-water mark when there is not room for so many segments more.
    pub reserve: u32,
    /// The log is at its high-water mark when the file system has fewer free bytes than this beside the reserve.
    pub free_bytes_min: u64,
    /// Segments that readers hold open at a time.
    pub files_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 << 20,
            record_bytes_max: 40 << 20,
            groups_max: 4096,
            identity: 0,
            salt: 0,
            spares: 4,
            reserve: 2,
            free_bytes_min: 256 << 20,
            files_max: 64,
        }
    }
}

/// Settings that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A segment cannot hold what it must.
    #[error(
        "a segment of {segment_bytes} bytes is too small for records of {record_bytes_max} bytes and the state of \
         {groups_max} groups: make segments at least {needed} bytes"
    )]
    SegmentTooSmall {
        /// As set.
        segment_bytes: u32,
        /// As set.
        record_bytes_max: u32,
        /// As set.
        groups_max: u32,
        /// The smallest that would do.
        needed: u64,
    },
    /// Places would not be aligned.
    #[error("the size of a segment, {0} bytes, must be a multiple of 4096 and below 2 GiB")]
    SegmentNotAligned(u32),
    /// There would never be room for an append.
    #[error("{reserve} segments in reserve need at least as many spares, not {spares}")]
    ReserveAboveSpares {
        /// As set.
        reserve: u32,
        /// As set.
        spares: u32,
    },
}

impl Options {
    /// Refuses settings under which a record might not find a place.
    pub fn check(&self) -> Result<(), OptionsError> {
        let Options { segment_bytes, record_bytes_max, groups_max, reserve, spares, .. } = *self;
        if !segment_bytes.is_multiple_of(segment::HEADER_BYTES) || segment_bytes >= 1 << 31 {
            return Err(OptionsError::SegmentNotAligned(segment_bytes));
        }
        let record = |payload: u32| u64::from(record::HEADER_BYTES) + u64::from(payload).next_multiple_of(8);
        let states = u64::from(groups_max) * record(STATE_BYTES_MAX as u32);
        let needed = u64::from(segment::HEADER_BYTES) + states + record(record_bytes_max) + record(0);
        if u64::from(segment_bytes) < needed {
            return Err(OptionsError::SegmentTooSmall { segment_bytes, record_bytes_max, groups_max, needed });
        }
        if spares < reserve {
            return Err(OptionsError::ReserveAboveSpares { reserve, spares });
        }
        Ok(())
    }
}
