//! Ranges, boundaries and the budget of stored bytes.

use super::*;

const GROUP: GroupId = GroupId(1);
const STREAM: StreamId = StreamId(7);

/// A store with one stream of `records`, and the offsets at which they begin and the last one ends.
fn stored(records: &[&[u8]]) -> (Hot, Vec<u64>) {
    let mut hot = Hot::new(usize::MAX);
    let mut at = 0;
    let mut bounds = vec![0];
    for record in records {
        hot.append(GROUP, STREAM, Offset(at), record);
        at += record.len() as u64;
        bounds.push(at);
    }
    (hot, bounds)
}

fn bytes(range: &Range) -> Vec<u8> {
    range.pieces.concat()
}

#[test]
fn reads_end_at_record_boundaries() {
    let (hot, _) = stored(&[b"one", b"three", b"x"]);
    let read = |from, max| hot.read(GROUP, STREAM, Offset(from), None, max);
    assert_eq!((bytes(&read(0, 1)), read(0, 1).next), (b"one".to_vec(), Offset(3)));
    assert_eq!((bytes(&read(0, 3)), read(0, 3).next), (b"one".to_vec(), Offset(3)));
    assert_eq!((bytes(&read(0, 4)), read(0, 4).next), (b"onethree".to_vec(), Offset(8)));
    assert_eq!((bytes(&read(4, 100)), read(4, 100).next), (b"hreex".to_vec(), Offset(9)));
    assert_eq!(read(9, 100), Range { pieces: vec![], next: Offset(9) });
    assert_eq!(read(50, 100), Range { pieces: vec![], next: Offset(50) });
}

#[test]
fn records_come_one_by_one_from_any_of_them_on() {
    let records: Vec<Vec<u8>> = (0..700u32).map(|i| vec![i as u8; (i as usize * 37) % 900 + 1]).collect();
    let slices: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    let (hot, bounds) = stored(&slices);
    let end = *bounds.last().expect("an end");
    for first in (0..records.len()).step_by(7) {
        let from = Offset(bounds[first]);
        assert_eq!(hot.records(GROUP, STREAM, from, Offset(end)), records[first..]);
        // Up to the first that ends there or later.
        for last in [first, (first + 100).min(records.len() - 1)] {
            for until in [bounds[last] + 1, bounds[last + 1]] {
                assert_eq!(hot.records(GROUP, STREAM, from, Offset(until)), records[first..=last]);
            }
        }
    }
    assert!(hot.records(GROUP, STREAM, Offset(end), Offset(end + 1)).is_empty());
    assert!(hot.records(GROUP, StreamId(8), Offset(0), Offset(end)).is_empty());
}

#[test]
fn until_cuts_inside_a_record() {
    let (hot, _) = stored(&[b"one", b"three"]);
    let range = hot.read(GROUP, STREAM, Offset(1), Some(Offset(5)), 100);
    assert_eq!((bytes(&range), range.next), (b"neth".to_vec(), Offset(5)));
}

#[test]
fn every_range_over_many_chunks_is_what_was_written() {
    let records: Vec<Vec<u8>> = (0..700u32).map(|i| vec![i as u8; (i as usize * 37) % 900 + 1]).collect();
    let slices: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    let (hot, bounds) = stored(&slices);
    let whole = records.concat();
    for from in (0..whole.len()).step_by(1013) {
        for max in [1, 300, 70_000, whole.len()] {
            let range = hot.read(GROUP, STREAM, Offset(from as u64), None, max);
            let next = range.next.0 as usize;
            assert_eq!(bytes(&range), whole[from..next]);
            assert!(bounds.contains(&range.next.0));
            assert!(next >= (from + max).min(whole.len()));
        }
        let (start, end) = hot.record_at(GROUP, STREAM, Offset(from as u64)).expect("stored");
        let index = bounds.iter().position(|bound| *bound == start.0).expect("a boundary");
        assert!(start.0 <= from as u64 && (from as u64) < end.0 && bounds[index + 1] == end.0);
    }
}

