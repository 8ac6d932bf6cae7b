//! Between the encoding and the verbs.

use std::sync::Arc;

use super::op::Kind;
use super::reply;
use super::{
    AcquireFork, Append, BucketConfig, BucketStep, Create, Empty, ForkCut, ForkFrom, ForkRef, Key, Lifetime, Op,
    Producer, Retention, SagaStep, Trim,
};
use crate::{BucketName, ContentType, Error, Millis, Offset, SagaId, StreamId, StreamKey, limits, verb};

impl From<verb::Op> for Op {
    fn from(op: verb::Op) -> Op {
        let kind = match op {
            verb::Op::CreateBucket(name, verb::Ack::Quorum) => Kind::CreateBucket(name.to_string()),
            verb::Op::CreateBucket(name, ack) => {
                Kind::CreateBucketWith(BucketConfig { bucket: name.to_string(), ack: encode_ack(ack) })
            }
            verb::Op::DeleteBucket(name) => Kind::DeleteBucket(name.to_string()),
            verb::Op::Create(create) => Kind::Create(create.into()),
            verb::Op::Append(append) => Kind::Append(append.into()),
            verb::Op::Delete(key) => Kind::Delete(key.into()),
            verb::Op::Touch(key) => Kind::Touch(key.into()),
            verb::Op::Trim(trim) => {
                Kind::Trim(Trim { key: trim.key.into(), to: trim.to.0, cut: trim.cut.map(cut_out) })
            }
            verb::Op::PublishSnapshot(publish) => Kind::PublishSnapshot(publish.into()),
            verb::Op::RemoveSnapshot(remove) => Kind::RemoveSnapshot(remove.into()),
            verb::Op::Expire => Kind::Expire(Empty {}),
            verb::Op::InstallBucket(step) => Kind::InstallBucket(step.into()),
            verb::Op::DropBucket(step) => Kind::DropBucket(step.into()),
            verb::Op::AcquireFork(acquire) => Kind::AcquireFork(acquire.into()),
            verb::Op::ReleaseFork(fork_ref) => Kind::ReleaseFork(fork_ref.into()),
            verb::Op::SagaStep(step) => {
                Kind::SagaStep(SagaStep { saga: step.saga.0, message: step.message, outcome: step.outcome.into() })
            }
            verb::Op::Cluster(op) => Kind::Cluster((*op).into()),
            verb::Op::BeginPacks => Kind::BeginPacks(Empty {}),
            verb::Op::CommitPack(commit) => Kind::CommitPack((*commit).into()),
            verb::Op::MergePacks(merge) => Kind::MergePacks((*merge).into()),
            verb::Op::SweepPacks(gone) => Kind::SweepPacks(gone.into()),
            verb::Op::BeginImport(run) => Kind::BeginImport(run.into()),
            verb::Op::Import(import) => Kind::Import((*import).into()),
            verb::Op::EndImport(end) => Kind::EndImport(end.into()),
        };
        Op { kind: Some(kind) }
    }
}

impl TryFrom<Op> for verb::Op {
    type Error = Error;

