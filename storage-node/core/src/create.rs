//! Create: a new stream, or the one that is there with the same configuration. A fork begins here, and
//! continues in `fork.rs` when its source has answered.

use bytes::Bytes;
use ursula_common::verb::{Create, Created, ForkLink, ForkPoint, Lifetime, Reply, Retention};
use ursula_common::{ContentType, Error, Offset, StreamId, StreamKey};

use crate::saga::{ForkSaga, Saga};
use crate::state::Caller;
use crate::stream::{Presence, Stream};
use crate::{Answer, Effect, State};

/// Creates a stream, or asks the source first if it is a fork.
pub(crate) fn create(state: &mut State, create: Create, caller: Caller, effects: &mut Vec<Effect>) -> Answer {
    if let Err(error) = check_companion(state, &create, effects) {
        return Answer::Done(Err(error));
    }
    if let Some(done) = taken(state, &create, effects) {
        return Answer::Done(done);
    }
    if create.fork.is_some() {
        return start_fork(state, create, caller, effects);
    }
    let first = if create.numbered { state.first_offset() } else { Offset::ZERO };
    let id = state.new_stream_id();
    let mut stream = Stream::new(id, create.content_type.unwrap_or_default(), create.lifetime, state.now);
    stream.tail = first;
    stream.keep(first, create.retention);
    let added = add(state, &create.key, stream, create.body, create.closed, effects);
    Answer::Done(added.map(Reply::Created))
}

/// An upload is for a stream that is there, and goes by itself unless it is published.
fn check_companion(state: &mut State, create: &Create, effects: &mut Vec<Effect>) -> Result<(), Error> {
    if !create.key.name.is_companion() {
        return Ok(());
    }
    if create.lifetime == Lifetime::Forever || create.retention != Retention::default() {
        return Err(Error::Malformed);
    }
    state.live(&create.key.owner(), effects).map(drop)
}

/// What to answer instead of creating, unless the name is free.
pub(crate) fn taken(state: &mut State, create: &Create, effects: &mut Vec<Effect>) -> Option<Result<Reply, Error>> {
    if !state.buckets.contains_key(&create.key.bucket) {
        return Some(Err(Error::BucketNotFound));
    }
    state.expire_if_due(&create.key, effects);
    let stream = state.stream(&create.key)?;
    let (tail, closed) = (stream.tail, stream.closed);
    if stream.presence == Presence::Live && same_configuration(stream, create) {
        Some(Ok(Reply::Created(Created { new: false, tail, closed, content_type: stream.content_type.clone() })))
    } else {
        Some(Err(Error::StreamExists { tail, closed }))
    }
}

/// Whether a create asks for what is there. A fork that names no type, lifetime or retention takes what it inherited.
fn same_configuration(stream: &Stream, create: &Create) -> bool {
    let same_fork = match (stream.fork(), &create.fork) {
        (None, None) => true,
        (Some(link), Some(wanted)) => {
            link.source == wanted.source
                && wanted.offset.is_none_or(|offset| offset.within(link.anchor) == link.anchor)
                && wanted.sub_offset == link.sub_offset
        }
        _ => false,
    };
    let same_type = match &create.content_type {
        None if create.fork.is_some() => true,
        None => stream.content_type.same_media_type(&ContentType::default()),
        Some(wanted) => stream.content_type.same_media_type(wanted),
    };
    let is_fork = create.fork.is_some();
    let same_lifetime = is_fork && create.lifetime == Lifetime::Forever || stream.has_lifetime(&create.lifetime);
    let same_retention = is_fork && create.retention == Retention::default() || stream.retention() == create.retention;
    same_fork && same_type && same_lifetime && same_retention && stream.closed == create.closed
}

fn start_fork(state: &mut State, create: Create, caller: Caller, effects: &mut Vec<Effect>) -> Answer {
    if !state.sagas.has_room(create.body.len()) {
        return Answer::Done(Err(Error::Overloaded));
    }
    let id = state.new_stream_id();
    Answer::Pending(state.send(Saga::Fork(Box::new(ForkSaga { create, id, caller })), effects))
}

/// The stream that a fork becomes, once its source has answered.
pub(crate) fn forked(id: StreamId, create: &Create, link: ForkLink, point: ForkPoint) -> Stream {
    let content_type = create.content_type.clone().unwrap_or(point.content_type);
    let lifetime = if create.lifetime == Lifetime::Forever { point.lifetime } else { create.lifetime.clone() };
    let has_own = create.retention != Retention::default();
    let mut stream = Stream::new(id, content_type, lifetime, Default::default());
    stream.tail = link.at;
    stream.keep(point.earliest, if has_own { create.retention } else { point.retention });
    stream.rare_mut().fork = Some(Box::new(link));
    stream
}

/// Adds a new stream with its first content.
pub(crate) fn add(
    state: &mut State,
    key: &StreamKey,
    mut stream: Stream,
    body: Bytes,
    closed: bool,
    effects: &mut Vec<Effect>,
) -> Result<Created, Error> {
    let at = stream.tail;
    let tail = at.checked_add(body.len() as u64).ok_or(Error::StreamFull)?;
    let (id, content_type) = (stream.id, stream.content_type.clone());
    (stream.tail, stream.closed, stream.touched) = (tail, closed, state.now);
    if let Some(kept) = stream.kept_mut().filter(|kept| kept.earliest < tail) {
        // What a fork inherits is as young as the fork.
        kept.appended(kept.earliest, tail, state.now);
    }
    state.insert(key, stream);
    if !body.is_empty() {
        effects.push(Effect::Appended { stream: id, at, bytes: body });
    }
    if closed {
        effects.push(Effect::Closed { stream: id });
    }
    Ok(Created { new: true, tail, closed, content_type })
}
