//! A snapshot goes from the log of one node to that of another, with every byte.

use std::sync::Arc;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::LocalSet;
use ursula_common::clock::SystemClock;
use ursula_common::verb::{Append, Create, Lifetime, Op, Retention};
use ursula_common::{ContentType, GroupId, Millis, Offset, StreamId, StreamKey};
use ursula_stream_core::{Command, Effect, State};

use super::*;
use crate::archive::{Archive, Places};
use crate::config::NodeConfig;
use crate::data_dir::DataDir;
use crate::journal::Journal;
use crate::platform::Platform;
use crate::raft::{SnapshotData, SnapshotSink, SnapshotSource};
use crate::runtime::Runtime;

const GROUP: GroupId = GroupId(1);

/// A node's directory, its log and what it knows of places.
struct Node {
    _path: TempDir,
    dir: DataDir,
    archive: Archive,
}

fn node() -> Node {
    let path = TempDir::new().expect("a directory");
    let config = NodeConfig { segment_bytes: 24 << 20, disk_reserve_bytes: 0, ..NodeConfig::default() };
    let platform = Platform::system(Arc::new(SystemClock));
    let (dir, _) =
        DataDir::open(&platform, path.path(), &config, crate::Formation::Member, || 7).expect("a data directory");
    let failed = watch::channel(false).0;
    let journal = Journal::start(
        Runtime::default(),
        dir.log().clone(),
        0,
        failed,
        Box::new(|_, _| ()),
        metrics::Histogram::noop(),
    )
    .expect("a log");
    Node { _path: path, dir, archive: Archive::new(journal) }
}

/// A state with `streams`, whose bytes are in the log of `node`.
fn state(node: &Node, streams: &[Vec<Bytes>]) -> State {
    let mut state = State::new(GROUP, 1);
    let mut effects = Vec::new();
    for (number, records) in streams.iter().enumerate() {
        let key = StreamKey::parse("default", &format!("stream-{number}")).expect("a name");
        let content_type = Some(ContentType::parse("application/octet-stream"));
        let create = Create {
            key: key.clone(),
            content_type: content_type.clone(),
            lifetime: Lifetime::Forever,
            closed: false,
            body: Bytes::new(),
            fork: None,
            numbered: true,
            retention: Retention::default(),
        };
        state.apply(Command { at: Millis(1), origin: None, op: Op::Create(create) }, &mut effects);
        for body in records {
            let append = Append {
                key: key.clone(),
                content_type: content_type.clone(),
                body: body.clone(),
                close: false,
                producer: None,
                stream_seq: None,
                expected_offset: None,
            };
            state.apply(Command { at: Millis(1), origin: None, op: Op::Append(append) }, &mut effects);
        }
    }
    for effect in effects {
        if let Effect::Appended { stream, at, bytes } = effect {
            node.archive.copy(GROUP, stream, at, &[bytes]);
        }
    }
    state
}

fn outgoing(from: &Node, state: &State) -> Outgoing {
    let state = state.encode();
    Outgoing::new(GROUP, move || Ok(state.into()), from.archive.clone(), from.archive.hold(GROUP), 1 << 20)
}

async fn content(archive: &Archive, stream: StreamId, end: u64) -> Vec<Bytes> {
    let (mut records, mut at) = (Vec::new(), 0);
    while at < end {
        let found = archive.read(GROUP, stream, Offset(at), Offset(end), 100_000).await.expect("bytes");
        assert!(!found.records.is_empty(), "bytes at {at} of stream {}", stream.0);
        at += found.records.iter().map(|record| record.len() as u64).sum::<u64>();
        records.extend(found.records);
    }
    records
}

/// Takes a snapshot in chunks of a size that fits nothing.
async fn receive(node: &Node, mut from: impl SnapshotSource) -> SnapshotData {
    let mut sink = Box::new(IncomingFile::create(&node.dir, GROUP).expect("a file"));
    while let Some(section) = from.next().await.expect("a section") {
        for chunk in section.chunks(70_001) {
            sink.write(Bytes::copy_from_slice(chunk)).await.expect("a write");
        }
    }
    sink.finish().await.expect("a snapshot")
}

async fn run(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn every_record_arrives_and_can_be_read() {
    run(async {
        let (from, to) = (node(), node());
        let record = |stream: usize, i: usize| Bytes::from(vec![(stream * 31 + i) as u8; 1 + (i * 7919) % 60_000]);
        let streams: Vec<Vec<Bytes>> = (0..3).map(|stream| (0..300).map(|i| record(stream, i)).collect()).collect();
        let state = state(&from, &streams);
        let outgoing = outgoing(&from, &state);
        let (arrived, places) = install(GROUP, &to.archive, receive(&to, outgoing).await).await.expect("installed");
        assert_eq!(arrived, state.encode());
        to.archive.restore(GROUP, places.places(GROUP));
        for range in state.stored_ranges() {
            let number = range.stream.0 as usize - 1;
            assert_eq!(content(&to.archive, range.stream, range.end.0).await, streams[number]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_group_without_bytes_is_a_state_alone() {
    run(async {
        let (from, to) = (node(), node());
        let state = state(&from, &[vec![], vec![]]);
        let outgoing = outgoing(&from, &state);
        let (arrived, places) = install(GROUP, &to.archive, receive(&to, outgoing).await).await.expect("installed");
        assert_eq!((arrived, places.places(GROUP)), (Bytes::from(state.encode()), Places::default()));
    })
    .await;
}

#[tokio::test]
async fn what_is_damaged_or_cut_off_is_refused() {
    run(async {
        let (from, to) = (node(), node());
        let state = state(&from, &[vec![Bytes::from_static(b"a record"), Bytes::from_static(b"another")]]);
        let mut outgoing = outgoing(&from, &state);
        let mut whole = Vec::new();
        while let Some(section) = outgoing.next().await.expect("a section") {
            whole.extend_from_slice(&section);
        }
        let take = async |bytes: Vec<u8>| install(GROUP, &to.archive, SnapshotData::in_memory(bytes)).await;
        assert!(take(whole.clone()).await.is_ok());
        for len in 0..whole.len() {
            assert!(take(whole[..len].to_vec()).await.is_err(), "{len} of {} bytes", whole.len());
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(take(flipped).await.is_err(), "a bit of byte {at}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_file_of_a_snapshot_goes_with_it() {
    run(async {
        let (from, to) = (node(), node());
        let state = state(&from, &[vec![Bytes::from_static(b"a record")]]);
        let files = || std::fs::read_dir(to._path.path().join("checkpoints")).expect("a directory").count();
        let snapshot = receive(&to, outgoing(&from, &state)).await;
        assert_eq!(files(), 1);
        drop(snapshot);
        assert_eq!(files(), 0);
    })
    .await;
}
