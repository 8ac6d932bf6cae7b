//! From the state to records.

use ursula_common::verb::{Lifetime, Producer};
use ursula_common::{BucketName, StreamName, wire};

use super::record::{self, Kind};
use crate::saga::{Phase, Saga};
use crate::session::Session;
use crate::state::{Bucket, Caller};
use crate::stream::{ForkId, ForkStart, Presence, Stream};
use crate::{Answer, State};

/// All records of a state, in the order of the file.
pub(super) fn records(state: &State) -> impl Iterator<Item = Kind> {
    let head = record::Head {
        group: state.group.0,
        data_groups: state.data_groups,
        now: state.now.0,
        next_stream: state.next_stream,
        last_saga: state.sagas.last,
    };
    let sessions = state.sessions.known.iter().map(|(id, known)| Kind::Session(session(id.0, known)));
    let sagas = state.sagas.running.iter().map(|(id, running)| Kind::Saga(saga(id.0, running)));
    let released = state.released.iter().map(|id| Kind::Released(fork(id, None)));
    let dropped = state
        .dropped
        .iter()
        .map(|(order, bucket)| Kind::Dropped(wire::BucketStep { bucket: bucket.to_string(), order: *order }));
    let cluster = state.cluster.iter().map(|cluster| Kind::Cluster((&**cluster).into()));
    let end = record::End { streams: state.stats().streams as u64 };
    std::iter::once(Kind::Head(head))
        .chain(state.buckets.iter().flat_map(|(name, known)| bucket(name, known)))
        .chain(sessions)
        .chain(sagas)
        .chain(released)
        .chain(dropped)
        .chain(cluster)
        .chain(std::iter::once(Kind::End(end)))
}

fn bucket<'a>(name: &'a BucketName, bucket: &'a Bucket) -> impl Iterator<Item = Kind> + 'a {
    let head = record::Bucket { name: name.to_string(), order: bucket.order, busy: bucket.busy };
    let streams = bucket.streams.iter().map(|(name, known)| Kind::Stream(stream(name, known)));
    std::iter::once(Kind::Bucket(head)).chain(streams)
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
        out.forks = rare.forks.iter().map(|(id, start)| fork(id, Some(start))).collect();
    }
    out
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
    record::Fork { key: key.clone().into(), id: id.0, anchor, at }
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
            }),
            ..record::Saga::default()
        },
    }
}
