//! Lines are counted, and ids come back.

use std::time::Duration;

use axum::body::Body;
use http::{Request, Response, StatusCode};
use tokio::time::{Instant, sleep};
use ursula_protocol::ErrorCode;

use super::{Asked, Failures, LINES_MAX};
use crate::origin::Trusted;

fn note(failures: &Failures, id: Option<&str>, status: StatusCode) -> Option<String> {
    let request = id.into_iter().fold(Request::get("/b/s"), |request, id| request.header("x-request-id", id));
    let (head, ()) = request.body(()).expect("a request").into_parts();
    let asked = Asked::new(&Trusted::default(), &head);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.extensions_mut().insert(ErrorCode("unavailable"));
    let response = failures.note(asked, Instant::now(), response);
    response.headers().get("x-request-id").map(|id| id.to_str().expect("ASCII").to_owned())
}

#[tokio::test(start_paused = true)]
async fn an_id_comes_back_and_a_failure_without_one_gets_one() {
    let failures = Failures::default();
    assert_eq!(note(&failures, Some("a b"), StatusCode::OK).as_deref(), Some("a b"));
    assert_eq!(note(&failures, Some("mine"), StatusCode::BAD_GATEWAY).as_deref(), Some("mine"));
    assert_eq!(note(&failures, None, StatusCode::NOT_FOUND), None);
    for strange in ["", &"x".repeat(129), "ü"] {
        assert_eq!(note(&failures, Some(strange), StatusCode::OK), None, "{strange}");
        let own = note(&failures, Some(strange), StatusCode::BAD_GATEWAY).expect("an id");
        assert!(own.len() == 32 && own.bytes().all(|byte| byte.is_ascii_hexdigit()), "{own}");
    }
    assert_ne!(note(&failures, None, StatusCode::BAD_GATEWAY), note(&failures, None, StatusCode::BAD_GATEWAY));
}

#[tokio::test(start_paused = true)]
async fn no_more_lines_than_a_person_can_read() {
    let failures = Failures::default();
    let lines = |failures: &Failures| (0..100).filter_map(|_| failures.line()).collect::<Vec<_>>();
    assert_eq!(lines(&failures), [0; LINES_MAX as usize]);
    sleep(Duration::from_secs(1)).await;
    let next = lines(&failures);
    assert_eq!((next[0], next.len()), (100 - u64::from(LINES_MAX), LINES_MAX as usize), "the first one tells");
    assert!(next[1..].iter().all(|left_out| *left_out == 0));
}
