//! Where messages end.

use super::*;

const RECORD: &[u8] = br#"1,{"a":[1,2],"b":","},"x\",\\",[[],{}],null,"#;

#[test]
fn commas_inside_messages_do_not_count() {
    let ends: Vec<usize> = message_ends(RECORD).collect();
    let messages: Vec<&str> = [0]
        .iter()
        .chain(&ends)
        .zip(&ends)
        .map(|(from, to)| std::str::from_utf8(&RECORD[*from..to - 1]).expect("ASCII"))
        .collect();
    assert_eq!(messages, ["1", r#"{"a":[1,2],"b":","}"#, r#""x\",\\""#, "[[],{}]", "null"]);
    assert_eq!(ends.last(), Some(&RECORD.len()));
}

#[test]
fn cut_counts_messages() {
    let cuts = [(0, Some(0)), (1, Some(2)), (2, Some(22)), (5, Some(RECORD.len())), (6, None), (u64::MAX, None)];
    for (messages, length) in cuts {
        assert_eq!(cut(RECORD, messages), length, "{messages}");
    }
    assert_eq!(cut(b"", 0), Some(0));
    assert_eq!(cut(b"", 1), None);
}

#[test]
fn boundaries_are_the_ends_of_messages() {
    let ends: Vec<usize> = message_ends(RECORD).collect();
    for at in 0..RECORD.len() + 2 {
        assert_eq!(is_boundary(RECORD, at), at == 0 || ends.contains(&at), "{at}");
    }
}

#[test]
fn a_damaged_record_has_an_answer() {
    for bytes in [&b"]]],"[..], b"\"", b"\"\\", b"[[[,", b"\xff,"] {
        assert!(message_ends(bytes).all(|end| end <= bytes.len()));
    }
}
