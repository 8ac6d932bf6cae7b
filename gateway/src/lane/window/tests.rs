//! The bookkeeping of unanswered ops.

use std::time::Duration;

use tokio::sync::oneshot::Receiver;
use ursula_common::verb::Reply;

use super::*;

fn pending(deadline: Instant, sent: bool) -> (Pending, Receiver<OpResult>) {
    let (reply, answer) = oneshot::channel();
    (Pending { group: GroupId(1), op: Bytes::new(), deadline, sent, reply }, answer)
}

#[tokio::test]
async fn the_window_moves_past_answered_ops_only() {
    let mut window = Window::default();
    let now = Instant::now();
    let mut answers = Vec::new();
    for expected in 0..3 {
        let (op, answer) = pending(now, true);
        assert_eq!(window.push(op), expected);
        answers.push(answer);
    }
    window.finish(1, Ok(Reply::Done));
    assert_eq!((window.first(), window.len()), (0, 3));
    window.finish(0, Ok(Reply::Done));
    assert_eq!((window.first(), window.len()), (2, 1));
    assert_eq!(window.iter_mut().map(|(seq, _)| seq).collect::<Vec<_>>(), [2]);
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
    let (sent, unsent, young) = (pending(late, true), pending(late, false), pending(in_time, true));
    for op in [sent.0, unsent.0, young.0] {
        window.push(op);
    }
    window.expire(now);
    assert_eq!(sent.1.await, Ok(Err(Error::OutcomeUnknown)));
    assert_eq!(unsent.1.await, Ok(Err(Error::Unavailable)));
    assert_eq!((window.first(), window.len()), (2, 1));
}
