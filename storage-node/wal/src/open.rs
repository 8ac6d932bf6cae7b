//! Opening a log directory: lock, list, read, judge - and only then write. What is wrong is said for people.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use ursula_common::GroupId;

use crate::dir::{Claim, Shared};
use crate::io::{File, Io};
use crate::options::{Options, OptionsError};
use crate::recover::{Gap, Outcome, Recovered, Replay};
use crate::scan::{self, End, Scan};
use crate::segment::{self, Found, Header, Name, SegmentId};
use crate::spare::{self, Pool};
use crate::summary::Summary;
use crate::table::Table;

const LOCK: &str = "lock";

/// Why a log directory was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Two processes on one directory.
    #[error("{path}: another process uses this log: stop it, or give this one a directory of its own")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Not ours.
    #[error("{path} is not a segment of a log of this server: move it out of the directory")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Written by a later release.
    #[error(
        "{path} has format {version}, and this release knows formats up to {known}: start the release that wrote \
         it, or a later one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u16,
        /// The latest that is known.
        known: u16,
    },
    /// Of another node or cluster.
    #[error(
        "{path} was written by another node or for another cluster: give this node its own directory, and do not \
         mix files of several"
    )]
    Identity {
        /// The file.
        path: PathBuf,
    },
    /// Under another name than it was written.
    #[error("{path} holds segment {segment}: give it back the name it had, {segment}.log")]
    Misnamed {
        /// The file.
        path: PathBuf,
        /// What is in it.
        segment: SegmentId,
    },
    /// Shorter than it was written.
    #[error(
        "{path} has {len} bytes of {expected}: it was cut off. Restore the file, or replace this \
         replica: remove its directory and add the node again under another id"
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes in it.
        len: u64,
        /// Bytes that should be.
        expected: u64,
    },
    /// Both copies of the header are bad.
    #[error(
        "the header of {path} is damaged. Restore the file, or replace this replica: remove its directory and add \
         the node again under another id"
    )]
    Header {
        /// The file.
        path: PathBuf,
    },
    /// A file is missing.
    #[error(
        "{path}: entry {index} of group {group} should be here, and is in none of the files: a segment is missing. \
         Restore it, or replace this replica: remove its directory and add the node again under another id"
    )]
    Gap {
        /// The directory.
        path: PathBuf,
        /// The group.
        group: GroupId,
        /// The first entry that is missing.
        index: u64,
    },
    /// Something is there that should not be, or the other way round.
    #[error("{path}: {reason}")]
    Unfit {
        /// The directory.
        path: PathBuf,
        /// What, and what to do.
        reason: String,
    },
    /// Settings that cannot be.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The disk failed.
    #[error("{path}: {error}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// How.
        error: io::Error,
    },
}

/// What a replay found, how each segment ends, and which of them have a summary.
type Replayed = (Outcome, BTreeMap<SegmentId, End>, BTreeSet<SegmentId>);

/// A directory while it is judged.
struct Opening {
    io: Arc<dyn Io>,
    path: PathBuf,
    options: Options,
    segments: BTreeMap<SegmentId, Header>,
    /// Bytes in their files.
    lens: BTreeMap<SegmentId, u32>,
    /// Segments that were begun, and nothing was written.
    blank: Vec<SegmentId>,
    spares: Vec<u64>,
    summaries: BTreeSet<SegmentId>,
    /// Indexes, and the segments they are of.
    indexes: Vec<(SegmentId, String)>,
    /// Files that were being made.
    unfinished: Vec<String>,
}

pub(crate) fn open(
    io: Arc<dyn Io>,
    path: &Path,
    options: Options,
    applied: &dyn Fn(GroupId) -> Option<u64>,
    against: &dyn Fn(&Recovered) -> Option<String>,
) -> Result<(Shared, Recovered), OpenError> {
    options.check()?;
    let failed = |error| OpenError::Io { path: path.to_owned(), error };
    io.create_dir(path).map_err(failed)?;
    let lock = io.lock(&path.join(LOCK)).map_err(failed)?;
    let lock = lock.ok_or_else(|| OpenError::Locked { path: path.to_owned() })?;
    let (opening, highest) = Opening::list(io, path, options)?;
    let (outcome, ends, summarized) = opening.replay(applied)?;
    if let Some(reason) = against(&outcome.recovered) {
        return Err(OpenError::Unfit { path: path.to_owned(), reason });
    }
    let pool = opening.settle(&ends)?;

    let Outcome { mut recovered, logs, notes } = outcome;
    recovered.torn = ends.iter().filter(|(_, end)| !end.sealed).map(|(id, end)| (*id, end.at)).collect();
    let mut table = Table::default();
    for header in opening.segments.values() {
        let len = opening.with_segment(header.id, |file| file.len())?;
        table.add(*header, len, false, summarized.contains(&header.id));
    }
    for ((segment, group), note) in &notes {
        table.note(*segment, *group, note);
    }
    let damaged = |group: &_| recovered.groups.get(group).is_some_and(|group| group.damage.is_some());
    let claim = |(group, log)| (group, Claim::recovered(log, damaged(&group)));
    let claims = logs.into_iter().map(claim).collect();
    let shared = Shared {
        io: opening.io,
        path: opening.path,
        options: opening.options,
        next: AtomicU64::new(highest + 1),
        table: Mutex::new(table),
        pool: Mutex::new(pool),
        files: Mutex::default(),
        claims: Mutex::new(claims),
        lock: Mutex::new(Some(lock)),
    };
    Ok((shared, recovered))
}

