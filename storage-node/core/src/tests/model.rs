//! What clients should see, as plainly as it can be said: whole streams in one map, nothing shared,
//! nothing indexed, no snapshot, no sagas. Slow and obvious.

mod snapshots;

use std::collections::{BTreeMap, BTreeSet};

use ursula_common::verb::{
    AcquireFork, Append, Appended, Create, Created, ForkPoint, ForkRef, Lifetime, Producer, Reply, Retention,
    SnapshotInfo, Trim,
};
use ursula_common::{BucketName, ContentType, Error, GroupId, Offset, StreamId, StreamKey};

use super::world::home;

type Fork = (StreamKey, StreamId);

#[derive(Default)]
pub(super) struct Model {
    pub(super) now: u64,
    /// Buckets by group.
    pub(super) buckets: BTreeSet<(GroupId, BucketName)>,
    pub(super) streams: BTreeMap<StreamKey, Stream>,
    /// What each fork that was granted begins with: the first offset, the earliest that is kept, and bytes.
    granted: BTreeMap<Fork, (Offset, Offset, Vec<u8>)>,
    /// Where the last stream of each name began that was no fork.
    firsts: BTreeMap<StreamKey, Offset>,
    /// Forks that have given their reference back, whether they ever had it or not.
    released: BTreeSet<Fork>,
    /// References that must be given back because of the last thing that happened.
    pub(super) to_release: Vec<ForkRef>,
}

pub(super) struct Stream {
    content_type: ContentType,
    /// The offset of the first byte that ever was.
    pub(super) first: Offset,
    /// Where it begins. When exactly a retention lets something go is not said here, only within which bounds.
    pub(super) earliest: Offset,
    pub(super) retention: Retention,
    /// Where each append ended, and when. What is inherited counts as the first.
    appends: Vec<(Offset, u64)>,
    /// All bytes that ever were.
    pub(super) bytes: Vec<u8>,
    pub(super) closed: bool,
    pub(super) lifetime: Lifetime,
    touched: u64,
    hidden: Option<Hidden>,
    producers: BTreeMap<String, (u64, u64)>,
    stream_seq: Option<String>,
    closed_by: Option<Producer>,
    /// What it is a fork of: source, anchor, sub-offset, its own id, its depth, where it begins.
    fork: Option<(StreamKey, u64, u64, StreamId, u32, Offset)>,
    /// Where each of its forks begins: anchor and place, and what it finds to be the beginning.
    forks: BTreeMap<Fork, (u64, u64, Offset)>,
    pub(super) snapshot: Option<SnapshotInfo>,
    /// Where its snapshots were, from the first on.
    published: Vec<Offset>,
    /// Where it was let begin by a client, and not because of a snapshot; what its retention lets go does not count.
    pub(super) trimmed: Offset,
}

#[derive(PartialEq)]
enum Hidden {
    Deleted,
    Expired,
}

impl Stream {
    pub(super) fn tail(&self) -> Offset {
        Offset(self.first.0 + self.bytes.len() as u64)
    }

    fn note_append(&mut self, now: u64) {
        if self.appends.last().map_or(self.earliest, |(end, _)| *end) < self.tail() {
            self.appends.push((self.tail(), now));
        }
    }

    /// Between which places it begins: what has to be gone, a 32nd later than asked, and what may be.
    fn bounds(&self, now: u64) -> (Offset, Offset) {
        let mut at = self.appends.first().map_or(0, |_| self.earliest.0);
        let ends = self.appends.iter().map(|(end, _)| end.0);
        let longest = ends.map(|end| end.saturating_sub(std::mem::replace(&mut at, end))).max().unwrap_or(0);
        let slack = |limit: u64| limit.div_ceil(32);
        let is_over = |(end, time): &(Offset, u64), late: bool| {
            let old = self.retention.max_age.map(|age| age * 1000);
            let old = old.is_some_and(|age| time + age + if late { slack(age) } else { 0 } <= now);
            let many = self.retention.max_bytes;
            let behind = self.tail().0 - end.0;
            old || many.is_some_and(|most| behind >= most + if late { slack(most) + longest } else { 0 })
        };
        let last = |late| {
            let over = self.appends.iter().take_while(|append| is_over(append, late)).last();
            over.map_or(self.earliest, |(end, _)| self.earliest.max(*end))
        };
        // When it begins at its snapshot depends on packs.
        let newest = self.published.iter().max().filter(|_| self.retention.snapshot);
        (last(true), newest.map_or(last(false), |at| last(false).max(*at)))
    }

