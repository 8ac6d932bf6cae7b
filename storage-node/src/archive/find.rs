//! Reads the bytes of one stream from the log on disk. Blocks: runs outside of cores.

use std::io;

use bytes::Bytes;
use ursula_common::{GroupId, Offset, StreamId};
use ursula_wal::{Extent, Location, LogDir, Row, RowRef, SegmentId};

/// Records in one answer: a bound on the memory for their places.
const RECORDS_MAX: usize = 64 << 10;

/// Where to look for the bytes of a stream from an offset on.
#[derive(Debug)]
pub(crate) struct Plan {
    dir: LogDir,
    group: GroupId,
    stream: StreamId,
    /// The newest row in an index.
    newest: Option<RowRef>,
    /// Records that are in no index yet, from the one that has the offset.
    unindexed: Vec<(SegmentId, Extent)>,
    from: Offset,
}

/// Whole records of a stream, without a gap; the first one has the offset that was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The offset of the first record.
    pub(crate) start: Offset,
    /// The records.
    pub(crate) records: Vec<Bytes>,
}

impl Plan {
    pub(super) fn new<'a>(
        dir: LogDir,
        (group, stream): (GroupId, StreamId),
        newest: Option<RowRef>,
        unindexed: impl Iterator<Item = (SegmentId, &'a Vec<Extent>)>,
        from: Offset,
    ) -> Plan {
        let of_segment = |(segment, extents): (SegmentId, &'a Vec<Extent>)| {
            let first = extents.partition_point(|extent| extent.end() <= from.0);
            extents[first..].iter().map(move |extent| (segment, *extent))
        };
        let unindexed = unindexed.flat_map(of_segment).take(RECORDS_MAX).collect();
        Plan { dir, group, stream, newest, unindexed, from }
    }

    /// The last place that has to be on disk for [`Plan::read`].
    pub(crate) fn last(&self) -> Option<Location> {
        self.unindexed.last().map(|(segment, last)| Location { segment: *segment, at: last.at, len: last.len })
    }

    /// Reads whole records up to the first that ends at or after `bytes_max` more bytes or at `until`;
    /// none if the bytes are not here.
    ///
    /// # Errors
    /// If the log cannot be read, or is damaged.
    pub(crate) fn read(self, until: Offset, bytes_max: usize) -> io::Result<Found> {
        let end = until.0.min(self.from.0.saturating_add(bytes_max as u64));
        let mut places: Vec<(SegmentId, Extent)> = Vec::new();
        if self.unindexed.first().is_none_or(|(_, extent)| extent.offset > self.from.0) {
            for (at, row) in self.rows()? {
                let wanted = RECORDS_MAX - places.len();
                let extents = self.dir.extents(at, &row, self.from.0, end, wanted)?;
                places.extend(extents.into_iter().map(|extent| (at.segment, extent)));
                if places.len() >= RECORDS_MAX || row.end >= end {
                    break;
                }
            }
        }
        places.extend(self.unindexed.iter().take_while(|(_, extent)| extent.offset < end));
        self.bytes(&places)
    }

    /// The rows that have the bytes from the offset on, the oldest first.
    fn rows(&self) -> io::Result<Vec<(RowRef, Row)>> {
        let mut rows = Vec::new();
        let mut next = self.newest;
        while let Some(at) = next {
            // A segment that is gone had no bytes that are still needed.
            let Some(row) = self.dir.index_row(at, self.group, self.stream)? else { break };
            next = row.prev;
            let found = row.first <= self.from.0;
            if row.end > self.from.0 {
                rows.push((at, row));
            }
            if found {
                break;
            }
        }
        rows.reverse();
        Ok(rows)
    }

    fn bytes(&self, places: &[(SegmentId, Extent)]) -> io::Result<Found> {
        let Some((_, first)) = places.first().filter(|(_, first)| first.offset <= self.from.0) else {
            return Ok(Found::default());
        };
        let mut found = Found { start: Offset(first.offset), records: Vec::with_capacity(places.len()) };
        let mut at = first.offset;
        for (segment, extent) in places {
            if extent.offset != at {
                break;
            }
            let record = self.dir.read_part(*segment, extent.at, extent.len, extent.crc).map_err(io::Error::other)?;
            found.records.push(record);
            at = extent.end();
        }
        Ok(found)
    }
}
