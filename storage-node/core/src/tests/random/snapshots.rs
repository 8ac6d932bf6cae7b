//! Snapshots on the walk: uploads get numbers that no other one had. Whoever has nothing but packs must find a snapshot where a
//! stream was let begin for its sake.

use super::*;
use crate::stream::{Presence, Stream};

/// Uploads that ops are about: those that were not published, and the newest snapshots.
#[derive(Default)]
pub(super) struct Uploads {
    last: u64,
    known: BTreeMap<StreamKey, Vec<u64>>,
}

impl Walk {
    /// Lets an op be about an upload that was made, if it is about one, and mostly about a stream that is there.
    pub(super) fn choose_upload(&mut self, op: &mut Op) {
        match op {
            Op::Create(Create { key, .. }) if key.name.is_companion() => {
                *key = self.any_stream(key);
                self.uploads.last += 1;
                *key = key.companion(self.uploads.last);
                self.uploads.known.entry(key.owner()).or_default().push(self.uploads.last);
            }
            Op::Append(Append { key, .. }) | Op::Delete(key) | Op::Touch(key) if key.name.is_companion() => {
                *key = key.companion(self.any_upload(key));
            }
            Op::PublishSnapshot(publish) => {
                publish.key = self.any_stream(&publish.key);
                publish.upload = self.any_upload(&publish.key);
                let uploaded = self.model.streams.get(&publish.key.companion(publish.upload));
                if let Some(uploaded) = uploaded.filter(|_| self.dice.chance(90)) {
                    publish.bytes = uploaded.bytes.len() as u64;
                }
                let stream = self.model.streams.get(&publish.key).map(|stream| (stream.earliest.0, stream.tail().0));
                if let Some((earliest, tail)) = stream.filter(|_| self.dice.chance(90)) {
                    publish.at = Offset(earliest + self.dice.below(tail - earliest + 1));
                }
            }
            _ => {}
        }
    }

    /// Mostly one that is kept from its snapshot on.
    fn any_stream(&mut self, key: &StreamKey) -> StreamKey {
        let plain = self.model.streams.iter().filter(|(key, _)| !key.name.is_companion());
        let kept: Vec<_> = plain.filter(|(_, stream)| stream.retention.snapshot).map(|(key, _)| key.clone()).collect();
        if kept.is_empty() || self.dice.chance(20) { key.clone() } else { self.dice.pick(&kept) }
    }

    /// Mostly one of the newest.
    fn any_upload(&mut self, key: &StreamKey) -> u64 {
        let known = self.uploads.known.get(&key.owner()).map_or(&[][..], Vec::as_slice);
        let newest = &known[known.len().saturating_sub(3)..];
        if newest.is_empty() { 1 << 32 } else { self.dice.pick(newest) }
    }

    pub(super) fn publish(&mut self, publish: &PublishSnapshot) -> Result<Reply, Error> {
        let newest = |model: &Model| model.streams.get(&publish.key)?.snapshot.as_ref().map(|newest| newest.upload);
        let before = newest(&self.model);
        let answer = self.model.publish(publish);
        // Packs may need the one before, which clients cannot name any more.
        if before != newest(&self.model)
            && let Some(known) = self.uploads.known.get_mut(&publish.key)
        {
            known.retain(|upload| Some(*upload) != before);
        }
        answer
    }

    pub(super) fn compare_snapshot(&self, key: &StreamKey) {
        if let Ok(info) = self.world.state(home(key)).info(key, self.world.now) {
            assert_eq!(info.snapshot.map(|newest| *newest), self.model.streams[key].snapshot, "{key}");
        }
    }

    /// What was let go before packs began, they never had.
    pub(super) fn begin_packs(&mut self, group: GroupId) {
        for key in self.model.streams.keys().filter(|key| home(key) == group).cloned().collect::<Vec<_>>() {
            self.observe(&key);
            let stream = self.model.streams.get_mut(&key).expect("it is there");
            stream.trimmed = stream.trimmed.max(stream.earliest);
        }
    }

    /// These are all streams that packs know.
    pub(super) fn check_restored<'a>(&self, streams: impl Iterator<Item = (&'a StreamKey, &'a Stream)>) {
        let streams: BTreeMap<_, _> = streams.map(|(key, stream)| ((key, stream.id), stream)).collect();
        let is_whole =
            |key: &StreamKey, bytes| streams.iter().any(|((known, _), upload)| *known == key && upload.is_whole(bytes));
        for ((key, id), stream) in &streams {
            let (Some(kept), Some(model)) = (stream.kept(), self.model.streams.get(key)) else { continue };
            // What was deleted has not come into packs yet.
            let known = self.world.state(home(key)).stream(key);
            let is_there = known.is_some_and(|known| known.id == *id && known.presence == Presence::Live);
            if !is_there || stream.presence != Presence::Live || kept.has_limits() {
                continue;
            }
            let named = stream.snapshots().into_iter().flat_map(|all| all.iter()).rev();
            let mut whole = named.filter(|known| is_whole(&key.companion(known.info.upload), known.info.bytes));
            let begins = whole.next().map_or(model.trimmed, |newest| newest.info.at.max(model.trimmed));
            assert!(
                kept.earliest <= begins,
                "{key} is restored from {} on, its snapshot is at {begins}",
                kept.earliest
            );
        }
    }
}
