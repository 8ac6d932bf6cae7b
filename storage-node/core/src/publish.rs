//! Snapshots of streams: publish and remove, and what follows when packs have more of one. The bytes are in a companion,
//! a stream of the same group that lives for ever once it is published, and ends with its snapshot or with its stream.

use ursula_common::verb::{PublishSnapshot, RemoveSnapshot, Reply, SnapshotCondition, SnapshotInfo};
use ursula_common::{Error, Millis, Offset, StreamKey};

use crate::published::Published;
use crate::stream::{Life, Presence, Stream};
use crate::{Effect, State, trim};

/// Makes an upload the newest snapshot of a stream.
pub(crate) fn publish(state: &mut State, publish: PublishSnapshot, effects: &mut Vec<Effect>) -> Result<Reply, Error> {
    let PublishSnapshot { key, upload, content_type, bytes, digest, condition, .. } = &publish;
    let now = state.now;
    let stream = state.live(key, effects)?;
    let at = place(stream, &publish, now)?;
    let newest = stream.snapshot();
    if let Some(newest) = newest.map(|newest| newest.at).filter(|newest| *newest > at) {
        return Err(Error::SnapshotStale { newest });
    }
    let known = newest.filter(|newest| newest.at == at);
    check(*condition, known)?;
    let is_named = stream.snapshots().is_some_and(|all| all.iter().any(|known| known.info.upload == *upload));
    let companion = key.companion(*upload);
    match known {
        Some(known) if known.digest == *digest => {
            if !is_named {
                state.remove(&companion, effects);
            }
            return Ok(Reply::SnapshotPublished { new: false, at });
        }
        Some(_) if *condition == SnapshotCondition::Any => return Err(Error::SnapshotDiffers),
        _ if is_named => return Err(Error::Malformed),
        _ => {}
    }
    state.expire_if_due(&companion, effects);
    if !state.stream(&companion).is_some_and(|upload| upload.is_whole(*bytes)) {
        return Err(Error::SnapshotIncomplete);
    }
    stay(state, &companion, effects);
    let info = SnapshotInfo { at, upload: *upload, content_type: content_type.clone(), bytes: *bytes, digest: *digest };
    add(state, key, info, effects);
    Ok(Reply::SnapshotPublished { new: true, at })
}

/// Removes the newest snapshot of a stream. There is none then: those before it go as well.
pub(crate) fn remove(state: &mut State, remove: RemoveSnapshot, effects: &mut Vec<Effect>) -> Result<Reply, Error> {
    let RemoveSnapshot { key, at, condition } = remove;
    let stream = state.live(&key, effects)?;
    let at = at.within(stream.tail);
    let known = stream.snapshot().filter(|newest| newest.at == at).ok_or(Error::SnapshotNotFound)?;
    check(condition, Some(known))?;
    let snapshots = stream.rare_mut().snapshots.take();
    state.mark(&key);
    snapshots
        .iter()
        .flat_map(|all| all.iter())
        .for_each(|gone| state.remove(&key.companion(gone.info.upload), effects));
    Ok(Reply::Done)
}

/// Where a snapshot is: at the end of a record, or at the beginning.
fn place(stream: &Stream, publish: &PublishSnapshot, now: Millis) -> Result<Offset, Error> {
    let earliest = stream.earliest(now);
    let at = publish.at.within(stream.tail);
    if at.first() != stream.tail.first() || at < earliest {
        return Err(Error::OffsetGone { earliest });
    }
    match publish.cut {
        _ if at > stream.tail => Err(Error::OffsetInvalid),
        _ if at == earliest || at == stream.tail => Ok(at),
        Some(cut) if cut.stream == stream.id && cut.at == at => Ok(at),
        Some(cut) if cut.stream == stream.id => Err(Error::OffsetInvalid),
        // The leader looked at a stream that is not there any more, or did not know of these bytes: it must look again.
        Some(_) | None => Err(Error::Overloaded),
    }
}

