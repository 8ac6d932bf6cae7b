//! Units as people write them.

use super::*;

#[test]
fn durations() {
    assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
    assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
    for text in ["", "10", "s", "-1s", "10h", "1e9s", "NaNs", "2days"] {
        assert!(duration(text).is_err(), "{text}");
    }
}

#[test]
fn sizes() {
    assert_eq!(size("256"), Ok(256));
    assert_eq!(size("64KiB"), Ok(65_536));
    assert_eq!(size("3MiB"), Ok(3 << 20));
    for text in ["", "0", "-1", "1kb", "1.5MiB", "99999999999999GiB"] {
        assert!(size(text).is_err(), "{text}");
    }
}

#[test]
fn rates_are_positive() {
    assert_eq!(rate("0.5"), Ok(0.5));
    for text in ["0", "-3", "inf", "NaN", "fast"] {
        assert!(rate(text).is_err(), "{text}");
    }
}
