//! The bytes of a snapshot: what they are, that they come back, that damage is an error.

use proptest::prelude::*;
use ursula_common::cluster::{ClusterChange, ClusterOp, Form, NewNode};
use ursula_common::packs::PackRef;
use ursula_common::placement::SlotTable;
use ursula_common::verb::{
    Ack, Append, BucketStep, Create, ForkFrom, Import, ImportRun, Lifetime, Op, Producer, PublishSnapshot, Retention,
    SnapshotCondition,
};
use ursula_common::{BucketName, ClusterId, ContentType, GroupId, Millis, NodeId, Offset, SessionId, StreamKey};

use super::*;
use crate::{Command, Message as Sent, Origin};

const NOW: Millis = Millis(1_700_000_000_000);

fn key(name: &str) -> StreamKey {
    StreamKey::parse("default", name).expect(name)
}

fn create(name: &str) -> Create {
    Create {
        key: key(name),
        content_type: Some(ContentType::parse("text/plain")),
        lifetime: Lifetime::Ttl(60),
        closed: false,
        body: Bytes::from_static(b"first"),
        fork: None,
        numbered: false,
        retention: Retention::default(),
    }
}

fn append(name: &str) -> Append {
    Append {
        key: key(name),
        content_type: Some(ContentType::parse("text/plain")),
        body: Bytes::from_static(b"x"),
        close: false,
        producer: Some(Producer { id: "p".into(), epoch: 1, seq: 0 }),
        stream_seq: Some("s".into()),
        expected_offset: None,
    }
}

fn apply(state: &mut State, ops: impl IntoIterator<Item = Op>) -> Vec<crate::Effect> {
    let mut effects = Vec::new();
    for (seq, op) in ops.into_iter().enumerate() {
        let origin = Some(Origin { session: SessionId(7), seq: seq as u64, acked: 0 });
        state.apply(Command { at: NOW, origin, op }, &mut effects);
    }
    state.check();
    effects
}

/// Something of everything that a group of streams can hold.
fn rich() -> State {
    let mut state = State::new(GroupId(1), 2);
    let fork = |name: &str, source: &str| {
        let fork = Some(ForkFrom { source: key(source), offset: None, sub_offset: 0 });
        Op::Create(Create { fork, content_type: None, lifetime: Lifetime::Forever, ..create(name) })
    };
    let until = Lifetime::ExpiresAt { text: "soon".into(), at: Millis(NOW.0 + 1) };
    apply(
        &mut state,
        [
            Op::Create(create("a")),
            Op::Create(Create { lifetime: until, ..create("b") }),
            Op::Append(append("a")),
            Op::Append(Append { close: true, ..append("b") }),
            fork("c", "a"),
            fork("d", "elsewhere"),
            Op::InstallBucket(BucketStep { bucket: bucket("other"), order: 4, ack: Ack::Quorum }),
            Op::DropBucket(BucketStep { bucket: bucket("other"), order: 5, ack: Ack::Quorum }),
        ],
    );
    // The source of `c` is here: its request comes back, and the source is deleted.
    let Some(Sent { saga, message, op, .. }) = state.outbox().next() else { panic!("a question to the source") };
    let mut effects = Vec::new();
    let command = |op| Command { at: NOW, origin: None, op };
    let crate::Answer::Done(outcome) = state.apply(command(op), &mut effects) else { panic!("granted at once") };
    let step = ursula_common::verb::SagaStep { saga, message, outcome };
    state.apply(command(Op::SagaStep(step)), &mut effects);
    state.apply(command(Op::Delete(key("a"))), &mut effects);
    let fork_ref =
        ursula_common::verb::ForkRef { source: key("b"), fork: key("gone"), fork_id: ursula_common::StreamId(9) };
    state.apply(command(Op::ReleaseFork(fork_ref)), &mut effects);
    state.check();
    state
}

