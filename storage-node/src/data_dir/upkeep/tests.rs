//! Which segments go.

use std::path::Path;
use std::sync::Arc;

use ursula_common::clock::SystemClock;
use ursula_common::{Offset, StreamId};
use ursula_wal::{Appender, Fact, FaultIo, Writer};

use super::*;
use crate::config::NodeConfig;
use crate::platform::Platform;

const CORES: usize = 2;
/// Of the first core, and of the second.
const G: GroupId = GroupId(2);
const H: GroupId = GroupId(1);

struct World {
    io: FaultIo,
    dir: DataDir,
    ends: Vec<(Appender, Writer)>,
}

impl World {
    fn new() -> World {
        let io = FaultIo::new(1 << 30);
        let platform = Platform { io: Arc::new(io.clone()), ..Platform::system(Arc::new(SystemClock)) };
        let config = NodeConfig { cores: CORES, groups: 4, segment_bytes: 24 << 20, ..NodeConfig::default() };
        let config = NodeConfig { disk_reserve_bytes: 0, ..config };
        let (dir, _) = DataDir::open(&platform, Path::new("data"), &config, crate::Formation::Member, || 7)
            .expect("a data directory");
        let ends = (0..CORES as u32).map(|core| dir.log().writer(core)).collect();
        World { io, dir, ends }
    }

    /// As many bytes of streams as fit into a segment.
    fn fill(&mut self, group: GroupId) {
        let (appender, writer) = &mut self.ends[core_of(group, CORES)];
        for _ in 0..2 {
            appender.slice(group, StreamId(1), Offset(0), &vec![1; 8 << 20]);
        }
        writer.write(appender.take().expect("a batch")).expect("a disk");
    }

    fn put(&mut self, group: GroupId) {
        let (appender, writer) = &mut self.ends[core_of(group, CORES)];
        appender.put(group, Fact::Vote, b"me");
        writer.write(appender.take().expect("a batch")).expect("a disk");
    }

    fn segments(&self) -> Vec<u64> {
        self.dir.log().segments().into_iter().map(|(id, _)| id.0).collect()
    }

    async fn left(&self) -> Vec<u64> {
        self.dir.keep_house().await.expect("a disk");
        self.segments()
    }

    fn needs(&self, oldest: &[(GroupId, u64)]) -> Needs {
        let oldest = oldest.iter().map(|(group, segment)| (*group, SegmentId(*segment))).collect();
        Needs { until: self.dir.log().upcoming(), unknown: BTreeSet::new(), oldest }
    }
}

#[tokio::test]
async fn an_idle_core_holds_up_no_other() {
    let mut world = World::new();
    world.put(H);
    (0..3).for_each(|_| world.fill(G));
    assert_eq!(world.segments(), [1, 2, 3, 4]);
    // Streams of the second core begin in its only segment, which is older than all of the first one.
    world.dir.need(1, world.needs(&[(H, 1)]));
    assert_eq!(world.left().await, [1, 2, 3, 4], "the first core has told nothing yet");
    world.dir.need(0, world.needs(&[(G, 3)]));
    assert_eq!(world.left().await, [1, 3, 4]);
    world.dir.need(0, world.needs(&[]));
    assert_eq!(world.left().await, [1, 4]);
}

#[tokio::test]
async fn what_is_not_known_yet_or_came_later_stays() {
    let mut world = World::new();
    (0..3).for_each(|_| world.fill(G));
    assert_eq!(world.segments(), [1, 2, 3]);
    world.dir.need(1, world.needs(&[]));
    world.dir.need(0, Needs { unknown: [G].into(), ..world.needs(&[]) });
    assert_eq!(world.left().await, [1, 2, 3]);
    world.dir.need(0, Needs { until: SegmentId(2), ..world.needs(&[]) });
    assert_eq!(world.left().await, [2, 3]);
    world.dir.need(0, world.needs(&[]));
    assert_eq!(world.left().await, [3]);
}

/// Opened again, the log reads only what no checkpoint has.
#[tokio::test]
async fn full_segments_get_summaries() {
    let mut world = World::new();
    (0..3).for_each(|_| world.fill(G));
    world.dir.keep_house().await.expect("a disk");
    let summaries = world.io.files().into_iter().filter(|file| file.extension().is_some_and(|end| end == "summary"));
    assert_eq!(summaries.count(), 2);
}
