//! Questions: listing and counting.

use ursula_common::verb::{Create, Lifetime};
use ursula_common::{Error, GroupId};

use super::world::*;

#[test]
fn a_listing_is_ordered_and_comes_in_pages() {
    let mut world = World::new();
    for name in ["a/2", "a/1", "a/10", "c", "aa", "a/3", "a-gone"] {
        world.run(create(name)).expect("created");
    }
    world.run(Create { lifetime: Lifetime::Ttl(1), ..create("a/over") }).expect("created");
    world.run(delete("a-gone")).expect("deleted");
    world.pass(1.0);
    let list = |prefix, after, limit| {
        let names = world.state(GroupId(1)).list(&bucket("default"), prefix, after, limit, world.now);
        names.expect("listed").into_iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(list("", "", 100), ["a/1", "a/10", "a/2", "a/3", "aa", "c"]);
    assert_eq!(list("a/", "", 2), ["a/1", "a/10"]);
    assert_eq!(list("a/", "a/10", 2), ["a/2", "a/3"]);
    assert_eq!(list("a/1", "a/1", 2), ["a/10"], "what came last does not come again");
    assert_eq!(list("a/", "a/3", 2), [""; 0]);
    assert_eq!(list("a/", "b", 2), [""; 0]);
    assert_eq!(list("aa", "a/", 2), ["aa"]);
    assert_eq!(list("z", "", 2), [""; 0]);
    assert_eq!(list("", "", 0), [""; 0]);
    let unknown = world.state(GroupId(1)).list(&bucket("unknown"), "", "", 1, world.now);
    assert_eq!(unknown, Err(Error::BucketNotFound));
}

#[test]
fn streams_that_only_forks_keep_are_counted_but_not_listed() {
    let mut world = World::new();
    world.run(create("a")).expect("created");
    world.run(fork("b", "a")).expect("forked");
    world.run(delete("a")).expect("deleted");
    let list = world.state(GroupId(1)).list(&bucket("default"), "", "", 9, world.now).expect("listed");
    assert!(list.is_empty());
    let stats = world.state(GroupId(1)).stats();
    assert_eq!((stats.streams, stats.buckets, stats.sagas, stats.sessions), (1, 1, 0, 0));
}
