//! From the state to records.

use std::collections::BTreeMap;

use ursula_common::verb::{Lifetime, Producer, Retention, SnapshotInfo};
use ursula_common::{BucketName, GroupId, StreamId, StreamKey, StreamName, wire};

use super::record::{self, Kind};
use crate::import::Import;
use crate::kept::Kept;
use crate::packing::{Packs, Waiting};
use crate::published::Published;
use crate::saga::{Phase, Saga};
use crate::session::Session;
use crate::state::{Bucket, Caller};
use crate::stream::{ForkId, ForkStart, Presence, Stream};
use crate::{Answer, PackPlan, PlannedStream, Replaced, State};

/// All records of a state, in the order of the file.
pub(super) fn records(state: &State) -> impl Iterator<Item = Kind> {
    let buckets = state.buckets.iter().flat_map(|(name, known)| {
        let streams = known.streams.iter().map(|(name, known)| Kind::Stream(stream(name, known)));
        std::iter::once(bucket(name, known)).chain(streams)
    });
    std::iter::once(head(state))
        .chain(state.packs.iter().flat_map(|known| packs(known)))
        .chain(buckets)
        .chain(others(state))
        .chain(state.import.iter().map(|known| import(known)))
        .chain(std::iter::once(end(state.stats().streams)))
}

/// The records of a pack: of streams only those that are whole in it, as they are once it counts.
pub(super) fn pack_records<'a>(state: &'a State, plan: &'a PackPlan) -> impl Iterator<Item = Kind> + 'a {
    let mut whole: Vec<_> = plan.streams.iter().filter(|planned| planned.whole).collect();
    whole.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let count = whole.len();
    let mut whole = whole.into_iter().peekable();
    let buckets = state.buckets.iter().flat_map(move |(name, known)| {
        let here = std::iter::from_fn(|| whole.next_if(|planned| planned.key.bucket == *name));
        let streams = here.filter_map(|planned| packed(known, planned, plan.pack));
        std::iter::once(bucket(name, known)).chain(streams).collect::<Vec<_>>()
    });
    let removed = plan.removed.iter().map(|gone| removed(gone.turn, gone.stream));
    std::iter::once(head(state))
        .chain(std::iter::once(Kind::Packs(record::Packs { changes: plan.as_of, group_changed: 0 })))
        .chain(removed)
        .chain(buckets)
        .chain(others(state))
        .chain(std::iter::once(end(count)))
}

/// Streams as a pack has them, without anything else of their group.
pub(super) fn stream_records(
    group: GroupId,
    data_groups: u32,
    next_stream: StreamId,
    streams: &BTreeMap<&StreamKey, &Stream>,
) -> impl Iterator<Item = Kind> {
    let head = record::Head { group: group.0, data_groups, next_stream: next_stream.0, ..record::Head::default() };
    let mut last = None;
    let records = streams.iter().flat_map(move |(key, known)| {
        let is_next = last.replace(&key.bucket) != Some(&key.bucket);
        let of_bucket = is_next.then(|| bucket(&key.bucket, &Bucket::default()));
        of_bucket.into_iter().chain(std::iter::once(Kind::Stream(stream(&key.name, known))))
    });
    std::iter::once(Kind::Head(head))
        .chain(std::iter::once(Kind::Packs(record::Packs::default())))
        .chain(records)
        .chain(std::iter::once(end(streams.len())))
}

fn import(import: &Import) -> Kind {
    Kind::Import(record::Import {
        import: import.run.import,
        attempt: import.run.attempt,
        ended: import.ended,
        packs: import.packs.iter().map(|pack| (*pack).into()).collect(),
    })
}

fn head(state: &State) -> Kind {
    Kind::Head(record::Head {
        group: state.group.0,
        data_groups: state.data_groups,
        now: state.now.0,
        next_stream: state.next_stream,
        last_saga: state.sagas.last,
    })
}

