//! When a retention lets go of what, told by hand.

use super::*;

fn kept(max_age: Option<u64>, max_bytes: Option<u64>) -> Kept {
    Kept::new(Offset(0), Retention { max_age, max_bytes, snapshot: false }, [].into_iter())
}

/// Appends of `len` bytes, one every `step` milliseconds, with what is over let go after each; returns the tail.
fn fill(kept: &mut Kept, count: u64, len: u64, step: u64) -> Offset {
    let mut tail = Offset(0);
    for n in 1..=count {
        let (at, now) = (tail, Millis(n * step));
        tail = Offset(at.0 + len);
        kept.trim(kept.earliest_at(at, now));
        kept.appended(at, tail, now);
        kept.trim(kept.earliest_at(tail, now));
        assert!(kept.marks.len() <= MARKS_MAX, "{} marks", kept.marks.len());
    }
    tail
}

#[test]
fn bytes_go_a_32nd_later_than_asked_and_never_earlier() {
    for (len, most) in [(1, 3200), (10, 3200), (100, 3200), (5000, 3200), (1, 1), (1, 31), (1, 33), (7, 1000)] {
        let mut kept = kept(None, Some(most));
        let left = fill(&mut kept, 10_000, len, 1).0 - kept.earliest.0;
        assert!(left >= most.min(10_000 * len) && left < most + most.div_ceil(32) + 2 * len, "{left} of {most}");
    }
}

#[test]
fn age_goes_by_the_last_append_of_those_that_share_a_mark() {
    let mut kept = kept(Some(32), None);
    // An append a second: each has a mark of its own.
    let tail = fill(&mut kept, 100, 10, 1000);
    assert_eq!(tail, Offset(1000));
    assert_eq!(kept.earliest, Offset(680), "that of second 68 is 32 seconds old");
    assert_eq!(kept.due_at(), Some(Millis(101_000)));
    assert_eq!(kept.earliest_at(tail, Millis(100_999)), Offset(680));
    assert_eq!(kept.earliest_at(tail, Millis(101_000)), Offset(690));
    assert_eq!(kept.earliest_at(tail, Millis(132_000)), tail, "an idle stream becomes empty");
    kept.trim(tail);
    assert_eq!((kept.marks.len(), kept.due_at()), (0, None));
}

#[test]
fn marks_are_few_whatever_the_pace() {
    let mut kept = kept(Some(1), Some(1000));
    for (count, len, step) in [(2000, 1, 1), (2000, 200, 1), (2000, 1, 400), (300, 31, 31), (300, 32, 40)] {
        fill(&mut kept, count, len, step);
        kept = Kept { marks: VecDeque::new(), earliest: Offset(0), run: Mark::default(), ..kept };
    }
}

#[test]
fn what_forks_need_is_counted() {
    let mut kept = Kept::new(Offset(10), Retention::default(), [Offset(4), Offset(4), Offset(7)].into_iter());
    assert_eq!(kept.floor(), Offset(4));
    kept.let_go(Offset(4));
    assert_eq!(kept.floor(), Offset(4));
    kept.let_go(Offset(4));
    assert_eq!(kept.floor(), Offset(7));
    kept.let_go(Offset(7));
    assert_eq!(kept.floor(), Offset(10));
    kept.need(Offset(10));
    kept.trim(Offset(20));
    assert_eq!((kept.earliest, kept.floor()), (Offset(20), Offset(10)));
    assert!(kept.marks.is_empty(), "nobody asked for them");
}
