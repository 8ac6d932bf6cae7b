//! The thinking end of a log: assigns places and encodes records into the coming batch. Does no I/O, and never waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use ursula_common::{GroupId, Offset, StreamId};

use crate::dir::Shared;
use crate::fact::{FACT_BYTES_MAX, Fact};
use crate::record::{self, Header, Kind, Location};
use crate::segment::{self, SegmentId};
use crate::state::{GroupLog, STATE_BYTES_MAX};
use crate::table::Note;

/// Room that a batch has from the start, at most.
const BATCH_BYTES: usize = 256 << 10;
/// What a disk loses as a whole.
const SECTOR_BYTES: usize = 512;

/// Says what comes into the log of one core; one for each [`crate::Writer`].
///
/// A group has one appender at a time: it comes with the first record, and goes with [`Appender::forget_group`].
pub struct Appender {
    shared: Arc<Shared>,
    writer: u32,
    groups: BTreeMap<GroupId, GroupLog>,
    open: Option<Open>,
    batch: Batch,
    /// The place behind the last mark.
    marked: Option<(SegmentId, u32)>,
}

/// What was appended between two calls of [`Appender::take`].
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) runs: Vec<Run>,
    pub(crate) notes: BTreeMap<(SegmentId, GroupId), Note>,
}

/// A contiguous part of a batch: up to the next run, or the end.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) segment: SegmentId,
    pub(crate) at: u32,
    pub(crate) from: usize,
    /// The segment that begins with this run.
    pub(crate) opens: Option<segment::Header>,
}

/// The segment that is written now.
struct Open {
    id: SegmentId,
    seed: u32,
    /// Where the next record goes.
    at: u32,
    /// Where the current batch began.
    batch: u32,
}

impl Batch {
    /// Bytes that it will write.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl Appender {
    pub(crate) fn new(shared: Arc<Shared>, writer: u32) -> Appender {
        Appender { shared, writer, groups: BTreeMap::new(), open: None, batch: Batch::default(), marked: None }
    }

    /// Appends an entry of a group.
    ///
    /// # Panics
    /// If the group is damaged, the index does not follow that of the group's last entry (the first entry of all may have any), or the
    /// payload is longer than the options allow.
    pub fn append(&mut self, group: GroupId, index: u64, payload: &[u8]) -> Location {
        self.append_parts(group, index, &[payload])
    }

    /// The same with a payload that comes in parts.
    ///
    /// # Panics
    /// As [`Appender::append`].
    pub fn append_parts(&mut self, group: GroupId, index: u64, payload: &[&[u8]]) -> Location {
        let log = self.touch(group);
        let any = log.next == 0 && log.facts.purged.is_none();
        assert!(any || index == log.next, "entry {index} of group {group} does not follow {}", log.next);
        let at = self.record(Kind::Entry, group, index, 0, payload);
        let log = self.touch(group);
        if log.first == log.next {
            log.first = index;
        }
        log.next = index + 1;
        log.last = (at.segment, at.at);
        self.note(group).last = Some(index);
        at
    }

    /// Remembers a fact. It takes the place of the last one of its kind.
    ///
    /// # Panics
    /// If the payload is longer than [`FACT_BYTES_MAX`].
    pub fn put(&mut self, group: GroupId, fact: Fact, payload: &[u8]) {
        assert!(payload.len() <= FACT_BYTES_MAX, "a fact of {} bytes", payload.len());
        self.touch(group);
        let (kind, index) = match fact {
            Fact::Vote => (Kind::Vote, 0),
            Fact::Committed => (Kind::Committed, 0),
            Fact::Purged { index } => (Kind::Purged, index),
        };
        self.record(kind, group, index, 0, &[payload]);
        let log = self.touch(group);
        log.facts.put(fact, payload);
        if let Fact::Purged { index } = fact {
            log.first = log.first.max(index + 1);
            log.next = log.next.max(index + 1);
            self.note(group).purged = Some(index);
        }
    }

    /// Makes the entries after `index` void; all of them for `None`.
    pub fn truncate_after(&mut self, group: GroupId, index: Option<u64>) {
        let next = index.map_or(0, |index| index + 1);
        self.touch(group);
        self.record(Kind::Truncate, group, next, 0, &[]);
        self.note(group).truncate(next);
        let log = self.touch(group);
        if next < log.next {
            let purged = log.facts.purged.as_ref().map_or(0, |(index, _)| index + 1);
            log.next = next.max(purged);
            log.first = log.first.min(log.next);
            log.last = Default::default();
        }
    }

    /// Remembers bytes of a stream that came otherwise than with an entry.
    ///
    /// # Panics
    /// If the payload is longer than the options allow.
    pub fn slice(&mut self, group: GroupId, stream: StreamId, offset: Offset, payload: &[u8]) -> Location {
        self.touch(group);
        self.record(Kind::Slice, group, offset.0, stream.0, &[payload])
    }

    /// Makes all that was said about a group void, also of one that is damaged. Another appender may have it from now on.
    pub fn forget_group(&mut self, group: GroupId) {
        if !self.groups.contains_key(&group) {
            let (_, moved) = self.shared.claim(group, self.writer, true);
            if moved {
                self.roll();
            }
        }
        self.record(Kind::Forget, group, 0, 0, &[]);
        *self.note(group) = Note::forgotten();
        self.groups.remove(&group);
        self.shared.release(group);
    }

