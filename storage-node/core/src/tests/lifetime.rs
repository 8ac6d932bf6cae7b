//! Lifetimes: sliding and absolute, touch, expiry.

use ursula_common::verb::{Create, Lifetime, Op, Reply};
use ursula_common::{Error, GroupId, Millis};

use super::world::*;
use crate::expire::EXPIRE_STREAMS_MAX;
use crate::{Answer, Effect};

fn ttl(name: &str, seconds: u64) -> Create {
    Create { lifetime: Lifetime::Ttl(seconds), ..create(name) }
}

fn expire(world: &mut World) {
    assert_eq!(world.apply(GroupId(1), Op::Expire, None), Answer::Done(Ok(Reply::Done)));
}

fn is_there(world: &World, name: &str) -> bool {
    world.info(name).is_ok()
}

#[test]
fn appends_closes_and_touches_renew_a_sliding_lifetime() {
    let mut world = World::new();
    world.run(ttl("a", 10)).expect("created");
    for _ in 0..3 {
        world.pass(9.0);
        world.run(append("a", "x")).expect("appended");
        world.pass(9.0);
        world.run(touch("a")).expect("touched");
    }
    world.pass(9.0);
    world.run(close("a")).expect("closed");
    world.pass(9.999);
    assert!(is_there(&world, "a"));
    // What changes nothing renews nothing.
    world.run(close("a")).expect("closed before");
    world.run(Create { closed: true, ..ttl("a", 10) }).expect("the same");
    world.pass(0.001);
    assert_eq!(world.info("a"), Err(Error::StreamNotFound));
    assert_eq!(world.run(append("a", "x")), Err(Error::StreamNotFound));
    assert_eq!(world.effects.len(), 1, "the first command that comes by removes it");
    assert_eq!(world.run(touch("a")), Err(Error::StreamNotFound));
    assert_eq!(world.run(delete("a")), Err(Error::StreamNotFound));
}

#[test]
fn an_absolute_lifetime_is_not_renewed() {
    let mut world = World::new();
    let at = Millis(START.0 + 5000);
    let lifetime = Lifetime::ExpiresAt { text: "soon".into(), at };
    world.run(Create { lifetime, ..create("a") }).expect("created");
    world.pass(4.0);
    world.run(append("a", "x")).expect("appended");
    world.run(touch("a")).expect("touched");
    assert!(!world.state(GroupId(1)).touch_due(&key("a"), world.now));
    world.pass(1.0);
    assert_eq!(world.run(append("a", "x")), Err(Error::StreamNotFound));
}

#[test]
fn no_time_to_live_at_all() {
    let mut world = World::new();
    let past = Lifetime::ExpiresAt { text: "1970".into(), at: Millis(1) };
    assert_eq!(world.run(ttl("a", 0)), created(true, 0));
    assert_eq!(world.run(Create { lifetime: past, ..create("a2") }), created(true, 0));
    assert!(!is_there(&world, "a") && !is_there(&world, "a2"));
    assert_eq!(world.run(ttl("a", 0)), created(true, 0));
    expire(&mut world);
    assert_eq!(world.state(GroupId(1)).stats().streams, 0);
}

#[test]
fn an_expired_name_is_free() {
    let mut world = World::new();
    world.run(Create { body: "old".into(), ..ttl("a", 1) }).expect("created");
    let old = world.info("a").expect("it is there").id;
    world.pass(1.0);
    assert_eq!(world.run(ttl("a", 1)), created(true, 0));
    assert_eq!(world.effects, [Effect::Removed { stream: old }]);
    assert_eq!(world.read("a").as_deref(), Ok(""));
}

#[test]
fn time_never_goes_back() {
    let mut world = World::new();
    world.run(ttl("a", 10)).expect("created");
    world.pass(9.0);
    world.run(touch("a")).expect("touched");
    world.now = START;
    world.run(touch("a")).expect("touched by a leader with a slow clock");
    world.now = Millis(START.0 + 18_999);
    assert!(is_there(&world, "a"));
    world.pass(0.001);
    assert!(!is_there(&world, "a"));
}

#[test]
fn the_sweep_finds_what_is_over_and_only_that() {
    let mut world = World::new();
    world.run(ttl("a1", 10)).expect("created");
    world.run(ttl("a2", 10)).expect("created");
    world.run(create("a3")).expect("created");
    assert_eq!(world.state(GroupId(1)).next_expiry(), Some(Millis(START.0 + 10_000)));
    world.pass(5.0);
    world.run(touch("a2")).expect("touched");
    // A touch does not move the deadline in the index: the sweep corrects it.
    assert_eq!(world.state(GroupId(1)).next_expiry(), Some(Millis(START.0 + 10_000)));
    world.pass(5.0);
    expire(&mut world);
    assert_eq!(world.effects.len(), 1);
    assert!(!is_there(&world, "a1") && is_there(&world, "a2") && is_there(&world, "a3"));
    assert_eq!(world.state(GroupId(1)).next_expiry(), Some(Millis(START.0 + 15_000)));
    world.pass(5.0);
    expire(&mut world);
    assert_eq!(world.state(GroupId(1)).next_expiry(), None);
    assert_eq!(world.state(GroupId(1)).stats().streams, 1);
}

#[test]
fn a_deleted_stream_leaves_no_deadline() {
    let mut world = World::new();
    world.run(ttl("a", 10)).expect("created");
    world.run(touch("a")).expect("touched");
    world.run(delete("a")).expect("deleted");
    assert_eq!(world.state(GroupId(1)).next_expiry(), None);
}

#[test]
fn one_sweep_does_a_bounded_amount_of_work() {
    let mut world = World::new();
    for n in 0..EXPIRE_STREAMS_MAX + 1 {
        world.run(ttl(&format!("a{n}"), 1)).expect("created");
    }
    world.pass(1.0);
    expire(&mut world);
    assert_eq!(world.state(GroupId(1)).stats().streams, 1);
    assert!(world.state(GroupId(1)).next_expiry() <= Some(world.now), "the leader proposes again");
    expire(&mut world);
    assert_eq!(world.state(GroupId(1)).stats().streams, 0);
}

#[test]
fn reads_renew_now_and_then() {
    let mut world = World::new();
    world.run(ttl("a", 2)).expect("created");
    world.run(ttl("a-long", 86_400)).expect("created");
    world.run(create("a-forever")).expect("created");
    let due = |world: &World, name| world.state(GroupId(1)).touch_due(&key(name), world.now);
    assert!(!due(&world, "a") && !due(&world, "a-long"));
    world.pass(0.124);
    assert!(!due(&world, "a"));
    world.pass(0.001);
    assert!(due(&world, "a") && !due(&world, "a-long"));
    world.pass(0.875);
    assert!(due(&world, "a-long") && !due(&world, "a-forever") && !due(&world, "a-unknown"));
    world.pass(0.999);
    assert!(due(&world, "a"), "at 1,999 ms of 2,000");
    world.pass(0.001);
    assert!(!due(&world, "a"), "too late");
}
