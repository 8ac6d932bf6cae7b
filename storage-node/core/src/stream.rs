//! One stream: what is kept of it in memory. Small, because there may be millions: whatever most
//! streams lack lies behind one pointer. Decides nothing about commands.

use std::collections::BTreeMap;
use std::sync::Arc;

use ursula_common::verb::{ForkLink, Lifetime, Producer, Retention, SnapshotInfo, StreamInfo};
use ursula_common::{ContentType, Millis, Offset, StreamId, StreamKey, limits};

use crate::kept::Kept;
use crate::packing::Cold;
use crate::published::{Published, Snapshots};

/// A stream that exists, or that is kept for the sake of its forks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) tail: Offset,
    /// The last append, or read that renewed the sliding time to live.
    pub(crate) touched: Millis,
    /// Under which deadline the stream lies in the index of deadlines: never later than the true one,
    /// so that an access need not move it.
    pub(crate) indexed: Millis,
    pub(crate) content_type: ContentType,
    pub(crate) rare: Option<Box<Rare>>,
    /// Once packs have begun.
    pub(crate) cold: Option<Box<Cold>>,
    pub(crate) life: Life,
    pub(crate) closed: bool,
    pub(crate) presence: Presence,
}

/// How long a stream lives; the point in time is in [`Rare`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Forever,
    Ttl(Seconds),
    Until,
}

/// A number that lies at any place: aligned, it would make every stream larger by a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seconds([u8; 4]);

impl Seconds {
    fn new(seconds: u64) -> Seconds {
        const _: () = assert!(limits::TTL_SECONDS_MAX <= u32::MAX as u64);
        Seconds((seconds.min(limits::TTL_SECONDS_MAX) as u32).to_ne_bytes())
    }

    fn get(self) -> u64 {
        u32::from_ne_bytes(self.0).into()
    }
}

/// Whether clients can see a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Live,
    /// Deleted, while forks hold references.
    Deleted,
    /// Expired, while forks hold references.
    Expired,
}

/// What most streams lack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Rare {
    /// Sorted by id. A plain vector: most streams have one producer, and a map's node is ten times that.
    pub(crate) producers: Vec<ProducerState>,
    pub(crate) stream_seq: Option<Arc<str>>,
    /// The append that closed the stream, if a producer did.
    pub(crate) closed_by: Option<Producer>,
    pub(crate) fork: Option<Box<ForkLink>>,
    /// The forks that hold a reference on this stream, and where each begins.
    pub(crate) forks: BTreeMap<ForkId, ForkStart>,
    /// With [`Life::Until`]: the client's text and the time that it names.
    pub(crate) expires_at: Option<(Arc<str>, Millis)>,
    /// If it was trimmed, or has a retention.
    pub(crate) kept: Option<Box<Kept>>,
    /// If somebody published one.
    pub(crate) snapshots: Option<Box<Snapshots>>,
}

/// What is remembered of an idempotent producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProducerState {
    pub(crate) id: Arc<str>,
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    /// Its last accepted append.
    pub(crate) at: Millis,
}

/// A fork, for all time.
pub(crate) type ForkId = (StreamKey, StreamId);

/// Where a fork begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ForkStart {
    pub(crate) anchor: Offset,
    pub(crate) at: Offset,
    /// Where its source began for its readers, and so does the fork.
    pub(crate) from: Offset,
}

impl ForkStart {
    /// From where on it needs its source; `None` if it inherits nothing.
    pub(crate) fn needs(&self) -> Option<Offset> {
        (self.from < self.at).then_some(self.from)
    }
}

impl Stream {
    /// An open, empty stream.
    pub(crate) fn new(id: StreamId, content_type: ContentType, lifetime: Lifetime, now: Millis) -> Stream {
        let (life, expires_at) = match lifetime {
            Lifetime::Forever => (Life::Forever, None),
            Lifetime::Ttl(seconds) => (Life::Ttl(Seconds::new(seconds)), None),
            Lifetime::ExpiresAt { text, at } => (Life::Until, Some((text, at))),
        };
        let mut stream = Stream {
            id,
            tail: Offset::ZERO,
            touched: now,
            indexed: Millis::default(),
            content_type,
            rare: None,
            cold: None,
            life,
            closed: false,
            presence: Presence::Live,
        };
        if expires_at.is_some() {
            stream.rare_mut().expires_at = expires_at;
        }
        stream
    }

