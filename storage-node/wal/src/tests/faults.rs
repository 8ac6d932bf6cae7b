//! Every call to the disk fails once: nothing is acknowledged by mistake, no log that failed is written again, and it
//! opens with all that was acknowledged.

use std::io::ErrorKind;

use super::crash::after;
use super::life::{Ended, Rng, Shared, live, lock};
use super::*;
use crate::io::fault::{Call, Fault, Keep, Part};

const LIVES: u64 = 3;
const STEPS: usize = 120;

/// Lives on an empty disk of which one call fails. Returns whether it came to that call.
fn fails(seed: u64, fails: u64, kind: ErrorKind, then: u64) -> bool {
    let io = FaultIo::new(1 << 30);
    let world = Shared::default();
    let mut rng = Rng(seed);
    for _ in 0..LIVES {
        io.watch(move |number: u64, _: Call, _: &Path| (number == fails).then_some(Fault::Fail(kind)));
        match live(&io, &world, rng.next(), STEPS) {
            Ok(()) => {}
            Err(Ended::Disk) => break,
            Err(Ended::Wrong(what)) => panic!("seed {seed}, call {fails} fails: {what}"),
        }
        io.kill();
    }
    if io.calls() <= fails {
        return false;
    }
    match then {
        0 => io.kill(),
        1 => io.power_loss(Keep { sectors: Part::None, names: Part::None }),
        seed => io.power_loss(Keep { sectors: Part::Random(seed), names: Part::Random(!seed) }),
    }
    let world = lock(&world).clone();
    after(&io, world, seed ^ fails << 20).unwrap_or_else(|what| panic!("seed {seed}, call {fails}, {then}: {what}"));
    true
}

#[test]
fn every_call_fails_once() {
    let mut points = 0;
    for seed in 1..=2 {
        for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
            for then in [0, 1, 77 + seed] {
                points += (0..).take_while(|call| fails(seed, *call, kind, then)).count();
            }
        }
    }
    println!("{points} failing calls");
    assert!(points > 3000);
}

#[test]
fn a_failed_sync_is_final() {
    let io = FaultIo::new(1 << 30);
    let (log, _) = open(&io, 1).unwrap();
    let (mut appender, mut writer) = log.writer(0);
    appender.append(G, 0, b"zero");
    writer.write(appender.take().unwrap()).unwrap();
    appender.append(G, 1, b"one");
    let failing = |_: u64, call: Call, _: &Path| (call == Call::Sync).then_some(Fault::Fail(ErrorKind::Other));
    io.watch(failing);
    let first = writer.write(appender.take().unwrap()).unwrap_err();
    io.unwatch();
    appender.append(G, 2, b"two");
    let calls = io.calls();
    let second = writer.write(appender.take().unwrap()).unwrap_err();
    assert_eq!(first.to_string(), second.to_string());
    assert_eq!(io.calls(), calls);
    let expected = "the log cannot be written any more: a sync of segment 0000000000000001 failed: a fault of the disk";
    assert_eq!(first.to_string(), expected);
}

#[test]
fn what_memory_kept_of_a_failed_sync_is_written_again() {
    let io = FaultIo::new(1 << 30);
    let (log, _) = open(&io, 1).unwrap();
    let (mut appender, mut writer) = log.writer(0);
    appender.append(G, 0, b"zero");
    io.watch(|_: u64, call: Call, path: &Path| {
        (call == Call::Sync && path.ends_with("0000000000000001.log")).then_some(Fault::Fail(ErrorKind::Other))
    });
    writer.write(appender.take().unwrap()).unwrap_err();
    io.kill();
    // It was never acknowledged, and is there; now it must stay.
    let (_, found) = open(&io, 2).unwrap();
    assert_eq!(found.groups[&G].entries.len(), 1);
    io.power_loss(Keep { sectors: Part::None, names: Part::None });
    let (log, found) = open(&io, 3).unwrap();
    assert_eq!(payloads(&log, &found.groups[&G]), [(0, "zero".into())]);
}

#[test]
fn a_full_disk_leaves_votes_and_truncation() {
    let io = FaultIo::new(1 << 30);
    let (log, _) = open(&io, 1).unwrap();
    let (mut appender, mut writer) = log.writer(0);
    while log.prepare_spare().unwrap() {}
    assert!(!log.space().unwrap().high_water);
    let used = 2 * 16384;
    assert_eq!(log.space().unwrap(), Space { used, free: (1 << 30) - used, spares: 2, high_water: false });
    io.set_capacity(used);
    let mut index = 0;
    while !log.space().unwrap().high_water {
        appender.append(G, index, &[7; 1000]);
        index += 1;
        writer.write(appender.take().unwrap()).unwrap();
        assert!(!matches!(log.prepare_spare(), Ok(true)));
    }
    // The last segment is open; votes find room in it, and removal makes room for others.
    for _ in 0..8 {
        appender.put(G, Fact::Vote, b"somebody");
        appender.truncate_after(G, Some(2));
        writer.write(appender.take().unwrap()).unwrap();
    }
    appender.put(G, Fact::Purged { index: 2 }, b"");
    writer.write(appender.take().unwrap()).unwrap();
    assert_eq!(log.remove_before(SegmentId(2)).unwrap(), [SegmentId(1)]);
    assert!(!log.space().unwrap().high_water);
}
