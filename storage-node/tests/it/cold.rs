//! A node whose history leaves it: bytes go to packs and out of the log, and nobody who reads can tell.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use ursula_common::clock::SystemClock;
use ursula_common::{Error, Offset, StreamKey};
use ursula_storage_node::NodeConfig;

use crate::world::{BINARY, GROUPS, Range, World, eventually, key, within};

const SEGMENT_BYTES: u64 = 24 << 20;
/// As much log as the node shall keep.
const LOG_BYTES: u64 = 2 * SEGMENT_BYTES;
/// The one that is kept at least, those that are written, and those that wait for a checkpoint.
const SEGMENTS_MAX: usize = 6;

fn config(dir: &Path) -> NodeConfig {
    NodeConfig {
        cores: 1,
        groups: GROUPS,
        ring_bytes: 2 << 20,
        data_dir: Some(dir.join("data")),
        store: Some(format!("file://{}", dir.join("objects").display())),
        segment_bytes: SEGMENT_BYTES,
        disk_reserve_bytes: 0,
        log_bytes: Some(LOG_BYTES),
        pack_bytes: 1 << 20,
        pack_interval_ms: 20,
        checkpoint_bytes: 1 << 20,
        entries_kept: 1,
        ..NodeConfig::default()
    }
}

async fn start(config: NodeConfig) -> World {
    World::configured(config, Arc::new(SystemClock)).await
}

/// Bytes that tell their stream and their place.
fn record(stream: usize, number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + number * 13 + stream * 101) as u8).collect()
}

async fn fill(world: &mut World, keys: &[StreamKey], contents: &mut [Vec<u8>], count: usize, len: usize) {
    for number in 0..count {
        for (stream, key) in keys.iter().enumerate() {
            let record = record(stream, number + contents[stream].len(), len);
            world.append(key, BINARY, record.clone()).await;
            contents[stream].extend(record);
        }
    }
}

async fn check(world: &World, keys: &[StreamKey], contents: &[Vec<u8>]) {
    for (key, content) in keys.iter().zip(contents) {
        assert!(world.content(key, 0).await == *content, "{key} is whole");
    }
}

fn files(dir: &Path, folder: &str, ending: &str) -> usize {
    let files = fs::read_dir(dir.join("data").join(folder)).expect("a folder").flatten();
    files.filter(|file| file.path().extension().is_some_and(|is| is == ending)).count()
}

async fn packed(world: &World) {
    eventually("packs with everything", async || world.metric("ursula_node_unpacked_streams") == 0.0).await;
}

#[tokio::test]
async fn what_is_in_packs_leaves_the_log_and_is_read_as_before() {
    let dir = TempDir::new().expect("a directory");
    let keys: Vec<StreamKey> = (0..6).map(|i| key(&format!("stream-{i}"))).collect();
    let mut contents = vec![Vec::new(); keys.len()];
    let mut world = start(config(dir.path())).await;
    for key in &keys {
        world.create(key, BINARY).await;
    }
    // Two blocks whose bytes are nowhere else.
    let block: Vec<u8> = (0..100usize << 10).map(|at| (at * at % 251) as u8).collect();
    let damaged = key("damaged");
    world.create(&damaged, BINARY).await;
    for _ in 0..2 {
        world.append(&damaged, BINARY, block.clone()).await;
    }
    // One is written only at the beginning: nothing of it stays in the log.
    fill(&mut world, &keys, &mut contents, 3, 100 << 10).await;
    let rest = keys.len() - 1;
    fill(&mut world, &keys[..rest], &mut contents[..rest], 90, 512 << 10).await;
    packed(&world).await;
    eventually("a log without what is in packs", async || files(dir.path(), "log", "log") <= SEGMENTS_MAX).await;
    check(&world, &keys, &contents).await;
    assert!(world.metric("ursula_node_pack_gets_total") > 0.0, "read from packs");

    within(world.node.stop()).await.expect("a stop");
    let mut world = start(config(dir.path())).await;
    check(&world, &keys, &contents).await;
    fill(&mut world, &keys, &mut contents, 3, 1000).await;
    check(&world, &keys, &contents).await;
    packed(&world).await;
    check(&world, &keys, &contents).await;

    // The first of the two blocks rots, wherever it was put.
    within(world.node.stop()).await.expect("a stop");
    assert!(rot(dir.path(), &block) > 0);
    let world = start(config(dir.path())).await;
    let first = world.describe(&damaged).await.expect("a stream").tail.0 - 2 * block.len() as u64;
    let [from, until] = [1000, block.len() as u64].map(|at| Offset(first + at));
    let lost = world.read(&damaged, Range::from(from.0)).await.map(drop);
    assert_eq!(lost, Err(Error::HistoryDamaged { from, until }));
    assert!(world.content(&damaged, until.0).await == block, "what comes after it");
    check(&world, &keys, &contents).await;
}

