//! Answers on the walk that wait for packs: when one may be told, packs know what it speaks of, and in the end all are told.

use super::*;
use crate::{Told, Wanted};

/// What an answer speaks of.
pub(super) struct Spoken {
    pub(super) group: GroupId,
    pub(super) key: StreamKey,
    /// The stream and its tail, if it was there.
    pub(super) stream: Option<(StreamId, Offset)>,
    /// The stream that was there before, if it was not.
    pub(super) gone: Option<StreamId>,
}

#[derive(Default)]
pub(super) struct Held {
    answers: Vec<(Wanted, Spoken)>,
    /// The streams that answers spoke of last.
    seen: BTreeMap<StreamKey, StreamId>,
}

impl Walk {
    /// A client was to be told of a stream.
    pub(super) fn hold(&mut self, group: GroupId, op: &Op) {
        let (Some(key), state) = (op.stream_key(), self.world.state(group)) else { return };
        if state.ack(&key.bucket) != Some(Ack::Offloaded) {
            return;
        }
        let stream = state.stream(key).map(|stream| (stream.id, stream.tail));
        let gone = self.held.seen.remove(key).filter(|_| stream.is_none());
        self.held.seen.extend(stream.map(|(id, _)| (key.clone(), id)));
        let spoken = Spoken { group, key: key.clone(), stream, gone };
        match state.wanted(key) {
            Some(wanted) => self.held.answers.push((wanted, spoken)),
            None => self.store.knows(state, &spoken),
        }
    }

    /// A pack counts.
    pub(super) fn tell(&mut self, group: GroupId, told: &Told) {
        let all = std::mem::take(&mut self.held.answers);
        let is_told = |(wanted, spoken): &(Wanted, Spoken)| spoken.group == group && told.has(wanted);
        let (told, held): (Vec<_>, Vec<_>) = all.into_iter().partition(is_told);
        self.held.answers = held;
        told.iter().for_each(|(_, spoken)| self.store.knows(self.world.state(group), spoken));
    }

    pub(super) fn all_are_told(&self) {
        assert!(self.held.answers.is_empty(), "an answer waits for packs that have everything");
    }
}