fn packs(packs: &Packs) -> impl Iterator<Item = Kind> {
    let Packs { changes, group_changed, .. } = *packs;
    let removed = packs.waiting.iter().filter_map(|(turn, waiting)| match waiting {
        Waiting::Removed(stream) => Some(removed(*turn, *stream)),
        // Its own record has its turn.
        Waiting::Stream(_) => None,
    });
    std::iter::once(Kind::Packs(record::Packs { changes, group_changed }))
        .chain(packs.catalogue.iter().map(|object| Kind::Pack((*object).into())))
        .chain(removed)
        .chain(packs.replaced.iter().map(|known| Kind::Replaced(replaced(known))))
}

fn removed(turn: u64, stream: StreamId) -> Kind {
    Kind::Removed(record::Removed { turn, stream: stream.0 })
}

fn replaced(replaced: &Replaced) -> record::Replaced {
    let Replaced { object, at, newest } = *replaced;
    record::Replaced { object: object.into(), at: at.0, newest }
}

fn bucket(name: &BucketName, bucket: &Bucket) -> Kind {
    let Bucket { busy, order, ack, .. } = *bucket;
    Kind::Bucket(record::Bucket { name: name.to_string(), order, busy, ack: wire::encode_ack(ack) })
}

/// What is not of streams.
fn others(state: &State) -> impl Iterator<Item = Kind> {
    let sessions = state.sessions.known.iter().map(|(id, known)| Kind::Session(session(id.0, known)));
    let sagas = state.sagas.running.iter().map(|(id, running)| Kind::Saga(saga(id.0, running)));
    let released = state.released.iter().map(|id| Kind::Released(fork(id, None)));
    let dropped = state
        .dropped
        .iter()
        .map(|(order, bucket)| Kind::Dropped(wire::BucketStep { bucket: bucket.to_string(), order: *order, ack: 0 }));
    let cluster = state.cluster.iter().map(|cluster| Kind::Cluster((&**cluster).into()));
    sessions.chain(sagas).chain(released).chain(dropped).chain(cluster)
}

fn end(streams: usize) -> Kind {
    Kind::End(record::End { streams: streams as u64 })
}

/// A stream that is whole in a pack.
fn packed(bucket: &Bucket, planned: &PlannedStream, pack: u64) -> Option<Kind> {
    let known = bucket.streams.get(&planned.key.name)?;
    let pack = if planned.start < planned.end { pack } else { planned.prev };
    let cold = record::Cold { end: planned.end.0, pack, recorded: true, ..record::Cold::default() };
    let mut record = record::Stream { cold: Some(cold), ..stream(&planned.key.name, known) };
    record.snapshots.iter_mut().for_each(|named| named.since = 0);
    Some(Kind::Stream(record))
}

fn stream(name: &StreamName, stream: &Stream) -> record::Stream {
    let mut out = record::Stream {
        name: name.to_string(),
        id: stream.id.0,
        tail: stream.tail.0,
        touched: stream.touched.0,
        indexed: stream.indexed.0,
        content_type: stream.content_type.to_string(),
        lifetime: lifetime(stream.lifetime()),
        closed: stream.closed,
        presence: match stream.presence {
            Presence::Live => 0,
            Presence::Deleted => 1,
            Presence::Expired => 2,
        },
        cold: stream.cold.as_ref().map(|cold| record::Cold {
            end: cold.end.0,
            pack: cold.pack,
            turn: cold.turn,
            changed: cold.changed,
            recorded: cold.recorded,
        }),
        ..record::Stream::default()
    };
    if let Some(rare) = &stream.rare {
        out.stream_seq = rare.stream_seq.as_ref().map(|seq| seq.to_string());
        out.closed_by = rare.closed_by.as_ref().map(|by| producer(by.clone()));
        out.producers = Vec::with_capacity(rare.producers.len());
        for known in &rare.producers {
            let last = producer(Producer { id: known.id.clone(), epoch: known.epoch, seq: known.seq });
            out.producers.push(record::Producer { last, at: known.at.0 });
        }
        out.fork = rare.fork.as_ref().map(|link| record::ForkLink {
            source: link.source.clone().into(),
            source_id: link.source_id.0,
            anchor: link.anchor.0,
            sub_offset: link.sub_offset,
            at: link.at.0,
            depth: link.depth,
        });
        out.kept = rare.kept.as_deref().map(kept);
        out.snapshots = rare.snapshots.iter().flat_map(|all| all.iter()).map(snapshot).collect();
        out.forks = rare.forks.iter().map(|(id, start)| fork(id, Some(start))).collect();
    }
    out
}

