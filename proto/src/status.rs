//! Between errors and gRPC statuses; the only file that knows gRPC codes.

use prost::Message;
use tonic::{Code, Status};
use ursula_common::Error;
use ursula_common::wire::reply::Failure;

/// Turns an error into a status that carries it whole.
pub fn to_status(error: Error) -> Status {
    let code = match &error {
        Error::Malformed => Code::InvalidArgument,
        Error::Unavailable | Error::Restoring | Error::NotLeader { .. } | Error::BucketBusy => Code::Unavailable,
        Error::StoreAway => Code::Unavailable,
        Error::Overloaded | Error::MemoryFull | Error::DiskFull | Error::TooManyProducers | Error::TooManyForks => {
            Code::ResourceExhausted
        }
        Error::HistoryDamaged { .. } => Code::DataLoss,
        Error::OutcomeUnknown | Error::ResultForgotten => Code::Unknown,
        Error::BucketNotFound | Error::StreamNotFound | Error::StreamGone => Code::NotFound,
        Error::ForkSourceNotFound | Error::ForkSourceGone => Code::NotFound,
        Error::SnapshotNotFound => Code::NotFound,
        Error::SnapshotStale { .. } | Error::SnapshotMismatch { .. } | Error::SnapshotDiffers => {
            Code::FailedPrecondition
        }
        Error::SnapshotIncomplete => Code::Unavailable,
        Error::OffsetGone { .. } | Error::OffsetInvalid => Code::OutOfRange,
        Error::ForkOffsetInvalid { .. } | Error::ForkSubOffsetInvalid => Code::OutOfRange,
        Error::BucketNotEmpty | Error::BucketProtected | Error::BucketExists | Error::StoreMissing => {
            Code::FailedPrecondition
        }
        Error::StreamExists { .. } | Error::StreamClosed { .. } => Code::FailedPrecondition,
        Error::ContentTypeMismatch { .. } | Error::ForkContentTypeMismatch { .. } => Code::FailedPrecondition,
        Error::StaleEpoch { .. } | Error::EpochStart | Error::ProducerGap { .. } => Code::FailedPrecondition,
        Error::StreamSeqConflict { .. } | Error::OffsetMismatch { .. } => Code::FailedPrecondition,
        Error::StreamFull | Error::ClusterRefused { .. } => Code::FailedPrecondition,
    };
    let message = error.to_string();
    Status::with_details(code, message, Failure::from(error).encode_to_vec().into())
}

/// Takes the error out of a status. A status without one comes from the transport: the node could not
/// be reached. Only for calls that change nothing: a lost answer to an op is the lane's to judge.
pub fn from_status(status: &Status) -> Error {
    if status.details().is_empty() {
        return match status.code() {
            Code::InvalidArgument | Code::Unimplemented | Code::OutOfRange => Error::Malformed,
            _ => Error::Unavailable,
        };
    }
    Failure::decode(status.details()).map_or(Error::Malformed, Error::from)
}

/// A status for a caller that is not served here, with a sentence that says why.
pub fn refusal(sentence: impl Into<String>) -> Status {
    Status::new(Code::FailedPrecondition, sentence)
}