    /// What most streams lack, made if this one lacks it.
    pub(crate) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// The link to its source, if it is a fork.
    pub(crate) fn fork(&self) -> Option<&ForkLink> {
        self.rare.as_ref()?.fork.as_deref()
    }

    /// Where its own bytes begin: those before are of its source.
    pub(crate) fn own_start(&self) -> Offset {
        let first = self.tail.first();
        self.fork().map_or(first, |link| first.max(link.at).min(self.tail))
    }

    /// Where what its readers find begins at this time.
    pub(crate) fn earliest(&self, now: Millis) -> Offset {
        self.kept().map_or(self.tail.first(), |kept| kept.earliest_at(self.tail, now))
    }

    /// Where those of its own bytes begin that somebody needs.
    pub(crate) fn floor(&self) -> Offset {
        let own = self.own_start();
        self.kept().map_or(own, |kept| kept.floor().max(own))
    }

    /// Where those of these begin that packs do not have; once packs have begun.
    pub(crate) fn unpacked(&self) -> Offset {
        self.floor().max(self.cold.as_ref().map_or(Offset::ZERO, |cold| cold.end))
    }

    /// How many these are.
    pub(crate) fn left(&self) -> u64 {
        self.tail.0 - self.unpacked().0
    }

    pub(crate) fn kept(&self) -> Option<&Kept> {
        self.rare.as_ref()?.kept.as_deref()
    }

    pub(crate) fn kept_mut(&mut self) -> Option<&mut Kept> {
        self.rare.as_mut()?.kept.as_deref_mut()
    }

    /// Lets it begin here, unless it begins later, and keeps so much of it. Costs nothing if that is everything.
    pub(crate) fn keep(&mut self, earliest: Offset, retention: Retention) {
        if earliest > self.tail.first() || retention != Retention::default() {
            let needed = self.rare.iter().flat_map(|rare| rare.forks.values()).filter_map(ForkStart::needs);
            let kept = Kept::new(earliest.max(self.tail.first()), retention, needed);
            self.rare_mut().kept = Some(Box::new(kept));
        }
    }

    /// Lets it begin here, if it does not begin later.
    pub(crate) fn trim(&mut self, to: Offset) {
        match self.kept_mut() {
            Some(kept) => kept.trim(to),
            None => self.keep(to, Retention::default()),
        }
    }

    pub(crate) fn snapshots(&self) -> Option<&Snapshots> {
        self.rare.as_ref()?.snapshots.as_deref()
    }

    /// The newest snapshot.
    pub(crate) fn snapshot(&self) -> Option<&SnapshotInfo> {
        self.snapshots().map(|all| &all.newest.info)
    }

    /// Adds the newest snapshot. Gives back the one that nobody needs any more.
    pub(crate) fn add_snapshot(&mut self, newest: Published, packs_begun: bool) -> Option<Published> {
        let snapshots = &mut self.rare_mut().snapshots;
        match snapshots {
            Some(all) => all.add(newest, packs_begun),
            None => {
                *snapshots = Some(Box::new(Snapshots { newest, before: Vec::new() }));
                None
            }
        }
    }

