//! Create: what is equal to what is there.

use ursula_common::verb::{Create, Created, Lifetime, Reply};
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
