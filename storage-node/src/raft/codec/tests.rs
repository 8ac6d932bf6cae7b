//! The bytes of what Raft keeps: what they are, that they come back, that damage is an error.

use proptest::prelude::*;
use ursula_common::verb::{Append, Op};
use ursula_common::{Millis, StreamKey};
use ursula_stream_core::Command;

use super::*;

fn members(configs: &[&[u64]], nodes: &[u64]) -> Membership {
    let configs = configs.iter().map(|config| config.iter().copied().collect()).collect();
    Membership::new_with_defaults(configs, nodes.iter().copied())
}

fn command(body: &'static [u8]) -> Command {
    let append = Append {
        key: StreamKey::parse("default", "a").expect("a name"),
        content_type: None,
        body: Bytes::from_static(body),
        close: false,
        producer: None,
        stream_seq: None,
        expected_offset: None,
    };
    Command { at: Millis(1000), origin: None, op: Op::Append(append) }
}

fn entry(payload: EntryPayload<Batch, u64, EmptyNode>) -> EntryOf<TypeConfig> {
    EntryOf::<TypeConfig> { log_id: log_id(3, 2, 300), payload }
}

fn entries() -> [EntryOf<TypeConfig>; 3] {
    [
        entry(EntryPayload::Blank),
        entry(EntryPayload::Normal(Batch::new(vec![command(b"hello"), command(b"world")]))),
        entry(EntryPayload::Membership(members(&[&[1, 2, 3], &[2, 3, 4]], &[1, 2, 3, 4, 5]))),
    ]
}

