//! Events, however they are cut up.

use super::{Event, EventParser};

#[test]
fn events_are_the_same_in_pieces_of_any_size() {
    let text = ": a comment\n\nevent: data\nid: 7\ndata:one\ndata: two\n\n:\n\nevent: control\ndata:{\"streamNextOffset\":\"5\"}\n\n";
    for size in [1, 2, 5, text.len()] {
        let mut parser = EventParser::default();
        let mut events = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            parser.push(piece);
            events.extend(std::iter::from_fn(|| parser.next_event()));
        }
        let data = Event { kind: "data".to_owned(), data: "one\n two".to_owned(), id: Some("7".to_owned()) };
        assert_eq!(events[0], data, "a space after data: belongs to the data");
        assert_eq!(events[1].next_offset(), Some("5"));
        assert_eq!((events.len(), parser.is_empty()), (2, true));
    }
}

#[test]
fn an_event_without_its_end_is_left_over() {
    let mut parser = EventParser::default();
    parser.push(b"event: data\ndata:x\n");
    assert_eq!(parser.next_event(), None);
    assert!(!parser.is_empty());
}
