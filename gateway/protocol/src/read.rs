//! GET: read a stream, once or for as long as it lives.

use http::HeaderMap;
use ursula_common::StreamKey;
use ursula_common::verb::ReadFrom;

use crate::headers::{self, LAST_EVENT_ID};
use crate::{IfNoneMatch, Rejection, cursor, query};

/// A read.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadParts {
    /// The stream.
    pub key: StreamKey,
    /// Where to begin.
    pub from: ReadFrom,
    /// What to do at the tail.
    pub live: Live,
    /// The cursor that the client was given last.
    pub cursor: Option<u64>,
    /// What the client has already.
    pub if_none_match: IfNoneMatch,
}

/// What a read does when it reaches the tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// It ends.
    No,
    /// It waits for one answer.
    LongPoll,
    /// It goes on, as server-sent events.
    Sse,
}

impl ReadParts {
    pub(crate) fn parse(key: StreamKey, text: Option<&str>, headers: &HeaderMap) -> Result<Self, Rejection> {
        let mut from = None;
        let mut live = Live::No;
        let mut client_cursor = None;
        for (name, value) in query::pairs(text) {
            match &*name {
                "offset" if from.is_some() => return Err(invalid("offset", "must be given only once")),
                "offset" => from = Some(read_from(&value)?),
                // Unknown modes are read as none, as the reference server does.
                "live" => {
                    live = match &*value {
                        "long-poll" => Live::LongPoll,
                        "sse" => Live::Sse,
                        _ => Live::No,
                    }
                }
                "cursor" => client_cursor = cursor::parse(&value),
                _ => {}
            }
        }
        if live != Live::No && from.is_none() {
            return Err(invalid("live", "needs an offset: -1, now, or one that the stream returned"));
        }
        // A browser that reconnects sends its first URL again, and here what it has seen since.
        if live == Live::Sse
            && let Some(seen) = headers::single(headers, LAST_EVENT_ID)?.filter(|seen| !seen.is_empty())
        {
            let offset =
                seen.parse().map_err(|_| headers::invalid(LAST_EVENT_ID, "must be an offset of the stream"))?;
            from = Some(ReadFrom::At(offset));
        }
        Ok(ReadParts {
            key,
            from: from.unwrap_or(ReadFrom::Start),
            live,
            cursor: client_cursor,
            if_none_match: IfNoneMatch::from_headers(headers),
        })
    }
}

fn read_from(text: &str) -> Result<ReadFrom, Rejection> {
    match text {
        "-1" => Ok(ReadFrom::Start),
        "now" => Ok(ReadFrom::Now),
        _ => text
            .parse()
            .map(ReadFrom::At)
            .map_err(|_| invalid("offset", "must be -1, now, or one that the stream returned")),
    }
}

fn invalid(name: &'static str, problem: &'static str) -> Rejection {
    Rejection::InvalidQuery { name, problem }
}

#[cfg(test)]
mod tests;