fn snapshot(published: &Published) -> record::Snapshot {
    let SnapshotInfo { at, upload, content_type, bytes, digest } = published.info.clone();
    let (content_type, digest) = (content_type.to_string(), digest.into());
    record::Snapshot { at: at.0, upload, content_type, bytes, digest, since: published.since }
}

fn kept(kept: &Kept) -> record::Kept {
    let Retention { max_age, max_bytes, snapshot } = kept.retention;
    record::Kept {
        earliest: kept.earliest.0,
        retention: (kept.retention != Retention::default()).then_some(wire::Retention { max_age, max_bytes, snapshot }),
        run_at: kept.run.at.0,
        run_time: kept.run.time.0,
        ends: kept.marks.iter().map(|mark| mark.at.0).collect(),
        times: kept.marks.iter().map(|mark| mark.time.0).collect(),
        told: kept.told.0,
    }
}

fn lifetime(lifetime: Lifetime) -> Option<wire::Lifetime> {
    match lifetime {
        Lifetime::Forever => None,
        Lifetime::Ttl(seconds) => Some(wire::Lifetime { ttl_seconds: Some(seconds), ..Default::default() }),
        Lifetime::ExpiresAt { text, at } => {
            Some(wire::Lifetime { ttl_seconds: None, expires_at: Some(text.to_string()), expires_at_ms: at.0 })
        }
    }
}

fn producer(producer: Producer) -> wire::Producer {
    wire::Producer { id: producer.id.to_string(), epoch: producer.epoch, seq: producer.seq }
}

fn fork((key, id): &ForkId, start: Option<&ForkStart>) -> record::Fork {
    let (anchor, at) = start.map_or((0, 0), |start| (start.anchor.0, start.at.0));
    let from = start.map(|start| start.from).filter(|from| *from > from.first());
    record::Fork { key: key.clone().into(), id: id.0, anchor, at, from: from.map_or(0, |from| from.0) }
}

fn session(id: u64, session: &Session) -> record::Session {
    let result = |(seq, answer): (&u64, &Answer)| match answer {
        Answer::Done(outcome) => {
            record::SessionResult { seq: *seq, outcome: Some(outcome.clone().into()), pending: None }
        }
        Answer::Pending(saga) => record::SessionResult { seq: *seq, outcome: None, pending: Some(saga.0) },
    };
    let results = session.results.iter().map(result).collect();
    record::Session { id, floor: session.floor, last: session.last.0, results }
}

fn saga(id: u64, saga: &Saga) -> record::Saga {
    let caller = |caller: Caller| caller.map(|(session, seq)| record::Caller { session: session.0, seq });
    match saga {
        Saga::Fork(fork) => record::Saga {
            id,
            caller: caller(fork.caller),
            fork: Some(record::ForkSaga { create: fork.create.clone().into(), fork_id: fork.id.0 }),
            ..record::Saga::default()
        },
        Saga::Release(fork_ref) => {
            record::Saga { id, release: Some(fork_ref.clone().into()), ..record::Saga::default() }
        }
        Saga::Bucket(bucket) => record::Saga {
            id,
            caller: caller(bucket.caller),
            bucket: Some(record::BucketSaga {
                bucket: bucket.bucket.to_string(),
                phase: match bucket.phase {
                    Phase::Create => 0,
                    Phase::Remove => 1,
                    Phase::Restore => 2,
                },
                order: bucket.order,
                waiting: bucket.waiting.iter().map(|group| group.0).collect(),
                refused: bucket.refused,
                ack: wire::encode_ack(bucket.ack),
            }),
            ..record::Saga::default()
        },
    }
}
