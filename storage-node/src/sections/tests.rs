//! Sections are taken as they were put, or not at all.

use super::*;

fn two() -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, 7, b"body");
    put(&mut bytes, 9, b"");
    bytes
}

#[test]
fn sections_come_back_in_chunks_of_any_size() {
    for size in 1..=two().len() {
        let (mut assembler, mut taken) = (Assembler::default(), Vec::new());
        for chunk in two().chunks(size) {
            assembler.push(chunk);
            while let Some((kind, body)) = assembler.next().expect("a section") {
                taken.push((kind, body.to_vec()));
            }
        }
        assert_eq!(taken, [(7, b"body".to_vec()), (9, Vec::new())], "chunks of {size}");
    }
}

#[test]
fn no_bit_may_be_another() {
    for bit in 0..two().len() * 8 {
        let mut bytes = two();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let mut bytes = Bytes::from(bytes);
        let both = (take(&mut bytes), take(&mut bytes));
        let good = |taken: &io::Result<Option<(u8, Bytes)>>| matches!(taken, Ok(Some(_)));
        assert!(!good(&both.0) || !good(&both.1), "bit {bit}");
    }
}
