//! The bookkeeping of unanswered ops.

use std::time::Duration;

use metrics::Gauge;
use tokio::sync::oneshot::Receiver;
use ursula_common::verb::Reply;

use super::*;
use crate::lanes::budget::Budget;

fn pending(deadline: Instant, open: u32) -> (Pending, Receiver<OpResult>) {
    let (reply, answer) = oneshot::channel();
    let held = Budget::new(usize::MAX, Gauge::noop(), Gauge::noop()).take(1).expect("room");
    let op = Bytes::from_static(b"op");
    (Pending { op, traceparent: None, since: deadline, deadline, reply, _held: held, open, flight: None }, answer)
}

#[tokio::test]
async fn the_window_moves_past_answered_ops_only() {
    let mut window = Window::default();
    let now = Instant::now();
    let mut answers = Vec::new();
    for expected in 0..3 {
        let (op, answer) = pending(now, 1);
        window.push(op);
        assert_eq!(window.len() as u64, expected + 1);
        answers.push(answer);
    }
    window.finish(1, Ok(Reply::Done));
    assert_eq!((window.first(), window.len()), (0, 3));
    window.finish(0, Ok(Reply::Done));
    assert_eq!((window.first(), window.len()), (2, 1));
    assert!(window.get_mut(1).is_none() && window.get_mut(2).is_some());
    for unknown in [0, 1, 77] {
        window.finish(unknown, Ok(Reply::Done));
    }
    assert_eq!(window.first(), 2);
    assert_eq!(answers.remove(1).await, Ok(Ok(Reply::Done)));
}

#[tokio::test]
async fn a_late_op_is_unknown_only_if_it_was_sent() {
    let mut window = Window::default();
    let now = Instant::now();
    let late = now - Duration::from_millis(1);
    let in_time = now + Duration::from_secs(1);
    let (sent, unsent, young) = (pending(late, 2), pending(late, 0), pending(in_time, 1));
    for op in [sent.0, unsent.0, young.0] {
        window.push(op);
    }
    window.expire(now);
    assert_eq!(sent.1.await, Ok(Err(Error::OutcomeUnknown)));
    assert_eq!(unsent.1.await, Ok(Err(Error::Unavailable)));
    assert_eq!((window.first(), window.len()), (2, 1));
}
