//! The bytes of a checkpoint: what was written is read, and nothing else.

use std::io::Write as _;
use std::path::Path;

use ursula_wal::{FaultIo, Io};

use super::*;

fn checkpoint() -> Checkpoint {
    let extent = |offset, at, len| Extent { offset, at, len, crc: at ^ 7 };
    let newest = Some(RowRef { segment: SegmentId(2), part: 1, row: 9 });
    Checkpoint {
        meta: Bytes::from_static(b"meta"),
        state: vec![3; (2 << 20) + 17].into(),
        places: Places {
            chains: [
                (StreamId(1), Chain { newest, oldest: SegmentId(1) }),
                (StreamId(5), Chain { newest: None, oldest: SegmentId(4) }),
            ]
            .into(),
            unindexed: vec![
                (SegmentId(4), vec![(StreamId(1), vec![extent(10, 4096, 3), extent(13, 4200, 1)])]),
                (SegmentId(6), vec![(StreamId(1), vec![extent(14, 64, 2)]), (StreamId(5), vec![extent(0, 99, 1)])]),
            ],
        },
    }
}

impl Checkpoint {
    /// The bytes of its file, with the state in parts that fit nothing.
    fn encode(&self) -> Vec<u8> {
        let Checkpoint { meta, state, places } = self.clone();
        let state: StateParts = Box::new(move |put| state.chunks(700_001).try_for_each(put));
        let mut file = Vec::new();
        Draft { meta, state, places }.write(&mut |bytes| file.write_all(bytes)).expect("no disk is asked");
        file
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

#[test]
fn what_it_says_first_can_be_read_alone() {
    let io = FaultIo::new(1 << 20);
    io.create_dir(Path::new("dir")).expect("a directory");
    let read = |bytes: &[u8]| {
        let path = Path::new("dir/checkpoint");
        drop(io.remove(path));
        let file = io.create(path).expect("a file");
        file.write_at(bytes, 0).expect("a write");
        Checkpoint::read_meta(&*file)
    };
    let file = Checkpoint { state: Bytes::from_static(b"state"), ..checkpoint() }.encode();
    assert_eq!(read(&file).expect("a checkpoint"), "meta");
    let head = MAGIC.len() + sections::HEAD_BYTES + b"meta".len() + sections::CRC_BYTES;
    assert_eq!(read(&file[..head]).expect("the rest is not looked at"), "meta");
    for bit in 0..head * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&flipped).is_err(), "bit {bit}");
    }
    for len in 0..head {
        assert!(read(&file[..len]).is_err(), "{len} bytes");
    }
}
