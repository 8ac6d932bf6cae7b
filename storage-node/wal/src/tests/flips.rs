//! Every bit of a log changes, every sector is zeroed or overwritten: it is noticed, or makes no difference.

use super::*;
use crate::io::fault::SECTOR_BYTES;

/// Two segments of a group with everything in them, ended with a mark.
fn small() -> (FaultIo, Options, RecoveredGroup, Vec<(u64, Bytes)>) {
    let io = FaultIo::new(1 << 30);
    let options =
        Options { segment_bytes: 8192, record_bytes_max: 700, groups_max: 1, spares: 0, reserve: 0, ..options(1) };
    let (log, _) = LogDir::open(Arc::new(io.clone()), Path::new(DIR), options.clone()).unwrap();
    let (mut appender, mut writer) = log.writer(0);
    for index in 0..12 {
        appender.append(G, index, &[index as u8; 600][..(index * 50) as usize]);
        match index {
            2 => appender.put(G, Fact::Vote, b"vote"),
            4 => appender.put(G, Fact::Purged { index: 1 }, b"purged"),
            6 => appender.truncate_after(G, Some(6)),
            8 => {
                appender.slice(G, ursula_common::StreamId(1), ursula_common::Offset(2), b"bytes");
            }
            _ => appender.put(G, Fact::Committed, &[index as u8; 9]),
        }
        if index % 2 == 0 {
            writer.write(appender.take().unwrap()).unwrap();
        }
    }
    writer.write(appender.take().unwrap()).unwrap();
    assert!(appender.mark());
    writer.write(appender.take().unwrap()).unwrap();
    assert!(!appender.mark());
    assert_eq!(log.segments().len(), 2);
    drop((log, appender, writer));
    io.kill();

    let (log, found) = LogDir::open(Arc::new(io.copy()), Path::new(DIR), options.clone()).unwrap();
    let group = found.groups[&G].clone();
    let entries = payloads(&log, &group);
    assert_eq!(entries.len(), 10);
    (io, options, group, entries)
}

fn file(segment: u64) -> std::path::PathBuf {
    Path::new(DIR).join(segment::file_name(SegmentId(segment)))
}

/// Opens twice: what was noticed once is noticed again, unless the log says what it should.
fn judge(io: &FaultIo, options: &Options, group: &RecoveredGroup, entries: &[(u64, Bytes)], what: &str) -> bool {
    let mut noticed = false;
    for salt in [2, 3] {
        let options = Options { salt, ..options.clone() };
        match LogDir::open(Arc::new(io.clone()), Path::new(DIR), options) {
            Err(OpenError::Io { error, .. }) => panic!("{what}: {error}"),
            Err(_) => noticed = true,
            Ok((log, found)) => {
                let is = found.groups.get(&G);
                if is.is_none_or(|is| is.damage.is_some()) {
                    assert!(!found.damage.is_empty(), "{what}: damage that is not listed");
                    noticed = true;
                    continue;
                }
                let is = is.unwrap();
                assert_eq!(is, group, "{what}: accepted, damage {:?}", found.damage);
                let read: Vec<_> = is.entries.iter().map(|(index, at)| (*index, log.read(*at).unwrap())).collect();
                assert_eq!(read, entries, "{what}");
                noticed |= !found.damage.is_empty();
            }
        }
        io.kill();
    }
    noticed
}

#[test]
fn every_bit() {
    let (io, options, group, entries) = small();
    assert!(!judge(&io.copy(), &options, &group, &entries, "nothing"));
    let (mut bits, mut noticed) = (0u64, 0u64);
    for segment in [1, 2] {
        for bit in 0..u64::from(options.segment_bytes) * 8 {
            let io = io.copy();
            io.flip(&file(segment), bit);
            bits += 1;
            noticed += u64::from(judge(&io, &options, &group, &entries, &format!("bit {bit} of segment {segment}")));
        }
    }
    println!("{bits} bits, {noticed} of them noticed");
    assert!(noticed > 36_000);
}

