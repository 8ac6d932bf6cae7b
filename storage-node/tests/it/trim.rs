//! Streams that lose their beginning: what readers, tails and forks are told, and what becomes of the bytes.

use std::fs;
use std::sync::Arc;

use tempfile::TempDir;
use ursula_common::clock::SystemClock;
use ursula_common::verb::{Create, Op, OpResult, Reply, Retention, Trim};
use ursula_common::{Error, Offset, StreamKey};
use ursula_storage_node::NodeConfig;

use crate::world::{BINARY, GROUPS, JSON, Range, World, append, create, created, eventually, fork, key, within};

async fn trim(world: &mut World, key: &StreamKey, to: u64) -> OpResult {
    world.submit(Op::Trim(Trim { key: key.clone(), to: Offset(to), cut: None })).await
}

fn gone<T>(earliest: u64) -> Result<T, Error> {
    Err(Error::OffsetGone { earliest: Offset(earliest) })
}

/// Everything that a reader finds who begins at the start.
async fn all(world: &World, key: &StreamKey) -> Vec<u8> {
    let earliest = world.describe(key).await.expect("a stream").earliest;
    world.content(key, earliest.0).await
}

#[tokio::test]
async fn a_stream_begins_with_a_whole_record() {
    let mut world = World::start().await;
    let key = key("whole");
    world.create(&key, JSON).await;
    for record in ["1,", "22,33,", "4,"] {
        world.append(&key, JSON, record).await;
    }
    // Inside of a record: that one stays.
    assert_eq!(trim(&mut world, &key, 5).await, Ok(Reply::Trimmed(Offset(2))));
    assert_eq!(all(&world, &key).await, b"22,33,4,");
    assert_eq!(world.read(&key, Range::from(1)).await.map(drop), gone(2));
    assert_eq!(trim(&mut world, &key, 8).await, Ok(Reply::Trimmed(Offset(8))));
    assert_eq!(trim(&mut world, &key, 3).await, Ok(Reply::Trimmed(Offset(8))));
    assert_eq!(trim(&mut world, &key, 11).await, Err(Error::OffsetInvalid));
    assert_eq!(trim(&mut world, &key, 10).await, Ok(Reply::Trimmed(Offset(10))));
    world.append(&key, JSON, "5,").await;
    assert_eq!(all(&world, &key).await, b"5,");
}

#[tokio::test]
async fn a_tail_hears_that_its_place_is_gone() {
    let mut world = World::start().await;
    let key = key("tailed");
    world.create(&key, BINARY).await;
    world.append(&key, BINARY, "one").await;
    let mut at_tail = world.tail(&key, 3).await;
    assert_eq!(trim(&mut world, &key, 3).await, Ok(Reply::Trimmed(Offset(3))));
    world.append(&key, BINARY, "two").await;
    assert_eq!(at_tail.event().await.data, &b"two"[..], "nothing that it wants is gone");
    let status = world.tail(&key, 0).await.next().await.expect_err("it is gone");
    assert_eq!(status, Error::OffsetGone { earliest: Offset(3) });
}

#[tokio::test]
async fn forks_read_what_their_source_has_no_longer() {
    let mut world = World::start().await;
    let (source, child) = (key("fork-source"), key("fork-child"));
    world.create(&source, BINARY).await;
    for record in ["one", "two", "six"] {
        world.append(&source, BINARY, record).await;
    }
    created(world.submit(fork(&child, &source, Some(6), 1)).await);
    assert_eq!(trim(&mut world, &source, 9).await, Ok(Reply::Trimmed(Offset(9))));
    assert_eq!((all(&world, &child).await, all(&world, &source).await), (b"onetwos".to_vec(), Vec::new()));
    assert_eq!(world.submit(fork(&key("late"), &source, Some(6), 0)).await, gone(9));
    // The place is found in the bytes of the source.
    assert_eq!(trim(&mut world, &child, 5).await, Ok(Reply::Trimmed(Offset(3))));
    assert_eq!(all(&world, &child).await, b"twos");
}

#[tokio::test]
async fn memory_of_what_is_gone_is_given_back() {
    let config = NodeConfig { cores: 1, groups: GROUPS, ring_bytes: 4 << 20, ..NodeConfig::default() };
    let mut world = World::configured(config, Arc::new(SystemClock)).await;
    let key = key("bounded");
    let Op::Create(bare) = create(&key, BINARY) else { unreachable!() };
    let retention = Retention { max_bytes: Some(1 << 20), ..Retention::default() };
    created(world.submit(Op::Create(Create { retention, ..bare })).await);
    for n in 0..100u8 {
        world.append(&key, BINARY, vec![n; 200 << 10]).await;
    }
    let left = all(&world, &key).await.len();
    assert!(((1 << 20)..(3 << 19)).contains(&left), "{left} bytes");
}

#[tokio::test]
async fn what_is_trimmed_gets_into_no_pack_and_holds_no_log() {
    const SEGMENT_BYTES: u64 = 24 << 20;
    let dir = TempDir::new().expect("a directory");
    let config = || NodeConfig {
        cores: 1,
        groups: GROUPS,
        ring_bytes: 2 << 20,
        data_dir: Some(dir.path().join("data")),
        store: Some(format!("file://{}", dir.path().join("objects").display())),
        segment_bytes: SEGMENT_BYTES,
        disk_reserve_bytes: 0,
        log_bytes: Some(2 * SEGMENT_BYTES),
        pack_bytes: 1 << 20,
        pack_interval_ms: 20,
        checkpoint_bytes: 1 << 20,
        entries_kept: 1,
        ..NodeConfig::default()
    };
    let mut world = World::configured(config(), Arc::new(SystemClock)).await;
    let (key, other) = (key("packed"), key("other"));
    world.create(&key, BINARY).await;
    world.create(&other, BINARY).await;
    let mut wanted = Vec::new();
    for n in 0..200u64 {
        let record = vec![n as u8; 400 << 10];
        let tail = world.append(&key, BINARY, record.clone()).await.tail;
        wanted.push(record);
        if n % 10 == 9 {
            // All but the last five records.
            let earliest = Offset(tail.0 - 5 * (400 << 10));
            assert_eq!(trim(&mut world, &key, earliest.0 + 7).await, Ok(Reply::Trimmed(earliest)));
            wanted.drain(..wanted.len() - 5);
            assert!(all(&world, &key).await == wanted.concat());
        }
        world.submit(append(&other, BINARY, "x")).await.expect("appended");
    }
    eventually("packs with everything", async || world.metric("ursula_node_unpacked_streams") == 0.0).await;
    assert!(all(&world, &key).await == wanted.concat());
    let logs = || {
        let files = fs::read_dir(dir.path().join("data/log")).expect("a folder").flatten();
        files.filter(|file| file.path().extension().is_some_and(|is| is == "log")).count()
    };
    eventually("a log without what is gone", async || logs() <= 6).await;
    within(world.node.stop()).await.expect("a stop");
    let world = World::configured(config(), Arc::new(SystemClock)).await;
    assert!(all(&world, &key).await == wanted.concat());
    assert_eq!(world.content(&other, 0).await, [b'x'; 200]);
}
