//! Events and control events as they travel.

use super::*;
use crate::args::ServerArgs;
use crate::target::Target;

#[test]
fn an_event_says_what_it_is() {
    let sent = Duration::from_nanos(123_456_789);
    for bytes in [EVENT_BYTES_MIN, 256, 5000] {
        let event = event(42, sent, bytes);
        assert_eq!(event.len(), bytes);
        assert_eq!(parse_event(&event), Some((42, sent)));
    }
    assert_eq!(parse_event(b"short"), None);
    assert_eq!(parse_event(&[b'x'; 256]), None);
}

#[test]
fn a_control_event_says_where_to_go_on() {
    let offset = |control: &str| parse_control(control.as_bytes());
    assert_eq!(offset(r#"{"streamNextOffset":"0_7","upToDate":true}"#).as_deref(), Some("0_7"));
    assert_eq!(offset(r#"{"upToDate":true}"#), None);
    assert_eq!(offset("not json"), None);
}

/// Delivers events with these numbers; returns how many were the next one, and how many were not.
async fn deliver(numbers: &[u64]) -> (u64, u64) {
    let args = ServerArgs {
        url: "http://127.0.0.1:1".to_owned(),
        root: "/v1/stream".to_owned(),
        create_bucket: false,
        server_pid: Vec::new(),
    };
    let target = Target::prepare(&args).await.expect("nothing is sent");
    let mut reader = Reader::new(Arc::new(Run::new(target, 1, 64)), 0);
    for number in numbers {
        reader.deliver(&event(*number, Duration::ZERO, 64), Instant::now());
    }
    (reader.run.delivered.load(Ordering::Relaxed), reader.run.misplaced.load(Ordering::Relaxed))
}

#[tokio::test]
async fn what_is_lost_twice_or_out_of_order_is_noticed() {
    assert_eq!(deliver(&[0, 1, 2, 3]).await, (4, 0));
    assert_eq!(deliver(&[0, 1, 1, 2]).await, (3, 1), "twice");
    assert_eq!(deliver(&[0, 2, 3]).await, (2, 1), "lost: one event less than was sent");
    assert_eq!(deliver(&[1, 0, 2]).await, (1, 2), "out of order");
}
