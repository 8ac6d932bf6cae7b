//! The status of everything that can go wrong, as `docs/errors.md` has it.

use std::collections::BTreeMap;

use http::HeaderName;
use ursula_common::error::Retry;
use ursula_common::name::InvalidName;
use ursula_common::{ContentType, Offset};

use super::*;

const PLAIN: Context = Context { if_match: false, close_only: false, repeatable: true };

/// Each error and the next one: an error that is new does not compile until it is listed.
fn after(error: &Error) -> Option<Error> {
    let (tail, expected) = (Offset(42), ContentType::default());
    Some(match error {
        Error::BucketNotFound => Error::BucketNotEmpty,
        Error::BucketNotEmpty => Error::BucketBusy,
        Error::BucketBusy => Error::BucketProtected,
        Error::BucketProtected => Error::BucketExists,
        Error::BucketExists => Error::StoreMissing,
        Error::StoreMissing => Error::StreamNotFound,
        Error::StreamNotFound => Error::StreamGone,
        Error::StreamGone => Error::StreamExists { tail, closed: false },
        Error::StreamExists { .. } => Error::StreamClosed { tail },
        Error::StreamClosed { .. } => Error::ContentTypeMismatch { expected },
        Error::ContentTypeMismatch { .. } => Error::StaleEpoch { current: 7 },
        Error::StaleEpoch { .. } => Error::EpochStart,
        Error::EpochStart => Error::ProducerGap { expected: 3, received: 5 },
        Error::ProducerGap { .. } => Error::StreamSeqConflict { tail },
        Error::StreamSeqConflict { .. } => Error::OffsetMismatch { tail },
        Error::OffsetMismatch { .. } => Error::TooManyProducers,
        Error::TooManyProducers => Error::OffsetGone { earliest: tail },
        Error::OffsetGone { .. } => Error::OffsetInvalid,
        Error::OffsetInvalid => Error::StreamFull,
        Error::StreamFull => Error::SnapshotNotFound,
        Error::SnapshotNotFound => Error::SnapshotStale { newest: tail },
        Error::SnapshotStale { .. } => Error::SnapshotMismatch { current: None },
        Error::SnapshotMismatch { .. } => Error::SnapshotDiffers,
        Error::SnapshotDiffers => Error::SnapshotIncomplete,
        Error::SnapshotIncomplete => Error::ForkSourceNotFound,
        Error::ForkSourceNotFound => Error::ForkSourceGone,
        Error::ForkSourceGone => Error::ForkContentTypeMismatch { expected },
        Error::ForkContentTypeMismatch { .. } => Error::ForkOffsetInvalid { tail },
        Error::ForkOffsetInvalid { .. } => Error::ForkSubOffsetInvalid,
        Error::ForkSubOffsetInvalid => Error::TooManyForks,
        Error::TooManyForks => Error::ClusterRefused { reason: "a rule".into() },
        Error::ClusterRefused { .. } => Error::MemoryFull,
        Error::MemoryFull => Error::DiskFull,
        Error::DiskFull => Error::StoreAway,
        Error::StoreAway => Error::Restoring,
        Error::Restoring => Error::HistoryDamaged { from: tail, until: tail },
        Error::HistoryDamaged { .. } => Error::Overloaded,
        Error::Overloaded => Error::Unavailable,
        Error::Unavailable => Error::OutcomeUnknown,
        Error::OutcomeUnknown => Error::NOT_HERE,
        Error::NotLeader { .. } => Error::ResultForgotten,
        Error::ResultForgotten => Error::Malformed,
        Error::Malformed => return None,
    })
}