    /// Where those of its own bytes begin that somebody needs.
    pub(super) fn floor(&self) -> Offset {
        let own = self.fork.as_ref().map_or(self.first, |fork| fork.5);
        let needed = self.forks.values().filter(|(_, at, from)| from.0 < *at).map(|(.., from)| *from);
        needed.chain([self.earliest]).min().map_or(own, |floor| floor.max(own))
    }

    /// The place that a client means.
    fn place(&self, offset: Offset) -> Offset {
        if offset == Offset(0) { self.first } else { offset }
    }
}

impl Model {
    fn due(&self, stream: &Stream) -> bool {
        stream.hidden.is_none()
            && match &stream.lifetime {
                Lifetime::Forever => false,
                Lifetime::Ttl(seconds) => stream.touched + seconds * 1000 <= self.now,
                Lifetime::ExpiresAt { at, .. } => at.0 <= self.now,
            }
    }

    fn end(&mut self, key: &StreamKey, why: Hidden) {
        self.streams.retain(|other, _| other.bucket != key.bucket || !other.name.is_companion_of(&key.name));
        let stream = self.streams.get_mut(key).expect("it is there");
        stream.snapshot = None;
        if stream.forks.is_empty() { self.remove(key) } else { stream.hidden = Some(why) }
    }

    fn remove(&mut self, key: &StreamKey) {
        let stream = self.streams.remove(key).expect("it is there");
        if let Some((source, _, _, fork_id, ..)) = stream.fork {
            self.to_release.push(ForkRef { source, fork: key.clone(), fork_id });
        }
    }

    fn expire_key(&mut self, key: &StreamKey) {
        if self.streams.get(key).is_some_and(|stream| self.due(stream)) {
            self.end(key, Hidden::Expired);
        }
    }

    pub(super) fn expire(&mut self, group: GroupId) {
        for key in self.streams.keys().filter(|key| home(key) == group).cloned().collect::<Vec<_>>() {
            self.expire_key(&key);
        }
    }

    /// What a reader finds: all bytes that are kept, whether it is closed, and where it begins.
    pub(super) fn read(&self, key: &StreamKey) -> Result<(&[u8], bool, Offset), Error> {
        if !self.buckets.contains(&(home(key), key.bucket.clone())) {
            return Err(Error::BucketNotFound);
        }
        match self.streams.get(key) {
            None => Err(Error::StreamNotFound),
            Some(stream) if stream.hidden.is_some() => Err(Error::StreamGone),
            Some(stream) if !self.due(stream) => {
                Ok((&stream.bytes[(stream.earliest.0 - stream.first.0) as usize..], stream.closed, stream.earliest))
            }
            Some(stream) if stream.forks.is_empty() => Err(Error::StreamNotFound),
            Some(_) => Err(Error::StreamGone),
        }
    }

    fn live(&mut self, key: &StreamKey) -> Result<&mut Stream, Error> {
        self.expire_key(key);
        self.read(key)?;
        Ok(self.streams.get_mut(key).expect("it was read"))
    }

    /// A reader has seen where a stream begins, which a retention may have moved.
    pub(super) fn observe(&mut self, key: &StreamKey, earliest: Offset) {
        let now = self.now;
        let stream = self.streams.get_mut(key).expect("it is there");
        let (least, most) = stream.bounds(now);
        assert!(least <= earliest && earliest <= most, "{key} begins at {earliest}, not from {least} to {most}");
        let is_end = earliest == stream.earliest
            || stream.appends.iter().any(|(end, _)| *end == earliest)
            || stream.retention.snapshot && stream.published.contains(&earliest);
        assert!(is_end, "{key} begins at {earliest}, between appends");
        stream.earliest = earliest;
    }

