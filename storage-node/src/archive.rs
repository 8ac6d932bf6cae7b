//! Where the bytes of streams lie in the log on disk, for when they have left memory.
//!
//! Memory holds the place of every record only for segments that are being filled; a full segment gets
//! an index file, and memory keeps one reference for each stream: to the newest index row that speaks of
//! it. A row names the one before it, so older bytes are found by walking back.

mod find;
mod table;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::{Rc, Weak};

use bytes::Bytes;
use ursula_common::{GroupId, Offset, StreamId};
use ursula_wal::{Extent, SegmentId};

use crate::journal::Journal;
pub(crate) use find::Found;
use table::Table;
pub(crate) use table::{Chain, Places};

/// The places of all bytes of one core's streams. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Archive(Rc<Inner>);

struct Inner {
    journal: Journal,
    table: RefCell<Table>,
    indexing: Cell<bool>,
    /// See [`Archive::aside`].
    asides: RefCell<Vec<Weak<Inner>>>,
    /// See [`Archive::hold`].
    holds: RefCell<Vec<Weak<GroupId>>>,
}

/// Keeps the bytes of a group where they are.
pub(crate) struct Hold(#[expect(dead_code, reason = "it is there, or it is not")] Rc<GroupId>);

/// An entry of a log that is being applied, and where its bytes lie.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) segment: SegmentId,
    /// Where `bytes` begin in the segment.
    pub(crate) at: u32,
    pub(crate) bytes: Bytes,
}

impl Archive {
    pub(crate) fn new(journal: Journal) -> Archive {
        let (table, indexing, asides, holds) = Default::default();
        Archive(Rc::new(Inner { journal, table, indexing, asides, holds }))
    }

    /// An empty archive for bytes that do not count yet. As long as it is there, [`Archive::oldest`] of this one
    /// counts them too.
    pub(crate) fn aside(&self) -> Archive {
        let aside = Archive::new(self.0.journal.clone());
        let mut asides = self.0.asides.borrow_mut();
        asides.retain(|aside| aside.strong_count() > 0);
        asides.push(Rc::downgrade(&aside.0));
        drop(asides);
        aside
    }

    /// The log that the bytes are in.
    pub(crate) fn journal(&self) -> &Journal {
        &self.0.journal
    }

    /// Notes where a record lies that continues a stream: in the entry that brings it, or else, if it came
    /// with an earlier one, in a copy of its own.
    pub(crate) fn add(&self, group: GroupId, stream: StreamId, offset: Offset, record: &Bytes, entry: &Stored) {
        let inside = (record.as_ptr() as usize).checked_sub(entry.bytes.as_ptr() as usize);
        let Some(inside) = inside.filter(|inside| inside + record.len() <= entry.bytes.len()) else {
            return self.copy(group, stream, offset, std::slice::from_ref(record));
        };
        let at = entry.at + inside as u32;
        let extent = Extent { offset: offset.0, at, len: record.len() as u32, crc: crc32c::crc32c(record) };
        self.0.table.borrow_mut().add(group, stream, entry.segment, extent);
    }

    /// Writes records that continue a stream to the log, and notes where.
    pub(crate) fn copy(&self, group: GroupId, stream: StreamId, start: Offset, records: &[Bytes]) {
        let copy = self.0.journal.slice(group, stream, start, &ursula_common::pieces::join(records));
        let (mut offset, mut at) = (start.0, copy.at);
        for record in records {
            let extent = Extent { offset, at, len: record.len() as u32, crc: crc32c::crc32c(record) };
            self.0.table.borrow_mut().add(group, stream, copy.segment, extent);
            (offset, at) = (extent.end(), at + extent.len);
        }
    }

    /// Forgets a stream.
    pub(crate) fn remove(&self, group: GroupId, stream: StreamId) {
        self.0.table.borrow_mut().remove(group, stream);
    }

