//! Forks, from both sides: at the source references are taken and given back; at the fork the answer
//! of the source makes the stream.
//!
//! Messages come late, twice and in any order. A reference is named by the fork and its id, so taking
//! or giving it back twice is taking or giving it back once. Whoever gave a reference back is
//! remembered for a while, so that a request for it that was held up does not take it again for ever.

use ursula_common::limits::{FORK_DEPTH_MAX, FORKS_MAX};
use ursula_common::verb::{AcquireFork, Created, ForkLink, ForkPoint, ForkRef, Reply};
use ursula_common::{Error, Offset, SagaId};

use crate::saga::{ForkSaga, Saga};
use crate::stream::{ForkId, ForkStart, Presence, Stream};
use crate::{Effect, State, create, trim};

/// References given back that are remembered.
pub(crate) const RELEASED_MAX: usize = 8192;

/// Takes a reference on the source of a fork.
pub(crate) fn acquire(state: &mut State, acquire: AcquireFork, effects: &mut Vec<Effect>) -> Result<Reply, Error> {
    let ForkRef { source, fork, fork_id } = &acquire.fork_ref;
    state.expire_if_due(source, effects);
    let id = (fork.clone(), *fork_id);
    let (released, now) = (was_released(state, &id), state.now);
    let stream = state.stream_mut(source).ok_or(Error::ForkSourceNotFound)?;
    if let Some(start) = stream.rare.as_ref().and_then(|rare| rare.forks.get(&id)) {
        return Ok(Reply::ForkAcquired(point(stream, *start)));
    }
    match stream.presence {
        Presence::Live if !released => {}
        Presence::Live | Presence::Deleted => return Err(Error::ForkSourceGone),
        Presence::Expired => return Err(Error::ForkSourceNotFound),
    }
    if acquire.content_type.as_ref().is_some_and(|wanted| !wanted.same_media_type(&stream.content_type)) {
        return Err(Error::ForkContentTypeMismatch { expected: stream.content_type.clone() });
    }
    let start = start(stream, &acquire, stream.earliest(now))?;
    if depth(stream) >= FORK_DEPTH_MAX || stream.rare.as_ref().is_some_and(|rare| rare.forks.len() >= FORKS_MAX) {
        return Err(Error::TooManyForks);
    }
    stream.add_fork(id, start);
    let point = point(stream, start);
    state.mark(source);
    Ok(Reply::ForkAcquired(point))
}

/// Where the fork begins.
fn start(stream: &Stream, acquire: &AcquireFork, from: Offset) -> Result<ForkStart, Error> {
    let anchor = acquire.anchor(stream.tail).ok_or(Error::ForkOffsetInvalid { tail: stream.tail })?;
    if anchor < from {
        return Err(Error::OffsetGone { earliest: from });
    }
    // Nothing lies past the tail, where a fork without an offset is anchored.
    if acquire.sub_offset > 0 && (acquire.cut.is_none() || acquire.offset.is_none()) {
        return Err(Error::ForkSubOffsetInvalid);
    }
    let Some(cut) = acquire.cut else { return Ok(ForkStart { anchor, at: anchor, from }) };
    if cut.stream != stream.id || cut.at > stream.tail {
        // The leader looked at a stream that is not there any more: it must look again.
        return Err(Error::Overloaded);
    }
    if cut.at < anchor { Err(Error::Malformed) } else { Ok(ForkStart { anchor, at: cut.at, from }) }
}

fn depth(stream: &Stream) -> u32 {
    stream.fork().map_or(0, |link| link.depth)
}

fn point(stream: &Stream, start: ForkStart) -> ForkPoint {
    ForkPoint {
        source_id: stream.id,
        anchor: start.anchor,
        at: start.at,
        content_type: stream.content_type.clone(),
        lifetime: stream.lifetime(),
        retention: stream.retention(),
        earliest: start.from,
        depth: depth(stream) + 1,
    }
}

/// Gives a reference back, and with it what only this fork needed; the last one lets a hidden source go.
pub(crate) fn release(state: &mut State, fork_ref: ForkRef, effects: &mut Vec<Effect>) -> Result<Reply, Error> {
    let ForkRef { source, fork, fork_id } = fork_ref;
    let id = (fork, fork_id);
    if state.stream(&source).is_some_and(|stream| stream.has_fork(&id)) {
        trim::change(state, &source, effects, |stream| stream.remove_fork(&id));
    }
    if !was_released(state, &id) {
        state.released.push_back(id);
        state.mark_group();
    }
    if state.released.len() > RELEASED_MAX {
        state.released.pop_front();
    }
    if state.stream(&source).is_some_and(|stream| stream.presence != Presence::Live && !stream.has_forks()) {
        state.remove(&source, effects);
    }
    Ok(Reply::Done)
}

/// Compares the numbers first: this looks at a few thousand.
fn was_released(state: &State, (key, id): &ForkId) -> bool {
    state.released.iter().any(|(other, number)| number == id && other == key)
}

/// The source has answered: the fork comes into being, or the reference goes back.
pub(crate) fn answered(state: &mut State, id: SagaId, outcome: Result<Reply, Error>, effects: &mut Vec<Effect>) {
    let point = match outcome {
        Ok(Reply::ForkAcquired(point)) => Ok(point),
        Ok(_) => return,
        Err(error) => Err(error),
    };
    let Some(Saga::Fork(saga)) = state.sagas.end(id) else { return };
    let Some(from) = saga.create.fork.clone() else { return };
    let (caller, fork_id, key) = (saga.caller, saga.id, saga.create.key.clone());
    let outcome = point.and_then(|point| complete(state, *saga, point, effects));
    if !matches!(outcome, Ok(Reply::Created(Created { new: true, .. }))) {
        // After an error too: a second copy of the request, held up on its way, might yet be granted.
        let fork_ref = ForkRef { source: from.source, fork: key, fork_id };
        state.send(Saga::Release(fork_ref), effects);
    }
    state.finish(id, caller, outcome, effects);
}

/// Makes the stream, unless its name was taken while the source was asked.
fn complete(state: &mut State, saga: ForkSaga, point: ForkPoint, effects: &mut Vec<Effect>) -> Result<Reply, Error> {
    let ForkSaga { create, id, caller: _ } = saga;
    if let Some(done) = create::taken(state, &create, effects) {
        return done;
    }
    let from = create.fork.as_ref().ok_or(Error::Malformed)?;
    if point.at > Offset::MAX || point.earliest > point.at {
        return Err(Error::Malformed);
    }
    let link = ForkLink {
        source: from.source.clone(),
        source_id: point.source_id,
        anchor: point.anchor,
        sub_offset: from.sub_offset,
        at: point.at,
        depth: point.depth,
    };
    let stream = create::forked(id, &create, link, point);
    create::add(state, &create.key, stream, create.body, create.closed, effects).map(Reply::Created)
}
