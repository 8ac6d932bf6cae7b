//! How a command ends that does not succeed.

use ursula_common::Error;

/// Why a command did not succeed, in one sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) text: String,
    /// Whether what was begun goes on.
    pub(crate) late: bool,
}

impl Failure {
    /// Refused or failed.
    pub(crate) fn refused(text: impl Into<String>) -> Failure {
        Failure { text: text.into(), late: false }
    }

    /// Not done in time.
    pub(crate) fn late(text: impl Into<String>) -> Failure {
        Failure { text: text.into(), late: true }
    }

    /// The code of the process.
    pub(crate) fn exit_code(&self) -> u8 {
        if self.late { 3 } else { 1 }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::refused(error.to_string())
    }
}