/// Flips a bit in the first copy of these bytes in each object; returns in how many.
fn rot(dir: &Path, bytes: &[u8]) -> usize {
    let groups = fs::read_dir(dir.join("objects/packs")).expect("there are packs").flatten();
    let files = groups.flat_map(|group| fs::read_dir(group.path()).expect("a folder").flatten());
    let rotten = files.filter(|file| {
        let mut object = fs::read(file.path()).expect("an object");
        let found = object.windows(bytes.len()).position(|window| window == bytes);
        found.is_some_and(|at| {
            object[at + bytes.len() / 2] ^= 1;
            fs::write(file.path(), object).is_ok()
        })
    });
    rotten.count()
}

/// Bytes that the files of a directory take.
fn disk_bytes(dir: &Path) -> u64 {
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => disk_bytes(&entry.path()),
        // One may go while they are counted.
        data => data.map_or(0, |data| data.len()),
    };
    fs::read_dir(dir).map_or(0, |entries| entries.flatten().map(bytes).sum())
}

/// As `ursula dev` has it: the history is a folder of the data directory, and what is in there leaves the log.
#[tokio::test]
async fn history_goes_to_a_folder_of_the_same_directory() {
    let dir = TempDir::new().expect("a directory");
    // A directory that had none before.
    let before = NodeConfig { store: None, log_bytes: None, ring_bytes: 512 << 20, ..config(dir.path()) };
    let config = NodeConfig { store: Some("local".to_owned()), store_grace_ms: Some(100), ..before.clone() };
    assert_eq!(config.log_bytes(), 4 * SEGMENT_BYTES);
    let keys: Vec<StreamKey> = (0..3).map(|i| key(&format!("stream-{i}"))).collect();
    let mut contents = vec![Vec::new(); keys.len()];
    let mut world = start(before).await;
    for key in &keys {
        world.create(key, BINARY).await;
    }
    fill(&mut world, &keys, &mut contents, 20, 1 << 20).await;
    within(world.node.stop()).await.expect("a stop");
    let mut world = start(config.clone()).await;
    check(&world, &keys, &contents).await;
    fill(&mut world, &keys, &mut contents, 40, 1 << 20).await;
    packed(&world).await;
    // Those that are kept, one that is written, and three that are kept ready.
    let log_bytes = (4 + 1 + 3) * SEGMENT_BYTES;
    let most = contents.iter().map(|content| content.len() as u64).sum::<u64>() + log_bytes + (16 << 20);
    eventually("little that is there twice", async || disk_bytes(dir.path()) <= most).await;
    within(world.node.stop()).await.expect("a stop");

    let world = start(config).await;
    check(&world, &keys, &contents).await;
    assert!(world.metric("ursula_node_pack_gets_total") > 0.0, "read from the folder");
    assert!(dir.path().join("data/store/cluster").exists());
}

