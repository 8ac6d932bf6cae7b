//! Where beginnings of streams go: because a client says so, because of a retention, or because the last fork that needed
//! one is gone. What goes for readers is not gone for forks: they keep what they could read when they were made.

use std::sync::Arc;

use ursula_common::verb::{Reply, Trim};
use ursula_common::{Error, Offset, StreamKey};

use crate::stream::{Presence, Stream};
use crate::{Effect, State};

/// Lets the beginning of a stream go.
pub(crate) fn trim(state: &mut State, trim: Trim, effects: &mut Vec<Effect>) -> Result<Reply, Error> {
    let now = state.now;
    let stream = state.live(&trim.key, effects)?;
    let earliest = stream.earliest(now);
    let to = trim.to.within(stream.tail);
    if to.first() != stream.tail.first() {
        return Err(Error::OffsetGone { earliest });
    }
    if to > stream.tail {
        return Err(Error::OffsetInvalid);
    }
    let to = match trim.cut {
        _ if to <= earliest => earliest,
        _ if to == stream.tail => to,
        Some(cut) if cut.stream == stream.id && cut.at <= to => cut.at.max(earliest),
        // The leader looked at a stream that is not there any more, or did not know of these bytes: it must look again.
        _ => return Err(Error::Overloaded),
    };
    if to > earliest {
        change(state, &trim.key, effects, |stream| stream.trim(to));
    }
    Ok(Reply::Trimmed(to))
}

/// A stream with a retention is longer: it was `at` that its tail was before.
pub(crate) fn appended(state: &mut State, key: &StreamKey, at: Offset, effects: &mut Vec<Effect>) {
    let now = state.now;
    change(state, key, effects, |stream| {
        let tail = stream.tail;
        if let Some(kept) = stream.kept_mut() {
            kept.appended(at, tail, now);
        }
        stream.trim(stream.earliest(now));
    });
}

/// Lets go what the retention of a stream does not keep any longer.
pub(crate) fn outlived(state: &mut State, key: &StreamKey, effects: &mut Vec<Effect>) {
    let now = state.now;
    change(state, key, effects, |stream| stream.trim(stream.earliest(now)));
}

/// Changes what is kept of a stream, with all that follows: bytes that nobody needs any more, those that packs do not have,
/// and when the stream is due.
pub(crate) fn change(state: &mut State, key: &StreamKey, effects: &mut Vec<Effect>, change: impl FnOnce(&mut Stream)) {
    let streams = state.buckets.get_mut(&key.bucket).map(|bucket| &mut bucket.streams);
    let Some(stream) = streams.and_then(|streams| streams.get_mut(&key.name)).map(Arc::make_mut) else { return };
    let (floor, left) = (stream.floor(), stream.left());
    let was_due = stream.due_at().map(|_| stream.indexed);
    change(stream);
    if let Some(packs) = &mut state.packs {
        packs.shrunk(key, stream, left - stream.left());
    }
    if stream.floor() > floor {
        effects.push(Effect::Trimmed { stream: stream.id, to: stream.floor() });
    }
    // Never later than it is due; earlier costs one look.
    let due = stream.due_at().map(|at| was_due.map_or(at, |indexed| at.min(indexed)));
    if due != was_due && stream.presence == Presence::Live {
        stream.indexed = due.unwrap_or_default();
        if let Some(at) = was_due {
            state.deadlines.remove(&(at, stream.id));
        }
        if let Some(at) = due {
            state.deadlines.insert((at, stream.id), key.clone());
        }
    }
}
