//! Responses, however they are cut up.

use super::{Decoder, Head};

/// Heads and bodies of all responses in `bytes`, which come in pieces of `size`.
fn decode(bytes: &[u8], size: usize) -> Vec<(Head, Vec<u8>)> {
    let mut decoder = Decoder::default();
    let mut found: Vec<(Head, Vec<u8>)> = Vec::new();
    let mut in_body = false;
    for piece in bytes.chunks(size) {
        decoder.push(piece);
        loop {
            if !in_body {
                let Some(head) = decoder.head(false).expect("a head") else { break };
                found.push((head, Vec::new()));
            }
            let (part, complete) = decoder.body().expect("a body");
            found.last_mut().expect("a head before").1.extend(part);
            in_body = !complete;
            if in_body {
                break;
            }
        }
    }
    assert!(!in_body && decoder.pending().is_empty(), "{found:?}");
    found
}

#[test]
fn responses_are_the_same_in_pieces_of_any_size() {
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b: c \r\n\r\nhello\
        HTTP/1.1 204 No Content\r\n\r\n\
        HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na\r\n0\r\n\r\n56789\r\n0\r\n\r\n\
        HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    for size in [1, 2, 3, 7, bytes.len()] {
        let found = decode(bytes, size);
        let statuses: Vec<u16> = found.iter().map(|(head, _)| head.status).collect();
        assert_eq!(statuses, [200, 204, 200, 400]);
        assert_eq!(found[0].1, b"hello");
        assert_eq!(found[0].0.header("x-a"), Some("b: c"));
        assert_eq!(found[2].1, b"abc0\r\n\r\n56789");
    }
}

#[test]
fn what_is_not_http_is_an_error() {
    for bytes in ["HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n"] {
        let mut decoder = Decoder::default();
        decoder.push(bytes.as_bytes());
        assert!(decoder.head(false).is_err(), "{bytes:?}");
    }
    let mut decoder = Decoder::default();
    decoder.push(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n");
    decoder.head(false).expect("a head");
    assert!(decoder.body().is_err());
}

#[test]
fn an_answer_to_head_has_no_body() {
    let mut decoder = Decoder::default();
    decoder.push(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    assert!(decoder.head(true).expect("a head").is_some());
    assert_eq!(decoder.body().expect("no body"), (Vec::new(), true));
}
