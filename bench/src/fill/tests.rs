//! Who appends what.

use super::*;

fn fill(streams: usize, connections: usize, total: usize, stream_bytes: Option<usize>) -> Fill {
    let args = FillArgs { streams, connections, bytes: 10, total, stream_bytes };
    Fill::new(args, Target::at("127.0.0.1:1", "/"))
}

#[test]
fn every_append_has_a_stream() {
    for (streams, connections, total) in [(1, 64, 100), (7, 3, 1000), (64, 64, 70), (10, 4, 10), (5, 2, 3210)] {
        let fill = fill(streams, connections, total, None);
        let stored: u64 = (0..streams).map(|place| fill.stored(place).1).sum();
        assert_eq!(stored, fill.appends() as u64 * 10);
        assert!((0..streams).all(|place| fill.stored(place).0 == place));
    }
}

#[test]
fn a_full_stream_is_followed_by_another() {
    // One stream at a time, of three appends: seven appends are three, three and one.
    let fill = fill(1, 1, 70, Some(30));
    assert_eq!(fill.stored(0), (2, 10));
    let fill = self::fill(1, 1, 60, Some(30));
    assert_eq!(fill.stored(0), (1, 30));
    assert_eq!(self::fill(2, 1, 0, Some(30)).stored(1), (1, 0));
}
