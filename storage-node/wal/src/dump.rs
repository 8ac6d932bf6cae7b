//! A log directory, shown to people: every file, every record, and what is wrong with them. Never writes, takes no
//! lock, and goes on where opening would refuse.
//!
//! A process may write meanwhile: what looks damaged is looked at again, and a file that became another one is no
//! damage.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

use ursula_common::GroupId;

use crate::index;
use crate::io::Io;
use crate::open::is_complete;
use crate::record::{Header, Kind};
use crate::scan::{self, Item, Scan};
use crate::segment::{self, Found, Name, SegmentId};

/// One line of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A segment; its records follow.
    Segment {
        /// Its number.
        id: SegmentId,
        /// Which writer wrote it.
        writer: u32,
        /// What that wrote before, 0 if nothing.
        previous: SegmentId,
        /// Whose log it is.
        identity: u64,
        /// Bytes.
        size: u32,
    },
    /// A record.
    Record {
        /// Where it begins.
        at: u32,
        /// What it says.
        says: Says,
        /// Bytes of its payload.
        len: u32,
        /// All before this place was synced before this was written.
        batch: u32,
    },
    /// A place that was on disk and is damaged now.
    Damaged {
        /// Where.
        at: u32,
        /// What it said, if that can be told.
        said: Option<Says>,
    },
    /// A segment whose file is shorter than it was made, and that was not ended.
    CutOff {
        /// Bytes in the file.
        len: u32,
        /// Bytes that should be.
        size: u32,
    },
    /// The end of a segment.
    End {
        /// Behind the last record.
        at: u32,
        /// Its writer, or the next life of the process, ended it.
        sealed: bool,
    },
    /// The index of a segment, or a part of it.
    Index {
        /// The file.
        name: String,
        /// Streams in it, or what is wrong.
        rows: Result<u32, String>,
    },
    /// Another file.
    File {
        /// Its name.
        name: String,
        /// What it is, or what is wrong with it.
        what: String,
        /// Whether a log with it is refused.
        is_wrong: bool,
    },
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Says {
    /// The kind of record, in a word.
    pub kind: &'static str,
    /// The group it is about, if it is about one.
    pub group: Option<GroupId>,
    /// Of an entry its index, of a slice the offset, of a truncation the first index that is void, of a purge the last
    /// one that is not needed, of a state the first entry.
    pub index: u64,
    /// Of a slice the stream, of a state the index after the last entry.
    pub extra: u64,
}

/// Shows a directory, line by line.
pub fn dump(io: &dyn Io, dir: &Path, visit: &mut dyn FnMut(&Line)) -> io::Result<()> {
    let mut names = io.list(dir)?;
    names.sort_unstable();
    let mut headers = BTreeMap::new();
    for name in &names {
        if let Name::Segment(id) = Name::parse(name) {
            let found = io.open(&dir.join(name)).and_then(|file| scan::read_header(&*file));
            headers.insert(id, found);
        }
    }
    let whole = |(id, found): (&SegmentId, &io::Result<Option<Found>>)| match found {
        Ok(Some(Found::Header(header))) => Some((*id, *header)),
        _ => None,
    };
    let known: BTreeMap<SegmentId, segment::Header> = headers.iter().filter_map(whole).collect();
    for name in names {
        let file = |what: &str| Line::File { name: name.clone(), what: what.to_owned(), is_wrong: false };
        let wrong = |what: String| Line::File { name: name.clone(), what, is_wrong: true };
        match Name::parse(&name) {
            Name::Segment(id) => match &headers[&id] {
                Ok(Some(Found::Header(header))) if header.id != id => {
                    visit(&wrong(format!("holds segment {}: give it back the name it had", header.id)));
                }
                Ok(Some(Found::Header(header))) => match show(io, dir, header, is_complete(&known, header), visit) {
                    Ok(()) => {}
                    Err(error) if is_gone(&error) => visit(&file(REMOVED)),
                    Err(error) => visit(&wrong(format!("cannot be read: {error}"))),
                },
                Ok(Some(Found::Blank)) => visit(&file("a segment that was begun, and nothing was written")),
                Ok(Some(Found::Foreign)) => visit(&wrong("not a segment of a log of this server".to_owned())),
                Ok(Some(Found::Newer(version))) => {
                    visit(&wrong(format!("a segment of the format {version}, which this release does not know")));
                }
                Ok(Some(Found::Damaged)) => visit(&wrong("a segment with a damaged header".to_owned())),
                Ok(None) => visit(&wrong("a segment that was cut off within its header".to_owned())),
                Err(error) if is_gone(error) => visit(&file(REMOVED)),
                Err(error) => visit(&wrong(format!("cannot be read: {error}"))),
            },
            Name::Index(segment, _) => match index::check(io, &dir.join(&name), segment) {
                Err(error) if is_gone(&error) => visit(&file(REMOVED)),
                rows => visit(&Line::Index { name, rows: rows.map_err(|error| error.to_string()) }),
            },
            Name::Summary(segment) => visit(&file(&format!("what opening must know of segment {segment}"))),
            Name::Spare(_) => visit(&file("waits to become a segment")),
            Name::Unfinished => visit(&file("was being made")),
            Name::Foreign => visit(&wrong("has the name of a log, and is none".to_owned())),
            Name::Other => visit(&file("no business of the log")),
        }
    }
    Ok(())
}

