//! Server-sent events: a parser without I/O, and a reader on a connection.

use crate::{Http, Server};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// `data` or `control`.
    pub kind: String,
    /// Lines joined with `\n`.
    pub data: String,
    /// The last `id:` line.
    pub id: Option<String>,
}

impl Event {
    /// The offset that a control event carries.
    pub fn next_offset(&self) -> Option<&str> {
        let (_, rest) = self.data.split_once("\"streamNextOffset\":\"")?;
        rest.split('"').next()
    }
}

/// Takes events apart, from whatever bytes have come.
#[derive(Debug, Default)]
pub struct EventParser {
    input: Vec<u8>,
}

impl EventParser {
    /// Takes bytes of the response body.
    pub fn push(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// The next whole event; comments are skipped.
    ///
    /// # Panics
    /// If a line is neither an event field nor a comment.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            let end = self.input.windows(2).position(|window| window == b"\n\n")?;
            let block: Vec<u8> = self.input.drain(..end + 2).collect();
            let text = String::from_utf8(block).expect("events are UTF-8");
            let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with(':')).collect();
            if !lines.is_empty() {
                return Some(event(&lines));
            }
        }
    }

    /// Whether nothing of an event is left over.
    pub fn is_empty(&self) -> bool {
        self.input.is_empty()
    }
}

fn event(lines: &[&str]) -> Event {
    let mut event = Event::default();
    let mut data = Vec::new();
    for line in lines {
        match line.split_once(':') {
            Some(("event", value)) => event.kind = value.trim_start().to_owned(),
            Some(("id", value)) => event.id = Some(value.trim_start().to_owned()),
            Some(("data", value)) => data.push(value),
            _ => panic!("not a line of an event: {line:?}"),
        }
    }
    event.data = data.join("\n");
    event
}

/// A live read over SSE on a connection of its own.
#[derive(Debug)]
pub struct Events {
    http: Http,
    parser: EventParser,
}

impl Events {
    /// Follows `path` from `offset` on.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn open(server: &Server, path: &str, offset: &str) -> Events {
        let mut http = server.connect();
        http.send_request("GET", &format!("{path}?offset={offset}&live=sse"), &[], "");
        let head = http.try_head(false).expect("an answer");
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        Events { http, parser: EventParser::default() }
    }

    /// The next event; `None` when the server has ended the response as it should.
    ///
    /// # Panics
    /// If the connection breaks, or ends within an event.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.parser.next_event() {
                return Some(event);
            }
            match self.http.body_part().expect("the response goes on or ends") {
                Some(part) => self.parser.push(&part),
                None => {
                    assert!(self.parser.is_empty(), "the response ended within an event");
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
