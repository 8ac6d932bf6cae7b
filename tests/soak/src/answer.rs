//! What an answer means to whoever asked, by the contract of the protocol and of `docs/errors.md`.

use ursula_tests::Response;

use crate::client::Failure;
use crate::record::place;
use crate::violation::{Lie, Violation};

/// What became of a change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was made.
    Done(Done),
    /// It was certainly not made, and may be later; with the reason.
    Refused(String),
    /// It was made, or will be, or never.
    Unknown,
    /// The stream begins here: it was trimmed, or what was asked for is before that.
    Begins {
        status: u16,
        /// The number in its offsets.
        number: u64,
        at: u64,
    },
    /// It is the snapshot, with this tag; whether it was not before.
    Published { new: bool, tag: String },
    /// It was not made, because of the snapshot that is there.
    Conflict {
        code: String,
        /// Its tag, if that matters.
        tag: Option<String>,
    },
    /// It was not made: the stream is closed.
    Closed,
    /// It was not made: the tail is not the one that it asked for.
    Mismatch {
        /// The tail.
        tail: u64,
    },
    /// It was not made: there is no such stream.
    Missing,
    /// Something else, which is for the caller to judge.
    Other(String),
}

/// The answer to a change that was made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) status: u16,
    /// The tail after it; not told of a delete.
    pub(crate) tail: Option<u64>,
    /// The number in the offset of the tail.
    pub(crate) number: u64,
}

/// The code of an error.
fn code(response: &Response) -> String {
    let text = response.text();
    let code = text.split_once("\"code\":\"").and_then(|(_, rest)| rest.split('"').next());
    code.unwrap_or_default().to_owned()
}

impl Answer {
    pub(crate) fn of(result: Result<Response, Failure>) -> Answer {
        let response = match result {
            Ok(response) => response,
            Err(Failure::NotSent) => return Answer::Refused("not sent".to_owned()),
            Err(Failure::Lost) => return Answer::Unknown,
        };
        let (number, tail) = response.header("stream-next-offset").and_then(place).unzip();
        let header = |name: &str| response.header(name).map(str::to_owned);
        let begins = response.header("stream-earliest-offset").and_then(place);
        if let (status @ (204 | 410), Some((number, at))) = (response.status, begins) {
            return Answer::Begins { status, number, at };
        }
        if let (status @ (200 | 201), Some(tag), Some(_)) =
            (response.status, header("etag"), header("stream-snapshot-offset"))
        {
            return Answer::Published { new: status == 201, tag };
        }
        match (response.status, tail) {
            (status @ 200..=299, tail) => Answer::Done(Done { status, tail, number: number.unwrap_or_default() }),
            (status @ (503 | 429 | 408), _) => Answer::Refused(format!("{status} {}", code(&response))),
            (424 | 504, _) => Answer::Unknown,
            (404 | 410, _) => Answer::Missing,
            (409, _) if response.header("stream-closed").is_some() => Answer::Closed,
            (409 | 412, Some(tail)) if response.has_code("offset_mismatch") => Answer::Mismatch { tail },
            (409 | 412, _) if code(&response).starts_with("snapshot_") => {
                Answer::Conflict { code: code(&response), tag: header("etag") }
            }
            (status, _) => Answer::Other(format!("{status} {}", response.text())),
        }
    }

    /// The answer as something that should not have come.
    pub(crate) fn unexpected(&self, lie: Lie) -> Violation {
        Violation::new(lie, format!("{self:?}"))
    }
}
