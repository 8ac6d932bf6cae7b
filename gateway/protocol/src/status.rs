//! Every HTTP status of this server. No other file names one.

use http::StatusCode;
use ursula_common::Error;
use ursula_common::name::InvalidName;
use ursula_common::verb::Appended;

use crate::{Context, Rejection};

pub(crate) const OK: StatusCode = StatusCode::OK;
pub(crate) const NO_CONTENT: StatusCode = StatusCode::NO_CONTENT;
pub(crate) const NOT_MODIFIED: StatusCode = StatusCode::NOT_MODIFIED;

/// The number of a status, for those who count and note answers.
pub fn status_number(status: StatusCode) -> u16 {
    status.as_u16()
}

/// Of a create that made something, or found it.
pub(crate) fn created(new: bool) -> StatusCode {
    if new { StatusCode::CREATED } else { StatusCode::OK }
}

/// Of an append: only a producer learns from the status whether its bytes are new.
pub(crate) fn appended(reply: &Appended, context: Context) -> StatusCode {
    let news = reply.producer.is_some() && !reply.duplicate && !context.close_only;
    if news { StatusCode::OK } else { StatusCode::NO_CONTENT }
}

/// Of the readiness probe.
pub(crate) fn ready(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// Of a failure.
pub(crate) fn error(error: &Error, context: Context) -> StatusCode {
    match error {
        Error::EpochStart | Error::OffsetInvalid | Error::ForkOffsetInvalid { .. } | Error::ForkSubOffsetInvalid => {
            StatusCode::BAD_REQUEST
        }
        Error::StaleEpoch { .. } | Error::BucketProtected => StatusCode::FORBIDDEN,
        Error::BucketNotFound | Error::StreamNotFound | Error::ForkSourceNotFound | Error::SnapshotNotFound => {
            StatusCode::NOT_FOUND
        }
        Error::OffsetMismatch { .. } if context.if_match => StatusCode::PRECONDITION_FAILED,
        Error::SnapshotMismatch { .. } => StatusCode::PRECONDITION_FAILED,
        Error::BucketNotEmpty
        | Error::BucketExists
        | Error::StoreMissing
        | Error::StreamExists { .. }
        | Error::StreamClosed { .. }
        | Error::ContentTypeMismatch { .. }
        | Error::ProducerGap { .. }
        | Error::StreamSeqConflict { .. }
        | Error::OffsetMismatch { .. }
        | Error::StreamFull
        | Error::SnapshotStale { .. }
        | Error::SnapshotDiffers
        | Error::ForkSourceGone
        | Error::ForkContentTypeMismatch { .. }
        | Error::TooManyForks
        | Error::ClusterRefused { .. } => StatusCode::CONFLICT,
        Error::StreamGone | Error::OffsetGone { .. } => StatusCode::GONE,
        // Clients repeat a 5xx by themselves, without end. What would be applied twice must not look
        // like one, nor like a conflict, which promises that nothing was applied.
        Error::OutcomeUnknown | Error::ResultForgotten if context.repeatable => StatusCode::FAILED_DEPENDENCY,
        Error::OutcomeUnknown | Error::ResultForgotten => StatusCode::GATEWAY_TIMEOUT,
        Error::TooManyProducers => StatusCode::TOO_MANY_REQUESTS,
        Error::BucketBusy
        | Error::MemoryFull
        | Error::DiskFull
        | Error::StoreAway
        | Error::Restoring
        | Error::SnapshotIncomplete
        | Error::Overloaded
        | Error::Unavailable
        | Error::NotLeader { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Error::HistoryDamaged { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        Error::Malformed => StatusCode::BAD_GATEWAY,
    }
}

/// Of a refusal.
pub(crate) fn rejection(rejection: &Rejection) -> StatusCode {
    match rejection {
        Rejection::Name(InvalidName::ReservedStream) => StatusCode::NOT_IMPLEMENTED,
        Rejection::InvalidPath
        | Rejection::Name(_)
        | Rejection::SnapshotPath
        | Rejection::RepeatedHeader(_)
        | Rejection::InvalidHeader { .. }
        | Rejection::InvalidQuery { .. }
        | Rejection::EmptyBody
        | Rejection::MissingContentType
        | Rejection::InvalidJson(_)
        | Rejection::EmptyArray
        | Rejection::InvalidBody
        | Rejection::DigestMismatch(_)
        | Rejection::BodyIncomplete => StatusCode::BAD_REQUEST,
        Rejection::NotFound => StatusCode::NOT_FOUND,
        Rejection::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
        Rejection::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        Rejection::BodyTooLarge | Rejection::SnapshotTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
    }
}

#[cfg(test)]
mod tests;
