//! The text form of offsets.

use super::*;

#[test]
fn text_is_fixed_width_and_round_trips() {
    for value in [0, 1, 42, 9_999_999_999_999_999, 10_000_000_000_000_000, Offset::MAX.0] {
        let text = Offset(value).to_string();
        assert_eq!(text.len(), TEXT_LEN);
        assert_eq!(text.parse(), Ok(Offset(value)));
    }
    assert_eq!(Offset::ZERO.to_string(), "0000000000000000_0000000000000000");
    assert_eq!(Offset(Offset::first_of(17).0 + 42).to_string(), "0000000000000017_0000000000000042");
}

#[test]
fn order_of_text_is_order_of_positions() {
    let later = Offset::first_of(1).0 + 1;
    let mut texts: Vec<String> = [7, later, 10, 9, 0, 123_456, 99].map(|v| Offset(v).to_string()).into();
    texts.sort();
    let values: Vec<u64> = texts.iter().map(|t| t.parse::<Offset>().expect("own text").0).collect();
    assert_eq!(values, [0, 7, 9, 10, 99, 123_456, later]);
}

#[test]
fn foreign_text_is_refused() {
    let zero = "0000000000000000_0000000000000000";
    let wrong = [
        "",
        "0",
        "-1",
        "now",
        "0_0",
        &zero[1..],
        &zero.replace('_', "-"),
        &format!("{zero}0"),
        "9999999999999999_9999999999999999",
        "0000000000001844_0000000000000000",
        "000000000000000a_0000000000000000",
        "0000000000000000_+000000000000001",
        "0000000000000000_000000000000000\u{0660}",
    ];
    for text in wrong {
        assert_eq!(text.parse::<Offset>(), Err(InvalidOffset), "{text}");
    }
}

#[test]
fn adding_stops_at_the_largest_offset() {
    assert_eq!(Offset(5).checked_add(6), Some(Offset(11)));
    assert_eq!(Offset::MAX.checked_add(1), None);
    let last = Offset(Offset::first_of(1).0 - 1);
    assert_eq!((last.checked_add(0), last.checked_add(1)), (Some(last), None));
    assert_eq!(Offset(1).checked_add(u64::MAX), None);
}

#[test]
fn zero_is_the_start_of_any_stream() {
    let tail = Offset(Offset::first_of(7).0 + 5);
    assert_eq!(Offset::ZERO.within(tail), Offset::first_of(7));
    assert_eq!(Offset(3).within(tail), Offset(3));
    assert_eq!((tail.first(), tail.bytes()), (Offset::first_of(7), 5));
    assert_eq!(Offset::first_of(Offset::NUMBERS), Offset::ZERO);
}
