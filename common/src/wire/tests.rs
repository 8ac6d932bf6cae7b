//! The bytes of ops and answers: they travel and are stored, so they must never change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::*;
use crate::cluster::{Cluster, ClusterChange, ClusterOp, Form, GroupRecord, NewNode, NodeRecord, NodeState};
use crate::limits::MERGED_OBJECTS_MAX;
use crate::packs::PackRef;
use crate::placement::SlotTable;
use crate::verb::{
    Ack, AcquireFork, Append, Appended, BucketStep, CommitPack, Create, Created, EndImport, ForkCut, ForkFrom,
    ForkPoint, ForkRef, Import, ImportRun, Lifetime, MergePacks, Op, PackedStream, Producer, PublishSnapshot,
    RemoveSnapshot, Reply, Retention, SagaStep, SnapshotCondition, Trim,
};
use crate::{BucketName, ClusterId, ContentType, GroupId, Millis, NodeId, Offset, SagaId, StreamId, StreamKey};

const COMPANION: &str = "a//0000000000000102";

fn key(name: &str) -> StreamKey {
    StreamKey::parse("bk", name).expect("a name")
}

fn bucket() -> BucketName {
    BucketName::parse("bk").expect("a name")
}

fn text() -> ContentType {
    ContentType::parse("text/plain")
}

fn fork_ref() -> ForkRef {
    ForkRef { source: key("s"), fork: key("f"), fork_id: StreamId(9) }
}

fn create() -> Create {
    Create {
        key: key("f"),
        content_type: Some(text()),
        lifetime: Lifetime::Ttl(60),
        closed: true,
        body: Bytes::from_static(b"abc"),
        fork: Some(ForkFrom { source: key("s"), offset: Some(Offset(7)), sub_offset: 2 }),
        numbered: false,
        retention: Retention::default(),
    }
}

fn append() -> Append {
    Append {
        key: key("a"),
        content_type: Some(text()),
        body: Bytes::from_static(b"xyz"),
        close: true,
        producer: Some(Producer { id: "p".into(), epoch: 1, seq: 2 }),
        stream_seq: Some("q".into()),
        expected_offset: Some(Offset(5)),
    }
}

fn ops() -> Vec<Op> {
    let expires = Lifetime::ExpiresAt { text: "2030-01-01T00:00:00Z".into(), at: Millis(1_893_456_000_000) };
    let plain =
        Create { content_type: None, lifetime: expires, closed: false, body: Bytes::new(), fork: None, ..create() };
    let bare = Append {
        content_type: None,
        body: Bytes::new(),
        producer: None,
        stream_seq: None,
        expected_offset: None,
        ..append()
    };
    let cut = Some(ForkCut { stream: StreamId(3), at: Offset(8) });
    let acquire = AcquireFork { fork_ref: fork_ref(), offset: Some(Offset(7)), sub_offset: 1, content_type: None, cut };
    let mut skipping = commit();
    skipping.streams[1].skipped = 400;
    let mut telling = commit();
    telling.streams[2].floor = Offset(500);
    let mut naming = commit();
    naming.streams[1].named = true;
    vec![
        Op::Create(create()),
        Op::Create(plain),
        Op::Create(Create { numbered: true, ..create() }),
        Op::Create(Create {
            retention: Retention { max_age: Some(60), max_bytes: Some(300), snapshot: false },
            ..create()
        }),
        Op::Append(append()),
        Op::Append(bare),
        Op::Delete(key("a")),
        Op::Touch(key("a")),
        Op::Trim(Trim { key: key("a"), to: Offset(300), cut: None }),
        Op::Trim(Trim { key: key("a"), to: Offset(300), cut }),
        Op::CreateBucket(bucket(), Ack::Quorum),
        Op::DeleteBucket(bucket()),
        Op::InstallBucket(BucketStep { bucket: bucket(), order: 4, ack: Ack::Quorum }),
        Op::DropBucket(BucketStep { bucket: bucket(), order: 5, ack: Ack::Quorum }),
        Op::AcquireFork(acquire),
        Op::ReleaseFork(fork_ref()),
        Op::Expire,
        Op::SagaStep(SagaStep { saga: SagaId(6), message: 1, outcome: Err(Error::BucketNotEmpty) }),
    ]
    .into_iter()
    .chain(cluster_ops())
    .chain([Op::BeginPacks, Op::CommitPack(Box::new(commit())), Op::CommitPack(Box::new(skipping))])
    .chain(imports())
    .chain([Op::CommitPack(Box::new(telling)), Op::MergePacks(Box::new(merge())), Op::SweepPacks(vec![pack()])])
    .chain(snapshots())
    .chain([Op::CommitPack(Box::new(naming))])
    .chain([
        Op::CreateBucket(bucket(), Ack::Offloaded),
        Op::InstallBucket(BucketStep { bucket: bucket(), order: 4, ack: Ack::Offloaded }),
    ])
    .collect()
}

