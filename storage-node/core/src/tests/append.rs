//! Append and close: the order of the checks, producers, `Stream-Seq`, expected offsets.

use std::time::Duration;

use ursula_common::limits::{PRODUCER_IDLE, PRODUCERS_MAX};
use ursula_common::verb::{Append, Appended, Create, Created, Reply};
use ursula_common::{ContentType, Error, Offset};

use super::world::*;
use crate::Effect;

/// A world with the open stream `a`.
fn world() -> World {
    let mut world = World::new();
    assert_eq!(world.run(create("a")), created(true, 0));
    world
}

fn closed_answer(tail: u64, duplicate: bool, producer: Option<(u64, u64)>) -> Result<Reply, Error> {
    Ok(Reply::Appended(Appended { tail: Offset(tail), closed: true, duplicate, producer }))
}

#[test]
fn appends_follow_each_other() {
    let mut world = world();
    assert_eq!(world.run(append("a", "one,")), appended(4));
    assert_eq!(world.run(append("a", "two")), appended(7));
    assert_eq!(world.read("a").as_deref(), Ok("one,two"));
}

#[test]
fn nothing_to_append_to() {
    let mut world = world();
    assert_eq!(world.run(append("a2", "x")), Err(Error::StreamNotFound));
    assert_eq!(world.run(append("nobucket:a", "x")), Err(Error::BucketNotFound));
}

#[test]
fn the_media_type_must_match_unless_the_body_is_empty() {
    let mut world = world();
    let typed = |content_type| Append { content_type, ..append("a", "x") };
    let mismatch = Err(Error::ContentTypeMismatch { expected: text() });
    assert_eq!(world.run(typed(None)), mismatch);
    assert_eq!(world.run(typed(Some(ContentType::parse("application/json")))), mismatch);
    assert_eq!(world.run(typed(Some(ContentType::parse("TEXT/Plain; charset=utf-8")))), appended(1));
    let json = Some(ContentType::parse("application/json"));
    assert_eq!(world.run(Append { content_type: json, ..close("a") }), closed_answer(1, false, None));
}

#[test]
fn the_producer_table() {
    let mut world = world();
    let send = |epoch, seq| Append { producer: by("p", epoch, seq), ..append("a", "x") };
    let gap = |expected, received| Err(Error::ProducerGap { expected, received });
    let script = [
        (send(3, 1), gap(0, 1)),
        (send(3, 0), produced(1, 3, 0)),
        (send(3, 0), repeated(1, 3, 0)),
        (send(3, 2), gap(1, 2)),
        (send(3, 1), produced(2, 3, 1)),
        (send(3, 2), produced(3, 3, 2)),
        (send(3, 0), repeated(3, 3, 2)),
        (send(2, 3), Err(Error::StaleEpoch { current: 3 })),
        (send(2, 0), Err(Error::StaleEpoch { current: 3 })),
        (send(4, 1), Err(Error::EpochStart)),
        (send(4, 0), produced(4, 4, 0)),
        (send(3, 3), Err(Error::StaleEpoch { current: 4 })),
        (send(4, 1), produced(5, 4, 1)),
    ];
    for (line, (op, answer)) in script.into_iter().enumerate() {
        assert_eq!(world.run(op), answer, "line {line}");
    }
    assert_eq!(world.read("a").as_deref(), Ok("xxxxx"));
    assert_eq!(world.run(Append { producer: by("q", 0, 0), ..append("a", "y") }), produced(6, 0, 0));
}

#[test]
fn a_refused_append_moves_no_producer() {
    let mut world = world();
    let first = |seq: &str| Append {
        producer: by("p", 0, 0),
        stream_seq: Some(seq.into()),
        expected_offset: Some(Offset(9)),
        ..append("a", "x")
    };
    assert_eq!(world.run(first("1")), Err(Error::OffsetMismatch { tail: Offset(0) }));
    assert_eq!(
        world.run(Append { producer: by("p", 0, 1), ..append("a", "x") }),
        Err(Error::ProducerGap { expected: 0, received: 1 })
    );
    // Nor Stream-Seq: the same one is still free.
    assert_eq!(world.run(Append { expected_offset: Some(Offset(0)), ..first("1") }), produced(1, 0, 0));
}

#[test]
fn a_duplicate_is_recognised_before_stream_seq_and_the_expected_offset() {
    let mut world = world();
    let op = Append {
        producer: by("p", 0, 0),
        stream_seq: Some("b".into()),
        expected_offset: Some(Offset(0)),
        ..append("a", "x")
    };
    assert_eq!(world.run(op.clone()), produced(1, 0, 0));
    assert_eq!(world.run(append("a", "yy")), appended(3));
    assert_eq!(world.run(op), repeated(3, 0, 0));
    assert!(world.effects.is_empty());
}

#[test]
fn stream_seq_grows_byte_by_byte() {
    let mut world = world();
    let seq = |seq: &str| Append { stream_seq: Some(seq.into()), ..append("a", "x") };
    let conflict = |tail| Err(Error::StreamSeqConflict { tail: Offset(tail) });
    assert_eq!(world.run(seq("2")), appended(1));
    assert_eq!(world.run(seq("2")), conflict(1));
    assert_eq!(world.run(seq("10")), conflict(1));
    assert_eq!(world.run(append("a", "x")), appended(2));
    assert_eq!(world.run(seq("20")), appended(3));
    assert_eq!(world.run(seq("")), conflict(3));
    assert_eq!(world.run(Append { stream_seq: Some("1".into()), ..close("a") }), closed_answer(3, false, None));
}

