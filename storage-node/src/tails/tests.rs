//! The bookkeeping of readers that wait.

use super::*;

const STREAM: StreamId = StreamId(4);

fn key(name: &str) -> StreamKey {
    StreamKey::parse("default", name).expect("a name")
}

type Answer = oneshot::Receiver<Result<TailPage, Error>>;

fn waiter(stream: StreamId) -> (Waiter, Answer) {
    let (reply, answer) = oneshot::channel();
    (Waiter { stream, from: Offset(9), bytes_max: 1, tell_up_to_date: false, reply }, answer)
}

/// Adds a reader of `stream`, whose key is its number.
fn add(tails: &mut Tails, stream: StreamId, sliding: bool) -> Answer {
    let (waiter, answer) = waiter(stream);
    tails.add(stream, &key(&stream.to_string()), sliding, waiter);
    answer
}

fn sliding(tails: &Tails) -> Vec<StreamKey> {
    tails.sliding().cloned().collect()
}

#[test]
fn all_readers_of_a_stream_are_taken_at_once() {
    let mut tails = Tails::default();
    let _answers =
        [add(&mut tails, STREAM, false), add(&mut tails, STREAM, false), add(&mut tails, StreamId(5), false)];
    assert_eq!(tails.len(), 3);
    let (name, waiters) = tails.take(STREAM).expect("readers");
    assert_eq!((name, waiters.len()), (key("4"), 2));
    assert!(tails.take(STREAM).is_none());
    assert_eq!(tails.len(), 1);
}

#[test]
fn readers_hear_why_their_stream_ended() {
    let mut tails = Tails::default();
    let (mut one, mut other) = (add(&mut tails, STREAM, true), add(&mut tails, StreamId(5), true));
    tails.end(STREAM, &Error::StreamGone);
    assert_eq!(one.try_recv(), Ok(Err(Error::StreamGone)));
    assert_eq!(other.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    tails.end(STREAM, &Error::StreamGone);
    assert_eq!((tails.len(), sliding(&tails)), (1, vec![key("5")]));
}

#[test]
fn readers_that_have_gone_are_dropped_and_renew_nothing() {
    let mut tails = Tails::default();
    let stays = add(&mut tails, STREAM, true);
    let leaves = [add(&mut tails, STREAM, true), add(&mut tails, StreamId(5), true)];
    tails.forget_abandoned();
    assert_eq!((tails.len(), sliding(&tails).len()), (3, 2));
    drop(leaves);
    tails.forget_abandoned();
    assert_eq!((tails.len(), sliding(&tails)), (1, vec![key("4")]));
    drop(stays);
    tails.forget_abandoned();
    assert_eq!((tails.len(), sliding(&tails)), (0, vec![]));
    assert!(tails.streams.is_empty(), "an idle stream costs nothing here");
}

#[test]
fn only_streams_with_a_sliding_time_to_live_are_renewed() {
    let mut tails = Tails::default();
    let _answers = [add(&mut tails, STREAM, false), add(&mut tails, StreamId(5), true)];
    assert_eq!(sliding(&tails), [key("5")]);
    tails.take(StreamId(5));
    assert_eq!(sliding(&tails), []);
}