impl Opening {
    /// Looks at every file. The number is that of the highest segment that was ever begun, as far as names tell.
    fn list(io: Arc<dyn Io>, path: &Path, options: Options) -> Result<(Opening, u64), OpenError> {
        let mut opening = Opening {
            io,
            path: path.to_owned(),
            options,
            segments: BTreeMap::new(),
            lens: BTreeMap::new(),
            blank: Vec::new(),
            spares: Vec::new(),
            summaries: BTreeSet::new(),
            indexes: Vec::new(),
            unfinished: Vec::new(),
        };
        let names = opening.io.list(path).map_err(|error| opening.failed("", error))?;
        let mut highest = 0;
        for name in names {
            match Name::parse(&name) {
                Name::Segment(id) => {
                    highest = highest.max(id.0);
                    opening.look(id)?;
                }
                Name::Index(id, _) => {
                    highest = highest.max(id.0);
                    opening.indexes.push((id, name));
                }
                Name::Summary(id) => {
                    highest = highest.max(id.0);
                    opening.summaries.insert(id);
                }
                Name::Spare(number) => opening.spares.push(number),
                Name::Unfinished => opening.unfinished.push(name),
                Name::Foreign => return Err(OpenError::Foreign { path: path.join(name) }),
                Name::Other => {}
            }
        }
        opening.spares.sort_unstable();
        opening.judge_blank()?;
        Ok((opening, highest))
    }

    fn look(&mut self, id: SegmentId) -> Result<(), OpenError> {
        let name = segment::file_name(id);
        let path = self.path.join(&name);
        let file = self.io.open(&path).map_err(|error| self.failed(&name, error))?;
        let len = file.len().map_err(|error| self.failed(&name, error))?;
        let truncated = |path, expected: u32| OpenError::Truncated { path, len, expected: expected.into() };
        let found = scan::read_header(&*file).map_err(|error| self.failed(&name, error))?;
        let header = match found {
            None => return Err(truncated(path, segment::HEADER_BYTES)),
            Some(Found::Blank) => {
                self.blank.push(id);
                return Ok(());
            }
            Some(Found::Header(header)) => header,
            Some(Found::Foreign) => return Err(OpenError::Foreign { path }),
            Some(Found::Newer(version)) => return Err(OpenError::Newer { path, version, known: segment::VERSION }),
            Some(Found::Damaged) => return Err(OpenError::Header { path }),
        };
        if header.identity != self.options.identity {
            return Err(OpenError::Identity { path });
        }
        if header.id != id {
            return Err(OpenError::Misnamed { path, segment: header.id });
        }
        // A segment may be as short as what is in it; whether this one is, its seal will tell.
        self.lens.insert(id, len.min(header.size.into()) as u32);
        self.segments.insert(id, header);
        Ok(())
    }

    /// A life of the process may end before the header of a segment is written; the next one begins without such
    /// segments. One that is older, or that was followed by another, had a header.
    fn judge_blank(&self) -> Result<(), OpenError> {
        let salt = self.segments.values().next_back().map(|header| header.salt);
        let older = self.segments.values().filter(|header| Some(header.salt) != salt);
        let older = older.map(|header| header.id).max().unwrap_or_default();
        for id in &self.blank {
            if *id < older || self.segments.values().any(|header| header.previous == *id) {
                return Err(OpenError::Header { path: self.path.join(segment::file_name(*id)) });
            }
        }
        Ok(())
    }

