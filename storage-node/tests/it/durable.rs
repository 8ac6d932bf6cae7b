//! A node with a data directory: what it has acknowledged is there after it was started again.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use ursula_common::clock::SystemClock;
use ursula_common::{Error, Offset, StreamKey};
use ursula_storage_node::{Formation, Node, NodeConfig};

use crate::world::{BINARY, CORES, GROUPS, Range, World, append, created, eventually, fork, key, within};

/// The smallest file of the log that holds every entry.
const SEGMENT_BYTES: u64 = 24 << 20;
/// So little memory that most bytes must be read from the log.
const RING_BYTES: usize = 2 << 20;

fn config(dir: &Path) -> NodeConfig {
    NodeConfig {
        cores: CORES,
        groups: GROUPS,
        ring_bytes: RING_BYTES,
        data_dir: Some(dir.to_owned()),
        segment_bytes: SEGMENT_BYTES,
        disk_reserve_bytes: 0,
        ..NodeConfig::default()
    }
}

async fn start(config: NodeConfig) -> World {
    World::configured(config, Arc::new(SystemClock)).await
}

async fn stop(world: World) {
    within(world.node.stop()).await.expect("a stop");
}

/// Bytes that tell their stream and their place.
fn record(stream: u8, i: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + i * 13) as u8 ^ stream).collect()
}

/// Appends `count` records of `len` bytes to each stream in turn.
async fn fill(world: &mut World, keys: &[StreamKey], count: usize, len: usize) -> Vec<Vec<u8>> {
    let mut contents = vec![Vec::new(); keys.len()];
    for i in 0..count {
        for (stream, key) in keys.iter().enumerate() {
            let record = record(stream as u8, i, len);
            world.append(key, BINARY, record.clone()).await;
            contents[stream].extend(record);
        }
    }
    contents
}

async fn check(world: &World, keys: &[StreamKey], contents: &[Vec<u8>]) {
    for (key, content) in keys.iter().zip(contents) {
        assert!(world.content(key, 0).await == *content, "{key} is whole");
        let middle = content.len() as u64 / 2;
        let got = world.read(key, Range::from(middle)).await.expect("a range");
        assert!(got.start <= middle, "from the start of a record");
        assert!(got.bytes() == content[got.start as usize..got.next as usize], "{key} from the middle");
    }
}

#[tokio::test]
async fn streams_survive_a_restart_with_any_number_of_cores() {
    let dir = TempDir::new().expect("a directory");
    let keys: Vec<StreamKey> = (0..20).map(|i| key(&format!("stream-{i}"))).collect();
    let mut contents = vec![Vec::new(); keys.len()];
    for (life, cores) in [2, 1, 3, 2].into_iter().enumerate() {
        let mut world = start(NodeConfig { cores, ..config(dir.path()) }).await;
        if life == 0 {
            for key in &keys {
                world.create(key, BINARY).await;
            }
        }
        check(&world, &keys, &contents).await;
        for (content, more) in contents.iter_mut().zip(fill(&mut world, &keys, 3, 100).await) {
            content.extend(more);
        }
        check(&world, &keys, &contents).await;
        stop(world).await;
    }
}

#[tokio::test]
async fn bytes_that_have_left_memory_are_read_from_the_log() {
    let dir = TempDir::new().expect("a directory");
    let mut world = start(NodeConfig { cores: 1, ..config(dir.path()) }).await;
    let keys: Vec<StreamKey> = (0..4).map(|i| key(&format!("stream-{i}"))).collect();
    for key in &keys {
        world.create(key, BINARY).await;
    }
    // More than three files of the log.
    let contents = fill(&mut world, &keys, 40, 512 << 10).await;
    let indexes = || std::fs::read_dir(dir.path().join("log")).expect("the log").flatten();
    let is_index = |file: &std::fs::DirEntry| file.path().extension().is_some_and(|kind| kind == "index");
    eventually("indexes of full segments", async || indexes().filter(is_index).count() >= 3).await;
    assert!(world.metric("ursula_node_ring_used_bytes") <= RING_BYTES as f64);
    check(&world, &keys, &contents).await;
    // A tail that begins far behind comes to the end without a gap.
    let mut tail = world.tail(&keys[1], 0).await;
    let mut followed = Vec::new();
    while followed.len() < contents[1].len() {
        let event = tail.next().await.expect("an event").expect("no end");
        assert_eq!(event.start, followed.len() as u64);
        followed.extend_from_slice(&event.data);
    }
    assert!(followed == contents[1]);
    stop(world).await;
    let world = start(config(dir.path())).await;
    check(&world, &keys, &contents).await;
    stop(world).await;
}

#[tokio::test]
async fn a_restart_goes_on_from_the_checkpoint() {
    let dir = TempDir::new().expect("a directory");
    let mut world = start(config(dir.path())).await;
    let kept = key("kept");
    let (forked, gone) = (key("forked"), key("gone"));
    for key in [&kept, &gone] {
        world.create(key, BINARY).await;
    }
    let first = fill(&mut world, std::slice::from_ref(&gone), 1, 1000).await.remove(0);
    created(world.submit(fork(&forked, &gone, None, 0)).await);
    let content = fill(&mut world, std::slice::from_ref(&kept), 80, 1 << 20).await;
    world.delete(&gone).await;
    let checkpoints = dir.path().join("checkpoints");
    eventually("a checkpoint", async || std::fs::read_dir(&checkpoints).is_ok_and(|files| files.count() > 0)).await;
    for _ in 0..2 {
        stop(world).await;
        world = start(config(dir.path())).await;
        check(&world, std::slice::from_ref(&kept), &content).await;
        assert!(world.content(&forked, 0).await == first, "a fork has its source's bytes");
        assert_eq!(world.describe(&gone).await.err(), Some(Error::StreamGone));
        assert_eq!(world.describe(&kept).await.expect("a stream").tail, Offset(80 << 20));
    }
    stop(world).await;
}

#[tokio::test]
async fn appends_are_refused_while_the_disk_is_nearly_full() {
    let dir = TempDir::new().expect("a directory");
    let mut world = start(config(dir.path())).await;
    let stream = key("stream");
    world.create(&stream, BINARY).await;
    let contents = fill(&mut world, std::slice::from_ref(&stream), 1, 100).await;
    stop(world).await;
    let mut world = start(NodeConfig { disk_reserve_bytes: u64::MAX >> 1, ..config(dir.path()) }).await;
    let mut answer = world.submit(append(&stream, BINARY, &b"more"[..])).await;
    while answer.is_ok() {
        answer = world.submit(append(&stream, BINARY, &b"more"[..])).await;
    }
    assert_eq!(answer, Err(Error::DiskFull));
    let got = world.read(&stream, Range::from(0)).await.expect("reads go on");
    assert!(got.bytes().starts_with(&contents[0]));
    world.delete(&stream).await;
    stop(world).await;
}

#[tokio::test]
async fn a_directory_that_is_used_or_of_another_node_is_refused() {
    let dir = TempDir::new().expect("a directory");
    let world = start(config(dir.path())).await;
    let refused = |config: NodeConfig| async move {
        let node = within(Node::start(&config, Formation::Alone, Arc::new(SystemClock))).await;
        node.err().expect("a refusal").to_string()
    };
    assert!(refused(config(dir.path())).await.contains("another process"));
    stop(world).await;
    assert!(refused(NodeConfig { node_id: 9, ..config(dir.path()) }).await.contains("belongs to node 1"));
    assert!(refused(NodeConfig { groups: 3, ..config(dir.path()) }).await.contains("set groups to 8"));
    stop(start(config(dir.path())).await).await;
}