fn publish() -> PublishSnapshot {
    PublishSnapshot {
        key: key("a"),
        at: Offset(300),
        cut: Some(ForkCut { stream: StreamId(3), at: Offset(8) }),
        upload: 258,
        content_type: text(),
        bytes: 5,
        digest: [0xcd; 32],
        condition: SnapshotCondition::Is([0xab; 32]),
    }
}

fn snapshots() -> [Op; 9] {
    let retention = Retention { max_age: None, max_bytes: None, snapshot: true };
    let companion = key("a").companion(258);
    let remove = RemoveSnapshot { key: key("a"), at: Offset(300), condition: SnapshotCondition::Any };
    [
        Op::PublishSnapshot(publish()),
        Op::PublishSnapshot(PublishSnapshot { cut: None, condition: SnapshotCondition::Absent, ..publish() }),
        Op::RemoveSnapshot(remove.clone()),
        Op::RemoveSnapshot(RemoveSnapshot { condition: SnapshotCondition::Is([0xab; 32]), ..remove }),
        Op::Create(Create { fork: None, retention, ..create() }),
        Op::Create(Create { fork: None, key: companion.clone(), ..create() }),
        Op::Append(Append { key: companion.clone(), ..append() }),
        Op::Delete(companion.clone()),
        Op::Touch(companion),
    ]
}

fn pack() -> PackRef {
    PackRef { first: 4, last: 4, maker: 0x0102_0304_0506_0708, bytes: 300, hash: [0xab; 32] }
}

fn imports() -> [Op; 3] {
    let run = ImportRun { import: 7, attempt: 258 };
    let more = Import { run, packs: vec![pack()], records: Bytes::from_static(b"abc") };
    let end = EndImport { run, streams: 5, next_stream: StreamId(300) };
    [Op::BeginImport(run), Op::Import(Box::new(more)), Op::EndImport(end)]
}

fn commit() -> CommitPack {
    let pack = pack();
    let packed = |turn, stream, bytes| PackedStream { bytes, ..PackedStream::removed(turn, StreamId(stream)) };
    let streams = vec![packed(300, 9, 1000), packed(301, 7, 0), packed(305, 200, 5)];
    CommitPack { pack, as_of: 310, streams }
}

fn merge() -> MergePacks {
    let replaced = vec![PackRef { first: 3, last: 3, ..pack() }, pack()];
    MergePacks { replaced, object: PackRef { first: 3, maker: 9, ..pack() } }
}

fn cluster_ops() -> impl Iterator<Item = Op> {
    let node = NewNode { id: NodeId(4), address: "n:1".into(), incarnation: 258 };
    let changes = [
        ClusterChange::AddNode(node),
        ClusterChange::SetNodeState { node: NodeId(4), state: NodeState::Draining },
        ClusterChange::SetNodeAddress { node: NodeId(4), address: "m:2".into() },
        ClusterChange::Place(BTreeMap::from([(GroupId(3), vec![NodeId(2), NodeId(300)])])),
        ClusterChange::Begin(BTreeSet::from([GroupId(3)])),
    ];
    changes.into_iter().map(|change| Op::Cluster(Box::new(ClusterOp { version: Some(7), change })))
}

fn form() -> ClusterOp {
    let nodes = vec![NewNode { id: NodeId(1), address: "".into(), incarnation: 5 }];
    let placement = BTreeMap::from([(GroupId(0), vec![NodeId(1)]), (GroupId(1), vec![NodeId(1)])]);
    let form = Form { cluster: ClusterId(0xab), nodes, slots: SlotTable::spread(1), placement };
    ClusterOp { version: None, change: ClusterChange::Form(form) }
}

