//! The bytes of a header block, and the names of files.

use proptest::prelude::*;

use super::*;

const HEADER: Header =
    Header { id: SegmentId(5), identity: 0xabcd, salt: 0x1122, previous: SegmentId(3), writer: 1, size: 64 << 20 };

#[test]
fn golden_bytes() {
    let block = HEADER.encode();
    let hex: String = block[..64].iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = "757273756c77616c 0100 0000 3f7adc2a 0500000000000000 cdab000000000000 2211000000000000 \
                    0300000000000000 01000000 00000004 0000000000000000";
    assert_eq!(hex, expected.replace(' ', ""));
    assert_eq!(block[..64], block[2048..2112]);
    assert_eq!(Header::decode(&block), Found::Header(HEADER));
}

#[test]
fn one_good_copy_is_enough() {
    for bad in COPIES {
        for fill in [0, 7, 0xff] {
            let mut block = HEADER.encode();
            block[bad..bad + 512].fill(fill);
            assert_eq!(Header::decode(&block), Found::Header(HEADER));
        }
    }
}

#[test]
fn what_is_no_header_has_a_reason() {
    let blocks = |change: &dyn Fn(&mut [u8])| {
        let mut block = HEADER.encode();
        COPIES.iter().for_each(|at| change(&mut block[*at..*at + 64]));
        Header::decode(&block)
    };
    assert_eq!(blocks(&|copy| copy.fill(0)), Found::Blank);
    assert_eq!(blocks(&|copy| copy[0] = b'U'), Found::Foreign);
    assert_eq!(blocks(&|copy| copy[20] ^= 4), Found::Damaged);
    assert_eq!(blocks(&|copy| copy[8] = 2), Found::Damaged);
    let newer = |copy: &mut [u8]| {
        copy[8] = 2;
        copy[12..16].fill(0);
        let crc = crc32c(copy);
        copy[12..16].copy_from_slice(&crc.to_le_bytes());
    };
    assert_eq!(blocks(&newer), Found::Newer(2));
}

#[test]
fn names() {
    assert_eq!(Name::parse(&file_name(SegmentId(0x1f))), Name::Segment(SegmentId(31)));
    assert_eq!(file_name(SegmentId(0x1f)), "000000000000001f.log");
    assert_eq!(Name::parse(&index_name(SegmentId(31), 2)), Name::Index(SegmentId(31), 2));
    assert_eq!(Name::parse("spare-000000000000001f"), Name::Spare(31));
    assert_eq!(Name::parse("spare-000000000000001f.new"), Name::Unfinished);
    assert_eq!(Name::parse("000000000000001f.index.new"), Name::Unfinished);
    for foreign in [
        "x.log",
        "000000000000001F.log",
        "0000000000000000.log",
        "1f.log",
        "spare-1",
        "a.index",
        "000000000000001f.index",
    ] {
        assert_eq!(Name::parse(foreign), Name::Foreign, "{foreign}");
    }
    assert_eq!(Name::parse("lock"), Name::Other);
}

proptest! {
    #[test]
    fn round_trip(id: u64, identity: u64, salt: u64, previous: u64, writer: u32, size: u32, bit in 0usize..512) {
        let header = Header { id: SegmentId(id), identity, salt, previous: SegmentId(previous), writer, size };
        let mut block = header.encode();
        prop_assert_eq!(Header::decode(&block), Found::Header(header));
        for at in COPIES {
            block[at + bit / 8] ^= 1 << (bit % 8);
        }
        prop_assert!(matches!(Header::decode(&block), Found::Damaged | Found::Foreign));
    }
}