    fn try_from(op: Op) -> Result<verb::Op, Error> {
        Ok(match op.kind.ok_or(Error::Malformed)? {
            Kind::CreateBucket(name) => verb::Op::CreateBucket(bucket(&name)?, verb::Ack::Quorum),
            Kind::CreateBucketWith(BucketConfig { bucket: name, ack }) => {
                verb::Op::CreateBucket(bucket(&name)?, decode_ack(ack)?)
            }
            Kind::DeleteBucket(name) => verb::Op::DeleteBucket(bucket(&name)?),
            Kind::Create(create) => verb::Op::Create(create.try_into()?),
            Kind::Append(append) => verb::Op::Append(append.try_into()?),
            Kind::Delete(key) => verb::Op::Delete(any_key(key)?),
            Kind::Touch(key) => verb::Op::Touch(any_key(key)?),
            Kind::Trim(trim) => verb::Op::Trim(verb::Trim {
                key: trim.key.try_into()?,
                to: offset(trim.to)?,
                cut: trim.cut.map(cut_in).transpose()?,
            }),
            Kind::PublishSnapshot(publish) => verb::Op::PublishSnapshot(publish.try_into()?),
            Kind::RemoveSnapshot(remove) => verb::Op::RemoveSnapshot(remove.try_into()?),
            Kind::Expire(Empty {}) => verb::Op::Expire,
            Kind::InstallBucket(step) => verb::Op::InstallBucket(step.try_into()?),
            Kind::DropBucket(step) => verb::Op::DropBucket(step.try_into()?),
            Kind::AcquireFork(acquire) => verb::Op::AcquireFork(acquire.try_into()?),
            Kind::ReleaseFork(fork_ref) => verb::Op::ReleaseFork(fork_ref.try_into()?),
            Kind::SagaStep(step) => verb::Op::SagaStep(verb::SagaStep {
                saga: SagaId(step.saga),
                message: step.message,
                outcome: step.outcome.try_into()?,
            }),
            Kind::Cluster(op) => verb::Op::Cluster(Box::new(op.try_into()?)),
            Kind::BeginPacks(Empty {}) => verb::Op::BeginPacks,
            Kind::CommitPack(commit) => verb::Op::CommitPack(Box::new(commit.try_into()?)),
            Kind::MergePacks(merge) => verb::Op::MergePacks(Box::new(merge.try_into()?)),
            Kind::SweepPacks(gone) => verb::Op::SweepPacks(gone.try_into()?),
            Kind::BeginImport(run) => verb::Op::BeginImport(run.into()),
            Kind::Import(import) => verb::Op::Import(Box::new(import.try_into()?)),
            Kind::EndImport(end) => verb::Op::EndImport(end.into()),
        })
    }
}

impl From<Result<verb::Reply, Error>> for reply::Outcome {
    fn from(outcome: Result<verb::Reply, Error>) -> reply::Outcome {
        let kind = match outcome {
            Ok(verb::Reply::Bucket(new)) => reply::Kind::Bucket(new),
            Ok(verb::Reply::Created(created)) => reply::Kind::Created(reply::Created {
                new: created.new,
                tail: created.tail.0,
                closed: created.closed,
                content_type: created.content_type.to_string(),
            }),
            Ok(verb::Reply::Appended(appended)) => reply::Kind::Appended(reply::Appended {
                tail: appended.tail.0,
                closed: appended.closed,
                duplicate: appended.duplicate,
                producer_epoch: appended.producer.map(|(epoch, _)| epoch),
                producer_seq: appended.producer.map_or(0, |(_, seq)| seq),
            }),
            Ok(verb::Reply::ForkAcquired(point)) => reply::Kind::ForkAcquired(reply::ForkPoint {
                source_id: point.source_id.0,
                anchor: point.anchor.0,
                at: point.at.0,
                content_type: point.content_type.to_string(),
                lifetime: lifetime_out(point.lifetime),
                depth: point.depth,
                retention: retention_out(point.retention),
                earliest: point.earliest.0,
            }),
            Ok(verb::Reply::Trimmed(earliest)) => reply::Kind::Trimmed(earliest.0),
            Ok(verb::Reply::SnapshotPublished { new, at }) => {
                reply::Kind::SnapshotPublished(super::snapshot::Published { new, at: at.0 })
            }
            Ok(verb::Reply::Done) => reply::Kind::Done(Empty {}),
            Ok(verb::Reply::ImportBegun(newest)) => reply::Kind::ImportBegun(newest.into()),
            Err(error) => reply::Kind::Failed(error.into()),
        };
        reply::Outcome { kind: Some(kind) }
    }
}

impl TryFrom<reply::Outcome> for Result<verb::Reply, Error> {
    type Error = Error;