fn replies() -> Vec<Result<Reply, Error>> {
    let point = ForkPoint {
        source_id: StreamId(3),
        anchor: Offset(7),
        at: Offset(8),
        content_type: text(),
        lifetime: Lifetime::Ttl(60),
        retention: Retention::default(),
        earliest: Offset::ZERO,
        depth: 2,
    };
    let appended = Appended { tail: Offset(11), closed: true, duplicate: true, producer: Some((1, 2)) };
    vec![
        Ok(Reply::Bucket(true)),
        Ok(Reply::Created(Created { new: true, tail: Offset(3), closed: true, content_type: text() })),
        Ok(Reply::Appended(appended)),
        Ok(Reply::Appended(Appended { producer: None, closed: false, duplicate: false, ..appended })),
        Ok(Reply::ForkAcquired(point.clone())),
        Ok(Reply::ForkAcquired(ForkPoint {
            retention: Retention { max_age: Some(5), ..Retention::default() },
            earliest: Offset(6),
            ..point
        })),
        Ok(Reply::Trimmed(Offset(300))),
        Ok(Reply::Done),
        Ok(Reply::SnapshotPublished { new: true, at: Offset(300) }),
        Ok(Reply::ImportBegun(None)),
        Ok(Reply::ImportBegun(Some(pack()))),
        Err(Error::StreamExists { tail: Offset(4), closed: true }),
    ]
}

