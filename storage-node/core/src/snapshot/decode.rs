//! From records to a state. Believes nothing: what it accepts, the verbs can work with.

use std::sync::Arc;

use ursula_common::cluster::Cluster;
use ursula_common::packs::PackRef;
use ursula_common::verb::{Ack, ForkLink, ImportRun, Lifetime, Producer, Retention, SnapshotInfo};
use ursula_common::{BucketName, ContentType, GroupId, Millis, Offset, SagaId, SessionId, StreamId, StreamKey};
use ursula_common::{StreamName, limits, wire};

use super::record::{self, Kind};
use crate::import::Import;
use crate::kept::{Kept, MARKS_MAX, Mark};
use crate::packing::{Cold, Packs, Waiting};
use crate::published::{BEFORE_MAX, Published};
use crate::saga::{BucketSaga, ForkSaga, Phase, Saga};
use crate::session::Session;
use crate::state::{Bucket, Caller, DATA_GROUPS_MAX};
use crate::stream::{ForkId, ForkStart, Presence, ProducerState, Stream};
use crate::{Answer, CodecError, Replaced, State, cluster};

/// A state that grows record by record.
pub(super) struct Decoder {
    state: State,
    /// The bucket whose streams come.
    bucket: Option<BucketName>,
}

impl Decoder {
    pub(super) fn new(head: record::Head) -> Result<Decoder, CodecError> {
        check((1..=DATA_GROUPS_MAX).contains(&head.data_groups))?;
        // Far from where counting on could overflow.
        check(head.next_stream >= 1 && head.next_stream.max(head.last_saga) < 1 << 62)?;
        let mut state = State::new(GroupId(head.group), head.data_groups);
        state.buckets.clear();
        state.now = Millis(head.now);
        state.next_stream = head.next_stream;
        state.sagas.last = head.last_saga;
        Ok(Decoder { state, bucket: None })
    }

    pub(super) fn add(&mut self, kind: Kind) -> Result<(), CodecError> {
        let state = &mut self.state;
        match kind {
            Kind::Bucket(bucket) => self.add_bucket(bucket)?,
            Kind::Stream(stream) => self.add_stream(stream)?,
            Kind::Session(session) => {
                let (id, session) = session_in(session)?;
                state.sessions.insert(id, session);
            }
            Kind::Saga(saga) => {
                let id = SagaId(saga.id);
                check(id.0 <= state.sagas.last && !state.sagas.running.contains_key(&id))?;
                state.sagas.insert(id, saga_in(saga)?);
            }
            Kind::Released(fork) => state.released.push_back(fork_in(fork)?.0),
            Kind::Dropped(step) => drop(state.dropped.insert(step.order, bucket_name(&step.bucket)?)),
            Kind::Cluster(cluster) => self.add_cluster(cluster)?,
            Kind::Packs(packs) => self.add_packs(&packs)?,
            Kind::Pack(pack) => {
                let pack = PackRef::try_from(pack)?;
                let packs = state.packs.as_mut().ok_or(CodecError::Damaged)?;
                check(pack.last < 1 << 62 && Arc::make_mut(&mut packs.catalogue).push(pack))?;
            }
            Kind::Removed(gone) => self.add_waiting(gone.turn, Waiting::Removed(StreamId(gone.stream)))?,
            Kind::Replaced(replaced) => {
                let record::Replaced { object, at, newest } = replaced;
                let packs = state.packs.as_mut().ok_or(CodecError::Damaged)?;
                check(newest < packs.catalogue.next())?;
                packs.replaced.push_back(Replaced { object: object.try_into()?, at: Millis(at), newest });
            }
            Kind::Import(import) => {
                check(state.import.is_none())?;
                let record::Import { import, attempt, ended, packs } = import;
                let packs = packs.into_iter().map(PackRef::try_from).collect::<Result<_, _>>()?;
                state.import = Some(Box::new(Import { run: ImportRun { import, attempt }, ended, packs }));
            }
            Kind::Head(_) | Kind::End(_) => return Err(CodecError::Damaged),
        }
        Ok(())
    }

    pub(super) fn finish(self, end: record::End) -> Result<State, CodecError> {
        check(self.state.stats().streams as u64 == end.streams)?;
        Ok(self.state)
    }

    fn add_bucket(&mut self, bucket: record::Bucket) -> Result<(), CodecError> {
        let name = bucket_name(&bucket.name)?;
        let (order, busy, ack) = (bucket.order, bucket.busy, wire::decode_ack(bucket.ack)?);
        check(ack == Ack::Quorum || self.state.packs.is_some())?;
        self.bucket = Some(name.clone());
        let old = self.state.buckets.insert(name, Bucket { busy, order, ack, ..Bucket::default() });
        check(old.is_none())
    }

    fn add_cluster(&mut self, record: wire::cluster::Cluster) -> Result<(), CodecError> {
        let cluster = Cluster::try_from(record)?;
        check(self.state.group == GroupId::META && self.state.cluster.is_none())?;
        check(cluster::is_sound(&cluster) && cluster.data_groups() == self.state.data_groups)?;
        self.state.cluster = Some(Arc::new(cluster));
        Ok(())
    }

