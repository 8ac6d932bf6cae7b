//! What can be asked of the state without changing it.

use std::ops::Bound;

use ursula_common::verb::{Ack, Lifetime, StreamInfo};
use ursula_common::{BucketName, Error, Millis, Offset, StreamId, StreamKey, StreamName};

use crate::State;
use crate::kept::Kept;
use crate::stream::Presence;

/// Reads renew a sliding time to live only when this much of it is over, or [`TOUCH_MS_MAX`].
const TOUCH_PART: u64 = 16;
const TOUCH_MS_MAX: u64 = 1000;

/// Bytes of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredRange {
    /// The stream.
    pub stream: StreamId,
    /// The first offset.
    pub start: Offset,
    /// The offset after the last; greater than the first.
    pub end: Offset,
}

/// How much there is of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Streams, with those that only forks keep.
    pub streams: usize,
    /// Buckets.
    pub buckets: usize,
    /// Gateway sessions.
    pub sessions: usize,
    /// Sagas that have not ended.
    pub sagas: usize,
}

impl State {
    /// Everything about a stream but its bytes.
    ///
    /// # Errors
    /// [`Error::BucketNotFound`]; [`Error::StreamNotFound`], also if it has expired;
    /// [`Error::StreamGone`] if it was deleted or has expired and forks still need it; [`Error::Restoring`].
    pub fn info(&self, key: &StreamKey, now: Millis) -> Result<StreamInfo, Error> {
        self.is_open()?;
        let now = self.now.max(now);
        let bucket = self.buckets.get(&key.bucket).ok_or(Error::BucketNotFound)?;
        let stream = bucket.streams.get(&key.name).ok_or(Error::StreamNotFound)?;
        match stream.presence {
            Presence::Deleted | Presence::Expired => Err(Error::StreamGone),
            Presence::Live if !stream.due(now) => Ok(stream.info(stream.earliest(now))),
            Presence::Live if stream.has_forks() => Err(Error::StreamGone),
            Presence::Live => Err(Error::StreamNotFound),
        }
    }

    /// The same on behalf of a fork: also if the stream was deleted or has expired, but only this
    /// incarnation of it; and it begins where any fork needs it to.
    ///
    /// # Errors
    /// [`Error::StreamNotFound`] if this incarnation is not there; [`Error::Restoring`].
    pub fn inherited(&self, key: &StreamKey, id: StreamId) -> Result<StreamInfo, Error> {
        self.is_open()?;
        let stream = self.stream(key).filter(|stream| stream.id == id).ok_or(Error::StreamNotFound)?;
        Ok(stream.info(stream.kept().map_or(stream.tail.first(), Kept::floor)))
    }

    /// Where those bytes of an incarnation of its own begin that somebody needs; `None` if it is not there.
    pub fn floor(&self, key: &StreamKey, id: StreamId) -> Option<Offset> {
        self.stream(key).filter(|stream| stream.id == id).map(|stream| stream.floor())
    }

    /// Whether a read should renew the sliding time to live with `Op::Touch`.
    pub fn touch_due(&self, key: &StreamKey, now: Millis) -> bool {
        let Some(stream) = self.stream(key) else { return false };
        let Lifetime::Ttl(seconds) = stream.lifetime() else { return false };
        let step = (seconds * 1000 / TOUCH_PART).min(TOUCH_MS_MAX);
        let age = now.0.saturating_sub(stream.touched.0);
        stream.presence == Presence::Live && !stream.due(self.now.max(now)) && age >= step
    }

    /// When ops in a bucket are acknowledged, if it is there.
    ///
    /// # Errors
    /// [`Error::BucketNotFound`]; [`Error::BucketBusy`] while it is being created or removed, which
    /// only the meta group knows.
    pub fn bucket(&self, name: &BucketName) -> Result<Ack, Error> {
        match self.buckets.get(name) {
            None => Err(Error::BucketNotFound),
            Some(bucket) if bucket.busy => Err(Error::BucketBusy),
            Some(bucket) => Ok(bucket.ack),
        }
    }

    /// The streams of a bucket that clients can see, which companions are not, in the order of their names: those after `after`
    /// that start with `prefix`.
    ///
    /// # Errors
    /// [`Error::BucketNotFound`]; [`Error::Restoring`].
    pub fn list(
        &self,
        bucket: &BucketName,
        prefix: &str,
        after: &str,
        limit: usize,
        now: Millis,
    ) -> Result<Vec<(StreamName, StreamInfo)>, Error> {
        self.is_open()?;
        let streams = &self.buckets.get(bucket).ok_or(Error::BucketNotFound)?.streams;
        let now = self.now.max(now);
        let from = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        let range = streams.range::<str, _>((from, Bound::Unbounded));
        let live = range
            .take_while(|(name, _)| name.as_str().starts_with(prefix))
            .filter(|(name, stream)| !name.is_companion() && stream.presence == Presence::Live && !stream.due(now));
        Ok(live.take(limit).map(|(name, stream)| (name.clone(), stream.info(stream.earliest(now)))).collect())
    }

    /// The bytes that streams have of their own and packs do not have, if somebody needs them, be it a fork.
    pub fn stored_ranges(&self) -> impl Iterator<Item = StoredRange> {
        let streams = self.buckets.values().flat_map(|bucket| bucket.streams.values());
        let ranges =
            streams.map(|stream| StoredRange { stream: stream.id, start: stream.unpacked(), end: stream.tail });
        ranges.filter(|range| range.start < range.end)
    }

    /// How much there is of everything.
    pub fn stats(&self) -> Stats {
        Stats {
            streams: self.streams,
            buckets: self.buckets.len(),
            sessions: self.sessions.known.len(),
            sagas: self.sagas.running.len(),
        }
    }
}