/// The same with packs: a stream that one has, one that two have, one that is new, one that is gone.
fn packed() -> State {
    let mut state = rich();
    let mut effects = Vec::new();
    let mut apply = |state: &mut State, op| state.apply(Command { at: NOW, origin: None, op }, &mut effects);
    apply(&mut state, Op::BeginPacks);
    for (number, after) in [(1, Op::Append(append("c"))), (2, Op::Delete(key("b")))] {
        let plan = state.plan_pack(1 << 20, 100).expect("something waits");
        let ends: Vec<_> = plan.streams.iter().map(|planned| planned.end).collect();
        let pack = PackRef { first: number, last: number, maker: 5, bytes: 77, hash: [0xcd; 32] };
        apply(&mut state, Op::CommitPack(Box::new(plan.commit(pack, &ends))));
        apply(&mut state, after);
    }
    apply(&mut state, Op::Create(create("e")));
    apply(&mut state, Op::Append(append("e")));
    state.check();
    state
}

/// A stream that is kept from its snapshot on: packs have the first whole, and the two after it only in part.
fn published() -> State {
    let mut state = State::new(GroupId(1), 2);
    let retention = Retention { snapshot: true, ..Retention::default() };
    apply(&mut state, [Op::Create(Create { lifetime: Lifetime::Forever, retention, ..create("a") }), Op::BeginPacks]);
    let mut effects = Vec::new();
    let mut apply = |state: &mut State, op| state.apply(Command { at: NOW, origin: None, op }, &mut effects);
    for (number, at) in [(1u64, 0), (0xfedc, 5), (3, 5)] {
        apply(&mut state, Op::Create(Create { key: key("a").companion(number), ..create("a") }));
        let published = PublishSnapshot {
            key: key("a"),
            at: Offset(at),
            cut: None,
            upload: number,
            content_type: ContentType::parse("a/b"),
            bytes: 5,
            digest: [number as u8; 32],
            condition: if number == 3 { SnapshotCondition::Is([0xdc; 32]) } else { SnapshotCondition::Any },
        };
        apply(&mut state, Op::PublishSnapshot(published));
        for _ in 0..2 {
            let plan = state.plan_pack(1 << 20, if number == 1 { 100 } else { 0 });
            let Some(plan) = plan.filter(|plan| !plan.streams.is_empty()) else { continue };
            let ends: Vec<_> = plan.streams.iter().map(|planned| planned.end).collect();
            let pack = PackRef { first: plan.pack, last: plan.pack, maker: 5, bytes: 77, hash: [0xcd; 32] };
            apply(&mut state, Op::CommitPack(Box::new(plan.commit(pack, &ends))));
        }
    }
    state.check();
    state
}

