//! Snapshots in the model: the newest of each stream, and uploads as streams like any other.

use ursula_common::Error;
use ursula_common::verb::{Lifetime, PublishSnapshot, RemoveSnapshot, Reply, SnapshotCondition, SnapshotInfo};

use super::Model;

impl Model {
    pub(in crate::tests) fn publish(&mut self, publish: &PublishSnapshot) -> Result<Reply, Error> {
        let PublishSnapshot { key, upload, bytes, digest, .. } = publish;
        let (now, companion) = (self.now, key.companion(*upload));
        let stream = self.live(key)?;
        let (at, old) = (stream.place(publish.at), stream.snapshot.clone());
        if at.first() != stream.first || at < stream.earliest {
            return Err(Error::OffsetGone { earliest: stream.earliest });
        }
        if at > stream.tail() {
            return Err(Error::OffsetInvalid);
        }
        if let Some(old) = old.as_ref().filter(|old| old.at > at) {
            return Err(Error::SnapshotStale { newest: old.at });
        }
        let here = old.as_ref().filter(|old| old.at == at);
        condition(publish.condition, here)?;
        let is_old = old.as_ref().is_some_and(|old| old.upload == *upload);
        if here.is_some_and(|here| here.digest == *digest) {
            if !is_old {
                self.streams.remove(&companion);
            }
            return Ok(Reply::SnapshotPublished { new: false, at });
        }
        if here.is_some() && publish.condition == SnapshotCondition::Any {
            return Err(Error::SnapshotDiffers);
        }
        if is_old {
            return Err(Error::Malformed);
        }
        let uploaded = self.live(&companion).ok().filter(|uploaded| uploaded.bytes.len() as u64 == *bytes);
        let uploaded = uploaded.ok_or(Error::SnapshotIncomplete)?;
        (uploaded.lifetime, uploaded.closed) = (Lifetime::Forever, true);
        let content_type = publish.content_type.clone();
        let info = SnapshotInfo { at, upload: *upload, content_type, bytes: *bytes, digest: *digest };
        let stream = self.streams.get_mut(key).expect("it was there");
        stream.touched = now;
        stream.published.push(at);
        if let Some(old) = stream.snapshot.replace(info) {
            self.streams.remove(&key.companion(old.upload));
        }
        Ok(Reply::SnapshotPublished { new: true, at })
    }

    pub(in crate::tests) fn remove_snapshot(&mut self, remove: &RemoveSnapshot) -> Result<Reply, Error> {
        let stream = self.live(&remove.key)?;
        let at = stream.place(remove.at);
        let here = stream.snapshot.clone().filter(|here| here.at == at).ok_or(Error::SnapshotNotFound)?;
        condition(remove.condition, Some(&here))?;
        (stream.snapshot, stream.trimmed) = (None, stream.earliest);
        self.streams.remove(&remove.key.companion(here.upload));
        Ok(Reply::Done)
    }
}

fn condition(wanted: SnapshotCondition, here: Option<&SnapshotInfo>) -> Result<(), Error> {
    let current = here.map(|here| here.digest);
    match wanted {
        SnapshotCondition::Absent if current.is_some() => Err(Error::SnapshotMismatch { current }),
        SnapshotCondition::Is(digest) if current != Some(digest) => Err(Error::SnapshotMismatch { current }),
        _ => Ok(()),
    }
}
