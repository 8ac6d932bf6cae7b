//! Percentiles of few and of many.

use super::*;

#[test]
fn percentiles_are_nearest_ranks() {
    let times: Vec<Duration> = (1..=100).map(Duration::from_secs).collect();
    let of = |times: &[Duration], part| percentile(times, part).as_secs();
    assert_eq!([0.5, 0.99, 1.0].map(|part| of(&times, part)), [50, 99, 100]);
    assert_eq!([0.5, 0.99, 1.0].map(|part| of(&times[..1], part)), [1, 1, 1]);
    assert_eq!(of(&[], 0.5), 0);
}