fn bucket(name: &str) -> BucketName {
    BucketName::parse(name).expect(name)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// These bytes lie on the disks of running clusters: the test may grow, its lines may not change.
#[test]
fn golden_bytes() {
    let mut small = State::new(GroupId(1), 2);
    apply(&mut small, [Op::Create(create("a"))]);
    assert_eq!(hex(&small.encode()), SMALL.concat());
    assert_eq!(hex(&rich().encode()), RICH.concat());
    assert_eq!(hex(&packed().encode()), PACKED.concat());
    let plan = packed().plan_pack(1 << 20, 100).expect("something waits");
    assert_eq!(hex(&plan.records), PACK.concat());
    assert_eq!(hex(&published().encode()), PUBLISHED.concat());
}

fn meta_group() -> State {
    let placement = [0, 1, 2].map(|group| (GroupId(group), vec![NodeId(1)])).into();
    let nodes = vec![NewNode { id: NodeId(1), address: "n:1".into(), incarnation: 5 }];
    let form = Form { cluster: ClusterId(0xab), nodes, slots: SlotTable::spread(2), placement };
    let mut state = State::new(GroupId::META, 2);
    let op = Op::Cluster(Box::new(ClusterOp { version: None, change: ClusterChange::Form(form) }));
    state.apply(Command { at: NOW, origin: None, op }, &mut Vec::new());
    state.check();
    state
}

/// As those above.
#[test]
fn an_import_is_golden() {
    let mut state = State::new(GroupId(1), 2);
    let run = ImportRun { import: 7, attempt: 258 };
    let pack = PackRef { first: 1, last: 1, maker: 5, bytes: 77, hash: [0xcd; 32] };
    let more = Import { run, packs: vec![pack], records: bytes::Bytes::new() };
    apply(&mut state, [Op::BeginImport(run), Op::Import(Box::new(more))]);
    let golden = "010f0a0d080110021880d095ffbc312001024a000b12090a0764656661756c74\
                  20221e0907000000000000001880d095ffbc31220412023a002206080112022a00\
                  477245090700000000000000110201000000000000\
                  223108011001190500000000000000204d2a20cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd027a00";
    assert_eq!(hex(&state.encode()), golden);
}

/// The slots of two groups take 4096 bytes: they are golden where they are made.
#[test]
fn a_cluster_is_golden() {
    let slots: Vec<u8> = SlotTable::spread(2).groups().iter().map(|group| group.0 as u8).collect();
    let bytes = hex(&meta_group().encode()).replace(&hex(&slots), "SLOTS");
    assert_eq!(bytes, META.concat());
}

#[test]
fn a_snapshot_comes_back() {
    for state in [State::new(GroupId::META, 3), meta_group(), rich(), packed(), published()] {
        let read = State::decode(state.encode().into()).expect("read");
        read.check();
        assert!(read.encode() == state.encode());
        assert_eq!(read.next_expiry(), state.next_expiry());
        assert!(read.outbox().eq(state.outbox()));
        assert_eq!(read.stats(), state.stats());
        assert_eq!(read.cluster(), state.cluster());
        assert_eq!((read.packing(), read.catalogue()), (state.packing(), state.catalogue()));
        assert_eq!(read.plan_pack(1 << 20, 100), state.plan_pack(1 << 20, 100));
        assert_eq!(read.info(&key("a"), NOW), state.info(&key("a"), NOW));
        assert_eq!(read.info(&key("b"), NOW), state.info(&key("b"), NOW));
        assert_eq!(read.info(&key("c"), NOW).map(|info| info.tail), state.info(&key("c"), NOW).map(|info| info.tail));
    }
    let named: Vec<_> = {
        let state = published();
        let all = state.stream(&key("a")).and_then(Stream::snapshots).expect("it has some");
        all.iter().map(|known| (known.info.upload, known.since > 0)).collect()
    };
    assert_eq!(named, [(1, false), (0xfedc, true), (3, true)]);
    assert_eq!(rich().info(&key("c"), NOW).map(|info| info.tail), Ok(Offset(11)));
}

/// How much one sweep can do depends on the index, so it must be the same on every replica.
#[test]
fn the_index_of_deadlines_comes_back_as_it_was() {
    let mut state = State::new(GroupId(1), 2);
    apply(&mut state, [Op::Create(create("a"))]);
    let later = Millis(NOW.0 + 30_000);
    state.apply(Command { at: later, origin: None, op: Op::Touch(key("a")) }, &mut Vec::new());
    let read = State::decode(state.encode().into()).expect("read");
    assert_eq!(read.deadlines, state.deadlines);
    assert_eq!(read.next_expiry(), Some(Millis(NOW.0 + 60_000)));
}

#[test]
fn chunks_are_the_snapshot() {
    let mut state = State::new(GroupId(1), 2);
    let mut effects = Vec::new();
    for n in 0..10_000 {
        let op = Op::Create(create(&format!("a-stream-with-some-name/{n}")));
        state.apply(Command { at: NOW, origin: None, op }, &mut effects);
    }
    let chunks: Vec<_> = state.encode_chunks().collect();
    assert!(chunks.len() > 1 && chunks.iter().all(|chunk| chunk.len() < CHUNK_BYTES + 1000));
    assert!(chunks.concat() == state.encode());
}

#[test]
fn other_versions_and_missing_ends_are_refused() {
    let bytes = Bytes::from(packed().encode());
    let decode = |bytes: Bytes| State::decode(bytes).map(|_| ());
    assert_eq!(decode(Bytes::new()), Err(CodecError::Damaged));
    assert_eq!(decode(Bytes::from_static(&[9])), Err(CodecError::UnknownVersion(9)));
    for len in 1..bytes.len() {
        assert_eq!(decode(bytes.slice(..len)), Err(CodecError::Damaged), "{len} bytes");
    }
    assert_eq!(decode([&bytes[..], &[0]].concat().into()), Err(CodecError::Damaged));
}

proptest! {
    #[test]
    fn noise_is_an_error_and_no_panic(noise: Vec<u8>) {
        let _ = State::decode([&[VERSION], &noise[..]].concat().into());
    }

    /// What is accepted in spite of the damage can be worked with.
    #[test]
    fn damage_never_panics(at in 0..10_000usize, flip in 1..=255u8) {
        let mut bytes = packed().encode();
        let at = at % bytes.len();
        bytes[at] ^= flip;
        if let Ok(mut state) = State::decode(bytes.into()) {
            let _ = state.encode();
            let later = Millis(NOW.0 + 100_000);
            let commit = state.plan_pack(1 << 20, 100).map(|plan| {
                let ends: Vec<_> = plan.streams.iter().map(|planned| planned.end).collect();
                let pack = PackRef { first: plan.pack, last: plan.pack, maker: 5, bytes: 77, hash: [0; 32] };
                Op::CommitPack(Box::new(plan.commit(pack, &ends)))
            });
            let ops = [Op::BeginPacks, Op::Append(append("c")), Op::Delete(key("c")), Op::Create(create("f")), Op::Expire];
            for op in ops.into_iter().chain(commit) {
                state.apply(Command { at: later, origin: None, op }, &mut Vec::new());
            }
        }
    }
}

/// Version, head, bucket, stream, session, end.
const SMALL: &[&str] = &[
    "01",
    "0f0a0d080110021880d095ffbc312002",
    "0b12090a0764656661756c74",
    "271a250a0161100118052080d095ffbc3128e0a499ffbc31320a746578742f706c61696e3a02083c",
    "2822260907000000000000001880d095ffbc3122141212121008011005220a746578742f706c61696e",
    "047a020801",
];

/// Version, head, bucket, cluster, end.
const META: &[&str] = &[
    "01",
    "0d0a0b10021880d095ffbc312001",
    "0b12090a0764656661756c74",
    "c12042be200a10000000000000000000000000000000ab10011a10080112036e3a3119050000000000000022",
    "8020SLOTS2a0512010118012a0508011201012a05080212010102",
    "7a00",
];

/// The same and a bucket that is gone, streams with everything, a waiting fork, a released one.
const RICH: &[&str] = &[
    "01",
    "110a0f080110021880d095ffbc3120052802",
    "0b12090a0764656661756c74",
    "3f1a3d0a0161100118062080d095ffbc3128e0a499ffbc31320a746578742f706c61696e3a02083c480172140a0c0a0764656661",
    "756c74120163100318062006",
    "4e1a4c0a0162100218062080d095ffbc312881d095ffbc31320a746578742f706c61696e3a0d1204736f6f6e1881d095ffbc3140",
    "015201735a050a01701001620e0a050a017010011080d095ffbc31",
    "3f1a3d0a01631003180b2080d095ffbc3128e0a499ffbc31320a746578742f706c61696e3a02083c6a160a0c0a0764656661756c",
    "741201611001180628063001",
    "89012286010907000000000000001880d095ffbc3122141212121008011005220a746578742f706c61696e221608011212121008",
    "011005220a746578742f706c61696e220a080212061a0408062001220c080312081a060806100120012216080412121210080110",
    "0b220a746578742f706c61696e2204080518022206080612022a002206080712022a00",
    "442a420802120b09070000000000000010051a310a2d0a0c0a0764656661756c741201642a05666972737432160a140a07646566",
    "61756c741209656c736577686572651004",
    "1532130a0f0a0764656661756c741204676f6e651009",
    "0b3a090a056f746865721005",
    "047a020803",
];

/// The same with packs.
const PACKED: &[&str] = &[
    "01",
    "110a0f080110021880d095ffbc3120062802",
    "044a020808",
    "33523108011001190500000000000000204d2a20cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
    "33523108021002190500000000000000204d2a20cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
    "065a0408061002",
    "0b12090a0764656661756c74",
    "471a450a0161100118062080d095ffbc3128e0a499ffbc31320a746578742f706c61696e3a02083c480172140a0c0a0764656661",
    "756c741201631003180620067a06080610012801",
    "5a1a580a01631003180c2080d095ffbc3128e0a499ffbc31320a746578742f706c61696e3a02083c520173620e0a050a01701001",
    "1080d095ffbc316a160a0c0a0764656661756c7412016110011806280630017a06080c10022801",
    "401a3e0a0165100518062080d095ffbc3128e0a499ffbc31320a746578742f706c61696e3a02083c520173620e0a050a01701001",
    "1080d095ffbc317a0418072008",
    "89012286010907000000000000001880d095ffbc3122141212121008011005220a746578742f706c61696e221608011212121008",
    "011005220a746578742f706c61696e220a080212061a0408062001220c080312081a060806100120012216080412121210080110",
    "0b220a746578742f706c61696e2204080518022206080612022a002206080712022a00",
    "442a420802120b09070000000000000010051a310a2d0a0c0a0764656661756c741201642a05666972737432160a140a07646566",
    "61756c741209656c736577686572651004",
    "1532130a0f0a0764656661756c741204676f6e651009",
    "0b3a090a056f746865721005",
    "047a020803",
];

/// The records of its next pack.
const PACK: &[&str] = &[
    "01",
    "110a0f080110021880d095ffbc3120062802",
    "044a020808",
    "065a0408061002",
    "0b12090a0764656661756c74",
    "421a400a0165100518062080d095ffbc3128e0a499ffbc31320a746578742f706c61696e3a02083c520173620e0a050a01701001",
    "1080d095ffbc317a06080610032801",
    "89012286010907000000000000001880d095ffbc3122141212121008011005220a746578742f706c61696e221608011212121008",
    "011005220a746578742f706c61696e220a080212061a0408062001220c080312081a060806100120012216080412121210080110",
    "0b220a746578742f706c61696e2204080518022206080612022a002206080712022a00",
    "442a420802120b09070000000000000010051a310a2d0a0c0a0764656661756c741201642a05666972737432160a140a07646566",
    "61756c741209656c736577686572651004",
    "1532130a0f0a0764656661756c741204676f6e651009",
    "0b3a090a056f746865721005",
    "047a020801",
];

/// What comes after is not in it, and does not notice it.
#[test]
fn a_frozen_state_stays_as_it_was() {
    let mut state = packed();
    let before = state.encode();
    let frozen = state.freeze();
    let mut untouched = State::decode(before.clone().into()).expect("read");
    let later = [
        Op::Append(Append { stream_seq: Some("t".into()), ..append("c") }),
        Op::Create(create("new")),
        Op::Delete(key("e")),
    ];
    for op in later {
        let after = [&mut state, &mut untouched].map(|state| {
            let before = state.encode();
            state.apply(Command { at: Millis(NOW.0 + 60_000), origin: None, op: op.clone() }, &mut Vec::new());
            assert!(state.encode() != before, "{op:?}");
            state.encode()
        });
        assert!(after[0] == after[1], "{op:?}");
    }
    assert!(frozen.encode_chunks().collect::<Vec<_>>().concat() == before);
}

/// A stream with snapshots, and their companions.
const PUBLISHED: &[&str] = &[
    "01",
    "0f0a0d080110021880d095ffbc312005",
    "044a02080b",
    "33523108011001190500000000000000204d2a20cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
    "0b12090a0764656661756c74",
    "d7011ad4010a0161100118052080d095ffbc31320a746578742f706c61696e7a0a080510011808200b2801820104120218018a01",
    "321101000000000000001a03612f6220052a2001010101010101010101010101010101010101010101010101010101010101018a",
    "0136080511dcfe0000000000001a03612f6220052a20dcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdc",
    "dcdc30088a013608051103000000000000001a03612f6220052a2003030303030303030303030303030303030303030303030303",
    "03030303030303300b",
    "381a360a13612f2f30303030303030303030303030303031100218052080d095ffbc31320a746578742f706c61696e40017a0608",
    "0510012801",
    "361a340a13612f2f30303030303030303030303030303033100418052080d095ffbc31320a746578742f706c61696e40017a0418",
    "09200a",
    "361a340a13612f2f30303030303030303030303066656463100318052080d095ffbc31320a746578742f706c61696e40017a0418",
    "062007",
    "30222e0907000000000000001880d095ffbc3122141212121008011005220a746578742f706c61696e2206080112022a00",
    "047a020804",
];