    /// Its offset counts from the first that the stream ever had.
    pub(super) fn trim(&mut self, trim: &Trim) -> Result<Reply, Error> {
        let stream = self.live(&trim.key)?;
        let to = stream.place(trim.to);
        if to.first() != stream.first {
            return Err(Error::OffsetGone { earliest: stream.earliest });
        }
        if to > stream.tail() {
            return Err(Error::OffsetInvalid);
        }
        stream.earliest = stream.earliest.max(to);
        stream.trimmed = stream.earliest;
        Ok(Reply::Trimmed(stream.earliest))
    }

    pub(super) fn delete(&mut self, key: &StreamKey) -> Result<Reply, Error> {
        let stream = self.live(key)?;
        if key.name.is_companion() && stream.lifetime == Lifetime::Forever {
            return Ok(Reply::Done);
        }
        self.end(key, Hidden::Deleted);
        Ok(Reply::Done)
    }

    pub(super) fn touch(&mut self, key: &StreamKey) -> Result<Reply, Error> {
        let now = self.now;
        self.live(key)?.touched = now;
        Ok(Reply::Done)
    }

    /// `None` if the name is free.
    pub(super) fn found(&mut self, create: &Create) -> Option<Result<Reply, Error>> {
        if !self.buckets.contains(&(home(&create.key), create.key.bucket.clone())) {
            return Some(Err(Error::BucketNotFound));
        }
        self.expire_key(&create.key);
        let stream = self.streams.get(&create.key)?;
        let tail = stream.tail();
        let default = if create.fork.is_some() { stream.content_type.clone() } else { ContentType::default() };
        let same_type = create.content_type.clone().unwrap_or(default).same_media_type(&stream.content_type);
        let inherits = create.fork.is_some() && create.lifetime == Lifetime::Forever;
        let same_fork = match (&create.fork, &stream.fork) {
            (None, None) => true,
            (Some(wanted), Some((source, anchor, sub_offset, ..))) => {
                (&wanted.source, wanted.sub_offset) == (source, *sub_offset)
                    && wanted.offset.is_none_or(|offset| stream.place(offset) == Offset(*anchor))
            }
            _ => false,
        };
        let text = |lifetime: &Lifetime| match lifetime {
            Lifetime::Forever => String::new(),
            Lifetime::Ttl(seconds) => seconds.to_string(),
            Lifetime::ExpiresAt { text, .. } => text.to_string(),
        };
        let same_lifetime = inherits || text(&create.lifetime) == text(&stream.lifetime);
        let keeps_as_source = create.fork.is_some() && create.retention == Retention::default();
        let same_retention = keeps_as_source || create.retention == stream.retention;
        let same = same_type && same_fork && same_lifetime && same_retention && create.closed == stream.closed;
        let closed = stream.closed;
        Some(if same && stream.hidden.is_none() {
            Ok(Reply::Created(Created { new: false, tail, closed, content_type: stream.content_type.clone() }))
        } else {
            Err(Error::StreamExists { tail, closed })
        })
    }

    fn add(&mut self, create: &Create, mut stream: Stream) -> Result<Reply, Error> {
        stream.bytes.extend_from_slice(&create.body);
        stream.trimmed = stream.earliest;
        stream.note_append(self.now);
        let (tail, content_type) = (stream.tail(), stream.content_type.clone());
        self.streams.insert(create.key.clone(), stream);
        Ok(Reply::Created(Created { new: true, tail, closed: create.closed, content_type }))
    }

    fn blank(&self, create: &Create) -> Stream {
        Stream {
            content_type: create.content_type.clone().unwrap_or_default(),
            first: Offset(0),
            earliest: Offset(0),
            retention: create.retention,
            appends: Vec::new(),
            bytes: Vec::new(),
            closed: create.closed,
            lifetime: create.lifetime.clone(),
            touched: self.now,
            hidden: None,
            producers: BTreeMap::new(),
            stream_seq: None,
            closed_by: None,
            fork: None,
            forks: BTreeMap::new(),
            snapshot: None,
            published: Vec::new(),
            trimmed: Offset(0),
        }
    }