const REMOVED: &str = "was removed while this was made";

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// The records of a segment.
fn show(
    io: &dyn Io,
    dir: &Path,
    header: &segment::Header,
    complete: bool,
    visit: &mut dyn FnMut(&Line),
) -> io::Result<()> {
    let segment::Header { id, writer, previous, identity, size, .. } = *header;
    let file = io.open(&dir.join(segment::file_name(id)))?;
    visit(&Line::Segment { id, writer, previous, identity, size });
    let len = file.len()?.min(size.into()) as u32;
    let scan = || Scan::new(&*file, header, len, complete);
    let is_another = || Ok::<_, io::Error>(scan::read_header(&*file)? != Some(Found::Header(*header)));
    let mut from = segment::HEADER_BYTES;
    loop {
        // Where something was that is whole at a second look: it was being written.
        let (mut again, mut gone) = (None, false);
        let mut failed = Ok(());
        let end = scan().run_from(from, &mut |item| {
            let at = match item {
                Item::Record { at, .. } | Item::BadPayload { at, .. } | Item::Lost { at } => at,
            };
            if again.is_some() || gone || failed.is_err() {
                return;
            }
            if !matches!(item, Item::Record { .. }) {
                match is_another().and_then(|gone| Ok((gone, scan().is_whole(at)?))) {
                    Ok((false, false)) => {}
                    Ok((true, _)) => return gone = true,
                    Ok((false, true)) => return again = Some(at),
                    Err(error) => return failed = Err(error),
                }
            }
            visit(&match item {
                Item::Record { at, header, .. } => {
                    Line::Record { at, says: Says::of(&header), len: header.len, batch: header.batch }
                }
                Item::BadPayload { at, header } => Line::Damaged { at, said: Some(Says::of(&header)) },
                Item::Lost { at } => Line::Damaged { at, said: None },
            });
        })?;
        failed?;
        match again {
            Some(at) => from = at,
            None if gone || is_another()? => {
                visit(&Line::File { name: segment::file_name(id), what: REMOVED.to_owned(), is_wrong: false });
                return Ok(());
            }
            None => {
                if len < size && !end.sealed {
                    visit(&Line::CutOff { len, size });
                }
                visit(&Line::End { at: end.at, sealed: end.sealed });
                return Ok(());
            }
        }
    }
}

impl Says {
    fn of(header: &Header) -> Says {
        let (kind, of_group) = match header.kind {
            Kind::Entry => ("entry", true),
            Kind::Vote => ("vote", true),
            Kind::Committed => ("committed", true),
            Kind::Purged => ("purged", true),
            Kind::Truncate => ("truncate", true),
            Kind::Slice => ("slice", true),
            Kind::Forget => ("forget", true),
            Kind::State => ("state", true),
            Kind::Mark => ("mark", false),
            Kind::Seal => ("seal", false),
        };
        Says { kind, group: of_group.then_some(header.group), index: header.index, extra: header.extra }
    }
}

impl fmt::Display for Says {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Says { kind, group, index, extra } = *self;
        let Some(group) = group else { return f.write_str(kind) };
        match kind {
            "entry" => write!(f, "group {group} entry {index}"),
            "slice" => write!(f, "group {group} slice of stream {extra} at {index}"),
            "truncate" => write!(f, "group {group} entries from {index} on are void"),
            "purged" => write!(f, "group {group} entries up to {index} are purged"),
            "state" => write!(f, "group {group} has entries {index}..{extra}"),
            _ => write!(f, "group {group} {kind}"),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Segment { id, writer, previous, identity, size } => {
                write!(f, "{id}.log: {size} bytes by writer {writer}, after {previous}, identity {identity:016x}")
            }
            Line::Record { at, says, len, batch } => write!(f, "{at:>10} {says}, {len} bytes, batch at {batch}"),
            Line::Damaged { at, said: Some(said) } => write!(f, "{at:>10} DAMAGED: {said}"),
            Line::Damaged { at, said: None } => write!(f, "{at:>10} DAMAGED"),
            Line::CutOff { len, size } => write!(f, "{len:>10} CUT OFF: the file should have {size} bytes"),
            Line::End { at, sealed: true } => write!(f, "{at:>10} end"),
            Line::End { at, sealed: false } => write!(f, "{at:>10} end, not sealed"),
            Line::Index { name, rows: Ok(rows) } => write!(f, "{name}: {rows} streams"),
            Line::Index { name, rows: Err(error) } => write!(f, "{name}: WRONG: {error}"),
            Line::File { name, what, is_wrong: true } => write!(f, "{name}: WRONG: {what}"),
            Line::File { name, what, is_wrong: false } => write!(f, "{name}: {what}"),
        }
    }
}
