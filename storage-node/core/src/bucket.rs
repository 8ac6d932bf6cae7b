//! Buckets: the meta group owns the list and tells the other groups, one saga for each change.
//!
//! Steps carry an order, because a step may be held up on its way and come after later ones.

use std::collections::BTreeSet;

use ursula_common::verb::{Ack, BucketStep, Reply};
use ursula_common::{BucketName, Error, GroupId, SagaId, StreamKey};

use crate::expire::EXPIRE_STREAMS_MAX;
use crate::saga::{BucketSaga, Phase, Saga};
use crate::state::Caller;
use crate::stream::Presence;
use crate::{Answer, Effect, State, packing};

/// Removed buckets that a group remembers.
pub(crate) const DROPPED_MAX: usize = 1024;

/// Creates a bucket (meta group).
pub(crate) fn create(
    state: &mut State,
    name: BucketName,
    ack: Ack,
    caller: Caller,
    effects: &mut Vec<Effect>,
) -> Answer {
    match state.buckets.get(&name) {
        Some(bucket) if bucket.busy => Answer::Done(Err(Error::BucketBusy)),
        Some(bucket) if bucket.ack != ack => Answer::Done(Err(Error::BucketExists)),
        Some(_) => Answer::Done(Ok(Reply::Bucket(false))),
        // They begin once the store has answered. That there is one the leader has seen to.
        None if ack == Ack::Offloaded && state.packs.is_none() => Answer::Done(Err(Error::StoreAway)),
        None => start(state, name, ack, Phase::Create, caller, effects),
    }
}

/// Removes a bucket (meta group).
pub(crate) fn delete(state: &mut State, name: BucketName, caller: Caller, effects: &mut Vec<Effect>) -> Answer {
    match state.buckets.get(&name) {
        _ if name == BucketName::default_bucket() => Answer::Done(Err(Error::BucketProtected)),
        None => Answer::Done(Err(Error::BucketNotFound)),
        Some(bucket) if bucket.busy => Answer::Done(Err(Error::BucketBusy)),
        Some(bucket) => start(state, name, bucket.ack, Phase::Remove, caller, effects),
    }
}

fn start(
    state: &mut State,
    bucket: BucketName,
    ack: Ack,
    phase: Phase,
    caller: Caller,
    effects: &mut Vec<Effect>,
) -> Answer {
    if !state.sagas.has_room(0) {
        return Answer::Done(Err(Error::Overloaded));
    }
    let known = state.buckets.entry(bucket.clone()).or_default();
    (known.busy, known.ack) = (true, ack);
    let waiting = all_groups(state);
    let saga = BucketSaga { bucket, ack, phase, order: state.sagas.new_number(), waiting, refused: false, caller };
    Answer::Pending(state.send(Saga::Bucket(saga), effects))
}

fn all_groups(state: &State) -> BTreeSet<GroupId> {
    (1..=state.data_groups).map(GroupId).collect()
}

/// A group has answered a step (meta group).
pub(crate) fn answered(
    state: &mut State,
    id: SagaId,
    message: u32,
    outcome: Result<Reply, Error>,
    effects: &mut Vec<Effect>,
) {
    let Some(Saga::Bucket(saga)) = state.sagas.running.get_mut(&id) else { return };
    let Some(group) = saga.awaited(message) else { return };
    match outcome {
        Ok(_) => {}
        Err(Error::BucketNotEmpty) if saga.phase == Phase::Remove => saga.refused = true,
        // A bucket must not be left in some groups only: the message stays until the group does it.
        Err(_) => return,
    }
    saga.waiting.remove(&group);
    if !saga.waiting.is_empty() {
        return;
    }
    let Some(Saga::Bucket(saga)) = state.sagas.end(id) else { return };
    let outcome = match saga.phase {
        Phase::Create => Ok(Reply::Bucket(true)),
        Phase::Remove if saga.refused => return restore(state, id, saga, effects),
        Phase::Remove => Ok(Reply::Done),
        Phase::Restore => Err(Error::BucketNotEmpty),
    };
    if saga.phase == Phase::Remove {
        state.buckets.remove(&saga.bucket);
    } else if let Some(bucket) = state.buckets.get_mut(&saga.bucket) {
        bucket.busy = false;
    }
    state.finish(id, saga.caller, outcome, effects);
}

/// Some group holds streams: the bucket comes back in those that have dropped it. All are told, so that
/// a copy of the step before that is still on its way comes too late everywhere.
fn restore(state: &mut State, id: SagaId, saga: BucketSaga, effects: &mut Vec<Effect>) {
    let (waiting, order) = (all_groups(state), state.sagas.new_number());
    state.sagas.insert(id, Saga::Bucket(BucketSaga { phase: Phase::Restore, order, waiting, ..saga }));
    effects.extend(state.sagas.messages(id).map(Effect::Send));
}

/// Makes a bucket known in this group. One whose ops wait for packs lets these begin.
pub(crate) fn install(state: &mut State, step: BucketStep) -> Result<Reply, Error> {
    let late = state.dropped.range(step.order..).any(|(_, bucket)| *bucket == step.bucket);
    if late {
        return Ok(Reply::Done);
    }
    let bucket = state.buckets.entry(step.bucket).or_default();
    if bucket.order < step.order {
        (bucket.order, bucket.ack) = (step.order, step.ack);
    }
    state.mark_group();
    if step.ack == Ack::Offloaded { packing::begin(state) } else { Ok(Reply::Done) }
}

/// Removes a bucket from this group unless it holds streams.
pub(crate) fn drop(state: &mut State, step: BucketStep, effects: &mut Vec<Effect>) -> Result<Reply, Error> {
    let BucketStep { bucket: name, order, ack: _ } = step;
    if name == BucketName::default_bucket() {
        return Err(Error::BucketProtected);
    }
    if let Some(bucket) = state.buckets.get(&name) {
        if bucket.order >= order {
            return Ok(Reply::Done);
        }
        expire_first(state, &name, effects)?;
        state.buckets.remove(&name);
    }
    state.dropped.insert(order, name);
    if state.dropped.len() > DROPPED_MAX {
        state.dropped.pop_first();
    }
    state.mark_group();
    Ok(Reply::Done)
}

/// `Ok` if the bucket is empty once the streams are gone whose time is over.
fn expire_first(state: &mut State, name: &BucketName, effects: &mut Vec<Effect>) -> Result<(), Error> {
    let now = state.now;
    let Some(bucket) = state.buckets.get(name) else { return Ok(()) };
    // Companions follow their stream, and go with it.
    let streams = bucket.streams.iter().filter(|(name, _)| !name.is_companion());
    let due = streams.take_while(|(_, stream)| stream.due(now)).take(EXPIRE_STREAMS_MAX);
    let due: Vec<_> = due.map(|(stream, _)| stream.clone()).collect();
    for stream in due {
        state.end(&StreamKey { bucket: name.clone(), name: stream }, Presence::Expired, effects);
    }
    match state.buckets.get(name).and_then(|bucket| bucket.streams.values().next()) {
        None => Ok(()),
        // More than one command may do: the meta group asks again.
        Some(stream) if stream.due(now) => Err(Error::Overloaded),
        Some(_) => Err(Error::BucketNotEmpty),
    }
}