fn errors() -> Vec<Error> {
    let (tail, expected) = (Offset(4), text());
    vec![
        Error::BucketNotFound,
        Error::BucketNotEmpty,
        Error::BucketBusy,
        Error::BucketProtected,
        Error::BucketExists,
        Error::StoreMissing,
        Error::StoreAway,
        Error::StreamNotFound,
        Error::StreamGone,
        Error::StreamExists { tail, closed: false },
        Error::StreamClosed { tail },
        Error::ContentTypeMismatch { expected: expected.clone() },
        Error::StaleEpoch { current: 3 },
        Error::EpochStart,
        Error::ProducerGap { expected: 1, received: 2 },
        Error::StreamSeqConflict { tail },
        Error::OffsetMismatch { tail },
        Error::TooManyProducers,
        Error::OffsetGone { earliest: tail },
        Error::OffsetInvalid,
        Error::StreamFull,
        Error::SnapshotNotFound,
        Error::SnapshotStale { newest: tail },
        Error::SnapshotMismatch { current: None },
        Error::SnapshotMismatch { current: Some([0xab; 32]) },
        Error::SnapshotDiffers,
        Error::SnapshotIncomplete,
        Error::ForkSourceNotFound,
        Error::ForkSourceGone,
        Error::ForkContentTypeMismatch { expected },
        Error::ForkOffsetInvalid { tail },
        Error::ForkSubOffsetInvalid,
        Error::TooManyForks,
        Error::ClusterRefused { reason: "no".into() },
        Error::MemoryFull,
        Error::DiskFull,
        Error::Restoring,
        Error::HistoryDamaged { from: tail, until: Offset(tail.0 + 7) },
        Error::Overloaded,
        Error::Unavailable,
        Error::OutcomeUnknown,
        Error::NOT_HERE,
        Error::NotLeader { leader: Some(NodeId(3)), term: 258 },
        Error::ResultForgotten,
        Error::Malformed,
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

#[test]
fn ops_are_golden() {
    let encoded: Vec<String> = ops().iter().map(|op| hex(&encode_op(op))).collect();
    assert_eq!(encoded, include_str!("golden_ops.txt").lines().collect::<Vec<_>>());
}

/// 4096 slots would fill the page: they stand here as a sum.
#[test]
fn forming_is_golden() {
    let bytes = hex(&encode_op(&Op::Cluster(Box::new(form()))));
    let slots = "01".repeat(4096);
    assert_eq!(
        bytes.replace(&slots, "SLOTS"),
        "9204b12012ae200a10000000000000000000000000000000ab120b0801190500000000000000\
         1a8020SLOTS220312010122050801120101"
    );
}

#[test]
fn a_cluster_is_golden_and_comes_back() {
    let node = NodeRecord { address: "n:1".into(), incarnation: 258, state: NodeState::Removed };
    let group = GroupRecord { replicas: vec![NodeId(4)], begun: true };
    let cluster = Cluster {
        id: ClusterId(0xab),
        version: 7,
        nodes: BTreeMap::from([(NodeId(4), node)]),
        slots: SlotTable::spread(1),
        groups: BTreeMap::from([(GroupId(1), group)]),
    };
    let wire = cluster::Cluster::from(&cluster);
    let bytes = hex(&wire.encode_to_vec()).replace(&"01".repeat(4096), "SLOTS");
    let golden = "0a10000000000000000000000000000000ab10071a12080412036e3a311902010000000000002002\
                  228020SLOTS2a0708011201041801";
    assert_eq!(bytes, golden);
    assert_eq!(Cluster::try_from(wire), Ok(cluster));
}

#[test]
fn outcomes_are_golden() {
    let encoded: Vec<String> = replies().iter().map(|outcome| hex(&reply::encode(outcome))).collect();
    assert_eq!(encoded, include_str!("golden_outcomes.txt").lines().collect::<Vec<_>>());
}

#[test]
fn errors_are_golden() {
    let encoded = errors().into_iter().map(|error| (error.code(), hex(&reply::encode(&Err(error)))));
    let encoded: Vec<String> = encoded.map(|(code, bytes)| format!("{code} {bytes}")).collect();
    assert_eq!(encoded, include_str!("golden_errors.txt").lines().collect::<Vec<_>>());
}

#[test]
fn everything_comes_back_as_it_was() {
    for op in ops().into_iter().chain([Op::Cluster(Box::new(form()))]) {
        assert_eq!(decode_op(encode_op(&op).into()), Ok(op));
    }
    for outcome in replies().into_iter().chain(errors().into_iter().map(Err)) {
        assert_eq!(reply::decode(&reply::encode(&outcome)), Ok(outcome));
    }
}

#[test]
fn a_body_is_a_slice_of_what_was_received() {
    let received = Bytes::from(encode_op(&Op::Append(append())));
    let Ok(Op::Append(decoded)) = decode_op(received.clone()) else { panic!("an append") };
    assert!(received.as_ptr_range().contains(&decoded.body.as_ptr()));
}

#[test]
fn what_breaks_a_promise_of_the_vocabulary_is_refused() {
    let long = "n".repeat(2000);
    let wire_key = |bucket: &str, name: &str| Key { bucket: bucket.into(), name: name.into() };
    let append = |change: fn(&mut super::Append)| {
        let mut wire = super::Append::from(append());
        change(&mut wire);
        op::Kind::Append(wire)
    };
    let keeping = |max_age, max_bytes| {
        let retention = Some(super::Retention { max_age, max_bytes, snapshot: false });
        op::Kind::Create(super::Create { retention, ..create().into() })
    };
    let publish = |change: fn(&mut snapshot::PublishSnapshot)| {
        let mut wire = snapshot::PublishSnapshot::from(publish());
        change(&mut wire);
        op::Kind::PublishSnapshot(wire)
    };
    let fork = |change: fn(&mut super::Create, Key)| {
        let mut wire = super::Create::from(create());
        change(&mut wire, super::Key { bucket: "bk".into(), name: COMPANION.into() });
        op::Kind::Create(wire)
    };
    let wrong = [
        publish(|p| p.key.name = COMPANION.into()),
        publish(|p| p.at = u64::MAX),
        publish(|p| p.upload = 0),
        publish(|p| p.digest.truncate(31)),
        publish(|p| p.condition = Some(vec![0; 31])),
        publish(|p| p.content_type = "t".repeat(257)),
        fork(|create, companion| create.key = companion),
        fork(|create, companion| create.fork.as_mut().expect("a fork").source = companion),
        op::Kind::Trim(super::Trim { key: wire_key("bk", COMPANION), to: 0, cut: None }),
        op::Kind::Delete(wire_key("bk", "a//102")),
        keeping(Some(0), None),
        keeping(Some(crate::limits::TTL_SECONDS_MAX + 1), None),
        keeping(None, Some(0)),
        keeping(None, Some(crate::limits::RETENTION_BYTES_MAX + 1)),
        op::Kind::Trim(super::Trim { key: wire_key("bk", "a"), to: u64::MAX, cut: None }),
        op::Kind::Delete(wire_key("b", "a")),
        op::Kind::Delete(wire_key("bk", "")),
        op::Kind::Delete(wire_key("bk", &long)),
        op::Kind::CreateBucket("health".into()),
        op::Kind::CreateBucketWith(super::BucketConfig { bucket: "bk".into(), ack: 2 }),
        op::Kind::InstallBucket(super::BucketStep { bucket: "bk".into(), order: 1, ack: 2 }),
        append(|a| (a.body, a.close) = (Bytes::new(), false)),
        append(|a| a.body = vec![0; crate::limits::APPEND_BYTES_MAX + 1].into()),
        append(|a| a.expected_offset = Some(u64::MAX)),
        append(|a| a.stream_seq = Some("s".repeat(257))),
        append(|a| a.content_type = Some("t".repeat(257))),
        append(|a| a.producer = Some(super::Producer { id: String::new(), epoch: 0, seq: 0 })),
        append(|a| a.producer = Some(super::Producer { id: "p".into(), epoch: 0, seq: u64::MAX })),
    ];
    for kind in wrong {
        let encoded = super::Op { kind: Some(kind.clone()) }.encode_to_vec();
        assert_eq!(decode_op(encoded.into()), Err(Error::Malformed), "{kind:?}");
    }
    for bytes in [&b""[..], b"\xff", b"\x0a\x05ab", b"\xf8\x07\x01"] {
        assert_eq!(decode_op(Bytes::from_static(bytes)), Err(Error::Malformed));
        assert_eq!(reply::decode(bytes), Err(Error::Malformed));
    }
}

#[test]
fn what_no_pack_can_have_is_refused() {
    let change = |change: &dyn Fn(&mut packs::CommitPack)| {
        let mut wire = packs::CommitPack::from(commit());
        change(&mut wire);
        let encoded = super::Op { kind: Some(op::Kind::CommitPack(wire)) }.encode_to_vec();
        decode_op(encoded.into())
    };
    assert!(change(&|_| {}).is_ok());
    let wrong: [&dyn Fn(&mut packs::CommitPack); 13] = [
        &|commit| commit.turns[0] = 0,
        &|commit| commit.turns[1] = 0,
        &|commit| commit.turns[2] = u64::MAX,
        &|commit| commit.turns.truncate(2),
        &|commit| commit.streams.truncate(2),
        &|commit| commit.bytes.push(0),
        &|commit| commit.skipped.push(0),
        &|commit| commit.floors.push(0),
        &|commit| commit.named.push(true),
        &|commit| commit.floors = vec![0, 0, u64::MAX],
        &|commit| commit.pack.first = 0,
        &|commit| commit.pack.last = 3,
        &|commit| commit.pack.hash.truncate(31),
    ];
    for (place, wrong) in wrong.iter().enumerate() {
        assert_eq!(change(wrong), Err(Error::Malformed), "{place}");
    }
    for (more, fits) in [(0, true), (1, false)] {
        let count = crate::limits::PACK_STREAMS_MAX + more;
        let many = |commit: &mut packs::CommitPack| {
            (commit.turns, commit.streams, commit.bytes) = (vec![1; count], vec![-1; count], vec![0; count]);
        };
        assert_eq!(change(&many).is_ok(), fits, "{count} streams");
    }
}

#[test]
fn objects_in_the_place_of_none_or_of_very_many_are_refused() {
    for (count, fits) in [(0, false), (1, true), (MERGED_OBJECTS_MAX, true), (MERGED_OBJECTS_MAX + 1, false)] {
        let packs = vec![pack(); count];
        let merge = Op::MergePacks(Box::new(MergePacks { replaced: packs.clone(), object: pack() }));
        for op in [merge, Op::SweepPacks(packs)] {
            assert_eq!(decode_op(encode_op(&op).into()).is_ok(), fits, "{count} objects");
        }
    }
}

/// A stream costs a few bytes of a command, for a pack has very many.
#[test]
fn a_commit_is_compact() {
    let packed =
        |n: u64| PackedStream { bytes: 100, ..PackedStream::removed(1_000_000 + 2 * n, StreamId(5_000_000 + n)) };
    let streams = (0..60_000).map(packed).collect();
    let op = Op::CommitPack(Box::new(CommitPack { streams, ..commit() }));
    let len = encode_op(&op).len();
    assert!(len < 60_000 * 3 + 100, "{len} bytes");
}

#[test]
fn an_error_of_a_newer_version_is_malformed() {
    assert_eq!(Error::from(reply::Failure { error: 9999, ..reply::Failure::default() }), Error::Malformed);
}

/// Bytes that this version does not know all of must not get into a log: another replica may be of a later one.
#[test]
fn an_op_is_whole_unless_it_says_more() {
    for op in ops() {
        let bytes = encode_op(&op);
        assert_eq!(decode_whole_op(bytes.clone().into()), Ok((op.clone(), true)));
        let later = [&bytes[..], &[0xfa, 0x3f, 0]].concat();
        assert_eq!(decode_whole_op(later.into()), Ok((op, false)));
    }
}
