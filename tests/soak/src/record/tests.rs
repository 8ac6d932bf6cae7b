//! Records come back as they were written, and nothing else passes for one.

use super::*;

const TAG: Tag = Tag { stream: 0x1f, incarnation: 3 };

fn record(seq: u32) -> Record {
    Record { tag: TAG, writer: 0xab, seq }
}

fn payload(format: Format, seqs: std::ops::Range<u32>) -> Vec<u8> {
    let bodies: Vec<Vec<u8>> = seqs.map(|seq| record(seq).body(format)).collect();
    match format {
        Format::Json => [b"[", &bodies.join(&b","[..])[..], b"]"].concat(),
        Format::Text | Format::Binary => bodies.concat(),
    }
}

#[test]
fn records_come_back_in_every_format() {
    for format in [Format::Text, Format::Json, Format::Binary] {
        for count in [0, 1, 2, 50] {
            let expected: Vec<_> = (0..count).map(|seq| (record(seq), record(seq).stored_bytes(format))).collect();
            assert_eq!(format.split(&payload(format, 0..count)), Ok(expected), "{format:?}");
        }
    }
}

#[test]
fn stored_bytes_are_what_the_protocol_stores() {
    let body = record(7).body(Format::Text).len() as u64;
    assert_eq!(record(7).stored_bytes(Format::Text), body);
    let body = record(7).body(Format::Json).len() as u64;
    assert_eq!(record(7).stored_bytes(Format::Json), body + 1, "and a comma");
}

#[test]
fn every_flipped_bit_is_found() {
    for format in [Format::Text, Format::Json] {
        let payload = payload(format, 0..3);
        for bit in 0..payload.len() * 8 {
            let mut damaged = payload.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(format.split(&damaged).is_err(), "bit {bit} of {format:?}");
        }
    }
}

#[test]
fn half_a_record_is_not_one() {
    let payload = payload(Format::Text, 0..2);
    assert!(Format::Text.split(&payload[..payload.len() - 1]).is_err());
    assert!(Format::Text.split(&payload[1..]).is_err());
}

#[test]
fn offsets_are_places() {
    assert_eq!(place(&offset(0, 123)), Some((0, 123)));
    assert_eq!(place("0000000000000001_0000000000000000"), Some((1, 0)));
    assert_eq!(place("-1"), None);
    assert_eq!(place("0000000000000000_000000000000001"), None);
    assert_eq!(place("000000000000000x_0000000000000001"), None);
}
