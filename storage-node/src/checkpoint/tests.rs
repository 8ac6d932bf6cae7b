//! The bytes of a checkpoint: what was written is read, and nothing else.

use super::*;

fn checkpoint() -> Checkpoint {
    let extent = |offset, at, len| Extent { offset, at, len, crc: at ^ 7 };
    let newest = Some(RowRef { segment: SegmentId(2), part: 1, row: 9 });
    Checkpoint {
        meta: Bytes::from_static(b"meta"),
        state: vec![3; 2 * SECTION_BYTES + 17].into(),
        places: Places {
            chains: vec![
                (StreamId(1), Chain { newest, oldest: SegmentId(1) }),
                (StreamId(5), Chain { newest: None, oldest: SegmentId(4) }),
            ],
            unindexed: vec![
                (SegmentId(4), vec![(StreamId(1), vec![extent(10, 4096, 3), extent(13, 4200, 1)])]),
                (SegmentId(6), vec![(StreamId(1), vec![extent(14, 64, 2)]), (StreamId(5), vec![extent(0, 99, 1)])]),
            ],
        },
    }
}

#[test]
fn what_was_written_is_read() {
    for checkpoint in [checkpoint(), Checkpoint::default()] {
        assert_eq!(Checkpoint::decode(checkpoint.encode().into()).expect("a checkpoint"), checkpoint);
    }
}

#[test]
fn many_streams_take_many_sections() {
    let chain = |stream| (StreamId(stream), Chain { newest: None, oldest: SegmentId(1) });
    let extents = |stream| (StreamId(stream), vec![Extent { offset: stream, at: 1, len: 1, crc: 0 }]);
    let streams = 0..3 * SECTION_STREAMS as u64;
    let places = Places {
        chains: streams.clone().map(chain).collect(),
        unindexed: vec![(SegmentId(1), streams.map(extents).collect())],
    };
    let checkpoint = Checkpoint { places, ..Checkpoint::default() };
    assert_eq!(Checkpoint::decode(checkpoint.encode().into()).expect("a checkpoint"), checkpoint);
}

#[test]
fn no_bit_may_be_another() {
    let small = Checkpoint { state: Bytes::from_static(b"state"), ..checkpoint() };
    let file = small.encode();
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Checkpoint::decode(flipped.into()).is_err(), "bit {bit}");
    }
}

#[test]
fn a_checkpoint_that_is_cut_off_or_goes_on_is_refused() {
    let file = Checkpoint { state: Bytes::from_static(b"state"), ..checkpoint() }.encode();
    for len in 0..file.len() {
        assert!(Checkpoint::decode(file[..len].to_vec().into()).is_err(), "{len} bytes");
    }
    let longer = [file.as_slice(), &[0]].concat();
    assert!(Checkpoint::decode(longer.into()).is_err());
}