    /// Whether packs have it as it is.
    pub(crate) fn is_packed(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| cold.turn == 0)
    }

    /// Adds a fork.
    pub(crate) fn add_fork(&mut self, id: ForkId, start: ForkStart) {
        if let (Some(from), Some(kept)) = (start.needs(), self.kept_mut()) {
            kept.need(from);
        }
        self.rare_mut().forks.insert(id, start);
    }

    /// Removes a fork.
    pub(crate) fn remove_fork(&mut self, id: &ForkId) {
        let start = self.rare.as_mut().and_then(|rare| rare.forks.remove(id));
        if let (Some(from), Some(kept)) = (start.and_then(|start| start.needs()), self.kept_mut()) {
            kept.let_go(from);
        }
    }

    /// Whether this fork holds a reference.
    pub(crate) fn has_fork(&self, id: &ForkId) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.forks.contains_key(id))
    }

    /// How much of it is kept.
    pub(crate) fn retention(&self) -> Retention {
        self.kept().map_or(Retention::default(), |kept| kept.retention)
    }

    /// Whether forks hold references.
    pub(crate) fn has_forks(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| !rare.forks.is_empty())
    }

    /// When it expires; `None` is never.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        match self.life {
            Life::Forever => None,
            Life::Ttl(seconds) => Some(Millis(self.touched.0.saturating_add(seconds.get() * 1000))),
            Life::Until => self.rare.as_ref()?.expires_at.as_ref().map(|(_, at)| *at),
        }
    }

    /// When it has to be looked at again: it expires, or some of it is too old.
    pub(crate) fn due_at(&self) -> Option<Millis> {
        let old = self.kept().and_then(Kept::due_at);
        self.deadline().into_iter().chain(old).min()
    }

    /// Whether some of it is still there that its retention does not keep any longer.
    pub(crate) fn has_outlived(&self, now: Millis) -> bool {
        self.presence == Presence::Live
            && self.kept().is_some_and(|kept| kept.earliest_at(self.tail, now) > kept.earliest)
    }

    /// Whether it is still there although it should have expired.
    pub(crate) fn due(&self, now: Millis) -> bool {
        self.presence == Presence::Live && self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// How long it lives, in the words of its creator.
    pub(crate) fn lifetime(&self) -> Lifetime {
        let expires_at = || self.rare.as_ref()?.expires_at.clone();
        match self.life {
            Life::Forever => Lifetime::Forever,
            Life::Ttl(seconds) => Lifetime::Ttl(seconds.get()),
            Life::Until => expires_at().map_or(Lifetime::Forever, |(text, at)| Lifetime::ExpiresAt { text, at }),
        }
    }

    /// Whether it has this lifetime; of a point in time the text counts.
    pub(crate) fn has_lifetime(&self, wanted: &Lifetime) -> bool {
        match (self.life, wanted) {
            (Life::Forever, Lifetime::Forever) => true,
            (Life::Ttl(seconds), Lifetime::Ttl(wanted)) => seconds == Seconds::new(*wanted),
            (Life::Until, Lifetime::ExpiresAt { text: wanted, .. }) => {
                self.rare.as_ref().and_then(|rare| rare.expires_at.as_ref()).is_some_and(|(text, _)| text == wanted)
            }
            _ => false,
        }
    }

    /// Everything a reader needs to know who finds it to begin at `earliest`.
    pub(crate) fn info(&self, earliest: Offset) -> StreamInfo {
        StreamInfo {
            id: self.id,
            content_type: self.content_type.clone(),
            earliest,
            tail: self.tail,
            closed: self.closed,
            lifetime: self.lifetime(),
            retention: self.retention(),
            snapshot: self.snapshot().cloned().map(Box::new),
            fork: self.fork().cloned(),
            cold: self.cold.as_ref().and_then(|cold| cold.end()),
        }
    }

    /// Hides it from clients, and forgets what only they needed.
    pub(crate) fn detach(&mut self, presence: Presence) {
        self.presence = presence;
        if let Some(rare) = &mut self.rare {
            (rare.producers, rare.stream_seq, rare.closed_by, rare.snapshots) = (Vec::new(), None, None, None);
        }
        if let Some(kept) = self.kept_mut() {
            kept.marks.clear();
        }
    }
}

/// Content types in use, so that streams share the text. No part of the state: which streams share is
/// invisible.
#[derive(Debug, Clone, Default)]
pub(crate) struct ContentTypes(Vec<ContentType>);

impl ContentTypes {
    /// Types kept at a time.
    const KEPT_MAX: usize = 256;

    /// The same text, shared if possible.
    pub(crate) fn share(&mut self, content_type: ContentType) -> ContentType {
        match self.0.binary_search_by(|known| known.as_str().cmp(content_type.as_str())) {
            Ok(found) => self.0[found].clone(),
            Err(place) if self.0.len() < Self::KEPT_MAX => {
                self.0.insert(place, content_type.clone());
                content_type
            }
            // Starting over costs the sharing of what is there now, and only where types are many.
            Err(_) => {
                self.0 = vec![content_type.clone()];
                content_type
            }
        }
    }
}

#[cfg(test)]
mod tests;
