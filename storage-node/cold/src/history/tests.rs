//! Which objects are a history, among others that lie beside them.

use ursula_common::{ClusterId, GroupId, Millis};

use super::{Found, History};
use crate::pack::{Head, Link, PackId};

/// An object of packs `first..=last`, made at a time, after another one.
fn object(first: u64, last: u64, maker: u64, made: u64, prev: Option<Link>) -> Found {
    let id = PackId { group: GroupId(1), first, last, maker };
    let head = Head { cluster: ClusterId(1), id, made: Millis(made), as_of: 0, prev, merged: None };
    Found { id, bytes: 100, head: Ok(head) }
}

fn link(found: &Found) -> Link {
    Link { id: found.id, hash: [found.id.maker as u8; 32] }
}

/// Packs 1 to `count`, each after the one before.
fn chain(count: u64) -> Vec<Found> {
    let mut chain: Vec<Found> = Vec::new();
    for number in 1..=count {
        chain.push(object(number, number, number, 10 * number, chain.last().map(link)));
    }
    chain
}

/// An object that stands for some of a chain.
fn merged(chain: &[Found], first: u64, last: u64, maker: u64) -> Found {
    let mut merged = object(first, last, maker, 10 * last, None);
    if let Ok(head) = &mut merged.head {
        head.prev = (first > 1).then(|| link(&chain[first as usize - 2]));
        head.merged = Some(link(&chain[last as usize - 1]));
    }
    merged
}

/// First, last and maker of the objects, and what is missing.
type Told = (Vec<(u64, u64, u64)>, Vec<(u64, u64)>);

fn history(found: &[Found]) -> Told {
    let history = History::of(found);
    let objects = history.objects.iter().map(|object| {
        let id = object.head.id;
        (id.first, id.last, id.maker)
    });
    (objects.collect(), history.missing.iter().map(|missing| (missing.first, missing.last)).collect())
}

fn damage(found: &mut Found) {
    found.head = Err("its last part is damaged".to_owned());
}

#[test]
fn packs_follow_each_other() {
    assert_eq!(history(&[]), (vec![], vec![]));
    assert_eq!(history(&chain(3)), (vec![(1, 1, 1), (2, 2, 2), (3, 3, 3)], vec![]));
    let hashes: Vec<_> = History::of(&chain(2)).objects.iter().map(|object| object.hash).collect();
    assert_eq!(hashes, [Some([1; 32]), None], "nobody says what the newest is");
}

#[test]
fn what_nobody_names_does_not_count() {
    let mut found = chain(3);
    let orphans = [object(2, 2, 77, 99, Some(link(&found[0]))), object(3, 3, 78, 5, Some(link(&found[1])))];
    found.extend(orphans);
    assert_eq!(history(&found).0, [(1, 1, 1), (2, 2, 2), (3, 3, 3)], "of the newest, the one that was made last");
}

/// Whatever the clocks of leaders said: ops may have been acknowledged because the one counts that was planned last.
#[test]
fn of_several_newest_the_one_counts_that_was_planned_last() {
    let mut found = chain(2);
    let before = link(&found[1]);
    for (maker, made, as_of) in [(77, 99, 5), (78, 10, 7), (79, 50, 0)] {
        let mut newest = object(3, 3, maker, made, Some(before));
        if let Ok(head) = &mut newest.head {
            head.as_of = as_of;
        }
        found.push(newest);
    }
    assert_eq!(history(&found).0, [(1, 1, 1), (2, 2, 2), (3, 3, 78)]);
}

#[test]
fn of_several_newest_the_one_counts_whose_way_back_is_whole() {
    let mut found = chain(3);
    found.push(object(3, 3, 78, 99, Some(Link { id: PackId { maker: 55, ..found[1].id }, hash: [0; 32] })));
    assert_eq!(history(&found), (vec![(1, 1, 1), (2, 2, 2), (3, 3, 3)], vec![]));
}

