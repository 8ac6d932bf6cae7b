//! Whole responses, and the same responses cut at every place.

use super::*;

const LENGTH: &str =
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nStream-Next-Offset: 0_5\r\nStream-Up-To-Date: true\r\n\r\nhello";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
    5\r\nhello\r\nA;name=\"v\"\r\n, \r\n world\r\n1\r\n!\r\n0\r\nTrailer: x\r\n\r\n";

/// Feeds `input` in pieces of `step` bytes; returns the head, the body and what was left over.
fn feed(input: &[u8], step: usize) -> (Head, Vec<u8>, Vec<u8>) {
    let mut pieces = input.chunks(step);
    let mut buffer = Vec::new();
    let mut head = loop {
        if let Some((head, length)) = Head::parse(&buffer).expect("a valid head") {
            buffer.drain(..length);
            break head;
        }
        buffer.extend(pieces.next().expect("the head is complete"));
    };
    let mut body = Vec::new();
    loop {
        while !buffer.is_empty() && !head.body.is_done() {
            let taken = head.body.take(&buffer).expect("a valid body");
            body.extend(&buffer[taken.data]);
            buffer.drain(..taken.consumed);
        }
        match pieces.next() {
            Some(piece) => buffer.extend(piece),
            None => return (head, body, buffer),
        }
    }
}

#[test]
fn cuts_do_not_matter() {
    for (text, wanted) in [(LENGTH, "hello"), (CHUNKED, "hello, \r\n world!")] {
        for step in 1..=text.len() {
            let (head, body, rest) = feed(text.as_bytes(), step);
            assert_eq!(String::from_utf8_lossy(&body), wanted, "step {step}");
            assert!(head.body.is_done() && head.keep_alive && rest.is_empty(), "step {step}");
        }
    }
}

#[test]
fn headers_are_understood() {
    let (head, _, _) = feed(LENGTH.as_bytes(), 7);
    assert_eq!((head.status, head.next_offset.as_deref(), head.up_to_date), (200, Some("0_5"), true));
    let (head, _, _) = feed(b"HTTP/1.1 204 No Content\r\nconnection: CLOSE\r\n\r\n", 7);
    assert_eq!((head.status, head.keep_alive, head.next_offset, head.up_to_date), (204, false, None, false));
    assert!(head.body.is_done());
}

#[test]
fn the_next_response_is_left_alone() {
    for text in [LENGTH, CHUNKED, "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 X\r\ncontent-length: 9\r\n\r\n"] {
        let both = [text, "HTTP/1.1 200 OK\r\n"].concat();
        let (_, _, rest) = feed(both.as_bytes(), both.len());
        assert_eq!(rest, b"HTTP/1.1 200 OK\r\n");
    }
}

#[test]
fn without_a_length_the_body_lasts_until_the_connection_ends() {
    let (head, body, _) = feed(b"HTTP/1.1 200 OK\r\n\r\nall of this", 3);
    assert_eq!(body, b"all of this");
    assert!(!head.body.is_done() && !head.keep_alive);
}

#[test]
fn nonsense_is_an_error() {
    assert!(Head::parse(b"SMTP ready\r\n\r\n").is_err());
    assert!(Head::parse(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n").is_err());
    assert!(Head::parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n").is_err());
    for chunks in ["\r\n", "x\r\n", "1\n", "1\r\nabc", "fffffffffffffffff\r\n"] {
        let mut body = Body::Chunked(Chunked::Size { value: 0, digits: 0 });
        let mut rest = chunks.as_bytes();
        let error = loop {
            match body.take(rest) {
                Ok(taken) => rest = &rest[taken.consumed..],
                Err(error) => break error,
            }
            assert!(!rest.is_empty(), "{chunks:?} was accepted");
        };
        assert_eq!(error, Malformed("chunk"));
    }
}
