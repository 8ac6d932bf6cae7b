//! Cursors grow.

use super::*;

const NOW: Millis = Millis(EPOCH_MS + 1000 * 20_000 + 19_999);

#[test]
fn a_cursor_is_the_number_of_the_interval() {
    assert_eq!(next(Millis(EPOCH_MS), None, 1), 0);
    assert_eq!(next(Millis(EPOCH_MS + 19_999), None, 1), 0);
    assert_eq!(next(Millis(EPOCH_MS + 20_000), None, 1), 1);
    assert_eq!(next(Millis(0), None, 1), 0);
    assert_eq!(next(NOW, None, 3600), 1000);
    assert_eq!(next(NOW, Some(999), 3600), 1000);
}

#[test]
fn a_client_that_is_not_behind_is_sent_ahead() {
    let table = [(1, 1001), (20, 1001), (21, 1002), (3600, 1180), (0, 1001), (u64::MAX, 1180)];
    for (jitter, expected) in table {
        assert_eq!(next(NOW, Some(1000), jitter), expected, "{jitter}");
    }
    assert_eq!(next(NOW, Some(5000), 1), 5001);
    assert!(next(NOW, Some(CURSOR_MAX), 3600) > CURSOR_MAX);
}

#[test]
fn what_is_no_cursor_is_ignored() {
    assert_eq!(parse("42"), Some(42));
    for text in ["", "-1", "4x", "1.5", "99999999999999999999", "9007199254740992"] {
        assert_eq!(parse(text), None, "{text}");
    }
}
