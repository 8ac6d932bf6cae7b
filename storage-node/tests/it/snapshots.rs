//! Snapshots of streams: uploaded in pieces, published at the end of a record, and read back under the name of the upload.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;
use ursula_common::clock::SystemClock;
use ursula_common::verb::{
    Append, Create, Lifetime, Op, OpResult, PublishSnapshot, RemoveSnapshot, Reply, Retention, SnapshotCondition,
};
use ursula_common::{ContentType, Error, Offset, StreamKey};
use ursula_storage_node::NodeConfig;

use crate::world::{BINARY, GROUPS, JSON, World, append, appended, create, created, eventually, fork, key, within};

const UPLOAD_BYTES: usize = 3 << 20;

/// Uploads a snapshot in pieces.
async fn upload(world: &mut World, key: &StreamKey, upload: u64, content: &[u8]) {
    let companion = key.companion(upload);
    let Op::Create(empty) = create(&companion, BINARY) else { unreachable!() };
    let first = created(world.submit(Op::Create(Create { lifetime: Lifetime::Ttl(900), ..empty })).await).tail;
    let mut at = first;
    for piece in content.chunks(UPLOAD_BYTES / 3 + 1) {
        let Op::Append(plain) = append(&companion, BINARY, Bytes::copy_from_slice(piece)) else { unreachable!() };
        at = appended(world.submit(Op::Append(Append { expected_offset: Some(at), ..plain })).await).tail;
    }
}

async fn publish(world: &mut World, key: &StreamKey, at: u64, upload: u64, content: &[u8]) -> OpResult {
    let publish = PublishSnapshot {
        key: key.clone(),
        at: Offset(at),
        cut: None,
        upload,
        content_type: ContentType::parse("application/x-folded"),
        bytes: content.len() as u64,
        digest: [upload as u8; 32],
        condition: SnapshotCondition::Any,
    };
    world.submit(Op::PublishSnapshot(publish)).await
}

fn published(at: u64) -> OpResult {
    Ok(Reply::SnapshotPublished { new: true, at: Offset(at) })
}

/// Where the newest snapshot is, and its bytes.
async fn newest(world: &World, key: &StreamKey) -> Option<(u64, Vec<u8>)> {
    let newest = world.describe(key).await.expect("a stream").snapshot?;
    let companion = key.companion(newest.upload);
    assert_eq!(world.describe(&companion).await.expect("its bytes are there").tail.bytes(), newest.bytes);
    Some((newest.at.0, world.content(&companion, 0).await))
}

fn folded(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + seed * 101) as u8).collect()
}

#[tokio::test]
async fn a_snapshot_ends_with_a_whole_record() {
    let mut world = World::start().await;
    let key = key("whole");
    world.create(&key, JSON).await;
    for record in ["1,", "22,33,", "4,"] {
        world.append(&key, JSON, record).await;
    }
    let content = folded(1, UPLOAD_BYTES);
    assert_eq!(publish(&mut world, &key, 2, 1, &content).await, Err(Error::SnapshotIncomplete));
    upload(&mut world, &key, 1, &content).await;
    assert_eq!(publish(&mut world, &key, 5, 1, &content).await, Err(Error::OffsetInvalid), "between messages");
    assert_eq!(publish(&mut world, &key, 11, 1, &content).await, Err(Error::OffsetInvalid), "behind the tail");
    assert_eq!(publish(&mut world, &key, 2, 1, &content).await, published(2));
    assert!(newest(&world, &key).await == Some((2, content)));
    let last = folded(2, 10);
    upload(&mut world, &key, 2, &last).await;
    assert_eq!(publish(&mut world, &key, 10, 2, &last).await, published(10));
    assert_eq!(newest(&world, &key).await, Some((10, last)));
    assert_eq!(world.describe(&key.companion(1)).await, Err(Error::StreamNotFound), "nobody needs it");
    let remove = RemoveSnapshot { key: key.clone(), at: Offset(10), condition: SnapshotCondition::Is([2; 32]) };
    assert_eq!(world.submit(Op::RemoveSnapshot(remove)).await, Ok(Reply::Done));
    assert_eq!(newest(&world, &key).await, None);
}

/// The place is found in the bytes of the source, which is in another group.
#[tokio::test]
async fn of_what_a_fork_inherits_there_can_be_a_snapshot() {
    let mut world = World::start().await;
    let (source, child) = (world.key_in(1, "source"), world.key_in(2, "child"));
    world.create(&source, BINARY).await;
    for record in ["one", "two", "six"] {
        world.append(&source, BINARY, record).await;
    }
    created(world.submit(fork(&child, &source, Some(6), 1)).await);
    let content = folded(1, 100);
    upload(&mut world, &child, 1, &content).await;
    assert_eq!(publish(&mut world, &child, 5, 1, &content).await, Err(Error::OffsetInvalid));
    assert_eq!(publish(&mut world, &child, 6, 1, &content).await, published(6));
    assert_eq!((newest(&world, &child).await, newest(&world, &source).await), (Some((6, content)), None));
}

fn config(dir: &Path) -> NodeConfig {
    NodeConfig {
        cores: 1,
        groups: GROUPS,
        // Not even one snapshot.
        ring_bytes: 2 << 20,
        data_dir: Some(dir.join("data")),
        store: Some(format!("file://{}", dir.join("objects").display())),
        segment_bytes: 24 << 20,
        disk_reserve_bytes: 0,
        pack_bytes: 1 << 20,
        pack_interval_ms: 20,
        checkpoint_bytes: 1 << 20,
        entries_kept: 1,
        ..NodeConfig::default()
    }
}

/// A stream that is kept from its snapshot on, over restarts: packs get all that they need first.
#[tokio::test]
async fn a_stream_is_kept_from_its_snapshot_on() {
    let dir = TempDir::new().expect("a directory");
    let start = || World::configured(config(dir.path()), Arc::new(SystemClock));
    let mut world = start().await;
    let key = key("kept");
    let Op::Create(plain) = create(&key, BINARY) else { unreachable!() };
    let retention = Retention { snapshot: true, ..Retention::default() };
    created(world.submit(Op::Create(Create { retention, ..plain })).await);
    let mut tail = 0;
    for number in 1..4 {
        tail = world.append(&key, BINARY, folded(number, 1000)).await.tail.0;
        let content = folded(number, UPLOAD_BYTES);
        upload(&mut world, &key, number as u64, &content).await;
        assert_eq!(publish(&mut world, &key, tail, number as u64, &content).await, published(tail));
        assert!(newest(&world, &key).await == Some((tail, content.clone())), "at once");
        if number == 2 {
            within(world.node.stop()).await.expect("a stop");
            world = start().await;
            assert!(newest(&world, &key).await == Some((tail, content)), "after a restart");
        }
    }
    let earliest = async |world: &World| world.describe(&key).await.expect("a stream").earliest.0;
    eventually("a stream that begins at its snapshot", async || earliest(&world).await == tail).await;
    for upload in [1, 2] {
        assert_eq!(world.describe(&key.companion(upload)).await, Err(Error::StreamNotFound));
    }
    eventually("packs with everything", async || world.metric("ursula_node_unpacked_streams") == 0.0).await;
    within(world.node.stop()).await.expect("a stop");
    let world = start().await;
    assert!(newest(&world, &key).await == Some((tail, folded(3, UPLOAD_BYTES))));
    assert_eq!(earliest(&world).await, tail);
}
