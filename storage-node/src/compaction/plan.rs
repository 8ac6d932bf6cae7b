//! Which objects are to become one. Small ones come first, in steps of eight: so a byte is written again about once for each
//! time that the objects around it have grown eightfold.

use std::collections::BTreeSet;

use ursula_common::packs::{Catalogue, PackRef};

/// So many small objects that follow each other are too many.
const RUN_MIN: usize = 8;
/// The most that become one.
const RUN_MAX: usize = 256;
/// Objects up to this size are the smallest step; the last step is those of half of a large object.
const STEP_BYTES_MIN: u64 = 64 << 10;
const STEP: u64 = 8;

/// Objects that follow each other and should be one of at most so many bytes; none of those that are `refused`, by their makers, and
/// never the newest.
pub(crate) fn small_run(catalogue: &Catalogue, object_bytes: u64, refused: &BTreeSet<u64>) -> Option<Vec<PackRef>> {
    let newest = catalogue.newest()?.last;
    let last_step = object_bytes / 2;
    let mut step = STEP_BYTES_MIN.min(last_step);
    loop {
        let is_small =
            |object: &PackRef| object.bytes <= step && object.last < newest && !refused.contains(&object.maker);
        if let Some(run) = run_of(catalogue, object_bytes, is_small) {
            return Some(run);
        }
        if step == last_step {
            return None;
        }
        step = (step * STEP).min(last_step);
    }
}

fn run_of(catalogue: &Catalogue, bytes_max: u64, is_small: impl Fn(&PackRef) -> bool) -> Option<Vec<PackRef>> {
    let (mut run, mut bytes) = (Vec::new(), 0);
    for object in catalogue.iter() {
        let is_small = is_small(object);
        let is_full = run.len() == RUN_MAX || (is_small && run.len() > 1 && bytes + object.bytes > bytes_max);
        if is_full || (!is_small && run.len() >= RUN_MIN) {
            return Some(run);
        }
        if is_small && bytes + object.bytes <= bytes_max {
            bytes += object.bytes;
            run.push(*object);
        } else {
            (run, bytes) = (Vec::new(), 0);
        }
    }
    (run.len() >= RUN_MIN).then_some(run)
}

#[cfg(test)]
mod tests;
