//! Why a question to another node has no answer.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use ursula_proto::peer::v1::refused::Reason;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PeerError {
    /// It was not sent.
    Unreachable(Arc<str>),
    /// It was sent, and the link was lost.
    Lost,
    /// It was not answered in time.
    TimedOut,
    /// The other node did not look at it.
    Refused { reason: Reason, sentence: Arc<str> },
    /// The answer is not one to this question.
    Malformed,
}

impl PeerError {
    pub(super) fn unreachable(why: impl Into<Arc<str>>) -> PeerError {
        PeerError::Unreachable(why.into())
    }
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerError::Unreachable(why) => f.write_str(why),
            PeerError::Lost => f.write_str("the link was lost"),
            PeerError::TimedOut => f.write_str("no answer in time"),
            PeerError::Refused { sentence, .. } => f.write_str(sentence),
            PeerError::Malformed => f.write_str("an answer that is none to the question"),
        }
    }
}

impl Error for PeerError {}

/// An error with everything that it comes from, for people.
pub(super) fn whole(error: &dyn Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
