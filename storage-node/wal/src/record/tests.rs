//! The bytes of a record, and that nothing else is taken for one.

use proptest::prelude::*;

use super::*;

fn kinds() -> impl Strategy<Value = Kind> {
    (1u8..=10).prop_map(|byte| Kind::from_wire(byte).unwrap())
}

prop_compose! {
    fn headers()(
        kind in kinds(),
        group: u32,
        batch in 0u32..1 << 20,
        index: u64,
        extra: u64,
        len: u32,
        payload_crc: u32,
    ) -> Header {
        Header { kind, group: GroupId(group), batch, index, extra, len, payload_crc }
    }
}

#[test]
fn golden_bytes() {
    let seed = seed(0x1122_3344_5566_7788, SegmentId(5));
    assert_eq!(seed, 0x04d0_904e);
    let mut header = Header::new(Kind::Entry, GroupId(3), 77, 0, &[b"1234", b"56789"]);
    header.batch = 4096;
    // The well-known check value of CRC32C.
    assert_eq!(header.payload_crc, 0xe306_9283);
    let bytes = header.encode(seed, 4136);
    let expected = "c87cf0f3 839206e3 09000000 01000000 03000000 00100000 4d00000000000000 0000000000000000";
    assert_eq!(hex(&bytes), expected.replace(' ', ""));
    assert_eq!(Header::decode(&bytes, seed, 4136), Some(header));
    assert_eq!(header.record_bytes(), 56);
}

#[test]
fn kinds_keep_their_numbers() {
    use Kind::*;
    let all = [Entry, Vote, Committed, Purged, Truncate, Slice, Forget, State, Mark, Seal];
    let numbers: Vec<u8> = all.iter().map(|kind| *kind as u8).collect();
    assert_eq!(numbers, (1..=10).collect::<Vec<u8>>());
    assert!(all.iter().all(|kind| Kind::from_wire(*kind as u8) == Some(*kind)));
    assert_eq!((Kind::from_wire(0), Kind::from_wire(11)), (None, None));
}

#[test]
fn zeros_are_no_record() {
    for at in (0..100_000).step_by(8) {
        assert_eq!(Header::decode(&[0; 40], seed(at, SegmentId(at)), at as u32), None);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

proptest! {
    #[test]
    fn a_header_is_read_where_it_was_written_and_nowhere_else(
        header in headers(), salt: u64, segment: u64, at in 1u32 << 20..1 << 30, other: u32, bit in 0usize..320,
    ) {
        let here = seed(salt, SegmentId(segment));
        let mut bytes = header.encode(here, at);
        prop_assert_eq!(Header::decode(&bytes, here, at), Some(header));
        prop_assert_eq!(Header::decode(&bytes, here, at ^ (other | 8)), None);
        prop_assert_eq!(Header::decode(&bytes, seed(salt ^ 1, SegmentId(segment)), at), None);
        prop_assert_eq!(Header::decode(&bytes, seed(salt, SegmentId(segment ^ 1)), at), None);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(Header::decode(&bytes, here, at), None);
    }

    #[test]
    fn a_batch_never_begins_behind_its_record(header in headers(), at in 0u32..1 << 20) {
        let bytes = header.encode(1, at);
        prop_assert_eq!(Header::decode(&bytes, 1, at).is_some(), header.batch <= at);
    }
}
