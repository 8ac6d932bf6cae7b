//! Create: what is equal to what is there.

use ursula_common::verb::{Append, Create, Created, Lifetime, Reply};
use ursula_common::{ContentType, Error, Millis, Offset};

use super::world::*;
use crate::Effect;

fn exists(tail: u64) -> Result<Reply, Error> {
    Err(Error::StreamExists { tail: Offset(tail), closed: false })
}

fn until(text: &str, at: u64) -> Lifetime {
    Lifetime::ExpiresAt { text: text.into(), at: Millis(at) }
}

#[test]
fn the_same_again_changes_nothing() {
    let mut world = World::new();
    assert_eq!(world.run(Create { body: "x".into(), ..create("a") }), created(true, 1));
    assert_eq!(world.run(Create { body: "other".into(), ..create("a") }), created(false, 1));
    assert!(world.effects.is_empty());
    assert_eq!(world.read("a").as_deref(), Ok("x"));
    assert_eq!(world.run(create("nobucket:a")), Err(Error::BucketNotFound));
}

#[test]
fn the_type_counts_without_parameters() {
    let mut world = World::new();
    let typed = |text: &str| Create { content_type: Some(ContentType::parse(text)), ..create("a") };
    assert_eq!(world.run(create("a")), created(true, 0));
    // The answer has the type as created.
    assert_eq!(world.run(typed("Text/Plain; charset=utf-8")), created(false, 0));
    assert_eq!(world.run(typed("text/html")), exists(0));
    assert_eq!(world.run(Create { content_type: None, ..create("a") }), exists(0));
    let none = Create { content_type: None, ..create("a2") };
    assert!(world.run(none.clone()).is_ok());
    assert_eq!(world.info("a2").map(|info| info.content_type), Ok(ContentType::default()));
    assert!(world.run(none).is_ok());
    assert!(world.run(Create { content_type: Some(ContentType::default()), ..create("a2") }).is_ok());
}

#[test]
fn the_lifetime_counts_as_it_was_written() {
    let mut world = World::new();
    let lives = |lifetime| Create { lifetime, ..create("a") };
    let far = START.0 + 3_600_000;
    assert_eq!(world.run(lives(Lifetime::Ttl(60))), created(true, 0));
    assert_eq!(world.run(lives(Lifetime::Ttl(60))), created(false, 0));
    assert_eq!(world.run(lives(Lifetime::Ttl(61))), exists(0));
    assert_eq!(world.run(lives(Lifetime::Forever)), exists(0));
    assert_eq!(world.run(lives(until("t", far))), exists(0));
    assert_eq!(world.run(delete("a")), Ok(Reply::Done));
    assert_eq!(world.run(lives(until("t", far))), created(true, 0));
    assert_eq!(world.run(lives(until("t", far))), created(false, 0));
    assert_eq!(world.run(lives(until("u", far))), exists(0));
    assert_eq!(world.info("a").map(|info| info.lifetime), Ok(until("t", far)));
}

#[test]
fn the_closed_flag_counts_as_it_is_now() {
    let mut world = World::new();
    let closed = || Create { closed: true, ..create("a") };
    assert_eq!(world.run(create("a")), created(true, 0));
    assert_eq!(world.run(closed()), exists(0));
    assert!(world.run(close("a")).is_ok());
    assert_eq!(world.run(create("a")), Err(Error::StreamExists { tail: Offset(0), closed: true }));
    let known = Created { new: false, tail: Offset(0), closed: true, content_type: text() };
    assert_eq!(world.run(closed()), Ok(Reply::Created(known)));
}

#[test]
fn a_name_is_free_after_delete_and_has_a_new_id() {
    let mut world = World::new();
    assert_eq!(world.run(Create { body: "old".into(), ..create("a") }), created(true, 3));
    let old = world.info("a").expect("it is there").id;
    assert_eq!(world.run(delete("a")), Ok(Reply::Done));
    assert_eq!(world.effects, [Effect::Removed { stream: old }]);
    assert_eq!(world.run(delete("a")), Err(Error::StreamNotFound));
    assert_eq!(world.info("a"), Err(Error::StreamNotFound));
    assert_eq!(world.run(create("a")), created(true, 0));
    assert!(world.info("a").expect("it is there").id > old);
    assert_eq!(world.read("a").as_deref(), Ok(""));
}

#[test]
fn offsets_of_a_deleted_stream_are_none_of_the_next_under_its_name() {
    let mut world = World::new();
    let again = || Create { body: "text".into(), numbered: true, ..create("a") };
    let tail = |world: &World| world.info("a").expect("it is there").tail;
    assert_eq!(world.run(again()), created(true, 4));
    world.run(delete("a")).expect("deleted");
    // What an older version asked for stays as it was.
    assert_eq!(world.run(Create { numbered: false, ..again() }), created(true, 4));
    let mut tails = vec![tail(&world)];
    for _ in 0..5 {
        world.run(delete("a")).expect("deleted");
        world.run(again()).expect("created");
        tails.push(tail(&world));
        let info = world.info("a").expect("it is there");
        assert_eq!((info.earliest, info.tail.bytes()), (info.tail.first(), 4));
        assert_eq!(world.read("a").as_deref(), Ok("text"));
    }
    assert!(tails.is_sorted_by(|a, b| a.first() < b.first()), "{tails:?}");

    let expecting = |offset| Append { expected_offset: Some(offset), ..append("a", "!") };
    let here = tail(&world);
    assert_eq!(world.run(expecting(tails[4])), Err(Error::OffsetMismatch { tail: here }));
    assert!(world.run(expecting(here)).is_ok());
    let from = |offset| fork_at("b", "a", offset, 0);
    let here = tail(&world);
    assert_eq!(world.run(from(tails[4].0)), Err(Error::ForkOffsetInvalid { tail: here }));
    world.run(from(0)).expect("zero is the start of any stream");
    assert_eq!(world.info("b").expect("it is there").tail, here.first());
    assert!(matches!(world.run(from(0)), Ok(Reply::Created(found)) if !found.new));
    assert!(matches!(world.run(from(here.first().0)), Ok(Reply::Created(found)) if !found.new));
}