    fn add_packs(&mut self, record: &record::Packs) -> Result<(), CodecError> {
        let record::Packs { changes, group_changed } = *record;
        check(self.state.packs.is_none() && self.bucket.is_none())?;
        check(group_changed <= changes && changes < 1 << 62)?;
        self.state.packs = Some(Box::new(Packs { changes, group_changed, ..Packs::default() }));
        Ok(())
    }

    fn add_waiting(&mut self, turn: u64, waiting: Waiting) -> Result<(), CodecError> {
        let packs = self.state.packs.as_mut().ok_or(CodecError::Damaged)?;
        check((1..=packs.changes).contains(&turn) && packs.waiting.insert(turn, waiting).is_none())
    }

    /// What packs have of a stream.
    fn add_cold(&mut self, key: &StreamKey, stream: &Stream) -> Result<(), CodecError> {
        let (cold, packs) = match (&stream.cold, &mut self.state.packs) {
            (None, None) => return Ok(()),
            (Some(cold), Some(packs)) => (cold, packs),
            (Some(_), None) | (None, Some(_)) => return Err(CodecError::Damaged),
        };
        check(stream.own_start() <= cold.end && cold.end <= stream.tail)?;
        check(cold.changed <= packs.changes && (cold.changed == 0) == (cold.turn == 0))?;
        check(stream.snapshots().is_none_or(|all| all.iter().all(|known| known.since <= packs.changes)))?;
        packs.bytes = packs.bytes.saturating_add(stream.left());
        check(packs.bytes < 1 << 62)?;
        if cold.turn == 0 { Ok(()) } else { self.add_waiting(cold.turn, Waiting::Stream(key.clone())) }
    }

    fn add_stream(&mut self, record: record::Stream) -> Result<(), CodecError> {
        let bucket = self.bucket.clone().ok_or(CodecError::Damaged)?;
        let name = StreamName::parse_any(&record.name).map_err(|_| CodecError::Damaged)?;
        let key = StreamKey { bucket, name };
        check(self.state.stream(&key).is_none() && record.id < self.state.next_stream)?;
        let stream = stream_in(record)?;
        check(stream.due_at().is_none_or(|due| stream.indexed <= due))?;
        check(stream.presence == Presence::Live || stream.has_forks())?;
        self.add_cold(&key, &stream)?;
        self.state.restore(&key, stream);
        Ok(())
    }
}

fn stream_in(record: record::Stream) -> Result<Stream, CodecError> {
    let lifetime = lifetime_in(record.lifetime)?;
    let content_type = ContentType::parse(&record.content_type);
    let mut stream = Stream::new(StreamId(record.id), content_type, lifetime, Millis(record.touched));
    stream.tail = offset(record.tail)?;
    stream.indexed = Millis(record.indexed);
    stream.closed = record.closed;
    stream.presence = match record.presence {
        0 => Presence::Live,
        1 => Presence::Deleted,
        2 => Presence::Expired,
        _ => return Err(CodecError::Damaged),
    };
    if let Some(seq) = record.stream_seq {
        stream.rare_mut().stream_seq = Some(seq.into());
    }
    if let Some(by) = record.closed_by {
        stream.rare_mut().closed_by = Some(Producer { id: by.id.into(), epoch: by.epoch, seq: by.seq });
    }
    for record::Producer { last, at } in record.producers {
        let new = ProducerState { id: last.id.into(), epoch: last.epoch, seq: last.seq, at: Millis(at) };
        let producers = &mut stream.rare_mut().producers;
        check(producers.last().is_none_or(|last| last.id < new.id))?;
        producers.push(new);
    }
    if let Some(link) = record.fork {
        stream.rare_mut().fork = Some(Box::new(ForkLink {
            source: link.source.try_into()?,
            source_id: StreamId(link.source_id),
            anchor: offset(link.anchor)?,
            sub_offset: link.sub_offset,
            at: offset(link.at)?,
            depth: link.depth,
        }));
    }
    for fork in record.forks {
        let (id, start) = fork_in(fork)?;
        stream.rare_mut().forks.insert(id, start);
    }
    if let Some(kept) = record.kept {
        add_kept(&mut stream, kept)?;
    }
    add_snapshots(&mut stream, record.snapshots)?;
    if let Some(record::Cold { end, pack, turn, changed, recorded }) = record.cold {
        stream.cold = Some(Box::new(Cold { end: offset(end)?, pack, turn, changed, recorded }));
    }
    Ok(stream)
}

fn add_snapshots(stream: &mut Stream, records: Vec<record::Snapshot>) -> Result<(), CodecError> {
    check(records.len() <= 1 + BEFORE_MAX && records.is_sorted_by_key(|snapshot| snapshot.at))?;
    for record::Snapshot { at, upload, content_type, bytes, digest, since } in records {
        let (at, content_type) = (offset(at)?, ContentType::parse(&content_type));
        check(at.first() == stream.tail.first() && at <= stream.tail)?;
        let digest = digest.try_into().map_err(|_| CodecError::Damaged)?;
        let info = SnapshotInfo { at, upload, content_type, bytes, digest };
        check(stream.add_snapshot(Published { info, since }, true).is_none())?;
    }
    Ok(())
}

