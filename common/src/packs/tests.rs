//! Objects follow each other without a gap, and each pack has one.

use super::{Catalogue, PackRef};

fn object(first: u64, last: u64) -> PackRef {
    PackRef { first, last, maker: first * 7, bytes: 100 * last, hash: [last as u8; 32] }
}

#[test]
fn every_pack_has_the_object_that_stands_for_it() {
    let mut catalogue = Catalogue::default();
    assert_eq!((catalogue.next(), catalogue.find(1)), (1, None));
    for object in [object(1, 1), object(2, 5), object(6, 6)] {
        assert!(catalogue.push(object));
    }
    for (pack, last) in [(1, 1), (2, 5), (3, 5), (5, 5), (6, 6)] {
        assert_eq!(catalogue.find(pack).map(|object| object.last), Some(last), "pack {pack}");
    }
    assert_eq!((catalogue.find(0), catalogue.find(7)), (None, None));
    assert_eq!((catalogue.next(), catalogue.newest(), catalogue.bytes()), (7, Some(&object(6, 6)), 1200));
}

#[test]
fn an_object_comes_in_the_place_of_exactly_those_that_it_was_made_of() {
    let mut catalogue = Catalogue::default();
    let all = [object(1, 1), object(2, 5), object(6, 6), object(7, 7)];
    assert!(all.iter().all(|object| catalogue.push(*object)));
    let stranger = PackRef { maker: 99, ..all[1] };
    let wrong: [(&[PackRef], PackRef); 8] = [
        (&[], object(1, 5)),
        (&all[..1], object(1, 5)),
        (&all[1..2], object(1, 5)),
        (&[all[0], stranger], object(1, 5)),
        (&all[..3], object(1, 5)),
        (&all[..2], object(1, 4)),
        (&all[..2], object(1, 6)),
        // The newest.
        (&all[2..], object(6, 7)),
    ];
    let before = catalogue.clone();
    for (run, merged) in wrong {
        assert!(!catalogue.replace(run, merged), "{merged:?} of {run:?}");
    }
    assert_eq!(catalogue, before);
    let merged = PackRef { maker: 50, ..object(1, 6) };
    assert!(catalogue.replace(&all[..3], merged));
    assert!(!catalogue.replace(&all[..3], merged), "once");
    assert_eq!(catalogue.iter().copied().collect::<Vec<_>>(), [merged, all[3]]);
    assert_eq!((catalogue.find(3), catalogue.bytes()), (Some(&merged), 1300));
}

#[test]
fn what_does_not_go_on_where_the_newest_ends_is_refused() {
    let mut catalogue = Catalogue::default();
    for bad in [object(0, 0), object(2, 2), object(1, 0)] {
        assert!(!catalogue.push(bad), "{bad:?}");
    }
    assert!(catalogue.push(object(1, 3)));
    for bad in [object(3, 3), object(1, 3), object(5, 5), object(4, 3)] {
        assert!(!catalogue.push(bad), "{bad:?}");
    }
    assert_eq!(catalogue.iter().count(), 1);
}