    /// Applies all records; also tells how the segments end, and which of them have a summary that is whole.
    fn replay(&self, applied: &dyn Fn(GroupId) -> Option<u64>) -> Result<Replayed, OpenError> {
        let mut replay = Replay::default();
        let (mut ends, mut summarized) = (BTreeMap::new(), BTreeSet::new());
        for (id, header) in &self.segments {
            replay.begin(header);
            let len = self.lens[id];
            let complete = is_complete(&self.segments, header);
            if let Some(summary) = self.summary(header).filter(|_| complete) {
                summarized.insert(*id);
                let wanted = |file: Arc<dyn File>| summary.has_what_is_wanted(&*file, header, len, applied);
                if self.with_segment(*id, wanted)? {
                    let shown = summary.each(&mut |item| {
                        replay.item(item);
                        Ok(())
                    });
                    shown.map_err(|error| self.failed(&segment::summary_name(*id), error))?;
                    ends.insert(*id, summary.end);
                    continue;
                }
            }
            let scan =
                |file: Arc<dyn File>| Scan::new(&*file, header, len, complete).run(&mut |item| replay.item(item));
            let end = self.with_segment(*id, scan)?;
            if len < header.size && !end.sealed {
                let path = self.path.join(segment::file_name(*id));
                return Err(OpenError::Truncated { path, len: len.into(), expected: header.size.into() });
            }
            ends.insert(*id, end);
        }
        let gap = |Gap { group, index }| OpenError::Gap { path: self.path.clone(), group, index };
        Ok((replay.finish().map_err(gap)?, ends, summarized))
    }

    /// The summary of a segment, if there is one that can be used.
    fn summary(&self, header: &Header) -> Option<Summary> {
        let name = self.summaries.get(&header.id).map(|id| segment::summary_name(*id))?;
        let file = self.io.open(&self.path.join(name)).ok()?;
        // It is much shorter than its segment, whatever it says of itself.
        let len = file.len().ok().filter(|len| *len <= 2 * u64::from(header.size))?;
        let mut bytes = vec![0; len as usize];
        file.read_at(&mut bytes, 0).ok()?;
        Summary::decode(bytes, header)
    }

    /// Brings the files into the state that a new life of the process begins with.
    fn settle(&self, ends: &BTreeMap<SegmentId, End>) -> Result<Pool, OpenError> {
        for (id, header) in &self.segments {
            if !is_complete(&self.segments, header) {
                self.with_segment(*id, |file| scan::settle(&*file, header, ends[id]))?;
            }
        }
        let mut pool = Pool::after(self.spares.last().copied().unwrap_or_default());
        let mut ready = self.spares.clone();
        let orphans =
            self.indexes.iter().filter(|(id, _)| !self.segments.contains_key(id)).map(|(_, name)| name.clone());
        let summaries = self.summaries.iter().filter(|id| !self.segments.contains_key(id));
        let orphans = orphans.chain(summaries.map(|id| segment::summary_name(*id)));
        for name in &self.unfinished.iter().cloned().chain(orphans).collect::<Vec<_>>() {
            self.io.remove(&self.path.join(name)).map_err(|error| self.failed(name, error))?;
        }
        for id in &self.blank {
            pool.next += 1;
            let (from, to) = (segment::file_name(*id), segment::spare_name(pool.next));
            let renamed = self.io.rename(&self.path.join(&from), &self.path.join(to));
            renamed.map_err(|error| self.failed(&from, error))?;
            ready.push(pool.next);
        }
        // Before spares are touched: under another name one may still be a segment.
        self.io.sync_dir(&self.path).map_err(|error| self.failed("", error))?;
        for number in ready {
            let name = segment::spare_name(number);
            if self.settle_spare(&name, pool.ready.len()).map_err(|error| self.failed(&name, error))? {
                pool.ready.push(number);
            }
        }
        Ok(pool)
    }

    fn with_segment<T>(&self, id: SegmentId, f: impl FnOnce(Arc<dyn File>) -> io::Result<T>) -> Result<T, OpenError> {
        let name = segment::file_name(id);
        self.io.open(&self.path.join(&name)).and_then(f).map_err(|error| self.failed(&name, error))
    }

    /// A spare that fits stays.
    fn settle_spare(&self, name: &str, have: usize) -> io::Result<bool> {
        let path = self.path.join(name);
        let file = self.io.open(&path)?;
        if file.len()? != u64::from(self.options.segment_bytes) || have >= self.options.spares as usize {
            self.io.remove(&path)?;
            return Ok(false);
        }
        spare::blank(&*file)?;
        Ok(true)
    }

    fn failed(&self, name: &str, error: io::Error) -> OpenError {
        let path = if name.is_empty() { self.path.clone() } else { self.path.join(name) };
        OpenError::Io { path, error }
    }
}

/// Whether something was written only because this segment was complete and on disk.
pub(crate) fn is_complete(segments: &BTreeMap<SegmentId, Header>, of: &Header) -> bool {
    let proof = |header: &Header| header.salt != of.salt || header.writer == of.writer;
    segments.range(of.id..).skip(1).any(|(_, header)| proof(header))
}