    fn try_from(outcome: reply::Outcome) -> Result<Self, Error> {
        Ok(match outcome.kind.ok_or(Error::Malformed)? {
            reply::Kind::Bucket(new) => Ok(verb::Reply::Bucket(new)),
            reply::Kind::Created(created) => Ok(verb::Reply::Created(verb::Created {
                new: created.new,
                tail: Offset(created.tail),
                closed: created.closed,
                content_type: content_type(&created.content_type)?,
            })),
            reply::Kind::Appended(appended) => Ok(verb::Reply::Appended(verb::Appended {
                tail: Offset(appended.tail),
                closed: appended.closed,
                duplicate: appended.duplicate,
                producer: appended.producer_epoch.map(|epoch| (epoch, appended.producer_seq)),
            })),
            reply::Kind::ForkAcquired(point) => Ok(verb::Reply::ForkAcquired(verb::ForkPoint {
                source_id: StreamId(point.source_id),
                anchor: Offset(point.anchor),
                at: Offset(point.at),
                content_type: content_type(&point.content_type)?,
                lifetime: lifetime_in(point.lifetime)?,
                retention: retention_in(point.retention)?,
                earliest: Offset(point.earliest),
                depth: point.depth,
            })),
            reply::Kind::Trimmed(earliest) => Ok(verb::Reply::Trimmed(Offset(earliest))),
            reply::Kind::SnapshotPublished(published) => Ok(published.into()),
            reply::Kind::Done(Empty {}) => Ok(verb::Reply::Done),
            reply::Kind::ImportBegun(begun) => Ok(verb::Reply::ImportBegun(begun.try_into()?)),
            reply::Kind::Failed(failure) => Err(failure.into()),
        })
    }
}

impl From<verb::BucketStep> for BucketStep {
    fn from(step: verb::BucketStep) -> BucketStep {
        BucketStep { bucket: step.bucket.to_string(), order: step.order, ack: encode_ack(step.ack) }
    }
}

impl TryFrom<BucketStep> for verb::BucketStep {
    type Error = Error;

    fn try_from(step: BucketStep) -> Result<verb::BucketStep, Error> {
        Ok(verb::BucketStep { bucket: bucket(&step.bucket)?, order: step.order, ack: decode_ack(step.ack)? })
    }
}

/// The number of an [`verb::Ack`]. Persisted and sent: a number is never reused or changed.
pub fn encode_ack(ack: verb::Ack) -> u32 {
    match ack {
        verb::Ack::Quorum => 0,
        verb::Ack::Offloaded => 1,
    }
}

/// The [`verb::Ack`] with this number.
///
/// # Errors
/// [`Error::Malformed`] if this version knows none: it would promise less.
pub fn decode_ack(number: u32) -> Result<verb::Ack, Error> {
    match number {
        0 => Ok(verb::Ack::Quorum),
        1 => Ok(verb::Ack::Offloaded),
        _ => Err(Error::Malformed),
    }
}

impl From<StreamKey> for Key {
    fn from(key: StreamKey) -> Key {
        Key { bucket: key.bucket.to_string(), name: key.name.to_string() }
    }
}

impl TryFrom<Key> for StreamKey {
    type Error = Error;

    fn try_from(key: Key) -> Result<StreamKey, Error> {
        StreamKey::parse(&key.bucket, &key.name).map_err(|_| Error::Malformed)
    }
}

/// Of a stream, or of a companion.
fn any_key(key: Key) -> Result<StreamKey, Error> {
    StreamKey::parse_any(&key.bucket, &key.name).map_err(|_| Error::Malformed)
}

impl From<verb::Create> for Create {
    fn from(create: verb::Create) -> Create {
        let fork = create.fork.map(|fork| ForkFrom {
            source: fork.source.into(),
            offset: fork.offset.map(|at| at.0),
            sub_offset: fork.sub_offset,
        });
        Create {
            key: create.key.into(),
            content_type: create.content_type.map(|t| t.to_string()),
            lifetime: lifetime_out(create.lifetime),
            closed: create.closed,
            body: create.body,
            fork,
            numbered: create.numbered,
            retention: retention_out(create.retention),
        }
    }
}

