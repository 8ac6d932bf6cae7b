//! The numbers of errors on the wire. A number is never reused or changed.

use super::reply::Failure;
use crate::{ContentType, Error, NodeId, Offset};

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let code = |error| Failure { error, ..Failure::default() };
        let number = |error, a| Failure { error, a, ..Failure::default() };
        match error {
            Error::Malformed => code(1),
            Error::Unavailable => code(2),
            Error::OutcomeUnknown => code(3),
            Error::NotLeader { leader, term } => Failure { b: leader.map_or(0, |node| node.0), ..number(4, term) },
            Error::Overloaded => code(5),
            Error::MemoryFull => code(6),
            Error::ResultForgotten => code(7),
            Error::DiskFull => code(8),
            Error::Restoring => code(9),
            Error::HistoryDamaged { from, until } => Failure { b: until.0, ..number(10, from.0) },
            Error::StoreAway => code(11),
            Error::BucketNotFound => code(16),
            Error::BucketNotEmpty => code(17),
            Error::BucketBusy => code(18),
            Error::BucketProtected => code(19),
            Error::BucketExists => code(20),
            Error::StoreMissing => code(21),
            Error::StreamNotFound => code(32),
            Error::StreamGone => code(33),
            Error::StreamExists { tail, closed } => Failure { b: u64::from(closed), ..number(34, tail.0) },
            Error::StreamClosed { tail } => number(35, tail.0),
            Error::ContentTypeMismatch { expected } => Failure { text: expected.to_string(), ..code(36) },
            Error::StaleEpoch { current } => number(37, current),
            Error::EpochStart => code(38),
            Error::ProducerGap { expected, received } => Failure { b: received, ..number(39, expected) },
            Error::StreamSeqConflict { tail } => number(40, tail.0),
            Error::OffsetMismatch { tail } => number(41, tail.0),
            Error::TooManyProducers => code(42),
            Error::OffsetGone { earliest } => number(43, earliest.0),
            Error::OffsetInvalid => code(44),
            Error::StreamFull => code(45),
            Error::SnapshotNotFound => code(46),
            Error::SnapshotStale { newest } => number(47, newest.0),
            Error::SnapshotMismatch { current } => {
                Failure { digest: current.map_or(Vec::new(), Vec::from), ..code(48) }
            }
            Error::SnapshotDiffers => code(49),
            Error::SnapshotIncomplete => code(50),
            Error::ForkSourceNotFound => code(64),
            Error::ForkSourceGone => code(65),
            Error::ForkContentTypeMismatch { expected } => Failure { text: expected.to_string(), ..code(66) },
            Error::ForkOffsetInvalid { tail } => number(67, tail.0),
            Error::ForkSubOffsetInvalid => code(68),
            Error::TooManyForks => code(69),
            Error::ClusterRefused { reason } => Failure { text: reason.to_string(), ..code(80) },
        }
    }
}

impl From<Failure> for Error {
    /// A number that this version does not know becomes [`Error::Malformed`].
    fn from(failure: Failure) -> Error {
        let Failure { error, a, b, text, digest } = failure;
        let content_type = || ContentType::parse(&text);
        match error {
            2 => Error::Unavailable,
            3 => Error::OutcomeUnknown,
            4 => Error::NotLeader { leader: (b != 0).then_some(NodeId(b)), term: a },
            5 => Error::Overloaded,
            6 => Error::MemoryFull,
            7 => Error::ResultForgotten,
            8 => Error::DiskFull,
            9 => Error::Restoring,
            10 => Error::HistoryDamaged { from: Offset(a), until: Offset(b) },
            11 => Error::StoreAway,
            16 => Error::BucketNotFound,
            17 => Error::BucketNotEmpty,
            18 => Error::BucketBusy,
            19 => Error::BucketProtected,
            20 => Error::BucketExists,
            21 => Error::StoreMissing,
            32 => Error::StreamNotFound,
            33 => Error::StreamGone,
            34 => Error::StreamExists { tail: Offset(a), closed: b != 0 },
            35 => Error::StreamClosed { tail: Offset(a) },
            36 => Error::ContentTypeMismatch { expected: content_type() },
            37 => Error::StaleEpoch { current: a },
            38 => Error::EpochStart,
            39 => Error::ProducerGap { expected: a, received: b },
            40 => Error::StreamSeqConflict { tail: Offset(a) },
            41 => Error::OffsetMismatch { tail: Offset(a) },
            42 => Error::TooManyProducers,
            43 => Error::OffsetGone { earliest: Offset(a) },
            44 => Error::OffsetInvalid,
            45 => Error::StreamFull,
            46 => Error::SnapshotNotFound,
            47 => Error::SnapshotStale { newest: Offset(a) },
            48 => Error::SnapshotMismatch { current: digest.try_into().ok() },
            49 => Error::SnapshotDiffers,
            50 => Error::SnapshotIncomplete,
            64 => Error::ForkSourceNotFound,
            65 => Error::ForkSourceGone,
            66 => Error::ForkContentTypeMismatch { expected: content_type() },
            67 => Error::ForkOffsetInvalid { tail: Offset(a) },
            68 => Error::ForkSubOffsetInvalid,
            69 => Error::TooManyForks,
            80 => Error::ClusterRefused { reason: text.into() },
            _ => Error::Malformed,
        }
    }
}