/// Writes, and waits until a pack was stored that was not there before.
async fn another_pack(world: &mut World, keys: &[StreamKey], contents: &mut [Vec<u8>], count: usize, len: usize) {
    packed(world).await;
    let before = world.metric("ursula_node_packs_total");
    fill(world, keys, contents, count, len).await;
    eventually("another pack", async || world.metric("ursula_node_packs_total") > before).await;
}

/// Sizes of all objects of packs.
fn objects(dir: &Path) -> Vec<u64> {
    let groups = fs::read_dir(dir.join("objects/packs")).expect("there are packs");
    let files = groups.flat_map(|group| fs::read_dir(group.expect("a folder").path()).expect("a folder"));
    // One may go while they are counted.
    files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).collect()
}

/// Small objects become few, what is deleted leaves the store, and what is left is read as before, also after a restart.
#[tokio::test]
async fn objects_become_few_and_what_nobody_needs_leaves_them() {
    let dir = TempDir::new().expect("a directory");
    let config = NodeConfig { store_grace_ms: Some(100), store_clean_ms: 300, ..config(dir.path()) };
    let mut world = start(config.clone()).await;
    let keys: Vec<StreamKey> = (0..4).map(|stream| key(&format!("s{stream}"))).collect();
    let mut contents = vec![Vec::new(); keys.len()];
    for key in &keys {
        world.create(key, BINARY).await;
    }
    while world.metric("ursula_node_store_merged_total") == 0.0 {
        another_pack(&mut world, &keys, &mut contents, 4, 20_000).await;
    }
    let groups = GROUPS as usize + 1;
    packed(&world).await;
    eventually("few objects", async || objects(dir.path()).len() <= 10 * groups).await;
    check(&world, &keys, &contents).await;
    for key in &keys[1..] {
        world.delete(key).await;
    }
    let left = contents[0].len() as u64;
    eventually("a store without what was deleted", async || objects(dir.path()).iter().sum::<u64>() < left + left / 2)
        .await;
    check(&world, &keys[..1], &contents[..1]).await;
    within(world.node.stop()).await.expect("a stop");
    let world = start(config).await;
    check(&world, &keys[..1], &contents[..1]).await;
}

/// What nobody knows goes; but nothing is touched in a place that is another cluster's.
#[tokio::test]
async fn objects_of_nobody_go_unless_the_place_is_not_ours() {
    let dir = TempDir::new().expect("a directory");
    let config = NodeConfig { store_grace_ms: Some(100), store_clean_ms: 300, ..config(dir.path()) };
    let mut world = start(config.clone()).await;
    let keys = [key("stream")];
    let mut contents = [Vec::new()];
    world.create(&keys[0], BINARY).await;
    let (group, one, maker) = (world.group_of(&keys[0]).0, 1, 0xaa);
    let folder = dir.path().join(format!("objects/packs/{group:08x}"));
    // Of another group there may be more.
    while fs::read_dir(&folder).map_or(0, Iterator::count) < 3 {
        another_pack(&mut world, &keys, &mut contents, 1, 1000).await;
    }
    let nobodys = folder.join(format!("{one:016x}-{one:016x}-{maker:016x}"));
    fs::write(&nobodys, "of a leader that was deposed").expect("written");
    eventually("one that is removed", async || world.metric("ursula_node_store_orphans_total") > 0.0).await;
    assert!(!nobodys.exists());
    check(&world, &keys, &contents).await;

    within(world.node.stop()).await.expect("a stop");
    fs::write(dir.path().join("objects/cluster"), format!("ursula 1 {one:032x}\n")).expect("written");
    fs::write(&nobodys, "of the other cluster").expect("written");
    // Nothing waits for a pack, so it is the one who removes that is refused.
    let world = start(config).await;
    eventually("a store that is refused", async || world.metric("ursula_node_store_failing") == 1.0).await;
    assert_eq!(world.metric("ursula_node_store_lists_total"), 0.0, "it is not even looked at");
    assert!(nobodys.exists());
}
