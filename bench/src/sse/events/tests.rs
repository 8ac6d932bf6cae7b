//! A connection's worth of events, cut at every place.

use super::*;

const INPUT: &str = ": hello\n\nevent: data\ndata:one\ndata: two\n\nevent: control\ndata:{\"a\":1}\n\n\
    event: data\r\nid: 7\r\ndata:\r\n\r\nevent: data\n\nevent: data\ndata:cut off";

#[test]
fn cuts_do_not_matter() {
    for step in 1..=INPUT.len() {
        let mut events = Events::default();
        let mut seen = Vec::new();
        for piece in INPUT.as_bytes().chunks(step) {
            events.push(piece, |event| {
                seen.push(match event {
                    Event::Data(data) => format!("data {}", String::from_utf8_lossy(data)),
                    Event::Control(data) => format!("control {}", String::from_utf8_lossy(data)),
                });
            });
        }
        assert_eq!(seen, ["data one\ntwo", "control {\"a\":1}", "data "], "step {step}");
    }
}
