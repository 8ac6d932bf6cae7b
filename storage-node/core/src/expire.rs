//! The end of streams: delete, expiry, and the touch that puts expiry off. The sweep also finds what is too old in streams
//! that go on.

use ursula_common::verb::Reply;
use ursula_common::{Error, Millis, StreamKey};

use crate::stream::{Life, Presence};
use crate::{Effect, State, trim};

/// Deadlines that one command looks at; what is left stays due, and the leader proposes again.
pub(crate) const EXPIRE_STREAMS_MAX: usize = 1000;

/// Deletes a stream. An upload that was published is none any more: it ends with the snapshot.
pub(crate) fn delete(state: &mut State, key: &StreamKey, effects: &mut Vec<Effect>) -> Result<Reply, Error> {
    let stream = state.live(key, effects)?;
    if key.name.is_companion() && stream.life == Life::Forever {
        return Ok(Reply::Done);
    }
    state.end(key, Presence::Deleted, effects);
    Ok(Reply::Done)
}

/// Renews the sliding time to live.
pub(crate) fn touch(state: &mut State, key: &StreamKey, effects: &mut Vec<Effect>) -> Result<Reply, Error> {
    let now = state.now;
    state.live(key, effects)?.touched = now;
    Ok(Reply::Done)
}

/// Removes what is over: streams, what is too old in others, and silent sessions.
pub(crate) fn expire(state: &mut State, effects: &mut Vec<Effect>) -> Result<Reply, Error> {
    for _ in 0..EXPIRE_STREAMS_MAX {
        let Some(entry) = state.deadlines.first_entry().filter(|entry| entry.key().0 <= state.now) else { break };
        let ((_, id), key) = entry.remove_entry();
        let now = state.now;
        let Some(stream) = state.stream_mut(&key) else { continue };
        if stream.due(now) {
            state.end(&key, Presence::Expired, effects);
            continue;
        }
        if stream.has_outlived(now) {
            trim::outlived(state, &key, effects);
        }
        let Some(stream) = state.stream_mut(&key) else { continue };
        if let Some(at) = stream.due_at() {
            stream.indexed = at;
            state.deadlines.insert((at, id), key);
        }
    }
    state.sessions.expire(state.now);
    Ok(Reply::Done)
}

impl State {
    /// When the leader should propose `Op::Expire` next. May be earlier than anything ends, never later.
    pub fn next_expiry(&self) -> Option<Millis> {
        let streams = self.deadlines.first_key_value().map(|((at, _), _)| *at);
        streams.into_iter().chain(self.sessions.next_expiry()).min()
    }
}