#[test]
fn a_fork_begins_at_its_own_offset() {
    let mut hot = Hot::new(usize::MAX);
    hot.append(GROUP, STREAM, Offset(100), b"own");
    assert_eq!(hot.read(GROUP, STREAM, Offset(0), None, 10).pieces, Vec::<Bytes>::new());
    assert_eq!(bytes(&hot.read(GROUP, STREAM, Offset(100), None, 10)), b"own");
}

#[test]
fn the_budget_counts_what_is_stored_and_given_back() {
    let mut hot = Hot::new(110_000);
    for i in 0..100u64 {
        hot.append(GROUP, STREAM, Offset(i * 500), &[0; 500]);
    }
    let (used, budget) = hot.usage();
    assert!((50_000..=budget).contains(&used), "used {used}");
    // Also what holds the chunks: four places at least, of which one may be used.
    let mut small = Hot::new(budget);
    small.append(GROUP, STREAM, Offset(0), b"x");
    assert!(small.usage().0 >= STREAM_OVERHEAD_BYTES + 4 * size_of::<Chunk>(), "{:?}", small.usage());
    assert!(!hot.reserve(60_000) && hot.reserve(20_000) && !hot.reserve(20_000));
    hot.release(20_000);
    assert!(hot.reserve(20_000));
    hot.remove(GROUP, STREAM);
    assert_eq!(hot.usage().0, 0);
}

#[test]
#[should_panic(expected = "no gap")]
fn a_gap_is_never_stored() {
    let (mut hot, _) = stored(&[b"abc"]);
    hot.append(GROUP, STREAM, Offset(4), b"d");
}

#[test]
fn beyond_the_budget_the_oldest_bytes_go_first() {
    let other = StreamId(8);
    let mut hot = Hot::evicting(256 << 10);
    for i in 0..4096u64 {
        hot.append(GROUP, STREAM, Offset(i * 300), &[i as u8; 300]);
        hot.append(GROUP, other, Offset(i * 10), &[i as u8; 10]);
        hot.evict();
        let (used, budget) = hot.usage();
        assert!(used <= budget, "{used} bytes after {i}");
        let last = hot.read(GROUP, STREAM, Offset(i * 300), None, 300);
        assert_eq!(bytes(&last), [i as u8; 300], "what came last is there");
    }
    assert_eq!(hot.read(GROUP, STREAM, Offset(0), None, 1), Range { pieces: vec![], next: Offset(0) });
    assert_eq!(hot.record_at(GROUP, STREAM, Offset(0)), None);
    hot.remove(GROUP, STREAM);
    hot.remove(GROUP, other);
    assert_eq!(hot.usage().0, 0);
}

#[test]
fn a_stream_that_has_left_memory_comes_back_where_it_goes_on() {
    let mut hot = Hot::evicting(2048);
    hot.append(GROUP, STREAM, Offset(0), &[1; 600]);
    hot.append(GROUP, StreamId(8), Offset(0), &[2; 600]);
    hot.evict();
    assert_eq!(hot.record_at(GROUP, STREAM, Offset(0)), None);
    hot.append(GROUP, STREAM, Offset(600), b"more");
    let range = hot.read(GROUP, STREAM, Offset(600), None, 100);
    assert_eq!((bytes(&range), range.next), (b"more".to_vec(), Offset(604)));
    assert_eq!(hot.record_at(GROUP, STREAM, Offset(599)), None);
}

#[test]
fn the_order_of_eviction_forgets_streams_that_are_gone() {
    let mut hot = Hot::evicting(1 << 20);
    hot.append(GROUP, STREAM, Offset(0), b"stays");
    for i in 0..10 * STALE_CHUNKS_MAX as u64 {
        hot.append(GROUP, StreamId(100 + i), Offset(0), b"goes");
        hot.remove(GROUP, StreamId(100 + i));
    }
    let evictable = hot.evictable.as_ref().expect("it evicts");
    assert_eq!(evictable.live, 1);
    assert!(evictable.chunks.len() <= STALE_CHUNKS_MAX + 2, "{}", evictable.chunks.len());
    assert!(evictable.chunks.contains(&(GROUP, STREAM, 0)));
}