fn whole(entry: &EntryOf<TypeConfig>) -> Vec<u8> {
    let (head, batch) = encode_entry(entry);
    [&head, &batch[..]].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// These bytes lie in the logs of running clusters: the test may grow, its lines may not change.
#[test]
fn golden_bytes() {
    let [blank, batch, membership] = entries().map(|entry| hex(&whole(&entry)));
    assert_eq!(blank, "010803100218ac02");
    let commands = [
        "010803100218ac022a3d01",
        "0a1c08e8071a1712150a0c0a0764656661756c741201611a0568656c6c6f",
        "0a1c08e8071a1712150a0c0a0764656661756c741201611a05776f726c64",
    ];
    assert_eq!(batch, commands.concat());
    assert_eq!(membership, "010803100218ac0222150a050a030102030a050a0302030412050102030405");

    assert_eq!(hex(&encode_log_id(&log_id(3, 2, 300))), "010803100218ac02");
    let vote = |committed| VoteOf::<TypeConfig> { leader_id: LeaderId::new(3, 2), committed };
    assert_eq!(hex(&encode_vote(&vote(false))), "0108031002");
    assert_eq!(hex(&encode_vote(&vote(true))), "01080310021801");
    let stored = StoredMembership::new(Some(log_id(3, 2, 300)), members(&[&[1]], &[1, 2]));
    assert_eq!(hex(&encode_membership(&stored)), "010a070803100218ac0212090a030a010112020102");
    let meta = SnapshotMetaOf::<TypeConfig> { last_log_id: Some(log_id(4, 1, 7)), last_membership: stored };
    assert_eq!(
        hex(&encode_snapshot_meta(&meta)),
        "010a060804100118071214".to_owned() + "0a070803100218ac0212090a030a010112020102"
    );
}

#[test]
fn entries_come_back() {
    for entry in entries() {
        let bytes = whole(&entry);
        let decoded = decode_entry(bytes.clone().into()).expect("decoded");
        assert_eq!(decoded.log_id, entry.log_id);
        assert_eq!(whole(&decoded), bytes);
        match (decoded.payload, entry.payload) {
            (EntryPayload::Blank, EntryPayload::Blank) => {}
            (EntryPayload::Normal(a), EntryPayload::Normal(b)) => {
                assert_eq!(a.commands().expect("decoded"), b.commands().expect("as proposed"));
            }
            (EntryPayload::Membership(a), EntryPayload::Membership(b)) => assert_eq!(a, b),
            (a, b) => panic!("{b} became {a}"),
        }
    }
}

#[test]
fn votes_and_memberships_come_back() {
    for committed in [false, true] {
        let vote = VoteOf::<TypeConfig> { leader_id: LeaderId::new(u64::MAX, 1), committed };
        assert_eq!(decode_vote(encode_vote(&vote).into()).expect("decoded"), vote);
    }
    let id = log_id(0, 0, 0);
    assert_eq!(decode_log_id(encode_log_id(&id).into()).expect("decoded"), id);
    let empty = SnapshotMetaOf::<TypeConfig>::default();
    assert_eq!(decode_snapshot_meta(encode_snapshot_meta(&empty).into()).expect("decoded"), empty);
    let stored = StoredMembership::new(Some(log_id(1, 2, 3)), members(&[&[1, 2], &[2]], &[1, 2, 9]));
    assert_eq!(decode_membership(encode_membership(&stored).into()).expect("decoded"), stored);
}

#[test]
fn a_batch_and_its_bodies_are_slices_of_the_end_of_the_entry() {
    let bytes = Bytes::from(whole(&entries()[1]));
    let decoded = decode_entry(bytes.clone()).expect("decoded");
    let EntryPayload::Normal(batch) = decoded.payload else { panic!("a batch") };
    let begins = bytes.len() - batch.encoded().len();
    assert_eq!(bytes[begins..].as_ptr(), batch.encoded().as_ptr());
    let commands = batch.commands().expect("decoded");
    let Op::Append(append) = &commands[1].op else { panic!("an append") };
    let at = append.body.as_ptr() as usize - bytes.as_ptr() as usize;
    assert_eq!(&bytes[at..at + 5], b"world");
}

#[test]
fn a_batch_is_encoded_once_and_shared() {
    let batch = Batch::new(vec![command(b"hello")]);
    let first = batch.clone().encoded().as_ptr();
    assert_eq!(batch.encoded().as_ptr(), first);
    assert_eq!(batch.memory_bytes(), 5 + size_of::<Command>());
}

#[test]
fn what_nobody_writes_is_refused() {
    let refusal = |bytes: &[u8]| decode_entry(Bytes::copy_from_slice(bytes)).expect_err("refused").to_string();
    assert_eq!(refusal(&[]), "a Raft entry is damaged, truncated or empty");
    assert_eq!(refusal(&[1, 0x08]), "a Raft entry is damaged, truncated or empty");
    assert_eq!(refusal(&[2]), "unknown format version 2 of a Raft entry: it was written by a later version");
    // Both a membership and a batch; voters that are no members; a config without voters.
    for wrong in [&[1, 0x22, 0, 0x2a, 0][..], &[1, 0x22, 5, 0x0a, 3, 0x0a, 1, 1], &[1, 0x22, 2, 0x0a, 0]] {
        assert_eq!(
            decode_entry(Bytes::copy_from_slice(wrong)).expect_err("refused").kind(),
            io::ErrorKind::InvalidData
        );
    }
    assert!(decode_membership(Bytes::from_static(&[1])).is_err(), "nothing is said of members");
    assert!(decode_snapshot_meta(Bytes::from_static(&[1])).is_err(), "nothing is said of members");
}

proptest! {
    #[test]
    fn damage_is_an_error_or_another_entry(which in 0..3usize, at in 0..1000usize, flip in 1..=255u8, cut in 0..1000usize) {
        let mut bytes = whole(&entries()[which]);
        let (at, cut) = (at % bytes.len(), cut % bytes.len());
        bytes[at] ^= flip;
        if let Ok(other) = decode_entry(bytes.clone().into()) {
            let again = whole(&other);
            let decoded = decode_entry(again.clone().into()).expect("what was written is read");
            prop_assert_eq!(whole(&decoded), again);
        }
        bytes.truncate(cut);
        let _ = decode_entry(bytes.into());
    }
}
