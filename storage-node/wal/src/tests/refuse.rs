//! Directories that must not be opened: each is refused with a sentence, and stays as it is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::io::fault::Call;

/// A log of three segments, and its disk.
fn written() -> FaultIo {
    let io = FaultIo::new(1 << 30);
    let (log, _) = open(&io, 1).unwrap();
    let (mut appender, mut writer) = log.writer(0);
    for index in 0..30 {
        appender.append(G, index, &[1; 1000]);
    }
    writer.write(appender.take().unwrap()).unwrap();
    assert_eq!(log.segments().len(), 3);
    drop((log, appender, writer));
    io.kill();
    io
}

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

fn all(io: &FaultIo) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    io.files().into_iter().map(|path| (path.clone(), io.contents(&path))).collect()
}

#[track_caller]
fn refused(io: &FaultIo, sentence: &str) {
    let before = all(io);
    io.watch(|_: u64, call: Call, path: &Path| {
        let writes = matches!(call, Call::Write | Call::Sync | Call::Rename | Call::Remove | Call::Create);
        assert!(!writes, "{call:?} {path:?}");
        None
    });
    assert_eq!(open(io, 2).unwrap_err().to_string(), sentence);
    assert_eq!(all(io), before);
}

#[test]
fn a_directory_that_is_used() {
    let io = written();
    let _held = open(&io, 2).unwrap();
    refused(&io, "/log: another process uses this log: stop it, or give this one a directory of its own");
}

#[test]
fn files_of_others() {
    let io = written();
    io.plant(&path("0000000000000001.log"), &[b'x'; 16384]);
    refused(&io, "/log/0000000000000001.log is not a segment of a log of this server: move it out of the directory");
    let io = written();
    io.plant(&path("server.log"), b"an error");
    refused(&io, "/log/server.log is not a segment of a log of this server: move it out of the directory");
    let io = written();
    io.plant(&path("lost+found"), b"");
    open(&io, 2).unwrap();
}

#[test]
fn a_newer_format() {
    let io = written();
    let mut bytes = io.contents(&path("0000000000000002.log")).unwrap();
    for at in [0, 2048] {
        let copy = &mut bytes[at..at + 64];
        copy[8] = 2;
        copy[12..16].fill(0);
        let crc = crc32c::crc32c(copy);
        copy[12..16].copy_from_slice(&crc.to_le_bytes());
    }
    io.plant(&path("0000000000000002.log"), &bytes);
    refused(
        &io,
        "/log/0000000000000002.log has format 2, and this release knows formats up to 1: start the release that wrote \
         it, or a later one",
    );
}

#[test]
fn another_identity() {
    let io = written();
    let other = Options { identity: 8, ..options(2) };
    let error = LogDir::open(Arc::new(io), Path::new(DIR), other).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/log/0000000000000001.log was written by another node or for another cluster: give this node its own \
         directory, and do not mix files of several"
    );
}

#[test]
fn a_segment_under_another_name() {
    let io = written();
    io.plant(&path("0000000000000009.log"), &io.contents(&path("0000000000000003.log")).unwrap());
    refused(
        &io,
        "/log/0000000000000009.log holds segment 0000000000000003: give it back the name it had, 0000000000000003.log",
    );
}

const REPLACE: &str =
    "Restore the file, or replace this replica: remove its directory and add the node again under another id";

#[test]
fn a_segment_that_was_cut_off() {
    for (len, expected) in [(0, 4096), (4095, 4096), (4096, 16384), (12288, 16384)] {
        let io = written();
        let bytes = io.contents(&path("0000000000000002.log")).unwrap();
        io.plant(&path("0000000000000002.log"), &bytes[..len]);
        let what = format!("/log/0000000000000002.log has {len} bytes of {expected}");
        refused(&io, &format!("{what}: it was cut off. {REPLACE}"));
    }
    // What lies behind the seal is not missed.
    let io = written();
    let bytes = io.contents(&path("0000000000000002.log")).unwrap();
    io.plant(&path("0000000000000002.log"), &bytes[..16383]);
    open(&io, 2).unwrap();
}

#[test]
fn a_header_that_is_damaged() {
    // Both copies, or a blank one where a header must have been.
    for fill in [0, 1] {
        let io = written();
        let mut bytes = io.contents(&path("0000000000000002.log")).unwrap();
        for at in [20, 2068] {
            bytes[at] ^= 1;
        }
        if fill == 0 {
            bytes[..4096].fill(0);
        }
        io.plant(&path("0000000000000002.log"), &bytes);
        refused(&io, &format!("the header of /log/0000000000000002.log is damaged. {REPLACE}"));
    }
}

#[test]
fn a_segment_that_is_missing() {
    let io = written();
    io.lose(&path("0000000000000002.log"));
    let error = open(&io, 2).unwrap_err().to_string();
    assert!(error.starts_with("/log: entry "), "{error}");
    assert!(error.contains("of group 1 should be here, and is in none of the files: a segment is missing"), "{error}");
}

#[test]
fn settings_that_cannot_be() {
    let error = |options: Options| {
        LogDir::open(Arc::new(FaultIo::new(1 << 20)), Path::new(DIR), options).unwrap_err().to_string()
    };
    assert_eq!(
        error(Options { record_bytes_max: 16 << 10, ..options(1) }),
        "a segment of 16384 bytes is too small for records of 16384 bytes and the state of 6 groups: make segments at \
         least 30256 bytes"
    );
    assert_eq!(
        error(Options { segment_bytes: 5000, ..options(1) }),
        "the size of a segment, 5000 bytes, must be a multiple of 4096 and below 2 GiB"
    );
    assert_eq!(
        error(Options { reserve: 3, ..options(1) }),
        "3 segments in reserve need at least as many spares, not 2"
    );
    Options::default().check().unwrap();
}

/// What the missing segment had replaced is still there, and must not come back.
#[test]
fn a_segment_that_is_missing_and_had_replaced_entries() {
    let io = FaultIo::new(1 << 30);
    let (log, _) = open(&io, 1).unwrap();
    let (mut appender, mut writer) = log.writer(0);
    for index in 0..11 {
        appender.append(G, index, &[1; 1000]);
    }
    while appender.slice(G, ursula_common::StreamId(1), ursula_common::Offset(0), b"").segment < SegmentId(2) {}
    appender.truncate_after(G, Some(2));
    for index in 3..11 {
        appender.append(G, index, &[2; 1000]);
    }
    while appender.slice(G, ursula_common::StreamId(1), ursula_common::Offset(0), b"").segment < SegmentId(3) {}
    writer.write(appender.take().unwrap()).unwrap();
    drop((log, appender, writer));
    io.kill();
    io.lose(&path("0000000000000002.log"));
    let error = open(&io, 2).unwrap_err().to_string();
    assert!(error.starts_with("/log: entry 10 of group 1 should be here"), "{error}");
}