fn check(condition: SnapshotCondition, known: Option<&SnapshotInfo>) -> Result<(), Error> {
    let current = known.map(|known| known.digest);
    let holds = match condition {
        SnapshotCondition::Any => true,
        SnapshotCondition::Absent => current.is_none(),
        SnapshotCondition::Is(digest) => current == Some(digest),
    };
    if holds { Ok(()) } else { Err(Error::SnapshotMismatch { current }) }
}

/// Lets an upload live for as long as somebody names it, and never change.
fn stay(state: &mut State, companion: &StreamKey, effects: &mut Vec<Effect>) {
    let Some(stream) = state.stream_mut(companion) else { return };
    let (id, indexed) = (stream.id, stream.indexed);
    stream.stay();
    state.deadlines.remove(&(indexed, id));
    state.mark(companion);
    effects.push(Effect::Closed { stream: id });
}

fn add(state: &mut State, key: &StreamKey, info: SnapshotInfo, effects: &mut Vec<Effect>) {
    let (now, at) = (state.now, info.at);
    state.mark(key);
    let packs_begun = state.packs.is_some();
    let Some(stream) = state.stream_mut(key) else { return };
    stream.touched = now;
    let published = Published { info, since: stream.cold.as_ref().map_or(0, |cold| cold.changed) };
    let gone = stream.add_snapshot(published, packs_begun);
    if let Some(gone) = gone {
        state.remove(&key.companion(gone.info.upload), effects);
    }
    if !packs_begun {
        begin_at(state, key, at, effects);
    }
}

/// Lets a stream that is kept from its snapshot on begin there.
fn begin_at(state: &mut State, key: &StreamKey, at: Offset, effects: &mut Vec<Effect>) {
    if state.stream(key).and_then(Stream::kept).is_some_and(|kept| kept.retention.snapshot && kept.earliest < at) {
        trim::change(state, key, effects, |stream| stream.trim(at));
    }
}

/// Packs have more of a stream, or of one of its companions: what a snapshot that is certain now makes dispensable goes.
pub(crate) fn packed(state: &mut State, key: &StreamKey, effects: &mut Vec<Effect>) {
    let Some(snapshots) = state.stream(key).and_then(Stream::snapshots) else { return };
    let certain = snapshots.iter().enumerate().filter(|(_, known)| state.is_certain(key, known));
    let Some((count, last)) = certain.last() else { return };
    let at = last.info.at;
    if count > 0 {
        let gone = state.stream_mut(key).and_then(|stream| Some(stream.rare_mut().snapshots.as_mut()?.let_go(count)));
        state.mark(key);
        gone.iter().flatten().for_each(|gone| state.remove(&key.companion(gone.info.upload), effects));
    }
    begin_at(state, key, at, effects);
}

impl State {
    /// Whether a restore finds a snapshot, or the stream with a later one.
    pub(crate) fn is_certain(&self, key: &StreamKey, published: &Published) -> bool {
        let companion = || self.stream(&key.companion(published.info.upload));
        self.packs.is_none() || published.since == 0 && companion().is_some_and(Stream::is_packed)
    }

    /// Removes the companions of a stream that has ended.
    pub(crate) fn remove_companions(&mut self, key: &StreamKey, effects: &mut Vec<Effect>) {
        if key.name.is_companion() {
            return;
        }
        let streams = self.buckets.get(&key.bucket).map(|bucket| &bucket.streams);
        let names = streams.into_iter().flat_map(|streams| streams.range(key.name.companion(0)..));
        let names = names.map(|(name, _)| name.clone()).take_while(|name| name.is_companion_of(&key.name));
        for name in names.collect::<Vec<_>>() {
            self.remove(&StreamKey { bucket: key.bucket.clone(), name }, effects);
        }
    }
}

impl Stream {
    /// Whether it is an upload of so many bytes, and nothing of it is missing.
    pub(crate) fn is_whole(&self, bytes: u64) -> bool {
        self.presence == Presence::Live && self.kept().is_none() && self.tail.bytes() == bytes
    }

    /// Lets it live for ever, and never change.
    pub(crate) fn stay(&mut self) {
        (self.life, self.indexed, self.closed) = (Life::Forever, Millis::default(), true);
        if let Some(rare) = &mut self.rare {
            rare.expires_at = None;
        }
    }
}