    /// `None` if the source has to be asked. A new stream begins at `first`, where none of its name began before.
    pub(super) fn create(&mut self, create: &Create, first: Offset) -> Option<Result<Reply, Error>> {
        if create.key.name.is_companion() {
            if create.lifetime == Lifetime::Forever || create.retention != Retention::default() {
                return Some(Err(Error::Malformed));
            }
            if let Err(error) = self.live(&create.key.owner()) {
                return Some(Err(error));
            }
        }
        if let Some(found) = self.found(create) {
            return Some(found);
        }
        if create.fork.is_some() {
            return None;
        }
        let before = self.firsts.insert(create.key.clone(), first);
        assert!(!create.numbered || before != Some(first), "{first} is where another stream of this name began");
        let stream = Stream { first, earliest: first, ..self.blank(create) };
        Some(self.add(create, stream))
    }

    /// The answer of the source has come to the fork.
    pub(super) fn forked(
        &mut self,
        create: &Create,
        id: StreamId,
        got: Result<ForkPoint, Error>,
    ) -> Result<Reply, Error> {
        let from = create.fork.clone().expect("it is a fork");
        let fork_ref = ForkRef { source: from.source.clone(), fork: create.key.clone(), fork_id: id };
        let outcome = got.and_then(|point| match self.found(create) {
            Some(found) => found,
            None => {
                let mut stream = self.blank(create);
                stream.content_type = create.content_type.clone().unwrap_or(point.content_type);
                if create.lifetime == Lifetime::Forever {
                    stream.lifetime = point.lifetime;
                }
                if create.retention == Retention::default() {
                    stream.retention = point.retention;
                }
                (stream.first, stream.earliest, stream.bytes) = self.granted[&(create.key.clone(), id)].clone();
                assert_eq!(stream.tail(), point.at);
                stream.fork = Some((from.source, point.anchor.0, from.sub_offset, id, point.depth, point.at));
                self.add(create, stream)
            }
        });
        if !matches!(&outcome, Ok(Reply::Created(Created { new: true, .. }))) {
            self.to_release.push(fork_ref);
        }
        outcome
    }

    /// A reference is asked for. The incarnation of the source is left out of the answer.
    pub(super) fn acquire(&mut self, ask: &AcquireFork) -> Result<Reply, Error> {
        let fork = (ask.fork_ref.fork.clone(), ask.fork_ref.fork_id);
        self.expire_key(&ask.fork_ref.source);
        let stream = self.streams.get_mut(&ask.fork_ref.source).ok_or(Error::ForkSourceNotFound)?;
        let tail = stream.tail();
        if !stream.forks.contains_key(&fork) {
            if stream.hidden == Some(Hidden::Expired) {
                return Err(Error::ForkSourceNotFound);
            }
            if stream.hidden.is_some() || self.released.contains(&fork) {
                return Err(Error::ForkSourceGone);
            }
            if ask.content_type.as_ref().is_some_and(|wanted| !wanted.same_media_type(&stream.content_type)) {
                return Err(Error::ForkContentTypeMismatch { expected: stream.content_type.clone() });
            }
            let anchor = ask.offset.map_or(tail, |offset| stream.place(offset));
            let at = anchor.0 + ask.sub_offset;
            if anchor < stream.first || anchor > tail {
                return Err(Error::ForkOffsetInvalid { tail });
            }
            if anchor < stream.earliest {
                return Err(Error::OffsetGone { earliest: stream.earliest });
            }
            if at > tail.0 {
                return Err(Error::ForkSubOffsetInvalid);
            }
            let inherited = stream.bytes[..(at - stream.first.0) as usize].to_vec();
            self.granted.insert(fork.clone(), (stream.first, stream.earliest, inherited));
            stream.forks.insert(fork.clone(), (anchor.0, at, stream.earliest));
        }
        let (anchor, at, earliest) = stream.forks[&fork];
        Ok(Reply::ForkAcquired(ForkPoint {
            source_id: StreamId(0),
            anchor: Offset(anchor),
            at: Offset(at),
            content_type: stream.content_type.clone(),
            lifetime: stream.lifetime.clone(),
            retention: stream.retention,
            earliest,
            depth: stream.fork.as_ref().map_or(1, |fork| fork.4 + 1),
        }))
    }