impl TryFrom<Create> for verb::Create {
    type Error = Error;

    fn try_from(create: Create) -> Result<verb::Create, Error> {
        let fork = |fork: ForkFrom| {
            Ok::<_, Error>(verb::ForkFrom {
                source: fork.source.try_into()?,
                offset: fork.offset.map(offset).transpose()?,
                sub_offset: fork.sub_offset,
            })
        };
        let key = any_key(create.key)?;
        if key.name.is_companion() && create.fork.is_some() {
            return Err(Error::Malformed);
        }
        Ok(verb::Create {
            key,
            content_type: create.content_type.as_deref().map(content_type).transpose()?,
            lifetime: lifetime_in(create.lifetime)?,
            retention: retention_in(create.retention)?,
            closed: create.closed,
            body: bounded(create.body)?,
            fork: create.fork.map(fork).transpose()?,
            numbered: create.numbered,
        })
    }
}

impl From<verb::Append> for Append {
    fn from(append: verb::Append) -> Append {
        Append {
            key: append.key.into(),
            content_type: append.content_type.map(|t| t.to_string()),
            body: append.body,
            close: append.close,
            producer: append.producer.map(|p| Producer { id: p.id.to_string(), epoch: p.epoch, seq: p.seq }),
            stream_seq: append.stream_seq.map(|seq| seq.to_string()),
            expected_offset: append.expected_offset.map(|at| at.0),
        }
    }
}

impl TryFrom<Append> for verb::Append {
    type Error = Error;

    fn try_from(append: Append) -> Result<verb::Append, Error> {
        if append.body.is_empty() && !append.close {
            return Err(Error::Malformed);
        }
        Ok(verb::Append {
            key: any_key(append.key)?,
            content_type: append.content_type.as_deref().map(content_type).transpose()?,
            body: bounded(append.body)?,
            close: append.close,
            producer: append.producer.map(producer).transpose()?,
            stream_seq: append.stream_seq.map(|seq| text(&seq, limits::STREAM_SEQ_BYTES_MAX)).transpose()?,
            expected_offset: append.expected_offset.map(offset).transpose()?,
        })
    }
}

impl From<verb::ForkRef> for ForkRef {
    fn from(fork_ref: verb::ForkRef) -> ForkRef {
        ForkRef { source: fork_ref.source.into(), fork: fork_ref.fork.into(), fork_id: fork_ref.fork_id.0 }
    }
}

impl TryFrom<ForkRef> for verb::ForkRef {
    type Error = Error;

    fn try_from(fork_ref: ForkRef) -> Result<verb::ForkRef, Error> {
        Ok(verb::ForkRef {
            source: fork_ref.source.try_into()?,
            fork: fork_ref.fork.try_into()?,
            fork_id: StreamId(fork_ref.fork_id),
        })
    }
}

impl From<verb::AcquireFork> for AcquireFork {
    fn from(acquire: verb::AcquireFork) -> AcquireFork {
        AcquireFork {
            fork_ref: acquire.fork_ref.into(),
            offset: acquire.offset.map(|at| at.0),
            sub_offset: acquire.sub_offset,
            content_type: acquire.content_type.map(|t| t.to_string()),
            cut: acquire.cut.map(cut_out),
        }
    }
}

impl TryFrom<AcquireFork> for verb::AcquireFork {
    type Error = Error;

    fn try_from(acquire: AcquireFork) -> Result<verb::AcquireFork, Error> {
        Ok(verb::AcquireFork {
            fork_ref: acquire.fork_ref.try_into()?,
            offset: acquire.offset.map(offset).transpose()?,
            sub_offset: acquire.sub_offset,
            content_type: acquire.content_type.as_deref().map(content_type).transpose()?,
            cut: acquire.cut.map(cut_in).transpose()?,
        })
    }
}

pub(super) fn cut_out(cut: verb::ForkCut) -> ForkCut {
    ForkCut { stream: cut.stream.0, at: cut.at.0 }
}