#[test]
fn the_expected_offset_is_the_tail() {
    let mut world = world();
    let expecting = |at| Append { expected_offset: Some(Offset(at)), ..append("a", "xx") };
    assert_eq!(world.run(expecting(0)), appended(2));
    assert_eq!(world.run(expecting(0)), Err(Error::OffsetMismatch { tail: Offset(2) }));
    assert_eq!(world.run(expecting(3)), Err(Error::OffsetMismatch { tail: Offset(2) }));
    assert_eq!(world.run(expecting(2)), appended(4));
    let close_at = |at| Append { expected_offset: Some(Offset(at)), ..close("a") };
    assert_eq!(world.run(close_at(3)), Err(Error::OffsetMismatch { tail: Offset(4) }));
    assert_eq!(world.run(close_at(4)), closed_answer(4, false, None));
}

#[test]
fn closing_without_a_producer() {
    let mut world = world();
    assert_eq!(world.run(Append { close: true, ..append("a", "end") }), closed_answer(3, false, None));
    let id = world.info("a").expect("it is there").id;
    assert!(matches!(&world.effects[..], [
        Effect::Appended { .. },
        Effect::Closed { stream }
    ] if *stream == id));
    let refused = Err(Error::StreamClosed { tail: Offset(3) });
    assert_eq!(world.run(append("a", "x")), refused);
    assert_eq!(world.run(Append { close: true, ..append("a", "end") }), refused);
    assert_eq!(world.run(close("a")), closed_answer(3, true, None));
    assert_eq!(world.run(Append { producer: by("p", 0, 0), ..close("a") }), refused);
    assert!(world.effects.is_empty());
    // Closed comes before every other conflict.
    let wrong = Append { content_type: None, expected_offset: Some(Offset(0)), ..append("a", "x") };
    assert_eq!(world.run(wrong), refused);
}

#[test]
fn closing_with_a_producer() {
    let mut world = world();
    assert_eq!(world.run(Append { producer: by("p", 1, 0), ..append("a", "x") }), produced(1, 1, 0));
    let closing = Append { producer: by("p", 1, 1), close: true, ..append("a", "y") };
    assert_eq!(world.run(closing.clone()), closed_answer(2, false, Some((1, 1))));
    assert_eq!(world.run(closing), closed_answer(2, true, Some((1, 1))));
    let refused = Err(Error::StreamClosed { tail: Offset(2) });
    for (epoch, seq) in [(1, 0), (1, 2), (0, 1), (2, 0)] {
        assert_eq!(world.run(Append { producer: by("p", epoch, seq), ..close("a") }), refused);
    }
    assert_eq!(world.run(Append { producer: by("q", 1, 1), ..close("a") }), refused);
    assert_eq!(world.run(close("a")), closed_answer(2, true, None));
}

#[test]
fn a_repeated_append_closes_nothing() {
    let mut world = world();
    assert_eq!(world.run(Append { producer: by("p", 0, 0), ..append("a", "x") }), produced(1, 0, 0));
    assert_eq!(world.run(Append { producer: by("p", 0, 0), ..close("a") }), repeated(1, 0, 0));
    assert_eq!(world.info("a").map(|info| info.closed), Ok(false));
}

#[test]
fn a_stream_remembers_so_many_producers() {
    let mut world = world();
    let send = |n: usize| Append { producer: by(&format!("p{n}"), 0, 0), ..append("a", "x") };
    for n in 0..PRODUCERS_MAX {
        assert_eq!(world.run(send(n)), produced(n as u64 + 1, 0, 0));
    }
    assert_eq!(world.run(send(PRODUCERS_MAX)), Err(Error::TooManyProducers));
    world.now = world.now.after(PRODUCER_IDLE);
    // All are idle for exactly the limit, which is not yet too long; the first one speaks up.
    assert_eq!(world.run(send(PRODUCERS_MAX)), Err(Error::TooManyProducers));
    let again = Append { producer: by("p0", 0, 1), ..append("a", "x") };
    assert_eq!(world.run(again.clone()), produced(PRODUCERS_MAX as u64 + 1, 0, 1));
    world.now = world.now.after(Duration::from_millis(1));
    assert_eq!(world.run(send(PRODUCERS_MAX)), produced(PRODUCERS_MAX as u64 + 2, 0, 0));
    assert_eq!(world.run(again), repeated(PRODUCERS_MAX as u64 + 2, 0, 1));
    // The first of the idle ones made room.
    assert_eq!(
        world.run(Append { producer: by("p1", 0, 1), ..append("a", "x") }),
        Err(Error::ProducerGap { expected: 0, received: 1 })
    );
}

#[test]
fn a_stream_ends_at_the_largest_offset() {
    let mut world = world();
    // Only a fork can begin so far out, and only of a source that a test has made up.
    let far = world.groups[1].stream_mut(&key("a")).expect("it is there");
    far.tail = Offset(Offset::MAX.0 - 1);
    let op = Append { producer: by("p", 0, 0), ..append("a", "xx") };
    let answer = world.groups[1]
        .apply(crate::Command { at: START, origin: None, op: ursula_common::verb::Op::Append(op) }, &mut Vec::new());
    assert_eq!(answer, crate::Answer::Done(Err(Error::StreamFull)));
    let rare = &world.groups[1].stream(&key("a")).expect("it is there").rare;
    assert!(rare.is_none(), "the producer was not recorded");
}

#[test]
fn first_content_and_a_closed_start() {
    let mut world = World::new();
    let op = Create { body: "first".into(), closed: true, ..create("a") };
    let answer = Created { new: true, tail: Offset(5), closed: true, content_type: text() };
    assert_eq!(world.run(op), Ok(Reply::Created(answer)));
    assert_eq!(world.read("a").as_deref(), Ok("first"));
    assert_eq!(world.run(append("a", "x")), Err(Error::StreamClosed { tail: Offset(5) }));
    assert_eq!(world.run(close("a")), closed_answer(5, true, None));
}
