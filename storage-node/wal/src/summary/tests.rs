//! What a summary says, and when it is not believed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ursula_common::{Offset, StreamId};

use super::*;
use crate::io::fault::{Call, Fault};
use crate::tests::{DIR, G, options};
use crate::{Fact, FaultIo, LogDir, Recovered};

const H: GroupId = GroupId(2);

fn open(io: &FaultIo, salt: u64, applied: Option<u64>) -> (LogDir, Recovered) {
    LogDir::open_after(Arc::new(io.clone()), Path::new(DIR), options(salt), &|_| applied, &|_| None).unwrap()
}

/// Some segments with everything in them.
fn written() -> FaultIo {
    let io = FaultIo::new(1 << 30);
    let (log, _) = open(&io, 1, None);
    let (mut appender, mut writer) = log.writer(0);
    for index in 0..60 {
        appender.append(G, index, &[index as u8; 900]);
        appender.put(G, Fact::Committed, &[index as u8; 20]);
        match index % 20 {
            3 => appender.put(G, Fact::Vote, &[index as u8]),
            5 => {
                appender.append(H, index, b"of h");
            }
            7 => appender.put(G, Fact::Purged { index: index - 4 }, &[index as u8]),
            9 => appender.truncate_after(G, Some(index)),
            11 => {
                appender.slice(G, StreamId(4), Offset(index), b"bytes");
            }
            13 => appender.forget_group(H),
            15 => {
                appender.mark();
            }
            _ => {}
        }
        writer.write(appender.take().unwrap()).unwrap();
    }
    assert!(log.segments().len() > 3);
    io
}

fn summarized() -> FaultIo {
    let io = written();
    let (log, _) = open(&io, 2, None);
    while log.summarize().unwrap() {}
    // So that all before it is complete.
    let (mut appender, mut writer) = log.writer(0);
    appender.append(GroupId(5), 0, b"more");
    writer.write(appender.take().unwrap()).unwrap();
    drop((log, appender, writer));
    io.kill();
    io
}

/// The segments that are read behind their headers while the log is opened.
fn scanned(io: &FaultIo, salt: u64, applied: Option<u64>) -> (Vec<PathBuf>, Recovered) {
    let reads = Arc::new(Mutex::new(BTreeMap::<PathBuf, u32>::new()));
    let all = reads.clone();
    io.watch(move |_: u64, call: Call, path: &Path| {
        if call == Call::Read && path.extension().is_some_and(|end| end == "log") {
            *all.lock().unwrap().entry(path.to_owned()).or_default() += 1;
        }
        None::<Fault>
    });
    let (_, found) = open(io, salt, applied);
    io.unwatch();
    let read = reads.lock().unwrap().iter().filter(|(_, count)| **count > 1).map(|(path, _)| path.clone()).collect();
    (read, found)
}

fn path(id: u64) -> PathBuf {
    Path::new(DIR).join(segment::file_name(SegmentId(id)))
}

fn groups(found: &Recovered) -> String {
    format!("{:?}", found.groups)
}

#[test]
fn a_log_with_summaries_says_the_same_and_is_not_read() {
    let io = summarized();
    let (all, by_reading) = {
        let bare = io.copy();
        bare.files().into_iter().filter(|file| file.extension().is_some_and(|end| end == "summary")).for_each(|file| {
            bare.lose(&file);
        });
        scanned(&bare, 4, Some(u64::MAX))
    };
    let (none, found) = scanned(&io.copy(), 4, Some(u64::MAX));
    assert_eq!(groups(&found), groups(&by_reading));
    // Only the last one has none.
    assert!(all.len() > 4, "{all:?}");
    assert_eq!(none, all[all.len() - 1..]);
}

#[test]
fn entries_that_were_not_applied_are_read() {
    let io = summarized();
    let (read, found) = scanned(&io.copy(), 4, Some(50));
    let wanted = found.groups[&G].entries.iter().find(|(index, _)| *index == 51).unwrap().1;
    assert!(read.contains(&path(wanted.segment.0)) && !read.contains(&path(1)), "{read:?}");
    // One that is damaged is said to be.
    io.flip(&path(wanted.segment.0), u64::from(wanted.at) * 8);
    assert_eq!(open(&io.copy(), 4, Some(u64::MAX)).1.groups[&G].damage, None);
    assert!(open(&io.copy(), 4, Some(50)).1.groups[&G].damage.is_some());
}

#[test]
fn a_damaged_segment_has_no_summary() {
    let io = written();
    io.flip(&path(1), 5000 * 8);
    let (log, _) = open(&io, 2, None);
    while log.summarize().unwrap() {}
    let name = |id| Path::new(DIR).join(segment::summary_name(SegmentId(id)));
    assert!(io.contents(&name(1)).is_none() && io.contents(&name(2)).is_some());
}

#[test]
fn a_summary_goes_with_its_segment() {
    let io = summarized();
    let summaries = |io: &FaultIo| {
        io.files().into_iter().filter(|file| file.extension().is_some_and(|end| end == "summary")).count()
    };
    let before = summaries(&io);
    let (log, _) = open(&io, 4, None);
    let (mut appender, mut writer) = log.writer(0);
    appender.put(G, Fact::Purged { index: 59 }, b"all");
    writer.write(appender.take().unwrap()).unwrap();
    assert!(log.remove_before(SegmentId(3)).unwrap().len() == 2);
    assert_eq!(summaries(&io), before - 2);
    drop((log, appender, writer));
    // One that a crash left behind goes when the log is opened.
    io.plant(&Path::new(DIR).join(segment::summary_name(SegmentId(1))), b"left");
    io.kill();
    let (log, _) = open(&io, 6, None);
    assert_eq!(summaries(&io), before - 2);
    while log.summarize().unwrap() {}
}

#[test]
fn a_summary_of_another_segment_or_life_is_not_believed() {
    let header =
        segment::Header { id: SegmentId(3), identity: 0, salt: 5, previous: SegmentId(0), writer: 0, size: 4096 };
    let io = summarized();
    let bytes = io.contents(&Path::new(DIR).join(segment::summary_name(SegmentId(1)))).unwrap();
    let (id, salt) = (SegmentId(1), 1);
    assert!(Summary::decode(bytes.clone(), &segment::Header { id, salt, ..header }).is_some());
    assert!(Summary::decode(bytes.clone(), &segment::Header { salt, ..header }).is_none());
    assert!(Summary::decode(bytes.clone(), &segment::Header { id, ..header }).is_none());
    for len in 0..bytes.len() {
        assert!(Summary::decode(bytes[..len].to_vec(), &segment::Header { id, salt, ..header }).is_none());
    }
}