pub(super) fn cut_in(cut: ForkCut) -> Result<verb::ForkCut, Error> {
    Ok(verb::ForkCut { stream: StreamId(cut.stream), at: offset(cut.at)? })
}

/// Encodes a lifetime; `Forever` is absence.
pub(crate) fn lifetime_out(lifetime: verb::Lifetime) -> Option<Lifetime> {
    match lifetime {
        verb::Lifetime::Forever => None,
        verb::Lifetime::Ttl(seconds) => Some(Lifetime { ttl_seconds: Some(seconds), ..Lifetime::default() }),
        verb::Lifetime::ExpiresAt { text, at } => {
            Some(Lifetime { ttl_seconds: None, expires_at: Some(text.to_string()), expires_at_ms: at.0 })
        }
    }
}

/// Decodes a lifetime; absence is `Forever`.
pub(crate) fn lifetime_in(lifetime: Option<Lifetime>) -> Result<verb::Lifetime, Error> {
    let Some(lifetime) = lifetime else { return Ok(verb::Lifetime::Forever) };
    match (lifetime.ttl_seconds, lifetime.expires_at) {
        (Some(seconds), None) if seconds <= limits::TTL_SECONDS_MAX => Ok(verb::Lifetime::Ttl(seconds)),
        (None, Some(text)) if text.len() <= limits::EXPIRES_AT_BYTES_MAX => {
            Ok(verb::Lifetime::ExpiresAt { text: text.into(), at: Millis(lifetime.expires_at_ms) })
        }
        _ => Err(Error::Malformed),
    }
}

/// Encodes a retention; one without limits is absence.
pub(crate) fn retention_out(retention: verb::Retention) -> Option<Retention> {
    let verb::Retention { max_age, max_bytes, snapshot } = retention;
    (retention != verb::Retention::default()).then_some(Retention { max_age, max_bytes, snapshot })
}

/// Decodes a retention; absence is one without limits.
pub(crate) fn retention_in(retention: Option<Retention>) -> Result<verb::Retention, Error> {
    let Retention { max_age, max_bytes, snapshot } = retention.unwrap_or_default();
    let is_good = max_age.is_none_or(|seconds| (1..=limits::TTL_SECONDS_MAX).contains(&seconds))
        && max_bytes.is_none_or(|bytes| (1..=limits::RETENTION_BYTES_MAX).contains(&bytes));
    if is_good { Ok(verb::Retention { max_age, max_bytes, snapshot }) } else { Err(Error::Malformed) }
}

fn producer(producer: Producer) -> Result<verb::Producer, Error> {
    let Producer { id, epoch, seq } = producer;
    let valid = !id.is_empty() && epoch.max(seq) <= limits::PRODUCER_NUMBER_MAX;
    let id = text(&id, limits::PRODUCER_ID_BYTES_MAX)?;
    if valid { Ok(verb::Producer { id, epoch, seq }) } else { Err(Error::Malformed) }
}

fn bucket(name: &str) -> Result<BucketName, Error> {
    BucketName::parse(name).map_err(|_| Error::Malformed)
}

pub(super) fn content_type(text: &str) -> Result<ContentType, Error> {
    if text.len() > limits::CONTENT_TYPE_BYTES_MAX {
        return Err(Error::Malformed);
    }
    Ok(ContentType::parse(text))
}

fn text(text: &str, bytes_max: usize) -> Result<Arc<str>, Error> {
    if text.len() > bytes_max { Err(Error::Malformed) } else { Ok(text.into()) }
}

pub(super) fn offset(at: u64) -> Result<Offset, Error> {
    if at > Offset::MAX.0 { Err(Error::Malformed) } else { Ok(Offset(at)) }
}

fn bounded(body: bytes::Bytes) -> Result<bytes::Bytes, Error> {
    if body.len() > limits::APPEND_BYTES_MAX { Err(Error::Malformed) } else { Ok(body) }
}