    pub(super) fn release(&mut self, fork_ref: &ForkRef) {
        let fork = (fork_ref.fork.clone(), fork_ref.fork_id);
        self.released.insert(fork.clone());
        let Some(stream) = self.streams.get_mut(&fork_ref.source) else { return };
        stream.forks.remove(&fork);
        if stream.hidden.is_some() && stream.forks.is_empty() {
            self.remove(&fork_ref.source);
        }
    }

    /// Whether the bucket is gone from the group. Expires what stands before the first stream that stays.
    pub(super) fn drop_bucket(&mut self, group: GroupId, bucket: &BucketName) -> bool {
        let here = |key: &&StreamKey| home(key) == group && key.bucket == *bucket;
        for key in self.streams.keys().filter(here).filter(|key| !key.name.is_companion()).cloned().collect::<Vec<_>>()
        {
            if !self.due(&self.streams[&key]) {
                break;
            }
            self.end(&key, Hidden::Expired);
        }
        let empty = !self.streams.keys().any(|key| here(&key));
        if empty {
            self.buckets.remove(&(group, bucket.clone()));
        }
        empty
    }

    pub(super) fn append(&mut self, append: &Append) -> Result<Reply, Error> {
        let now = self.now;
        let stream = self.live(&append.key)?;
        let tail = stream.tail();
        let answer =
            |tail, closed, duplicate, producer| Ok(Reply::Appended(Appended { tail, closed, duplicate, producer }));
        if stream.closed {
            return match &append.producer {
                Some(who) if stream.closed_by.as_ref() == Some(who) => {
                    answer(tail, true, true, Some((who.epoch, who.seq)))
                }
                None if append.body.is_empty() => answer(tail, true, true, None),
                _ => Err(Error::StreamClosed { tail }),
            };
        }
        let given = append.content_type.as_ref();
        if !append.body.is_empty() && !given.is_some_and(|given| given.same_media_type(&stream.content_type)) {
            return Err(Error::ContentTypeMismatch { expected: stream.content_type.clone() });
        }
        if let Some(who) = &append.producer {
            match stream.producers.get(&*who.id) {
                None if who.seq > 0 => return Err(Error::ProducerGap { expected: 0, received: who.seq }),
                Some((epoch, _)) if who.epoch < *epoch => return Err(Error::StaleEpoch { current: *epoch }),
                Some((epoch, _)) if who.epoch > *epoch && who.seq > 0 => return Err(Error::EpochStart),
                Some((epoch, last)) if who.epoch == *epoch && who.seq <= *last => {
                    return answer(tail, false, true, Some((*epoch, *last)));
                }
                Some((epoch, last)) if who.epoch == *epoch && who.seq > last + 1 => {
                    return Err(Error::ProducerGap { expected: last + 1, received: who.seq });
                }
                _ => {}
            }
        }
        let ordered = append.stream_seq.as_deref().filter(|_| !append.body.is_empty());
        if ordered.is_some() && ordered <= stream.stream_seq.as_deref() {
            return Err(Error::StreamSeqConflict { tail });
        }
        if append.expected_offset.is_some_and(|expected| stream.place(expected) != tail) {
            return Err(Error::OffsetMismatch { tail });
        }
        if let Some(who) = &append.producer {
            stream.producers.insert(who.id.to_string(), (who.epoch, who.seq));
        }
        if let Some(seq) = ordered {
            stream.stream_seq = Some(seq.to_owned());
        }
        stream.bytes.extend_from_slice(&append.body);
        stream.note_append(now);
        stream.touched = now;
        stream.closed = append.close;
        stream.closed_by = append.producer.clone().filter(|_| append.close);
        let tail = stream.tail();
        answer(tail, append.close, false, append.producer.as_ref().map(|who| (who.epoch, who.seq)))
    }
}
