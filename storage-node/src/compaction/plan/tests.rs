//! Which objects are to become one.

use std::collections::BTreeSet;

use ursula_common::packs::{Catalogue, PackRef};

use super::small_run;

const LARGE: u64 = 64 << 20;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Objects of these sizes, of one pack each, made by themselves.
fn catalogue(sizes: &[u64]) -> Catalogue {
    let mut catalogue = Catalogue::default();
    for (number, bytes) in (1..).zip(sizes) {
        assert!(catalogue.push(PackRef { first: number, last: number, maker: number, bytes: *bytes, hash: [0; 32] }));
    }
    catalogue
}

/// First and last pack of what is planned.
fn plan(sizes: &[u64], refused: &[u64]) -> Option<(u64, u64)> {
    let run = small_run(&catalogue(sizes), LARGE, &refused.iter().copied().collect::<BTreeSet<_>>())?;
    Some((run.first()?.first, run.last()?.last))
}

#[test]
fn eight_small_ones_become_one() {
    assert_eq!(plan(&[], &[]), None);
    assert_eq!(plan(&[KIB; 8], &[]), None, "the newest stays");
    assert_eq!(plan(&[KIB; 9], &[]), Some((1, 8)));
    assert_eq!(plan(&[KIB; 300], &[]), Some((1, 256)));
}

#[test]
fn the_smallest_come_first() {
    let sizes: Vec<u64> = [[MIB; 9], [KIB; 9], [MIB; 9]].concat();
    assert_eq!(plan(&sizes, &[]), Some((10, 18)));
    assert_eq!(plan(&[MIB, KIB, MIB, KIB, MIB, KIB, MIB, KIB, MIB], &[]), Some((1, 8)), "small ones among them");
}

#[test]
fn no_more_than_a_large_one() {
    assert_eq!(plan(&[8 * MIB; 20], &[]), Some((1, 8)));
    assert_eq!(plan(&[30 * MIB; 4], &[]), Some((1, 2)), "two fill one");
    assert_eq!(plan(&[40 * MIB; 20], &[]), None, "they are large");
    assert_eq!(plan(&[30 * MIB, 40 * MIB, 20 * MIB, 40 * MIB], &[]), None, "nothing lies next to it that fits");
}

#[test]
fn one_that_cannot_be_read_holds_up_no_others() {
    assert_eq!(plan(&[KIB; 20], &[3]), Some((4, 19)));
    assert_eq!(plan(&[KIB; 12], &[6]), None);
}
