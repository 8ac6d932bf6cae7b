//! The bytes of a state.

use proptest::option;
use proptest::prelude::*;

use super::*;

#[test]
fn golden_bytes() {
    let facts = Facts { vote: Some(b"v".to_vec()), committed: None, purged: Some((9, b"pp".to_vec())) };
    let log = GroupLog { since: SegmentId(2), first: 10, next: 14, last: (SegmentId(5), 4176), facts };
    let bytes = log.encode();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = "0200000000000000 0500000000000000 50100000 0900000000000000 0100 ffff 0200 0000 76 7070";
    assert_eq!(hex, expected.replace(' ', ""));
    assert_eq!(GroupLog::decode(10, 14, &bytes), Some(log));
    assert_eq!(GroupLog::decode(14, 10, &bytes), None);
    assert_eq!(GroupLog::decode(0, 0, &[]), None);
}

proptest! {
    #[test]
    fn round_trip(
        since: u64, first: u32, entries: u32, segment: u64, at: u32, index: u64,
        vote in option::of(prop::collection::vec(any::<u8>(), 0..FACT_BYTES_MAX)),
        committed in option::of(prop::collection::vec(any::<u8>(), 0..FACT_BYTES_MAX)),
        purged in option::of(prop::collection::vec(any::<u8>(), 0..FACT_BYTES_MAX)),
    ) {
        let facts = Facts { vote, committed, purged: purged.map(|payload| (index, payload)) };
        let (first, next) = (first.into(), u64::from(first) + u64::from(entries));
        let log = GroupLog { since: SegmentId(since), first, next, last: (SegmentId(segment), at), facts };
        let mut bytes = log.encode();
        prop_assert!(bytes.len() <= STATE_BYTES_MAX);
        prop_assert_eq!(GroupLog::decode(first, next, &bytes), Some(log));
        bytes.push(0);
        prop_assert_eq!(GroupLog::decode(first, next, &bytes), None);
        bytes.truncate(bytes.len() - 2);
        prop_assert_eq!(GroupLog::decode(first, next, &bytes), None);
    }
}