/// The same for refusals.
fn next(rejection: &Rejection) -> Option<Rejection> {
    let (name, problem) = (HeaderName::from_static("stream-ttl"), "is wrong");
    Some(match rejection {
        Rejection::NotFound => Rejection::InvalidPath,
        Rejection::InvalidPath => Rejection::Name(InvalidName::Bucket),
        Rejection::Name(InvalidName::Bucket) => Rejection::Name(InvalidName::ReservedBucket),
        Rejection::Name(InvalidName::ReservedBucket) => Rejection::Name(InvalidName::EmptyStream),
        Rejection::Name(InvalidName::EmptyStream) => Rejection::Name(InvalidName::LongStream),
        Rejection::Name(InvalidName::LongStream) => Rejection::Name(InvalidName::ControlCharacter),
        Rejection::Name(InvalidName::ControlCharacter) => Rejection::Name(InvalidName::Segment),
        Rejection::Name(InvalidName::Segment) => Rejection::Name(InvalidName::ReservedStream),
        Rejection::Name(InvalidName::ReservedStream) => Rejection::SnapshotPath,
        Rejection::SnapshotPath => Rejection::Method { allow: "GET" },
        Rejection::Method { .. } => Rejection::RepeatedHeader(name),
        Rejection::RepeatedHeader(_) => Rejection::InvalidHeader { name, problem },
        Rejection::InvalidHeader { .. } => Rejection::InvalidQuery { name: "offset", problem },
        Rejection::InvalidQuery { .. } => Rejection::EmptyBody,
        Rejection::EmptyBody => Rejection::MissingContentType,
        Rejection::MissingContentType => Rejection::InvalidJson("at line 1".into()),
        Rejection::InvalidJson(_) => Rejection::EmptyArray,
        Rejection::EmptyArray => Rejection::BodyTooLarge,
        Rejection::BodyTooLarge => Rejection::SnapshotTooLarge { bytes_max: 1 },
        Rejection::SnapshotTooLarge { .. } => Rejection::DigestMismatch(name),
        Rejection::DigestMismatch(_) => Rejection::BodyTimeout,
        Rejection::BodyTimeout => Rejection::BodyIncomplete,
        Rejection::BodyIncomplete => Rejection::InvalidBody,
        Rejection::InvalidBody => return None,
    })
}

fn errors() -> impl Iterator<Item = Error> {
    std::iter::successors(Some(Error::BucketNotFound), after)
}

/// Code to statuses and retry, as they are.
fn actual() -> BTreeMap<String, (String, String)> {
    let word = |retry| match retry {
        Retry::Useless => "no",
        Retry::Later => "later",
        Retry::OnlyIfIdempotent => "if_idempotent",
    };
    let of_errors = errors().map(|failure| {
        let statuses =
            [Context::default(), Context { if_match: true, ..PLAIN }].map(|context| error(&failure, context));
        let mut statuses = Vec::from(statuses.map(|status| status.as_str().to_owned()));
        statuses.dedup();
        (failure.code().to_owned(), (statuses.join(", "), word(failure.retry()).to_owned()))
    });
    let of_rejections = std::iter::successors(Some(Rejection::NotFound), next).map(|refusal| {
        let retry = crate::refuse::retry(&refusal);
        (refusal.code().to_owned(), (rejection(&refusal).as_str().to_owned(), word(retry).to_owned()))
    });
    of_errors.chain(of_rejections).collect()
}

#[test]
fn the_document_lists_what_is_sent() {
    let document = include_str!("../../../../docs/errors.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeMap<String, (String, String)> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            let [code, status, retry, _meaning] = cells[..] else { panic!("four cells: {row}") };
            (code.trim_end_matches('`').to_owned(), (status.to_owned(), retry.trim_matches('`').to_owned()))
        })
        .collect();
    assert_eq!(documented, actual());
}

#[test]
fn an_unknown_outcome_is_repeated_only_where_that_is_safe() {
    for failure in [Error::OutcomeUnknown, Error::ResultForgotten] {
        assert_eq!(error(&failure, Context::default()), StatusCode::GATEWAY_TIMEOUT);
        let status = error(&failure, PLAIN);
        assert!(status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS, "{status} would be repeated");
        assert!(errors().all(|other| other.outcome() == failure.outcome() || error(&other, PLAIN) != status));
    }
}

#[test]
fn what_was_not_applied_may_say_so() {
    use ursula_common::Outcome;
    for failure in errors().filter(|failure| failure.outcome() == Outcome::NotApplied) {
        assert_ne!(error(&failure, PLAIN), StatusCode::GATEWAY_TIMEOUT, "{failure:?}");
    }
}

#[test]
fn if_match_changes_one_status_only() {
    let differ = |failure: &Error| error(failure, PLAIN) != error(failure, Context { if_match: true, ..PLAIN });
    assert_eq!(errors().filter(differ).collect::<Vec<_>>(), [Error::OffsetMismatch { tail: Offset(42) }]);
}

#[test]
fn statuses_of_success() {
    let reply = |producer, duplicate| Appended { tail: Offset(1), closed: false, duplicate, producer };
    let close = Context { close_only: true, ..Context::default() };
    let table = [
        (reply(None, false), PLAIN, NO_CONTENT),
        (reply(Some((0, 0)), false), Context::default(), OK),
        (reply(Some((0, 0)), true), Context::default(), NO_CONTENT),
        (reply(Some((0, 0)), false), close, NO_CONTENT),
        (reply(None, false), close, NO_CONTENT),
    ];
    for (reply, context, status) in table {
        assert_eq!(appended(&reply, context), status, "{reply:?} {context:?}");
    }
    assert_eq!((created(true), created(false)), (StatusCode::CREATED, OK));
    assert_eq!((ready(true), ready(false)), (OK, StatusCode::SERVICE_UNAVAILABLE));
}