    /// The oldest segment that has bytes that are needed, of each group that has any.
    pub(crate) fn oldest(&self) -> BTreeMap<GroupId, SegmentId> {
        let asides: Vec<Rc<Inner>> = self.0.asides.borrow().iter().filter_map(Weak::upgrade).collect();
        let mut all = BTreeMap::new();
        for inner in asides.iter().chain([&self.0]) {
            for (group, segment) in inner.table.borrow().oldest() {
                let oldest = all.entry(group).or_insert(segment);
                *oldest = segment.min(*oldest);
            }
        }
        all
    }

    /// Lets nothing of a group be released as long as the hold is there: a checkpoint is being read that speaks of it.
    pub(crate) fn hold(&self, group: GroupId) -> Hold {
        let hold = Rc::new(group);
        let mut holds = self.0.holds.borrow_mut();
        holds.retain(|hold| hold.strong_count() > 0);
        holds.push(Rc::downgrade(&hold));
        Hold(hold)
    }

    /// Forgets the bytes of a group up to a segment: they are elsewhere, too. Returns `false` if they are held.
    pub(crate) fn release(&self, group: GroupId, upto: SegmentId) -> bool {
        let is_held = self.0.holds.borrow().iter().filter_map(Weak::upgrade).any(|held| *held == group);
        if !is_held {
            self.0.table.borrow_mut().release(group, upto);
        }
        !is_held
    }

    /// How often [`Archive::restore`] has replaced what was known of a group.
    pub(crate) fn restored(&self, group: GroupId) -> u64 {
        self.0.table.borrow().restored(group)
    }

    /// The groups that have records in a segment of which it has no index.
    pub(crate) fn unindexed_groups(&self, segment: SegmentId) -> BTreeSet<GroupId> {
        self.0.table.borrow().unindexed_groups(segment)
    }

    /// Records whose place is held in memory.
    pub(crate) fn unindexed_records(&self) -> usize {
        self.0.table.borrow().unindexed_records()
    }

    /// Everything about the streams of a group: for a checkpoint, once it is on disk.
    pub(crate) fn places(&self, group: GroupId) -> Places {
        self.0.table.borrow().of_group(group)
    }

    /// Takes over what [`Archive::places`] told.
    pub(crate) fn restore(&self, group: GroupId, places: Places) {
        let there: BTreeSet<SegmentId> = self.0.journal.dir().segments().into_iter().map(|(id, _)| id).collect();
        self.0.table.borrow_mut().restore(group, places, |segment| there.contains(&segment));
    }

    /// Reads whole records of a stream from the one on that has `from`, up to the first that ends at or
    /// after `bytes_max` more bytes or at `until`; none if the bytes are not here.
    ///
    /// # Errors
    /// If the log cannot be read, or is damaged.
    pub(crate) async fn read(
        &self,
        group: GroupId,
        stream: StreamId,
        from: Offset,
        until: Offset,
        bytes_max: usize,
    ) -> io::Result<Found> {
        let journal = &self.0.journal;
        let plan = self.0.table.borrow().plan(journal.dir().clone(), group, stream, from);
        if let Some(last) = plan.last() {
            journal.readable(last).await?;
        }
        journal.blocking_read(group, move || plan.read(until, bytes_max)).await
    }

    /// Writes the index of the oldest segment without one, if `is_settled` says that nothing in it is still
    /// to be applied. Returns whether there was one.
    ///
    /// # Errors
    /// If the index cannot be written.
    pub(crate) async fn index_oldest(&self, is_settled: impl Fn(SegmentId) -> bool) -> io::Result<bool> {
        let Some((segment, rows)) = self.0.table.borrow().unindexed(is_settled) else { return Ok(false) };
        if rows.is_empty() {
            self.0.table.borrow_mut().indexed(segment, std::iter::empty());
            return Ok(true);
        }
        if self.0.indexing.replace(true) {
            return Ok(false);
        }
        let (journal, dir) = (&self.0.journal, self.0.journal.dir().clone());
        let written = journal.blocking(move || dir.write_index(segment, &rows).map(|refs| (rows, refs))).await;
        self.0.indexing.set(false);
        let (rows, refs) = written?;
        self.0.table.borrow_mut().indexed(segment, rows.into_iter().zip(refs));
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
