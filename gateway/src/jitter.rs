//! The randomness in what a gateway does with nodes: one seed, one course of events. Owns no policy.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Random numbers by SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators). Cheap to
/// clone; clones share the sequence.
#[derive(Debug, Clone)]
pub(crate) struct Jitter(Arc<AtomicU64>);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Jitter {
        Jitter(Arc::new(AtomicU64::new(seed)))
    }

    pub(crate) fn next(&self) -> u64 {
        const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut mixed = self.0.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A time in `range`.
    pub(crate) fn within(&self, range: &Range<Duration>) -> Duration {
        range.start + (range.end - range.start).mul_f64((self.next() >> 11) as f64 / (1u64 << 53) as f64)
    }
}