/// The forks are there.
fn add_kept(stream: &mut Stream, record: record::Kept) -> Result<(), CodecError> {
    let record::Kept { earliest, retention, run_at, run_time, ends, times, told } = record;
    let wire::Retention { max_age, max_bytes, snapshot } = retention.unwrap_or_default();
    check(max_age.is_none_or(|seconds| (1..=limits::TTL_SECONDS_MAX).contains(&seconds)))?;
    check(max_bytes.is_none_or(|bytes| (1..=limits::RETENTION_BYTES_MAX).contains(&bytes)))?;
    let earliest = offset(earliest)?;
    check(earliest.first() == stream.tail.first() && earliest <= stream.tail)?;
    check(ends.len() == times.len() && ends.len() <= MARKS_MAX && run_at <= stream.tail.0)?;
    check(ends.is_sorted_by(|a, b| a < b) && times.is_sorted())?;
    check(ends.iter().all(|at| (earliest.0 + 1..=stream.tail.0).contains(at)))?;
    let needed = stream.rare.iter().flat_map(|rare| rare.forks.values()).filter_map(ForkStart::needs);
    let mut kept = Kept::new(earliest, Retention { max_age, max_bytes, snapshot }, needed);
    kept.run = Mark { at: Offset(run_at), time: Millis(run_time) };
    kept.marks = ends.into_iter().zip(times).map(|(at, time)| Mark { at: Offset(at), time: Millis(time) }).collect();
    kept.told = offset(told)?;
    stream.rare_mut().kept = Some(Box::new(kept));
    check(stream.kept().is_none_or(|kept| kept.told <= stream.floor()))
}

fn lifetime_in(lifetime: Option<wire::Lifetime>) -> Result<Lifetime, CodecError> {
    let Some(wire::Lifetime { ttl_seconds, expires_at, expires_at_ms }) = lifetime else {
        return Ok(Lifetime::Forever);
    };
    match (ttl_seconds, expires_at) {
        (Some(seconds), None) => Ok(Lifetime::Ttl(seconds)),
        (None, Some(text)) => Ok(Lifetime::ExpiresAt { text: text.into(), at: Millis(expires_at_ms) }),
        _ => Err(CodecError::Damaged),
    }
}

fn fork_in(fork: record::Fork) -> Result<(ForkId, ForkStart), CodecError> {
    let (anchor, at) = (offset(fork.anchor)?, offset(fork.at)?);
    let from = Offset(fork.from).max(at.first());
    check(from <= anchor && anchor <= at)?;
    let start = ForkStart { anchor, at, from };
    Ok(((fork.key.try_into()?, StreamId(fork.id)), start))
}

fn session_in(record: record::Session) -> Result<(SessionId, Session), CodecError> {
    let mut session = Session { floor: record.floor, last: Millis(record.last), results: Default::default() };
    for result in record.results {
        let answer = match (result.outcome, result.pending) {
            (Some(outcome), None) => Answer::Done(outcome.try_into()?),
            (None, Some(saga)) => Answer::Pending(SagaId(saga)),
            _ => return Err(CodecError::Damaged),
        };
        session.results.insert(result.seq, answer);
    }
    Ok((SessionId(record.id), session))
}

fn saga_in(record: record::Saga) -> Result<Saga, CodecError> {
    let caller: Caller = record.caller.map(|caller| (SessionId(caller.session), caller.seq));
    Ok(match (record.fork, record.release, record.bucket) {
        (Some(fork), None, None) => {
            let create = ursula_common::verb::Create::try_from(fork.create)?;
            check(create.fork.is_some())?;
            Saga::Fork(Box::new(ForkSaga { create, id: StreamId(fork.fork_id), caller }))
        }
        (None, Some(fork_ref), None) => Saga::Release(fork_ref.try_into()?),
        (None, None, Some(bucket)) => {
            let phase = match bucket.phase {
                0 => Phase::Create,
                1 => Phase::Remove,
                2 => Phase::Restore,
                _ => return Err(CodecError::Damaged),
            };
            check(!bucket.waiting.is_empty())?;
            check(bucket.waiting.iter().all(|group| (1..=DATA_GROUPS_MAX).contains(group)))?;
            let waiting = bucket.waiting.into_iter().map(GroupId).collect();
            let (order, refused, ack) = (bucket.order, bucket.refused, wire::decode_ack(bucket.ack)?);
            let bucket = bucket_name(&bucket.bucket)?;
            Saga::Bucket(BucketSaga { bucket, ack, phase, order, waiting, refused, caller })
        }
        _ => return Err(CodecError::Damaged),
    })
}

fn bucket_name(name: &str) -> Result<BucketName, CodecError> {
    BucketName::parse(name).map_err(|_| CodecError::Damaged)
}

fn offset(at: u64) -> Result<Offset, CodecError> {
    check(at <= Offset::MAX.0)?;
    Ok(Offset(at))
}

fn check(good: bool) -> Result<(), CodecError> {
    if good { Ok(()) } else { Err(CodecError::Damaged) }
}
