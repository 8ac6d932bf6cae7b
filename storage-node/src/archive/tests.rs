//! What of the log is needed for the sake of bytes.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::LocalSet;
use ursula_wal::{FaultIo, LogDir, Options};

use super::*;
use crate::runtime::Runtime;

const G: GroupId = GroupId(1);
const H: GroupId = GroupId(2);

fn archive() -> Archive {
    let options = Options { segment_bytes: 64 << 10, record_bytes_max: 8 << 10, groups_max: 4, ..Options::default() };
    let io = Arc::new(FaultIo::new(1 << 30));
    let (dir, _) = LogDir::open(io, Path::new("log"), options).expect("a log");
    Archive::new(
        Journal::start(
            Runtime::default(),
            dir,
            0,
            watch::channel(false).0,
            Box::new(|_, _| ()),
            metrics::Histogram::noop(),
        )
        .expect("a journal"),
    )
}

/// Adds a record to a stream.
fn add(archive: &Archive, group: GroupId, stream: u64, offset: u64) -> u64 {
    let record = Bytes::from(vec![7; 5000]);
    archive.copy(group, StreamId(stream), Offset(offset), &[record]);
    offset + 5000
}

async fn run(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

async fn index(archive: &Archive) {
    archive.journal().sync().await.expect("a disk");
    while archive.index_oldest(|segment| archive.journal().dir().is_complete(segment)).await.expect("an index") {}
}

#[tokio::test]
async fn each_group_needs_the_segment_that_its_oldest_stream_begins_in() {
    run(async {
        let archive = archive();
        let mut at = add(&archive, G, 1, 0);
        for _ in 0..40 {
            at = add(&archive, G, 1, at);
        }
        add(&archive, H, 2, 0);
        let segment = archive.journal().writes_from();
        assert!(segment > SegmentId(3));
        assert_eq!(archive.oldest(), [(G, SegmentId(1)), (H, segment)].into());
        index(&archive).await;
        assert_eq!(archive.oldest(), [(G, SegmentId(1)), (H, segment)].into());
        archive.remove(G, StreamId(1));
        assert_eq!(archive.oldest(), [(H, segment)].into());
    })
    .await;
}

#[tokio::test]
async fn bytes_that_do_not_count_yet_are_needed_as_long_as_somebody_holds_them() {
    run(async {
        let archive = archive();
        let arrived = archive.aside();
        let other = archive.aside();
        add(&arrived, G, 1, 0);
        assert_eq!(archive.oldest(), [(G, SegmentId(1))].into());
        for stream in 2..40 {
            add(&archive, G, stream, 0);
        }
        add(&other, H, 1, 0);
        let here = archive.journal().writes_from();
        archive.restore(G, Places::default());
        assert_eq!(archive.oldest(), [(G, SegmentId(1)), (H, here)].into());
        let places = arrived.places(G);
        drop(other);
        archive.restore(G, places);
        drop(arrived);
        assert_eq!(archive.oldest(), [(G, SegmentId(1))].into());
        archive.remove(G, StreamId(1));
        assert_eq!(archive.oldest(), [].into());
    })
    .await;
}

/// A checkpoint may be older than the removal of a segment that it speaks of: of streams that have ended since.
#[tokio::test]
async fn places_in_segments_that_are_gone_hold_up_nothing() {
    run(async {
        let archive = archive();
        for stream in 0..40 {
            add(&archive, G, stream, 0);
        }
        archive.journal().sync().await.expect("a disk");
        let places = archive.places(G);
        let dir = archive.journal().dir().clone();
        assert_eq!(dir.remove_before(SegmentId(2)).expect("a removal"), [SegmentId(1)]);
        archive.restore(G, places);
        index(&archive).await;
        // What is left is in the segment that is being written.
        let writing = archive.journal().writes_from();
        let unindexed = archive.places(G).unindexed;
        assert_eq!(unindexed.iter().map(|(segment, _)| *segment).collect::<Vec<_>>(), [writing]);
    })
    .await;
}

#[tokio::test]
async fn what_is_released_is_needed_no_more_and_what_came_later_is() {
    run(async {
        let archive = archive();
        // The first stream ends early, the second goes on, the third comes late.
        add(&archive, G, 1, 0);
        let mut at = 0;
        for _ in 0..40 {
            at = add(&archive, G, 2, at);
        }
        add(&archive, G, 3, 0);
        add(&archive, H, 1, 0);
        index(&archive).await;
        let (last, upto) = (archive.journal().writes_from(), SegmentId(2));
        assert_eq!(archive.unindexed_groups(last), [G, H].into());
        assert_eq!(archive.unindexed_groups(upto), [].into());
        let hold = archive.hold(G);
        assert!(!archive.release(G, upto), "somebody reads what speaks of it");
        assert_eq!(archive.oldest(), [(G, SegmentId(1)), (H, last)].into());
        drop(hold);
        assert!(archive.release(G, upto));
        assert_eq!(archive.oldest(), [(G, SegmentId(3)), (H, last)].into());
        let streams = |archive: &Archive| archive.places(G).chains.keys().copied().collect::<BTreeSet<_>>();
        assert_eq!(streams(&archive), [StreamId(2), StreamId(3)].into());
        let found = archive.read(G, StreamId(2), Offset(0), Offset(at), 1).await.expect("the log");
        assert_eq!(found.records.len(), 1, "it goes with its segment, not before");
        let dir = archive.journal().dir().clone();
        dir.remove_before(SegmentId(3)).expect("a removal");
        let found = archive.read(G, StreamId(2), Offset(0), Offset(at), 1).await.expect("the log");
        assert_eq!(found, Found::default(), "it is not here");
        let found = archive.read(G, StreamId(2), Offset(at - 5000), Offset(at), 1).await.expect("the log");
        assert_eq!(found.records.len(), 1);
        // Up to the segment that is being written: what has come there stays.
        assert!(archive.release(G, SegmentId(last.0 - 1)));
        assert_eq!(archive.oldest(), [(G, last), (H, last)].into());
    })
    .await;
}
