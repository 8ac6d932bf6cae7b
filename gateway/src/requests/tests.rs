//! What is asked gets its name, and what was answered its line.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, Uri};
use ursula_common::metrics::Registry;
use ursula_protocol::parse;

use super::{OPERATIONS, Operation, Requests};

fn operation(method: Method, uri: &str) -> Operation {
    Operation::of(&parse(&method, &Uri::try_from(uri).expect("a URI"), &HeaderMap::new()))
}

#[test]
fn what_is_asked_has_a_name() {
    let asked = [
        (Method::GET, "/health", Operation::Probe),
        (Method::OPTIONS, "/logs/s", Operation::Preflight),
        (Method::PUT, "/logs", Operation::Bucket),
        (Method::GET, "/logs?list", Operation::List),
        (Method::PUT, "/logs/s", Operation::Create),
        (Method::HEAD, "/logs/s", Operation::Head),
        (Method::DELETE, "/logs/s", Operation::Delete),
        (Method::GET, "/logs/s", Operation::Read),
        (Method::GET, "/logs/s?live=sse&offset=-1", Operation::Sse),
        (Method::GET, "/logs/s?live=long-poll&offset=-1", Operation::LongPoll),
        (Method::GET, "/logs/s/snapshot", Operation::ReadSnapshot),
        (Method::GET, "/logs/s/bootstrap", Operation::Bootstrap),
        (Method::PATCH, "/logs/s", Operation::Unknown),
    ];
    for (method, uri, wanted) in asked {
        assert_eq!(operation(method.clone(), uri), wanted, "{method} {uri}");
    }
}

#[tokio::test]
async fn what_was_answered_is_counted_and_timed() {
    let (registry, requests) = (Registry::new().expect("a registry"), Requests::new());
    let answered = |operation, status, ms| {
        requests.answered(&registry, operation, status, Duration::from_millis(ms));
    };
    answered(Operation::Append, StatusCode::NO_CONTENT, 3);
    answered(Operation::Append, StatusCode::NO_CONTENT, 3);
    answered(Operation::Append, StatusCode::CONFLICT, 1);
    for (operation, _) in OPERATIONS {
        answered(operation, StatusCode::OK, 0);
    }
    let text = registry.render();
    for line in [
        r#"ursula_gateway_requests_total{operation="append",status="204"} 2"#,
        r#"ursula_gateway_requests_total{operation="append",status="409"} 1"#,
        r#"ursula_gateway_request_seconds_count{operation="append"} 4"#,
        r#"ursula_gateway_request_seconds_bucket{operation="append",le="0.0025"} 2"#,
        r#"ursula_gateway_requests_total{operation="unknown",status="200"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
    let lines = text.lines().filter(|line| line.starts_with("ursula_gateway_requests_total{")).count();
    assert_eq!(lines, OPERATIONS.len() + 2, "what never happened has no line");
}