#[test]
fn an_object_stands_for_those_that_it_was_made_of() {
    let all = chain(6);
    let mut found = all.clone();
    found.extend([merged(&all, 1, 2, 50), merged(&all, 3, 5, 51)]);
    let whole = (vec![(1, 2, 50), (3, 5, 51), (6, 6, 6)], vec![]);
    assert_eq!(history(&found), whole);
    // Those that it was made of have gone.
    found.retain(|object| object.id.first < object.id.last || object.id.last == 6);
    assert_eq!(history(&found), whole);
    // Half of them.
    let mut found = all.clone();
    found.push(merged(&all, 1, 4, 50));
    found.remove(1);
    assert_eq!(history(&found), (vec![(1, 4, 50), (5, 5, 5), (6, 6, 6)], vec![]));
    // An object of the same packs that was made of others.
    let mut found = all.clone();
    let mut stranger = merged(&all, 1, 4, 50);
    if let Ok(head) = &mut stranger.head {
        head.merged = Some(Link { hash: [99; 32], ..link(&all[3]) });
    }
    found.push(stranger);
    assert_eq!(history(&found), history(&all));
}

/// Merged objects lack what the newest pack says that nobody needs, and which of two that is, nobody knows.
#[test]
fn with_two_newest_packs_those_that_were_replaced_are_taken() {
    let all = chain(6);
    let mut found = all.clone();
    found.extend([merged(&all, 1, 2, 50), merged(&all, 3, 5, 51), object(6, 6, 77, 5, Some(link(&all[4])))]);
    assert_eq!(history(&found), history(&all));
    let newest = found.iter().position(|object| object.id.maker == 6).expect("it is there");
    damage(&mut found[newest]);
    let of_the_other = history(&found);
    assert_eq!((of_the_other.0.len(), of_the_other.0[5].2, of_the_other.1), (6, 77, vec![]));
    // Some of them have gone.
    found.remove(3);
    let makers: Vec<u64> = history(&found).0.iter().map(|(_, _, maker)| *maker).collect();
    assert_eq!(makers, [1, 2, 51, 77]);
}

/// Objects go one by one, in whatever order, and each time there is a way.
#[test]
fn there_is_a_way_while_what_was_replaced_goes() {
    let all = chain(6);
    let wide = [merged(&all, 1, 2, 50), merged(&all, 3, 4, 51), merged(&all, 1, 4, 52)];
    for gone in 0..1u32 << 6 {
        let mut found: Vec<Found> = wide[2..].to_vec();
        let replaced = all[..4].iter().chain(&wide[..2]);
        let left = replaced.zip(0..).filter(|(_, place)| gone & (1 << place) == 0);
        found.extend(left.map(|(object, _)| object.clone()).chain(all[4..].iter().cloned()));
        let history = history(&found);
        assert_eq!(history.1, [], "without {gone:06b}");
        assert_eq!(history.0.last(), Some(&(6, 6, 6)));
    }
}

#[test]
fn what_is_missing_is_named() {
    let mut found = chain(5);
    found.remove(2);
    assert_eq!(history(&found), (vec![(1, 1, 1), (2, 2, 2), (4, 4, 4), (5, 5, 5)], vec![(3, 3)]));
    let mut found = chain(5);
    found.drain(1..3);
    assert_eq!(history(&found), (vec![(1, 1, 1), (4, 4, 4), (5, 5, 5)], vec![(2, 2), (3, 3)]));
    let mut found = chain(3);
    found.remove(0);
    assert_eq!(history(&found), (vec![(2, 2, 2), (3, 3, 3)], vec![(1, 1)]));
}

#[test]
fn what_is_damaged_is_missing() {
    let mut found = chain(4);
    damage(&mut found[1]);
    assert_eq!(history(&found), (vec![(1, 1, 1), (3, 3, 3), (4, 4, 4)], vec![(2, 2)]));
    let mut found = chain(4);
    damage(&mut found[3]);
    assert_eq!(history(&found), (vec![(1, 1, 1), (2, 2, 2), (3, 3, 3)], vec![(4, 4)]), "also the newest");
    found.iter_mut().for_each(damage);
    assert_eq!(history(&found), (vec![], vec![(1, 1), (2, 2), (3, 3), (4, 4)]));
}
