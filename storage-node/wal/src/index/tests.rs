//! The bytes of an index, that it says what was written, and that nothing else is taken for it.

use proptest::prelude::*;

use super::*;
use crate::io::FaultIo;

const DIR: &str = "/log";
const SEGMENT: SegmentId = SegmentId(77);

fn disk() -> FaultIo {
    let io = FaultIo::new(1 << 30);
    io.create_dir(Path::new(DIR)).unwrap();
    io
}

fn open(io: &FaultIo) -> Result<IndexReader, IndexError> {
    let file = io.open(&Path::new(DIR).join(file_name(SEGMENT))).unwrap();
    IndexReader::new(file, SEGMENT, Some(9))
}

fn read(index: &IndexReader) -> Result<Vec<Row>, IndexError> {
    let row = |row| {
        let RowHead { group, stream, first, prev, extents, .. } = index.row(row)?;
        Ok(Row { group, stream, prev, extents: index.extents_from(row, first, extents as usize)? })
    };
    (0..index.rows()).map(row).collect()
}

fn rows(streams: u64, extents: u64) -> Vec<Row> {
    let extent = |stream: u64, n: u64| Extent {
        offset: Offset(stream * 1000 + n * 10),
        at: (4096 + n * 64) as u32,
        len: 5 + (n % 6) as u32,
        crc: (stream * n) as u32,
    };
    let row = |stream: u64| Row {
        group: GroupId((stream / 50) as u32),
        stream: StreamId(stream),
        prev: stream.is_multiple_of(3).then_some(RowRef { segment: SegmentId(5 + stream % 70), row: stream as u32 }),
        extents: (0..1 + (stream * 7 + 3) % extents).map(|n| extent(stream, n)).collect(),
    };
    (0..streams).map(row).collect()
}

#[test]
fn golden_bytes() {
    let extent = Extent { offset: Offset(100), at: 5000, len: 10, crc: 0x1234_5678 };
    let prev = Some(RowRef { segment: SegmentId(70), row: 3 });
    let bytes = encode(SEGMENT, 9, &[Row { group: GroupId(1), stream: StreamId(2), prev, extents: vec![extent] }]);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(bytes.len(), 3 * 4096);
    let header = "757273756c696478 0100 000000000000 4d00000000000000 0900000000000000 01000000 01000000";
    assert_eq!(hex(&bytes[..40]), header.replace(' ', ""));
    let row = "01000000 00000000 0200000000000000 6400000000000000 07000000 03000000";
    assert_eq!(hex(&bytes[4096..4128]), row.replace(' ', ""));
    assert_eq!(hex(&bytes[8192..8208]), "00000000 88130000 0a000000 78563412".replace(' ', ""));
    assert_eq!(hex(&bytes[4092..4096]), "cdcca66a");
}

#[test]
fn rows_and_extents_are_found() {
    let io = disk();
    let rows = rows(400, 600);
    write(&io, Path::new(DIR), SEGMENT, 9, &rows).unwrap();
    let index = open(&io).unwrap();
    assert_eq!(read(&index).unwrap(), rows);
    for (number, row) in rows.iter().enumerate() {
        assert_eq!(index.find(row.group, row.stream).unwrap(), Some(number as u32));
        let middle = row.extents[row.extents.len() / 2];
        for (offset, first) in [(middle.offset, 0), (Offset(middle.end().0 - 1), 0), (middle.end(), 1)] {
            let from = row.extents.len() / 2 + first;
            let expected = &row.extents[from..(from + 3).min(row.extents.len())];
            assert_eq!(index.extents_from(number as u32, offset, 3).unwrap(), expected);
        }
    }
    assert_eq!(index.find(GroupId(1), StreamId(7)).unwrap(), None);
    assert_eq!(index.find(GroupId(99), StreamId(0)).unwrap(), None);
    assert!(matches!(index.row(400), Err(IndexError::NoRow { row: 400, .. })));
}

#[test]
fn an_empty_index() {
    let io = disk();
    write(&io, Path::new(DIR), SEGMENT, 9, &[]).unwrap();
    assert_eq!(open(&io).unwrap().rows(), 0);
    assert_eq!(open(&io).unwrap().find(GroupId(0), StreamId(0)).unwrap(), None);
}

#[test]
fn an_index_of_something_else() {
    let io = disk();
    write(&io, Path::new(DIR), SEGMENT, 9, &rows(3, 3)).unwrap();
    let file = || io.open(&Path::new(DIR).join(file_name(SEGMENT))).unwrap();
    assert!(matches!(IndexReader::new(file(), SegmentId(78), Some(9)), Err(IndexError::Damaged { block: 0, .. })));
    assert!(matches!(IndexReader::new(file(), SEGMENT, Some(8)), Err(IndexError::Damaged { block: 0, .. })));
    assert!(IndexReader::new(file(), SEGMENT, None).is_ok());
}

#[test]
fn every_bit_is_noticed() {
    let io = disk();
    let rows = rows(200, 4);
    write(&io, Path::new(DIR), SEGMENT, 9, &rows).unwrap();
    let path = Path::new(DIR).join(file_name(SEGMENT));
    let bits = io.contents(&path).unwrap().len() as u64 * 8;
    for bit in 0..bits {
        // Every bit of the first of each eight bytes would do, and every bit of some bytes.
        if bit % 64 > 7 && bit % 4096 > 512 {
            continue;
        }
        let io = io.copy();
        io.flip(&path, bit);
        let damaged = open(&io).and_then(|index| read(&index));
        let block = (bit / 8 / 4096) as u32;
        assert!(matches!(damaged, Err(IndexError::Damaged { block: at, .. }) if at == block), "bit {bit}");
    }
}

#[test]
fn an_index_that_was_cut_off() {
    let io = disk();
    write(&io, Path::new(DIR), SEGMENT, 9, &rows(200, 4)).unwrap();
    let path = Path::new(DIR).join(file_name(SEGMENT));
    let bytes = io.contents(&path).unwrap();
    for len in [0, 10, 4095, 4096, 8192, bytes.len() - 1] {
        io.plant(&path, &bytes[..len]);
        let damaged = open(&io).and_then(|index| read(&index));
        assert!(matches!(damaged, Err(IndexError::Damaged { .. })), "{len} bytes");
    }
}

#[test]
#[should_panic(expected = "rows of an index are sorted")]
fn rows_that_are_not_sorted() {
    let mut rows = rows(3, 3);
    rows.swap(0, 1);
    encode(SEGMENT, 9, &rows);
}

#[test]
#[should_panic(expected = "extents of a row are sorted")]
fn extents_that_overlap() {
    let mut rows = rows(3, 9);
    rows[0].extents[1].offset = rows[0].extents[0].offset;
    encode(SEGMENT, 9, &rows);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn round_trip(streams in 0u64..300, extents in 1u64..400) {
        let io = disk();
        let rows = rows(streams, extents);
        write(&io, Path::new(DIR), SEGMENT, 9, &rows).unwrap();
        prop_assert_eq!(read(&open(&io).unwrap()).unwrap(), rows);
    }
}