    /// For a log that is idle: the next batch proves that the one before it was synced, so that damage to its end
    /// is not taken for a write that a crash cut off. Returns whether there is anything to write for that.
    pub fn mark(&mut self) -> bool {
        let Some(open) = &self.open else { return false };
        if !self.batch.bytes.is_empty() || self.marked == Some((open.id, open.at)) {
            return false;
        }
        // Twice, in two sectors: one that is lost with the end of the log would take the proof with it.
        let end = (open.at + record::HEADER_BYTES) as usize;
        let rest = end.next_multiple_of(SECTOR_BYTES) - end;
        self.record(Kind::Mark, GroupId::META, 0, 0, &[&[0; SECTOR_BYTES][..rest]]);
        self.record(Kind::Mark, GroupId::META, 0, 0, &[]);
        self.marked = self.open.as_ref().map(|open| (open.id, open.at));
        true
    }

    /// No place that is given from now on is in a segment before this one.
    pub fn writes_from(&self) -> SegmentId {
        self.open.as_ref().map_or_else(|| self.shared.upcoming(), |open| open.id)
    }

    /// Bytes that the coming batch has already.
    pub fn pending_bytes(&self) -> usize {
        self.batch.bytes.len()
    }

    /// Everything since the last call, if there is anything. Batches must be written in the order they were taken.
    pub fn take(&mut self) -> Option<Batch> {
        if self.batch.bytes.is_empty() {
            return None;
        }
        if let Some(open) = &mut self.open {
            open.batch = open.at;
        }
        // The next one is likely to be as large.
        let next = Batch { bytes: Vec::with_capacity(self.batch.bytes.len().min(BATCH_BYTES)), ..Batch::default() };
        Some(std::mem::replace(&mut self.batch, next))
    }

    /// The group, stated in the segment that is open.
    fn touch(&mut self, group: GroupId) -> &mut GroupLog {
        if !self.groups.contains_key(&group) {
            let (mut log, moved) = self.shared.claim(group, self.writer, false);
            assert!(self.groups.len() < self.shared.options.groups_max as usize, "too many groups for a segment");
            // Segments are ordered, places in segments of two writers are not.
            if moved || self.open.is_none() {
                self.roll();
            }
            let open = self.open.as_ref().expect("rolled to a segment");
            if log.since == SegmentId::default() {
                log.since = open.id;
            }
            self.groups.insert(group, log);
            self.state(group);
        }
        self.groups.get_mut(&group).expect("inserted")
    }

    fn note(&mut self, group: GroupId) -> &mut Note {
        let segment = self.open.as_ref().expect("noted after a record").id;
        self.batch.notes.entry((segment, group)).or_default()
    }

    /// A record where there is room for it.
    fn record(&mut self, kind: Kind, group: GroupId, index: u64, extra: u64, payload: &[&[u8]]) -> Location {
        let most = (self.shared.options.record_bytes_max as usize).max(STATE_BYTES_MAX);
        let len: usize = payload.iter().map(|part| part.len()).sum();
        assert!(len <= most, "a record of {len} bytes of at most {most}");
        let header = Header::new(kind, group, index, extra, payload);
        let size = self.shared.options.segment_bytes;
        // Room for the seal stays free.
        let fits = |open: &Open| header.record_bytes() + record::HEADER_BYTES <= size - open.at;
        if !self.open.as_ref().is_some_and(fits) {
            self.roll();
        }
        self.encode(header, payload)
    }

    /// The group as it is now, so that no older segment is needed to know it.
    fn state(&mut self, group: GroupId) {
        let log = self.groups.get(&group).expect("a group that was touched");
        let (first, next, payload) = (log.first, log.next, log.encode());
        let purged = log.facts.purged.as_ref().map(|(index, _)| *index);
        self.record(Kind::State, group, first, next, &[&payload]);
        let note = self.note(group);
        note.forgotten = false;
        note.purged = purged;
    }

    /// Seals the segment and begins another one with the state of every group.
    fn roll(&mut self) {
        let previous = self.open.as_ref().map(|open| open.id).unwrap_or_default();
        if self.open.is_some() {
            self.encode(Header::new(Kind::Seal, GroupId::META, 0, 0, &[]), &[]);
        }
        let id = self.shared.next_segment();
        let options = &self.shared.options;
        let header = segment::Header {
            id,
            identity: options.identity,
            salt: options.salt,
            previous,
            writer: self.writer,
            size: options.segment_bytes,
        };
        let from = self.batch.bytes.len();
        self.batch.bytes.extend_from_slice(&header.encode());
        self.batch.runs.push(Run { segment: id, at: 0, from, opens: Some(header) });
        let seed = record::seed(options.salt, id);
        self.open = Some(Open { id, seed, at: segment::HEADER_BYTES, batch: segment::HEADER_BYTES });
        let groups: Vec<GroupId> = self.groups.keys().copied().collect();
        for group in groups {
            self.state(group);
        }
    }

    /// The one place where bytes come into a batch.
    fn encode(&mut self, mut header: Header, payload: &[&[u8]]) -> Location {
        let open = self.open.as_mut().expect("rolled to a segment");
        if self.batch.bytes.is_empty() {
            self.batch.runs.push(Run { segment: open.id, at: open.at, from: 0, opens: None });
        }
        let (at, bytes) = (open.at, &mut self.batch.bytes);
        open.at += header.record_bytes();
        header.batch = open.batch;
        bytes.extend_from_slice(&header.encode(open.seed, at));
        payload.iter().for_each(|part| bytes.extend_from_slice(part));
        bytes.resize(bytes.len().next_multiple_of(record::ALIGN as usize), 0);
        Location { segment: open.id, at: at + record::HEADER_BYTES, len: header.len }
    }
}