/// The same with the summary of the segment that is full, written by a later life.
fn summarized() -> (FaultIo, Options, RecoveredGroup, Vec<(u64, Bytes)>, std::path::PathBuf) {
    let (io, options, group, entries) = small();
    let options = Options { salt: 9, ..options };
    let (log, _) = LogDir::open(Arc::new(io.clone()), Path::new(DIR), options.clone()).unwrap();
    while log.summarize().unwrap() {}
    drop(log);
    io.kill();
    let summary = Path::new(DIR).join(segment::summary_name(SegmentId(1)));
    assert!(io.contents(&summary).is_some());
    (io, options, group, entries, summary)
}

#[test]
fn every_bit_of_a_segment_that_has_a_summary() {
    let (io, options, group, entries, _) = summarized();
    assert!(!judge(&io.copy(), &options, &group, &entries, "nothing"));
    let mut noticed = 0u64;
    for bit in 0..u64::from(options.segment_bytes) * 8 {
        let io = io.copy();
        io.flip(&file(1), bit);
        noticed += u64::from(judge(&io, &options, &group, &entries, &format!("bit {bit}")));
    }
    println!("{noticed} bits noticed");
    assert!(noticed > 8_000);
}

/// Entries that were applied are not looked at: then reading them tells.
#[test]
fn every_bit_of_entries_that_are_not_read_again() {
    let (io, options, group, entries, _) = summarized();
    let mut noticed = 0u64;
    for bit in 0..u64::from(options.segment_bytes) * 8 {
        let io = io.copy();
        io.flip(&file(1), bit);
        let opened =
            LogDir::open_after(Arc::new(io.clone()), Path::new(DIR), options.clone(), &|_| Some(u64::MAX), &|_| None);
        let Ok((log, found)) = opened else {
            noticed += 1;
            continue;
        };
        assert_eq!(found.groups[&G], group, "bit {bit}");
        for ((_, at), (_, payload)) in group.entries.iter().zip(&entries) {
            match log.read(*at) {
                Ok(read) => assert_eq!(read, payload, "bit {bit}"),
                Err(ReadError::Damaged { .. }) => noticed += 1,
                Err(error) => panic!("bit {bit}: {error}"),
            }
        }
    }
    println!("{noticed} bits noticed");
    assert!(noticed > 8_000);
}

#[test]
fn every_bit_of_a_summary() {
    let (io, options, group, entries, summary) = summarized();
    for bit in 0..io.contents(&summary).unwrap().len() as u64 * 8 {
        let io = io.copy();
        io.flip(&summary, bit);
        let what = format!("bit {bit} of the summary");
        assert!(!judge(&io, &options, &group, &entries, &what), "{what}: nothing is lost with it");
    }
}

#[test]
fn every_sector() {
    let (io, options, group, entries) = small();
    for segment in [1, 2] {
        let whole = io.contents(&file(segment)).unwrap();
        for sector in 0..whole.len() / SECTOR_BYTES {
            for fill in [0, 0xff, 0x5a] {
                let io = io.copy();
                let mut bytes = whole.clone();
                bytes[sector * SECTOR_BYTES..][..SECTOR_BYTES].fill(fill);
                io.plant(&file(segment), &bytes);
                judge(&io, &options, &group, &entries, &format!("sector {sector} of segment {segment} is {fill}"));
            }
        }
    }
}

/// Without a mark the last batch cannot be told from a write that a crash cut off, but nothing else may go.
#[test]
fn the_last_batch_without_a_mark() {
    let io = FaultIo::new(1 << 30);
    let (log, _) = open(&io, 1).unwrap();
    let (mut appender, mut writer) = log.writer(0);
    let mut last = None;
    for index in 0..3 {
        last = Some(appender.append(G, index, b"payload"));
        writer.write(appender.take().unwrap()).unwrap();
    }
    drop((log, appender, writer));
    io.kill();
    io.flip(&file(1), u64::from(last.unwrap().at) * 8);
    let (_, found) = open(&io, 2).unwrap();
    assert_eq!(found.groups[&G].entries.len(), 2);
    assert_eq!(found.groups[&G].damage, None);
    assert_eq!(found.torn, [(SegmentId(1), last.unwrap().at - 40)]);
}
