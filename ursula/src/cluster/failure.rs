//! How a command ends that does not succeed.

use ursula_common::Error;

/// Why a command did not succeed, in one sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) text: String,
    pub(crate) end: End,
    /// The code that the server gave for it.
    pub(crate) code: Option<String>,
}

/// What else is known; decides the code of the process (docs/cli.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Refused or failed.
    Refused,
    /// Not done in time, or nobody answered: what was begun goes on.
    Late,
    /// It may have been done.
    Unknown,
    /// Whoever started it wanted it to end.
    Interrupted,
    /// Nobody reads what it writes any more, which is no mistake.
    Unread,
}

impl Failure {
    /// Refused or failed.
    pub(crate) fn refused(text: impl Into<String>) -> Failure {
        Failure::of(End::Refused, text)
    }

    /// Not done in time.
    pub(crate) fn late(text: impl Into<String>) -> Failure {
        Failure::of(End::Late, text)
    }

    /// Ended in another way.
    pub(crate) fn of(end: End, text: impl Into<String>) -> Failure {
        Failure { text: text.into(), end, code: None }
    }

    /// The code of the process.
    pub(crate) fn exit_code(&self) -> u8 {
        match self.end {
            End::Unread => 0,
            End::Refused => 1,
            End::Late => 3,
            End::Unknown => 4,
            // What shells say of a program that Ctrl-C has ended.
            End::Interrupted => 130,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::refused(error.to_string())
    }
}
