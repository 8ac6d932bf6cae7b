//! A cluster without a network: the meta group, two groups of streams, and the messages between them
//! in the hands of the test. Streams whose names start with `b` live in group 2, others in group 1.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ursula_common::verb::{
    Append, Appended, Create, Created, ForkCut, ForkFrom, Lifetime, Op, Producer, PublishSnapshot, Reply, Retention,
    SagaStep, SnapshotCondition, StreamInfo, Trim,
};
use ursula_common::{BucketName, ContentType, Error, GroupId, Millis, Offset, SagaId, StreamId, StreamKey};

use crate::{Answer, Command, Destination, Effect, Message, Origin, State};

pub(super) const START: Millis = Millis(1_700_000_000_000);

/// Something on its way between two groups.
#[derive(Debug, Clone)]
pub(super) enum Flight {
    Request { from: GroupId, message: Message },
    Reply { to: GroupId, step: SagaStep },
}

pub(super) struct World {
    pub(super) groups: Vec<State>,
    pub(super) now: Millis,
    pub(super) flights: Vec<Flight>,
    /// Effects of the last command.
    pub(super) effects: Vec<Effect>,
    pub(super) finished: BTreeMap<(GroupId, SagaId), Result<Reply, Error>>,
    /// The bytes that each incarnation itself holds, and where they begin.
    pub(super) rings: BTreeMap<(GroupId, StreamId), (Offset, Vec<u8>)>,
}

impl World {
    pub(super) fn new() -> World {
        World {
            groups: (0..3).map(|group| State::new(GroupId(group), 2)).collect(),
            now: START,
            flights: Vec::new(),
            effects: Vec::new(),
            finished: BTreeMap::new(),
            rings: BTreeMap::new(),
        }
    }

    pub(super) fn state(&self, group: GroupId) -> &State {
        &self.groups[group.0 as usize]
    }

    pub(super) fn pass(&mut self, seconds: f64) {
        self.now = self.now.after(Duration::from_secs_f64(seconds));
    }

    /// Applies one op; messages that it sends wait in `flights`.
    pub(super) fn apply(&mut self, group: GroupId, op: Op, origin: Option<Origin>) -> Answer {
        let command = Command { at: self.now, origin, op };
        self.effects.clear();
        let state = &mut self.groups[group.0 as usize];
        let answer = state.apply(command, &mut self.effects);
        state.check();
        for effect in &self.effects {
            match effect.clone() {
                Effect::Appended { stream, at, bytes } => {
                    let ring = self.rings.entry((group, stream)).or_insert((at, Vec::new()));
                    assert_eq!(at.0, ring.0.0 + ring.1.len() as u64, "appends leave no gap");
                    ring.1.extend_from_slice(&bytes);
                }
                Effect::Trimmed { stream, to } => {
                    let (at, ring) = self.rings.get_mut(&(group, stream)).expect("there is something to let go");
                    assert!(*at < to && to.0 <= at.0 + ring.len() as u64, "what is let go is there");
                    drop(ring.drain(..(to.0 - at.0) as usize));
                    *at = to;
                }
                Effect::Removed { stream } => drop(self.rings.remove(&(group, stream))),
                Effect::Send(message) => self.flights.push(Flight::Request { from: group, message }),
                Effect::Finished { saga, outcome } => drop(self.finished.insert((group, saga), outcome)),
                Effect::Closed { .. } | Effect::Detached { .. } => {}
            }
        }
        answer
    }

    /// Delivers one thing; an answer to a request goes on its way.
    pub(super) fn deliver(&mut self, flight: Flight) {
        match flight {
            Flight::Reply { to, step } => drop(self.apply(to, Op::SagaStep(step), None)),
            Flight::Request { from, message } => {
                let Message { saga, message, to, op } = message;
                let to = match &to {
                    Destination::Stream(key) => home(key),
                    Destination::Group(group) => *group,
                };
                let op = self.look_for_cut(op);
                let Answer::Done(outcome) = self.apply(to, op, None) else { panic!("a message is decided at once") };
                self.flights.push(Flight::Reply { to: from, step: SagaStep { saga, message, outcome } });
            }
        }
    }

    /// What the leader does: here every place is a boundary, so it only adds.
    pub(super) fn look_for_cut(&self, mut op: Op) -> Op {
        if let Op::Trim(Trim { key, to, cut }) = &mut op {
            let info = self.state(home(key)).info(key, self.now);
            *cut = info.ok().map(|info| ForkCut { stream: info.id, at: to.within(info.tail) });
        }
        if let Op::PublishSnapshot(PublishSnapshot { key, at, cut, .. }) = &mut op {
            let info = self.state(home(key)).info(key, self.now);
            *cut = info.ok().map(|info| ForkCut { stream: info.id, at: at.within(info.tail) });
        }
        if let Op::AcquireFork(acquire) = &mut op
            && let Some(offset) = acquire.offset
            && let Ok(info) = self.state(home(&acquire.fork_ref.source)).info(&acquire.fork_ref.source, self.now)
            && let at = Offset(offset.within(info.tail).0 + acquire.sub_offset)
            && (info.earliest..=info.tail).contains(&at)
        {
            acquire.cut = Some(ForkCut { stream: info.id, at });
        }
        op
    }

    /// Delivers everything, oldest first, until nothing is on its way.
    pub(super) fn settle(&mut self) {
        while !self.flights.is_empty() {
            let flight = self.flights.remove(0);
            self.deliver(flight);
        }
    }

    /// Does an op with everything that follows from it.
    pub(super) fn run(&mut self, verb: impl Verb) -> Result<Reply, Error> {
        let op = self.look_for_cut(verb.op());
        let group = group_of(&op);
        match self.apply(group, op, None) {
            Answer::Done(outcome) => outcome,
            Answer::Pending(saga) => {
                self.settle();
                self.finished.remove(&(group, saga)).expect("the saga has finished")
            }
        }
    }

    pub(super) fn info(&self, name: &str) -> Result<StreamInfo, Error> {
        let key = key(name);
        self.state(home(&key)).info(&key, self.now)
    }

    /// All bytes of a stream, as a reader puts them together.
    pub(super) fn read(&self, name: &str) -> Result<String, Error> {
        let key = key(name);
        let info = self.info(name)?;
        let bytes = self.bytes(&key, &info, info.earliest, info.tail);
        Ok(String::from_utf8(bytes).expect("tests write text"))
    }

    fn bytes(&self, key: &StreamKey, info: &StreamInfo, from: Offset, until: Offset) -> Vec<u8> {
        assert!(info.earliest <= from, "{key} begins where it is read");
        let start = info.fork.as_ref().map_or(info.tail.first(), |link| link.at.min(until));
        let mut bytes = match &info.fork {
            Some(link) if from < start => {
                let source = self.state(home(&link.source)).inherited(&link.source, link.source_id);
                self.bytes(&link.source, &source.expect("the source is kept"), from, start)
            }
            _ => Vec::new(),
        };
        let from_own = from.max(start);
        if let Some((at, own)) = self.rings.get(&(home(key), info.id)).filter(|_| from_own < until) {
            assert!(*at >= start && *at <= from_own, "own bytes begin behind the inherited ones");
            bytes.extend_from_slice(&own[(from_own.0 - at.0) as usize..(until.0 - at.0) as usize]);
        }
        assert_eq!(bytes.len() as u64, until.0 - from.0, "all bytes of {key} are there");
        bytes
    }
}

/// The group that holds a stream.
pub(super) fn home(key: &StreamKey) -> GroupId {
    GroupId(if key.name.as_str().starts_with('b') { 2 } else { 1 })
}

/// A stream with three records of four bytes.
pub(super) fn world_with(name: &str) -> World {
    let mut world = World::new();
    world.run(create(name)).expect("created");
    for body in ["one.", "two.", "six."] {
        world.run(append(name, body)).expect("appended");
    }
    world
}

/// Where a client's op goes.
pub(super) fn group_of(op: &Op) -> GroupId {
    match op {
        Op::Create(create) => home(&create.key),
        Op::Append(append) => home(&append.key),
        Op::Delete(key) | Op::Touch(key) | Op::Trim(Trim { key, .. }) => home(key),
        Op::PublishSnapshot(publish) => home(&publish.key),
        Op::RemoveSnapshot(remove) => home(&remove.key),
        Op::CreateBucket(..) | Op::DeleteBucket(_) => GroupId::META,
        Op::Expire | Op::BeginPacks | Op::CommitPack(_) => GroupId(1),
        _ => panic!("not an op of a client: {op:?}"),
    }
}

pub(super) fn bucket(name: &str) -> BucketName {
    BucketName::parse(name).expect(name)
}

/// `name` in the default bucket, or `bucket:name`.
pub(super) fn key(name: &str) -> StreamKey {
    let (bucket, name) = name.split_once(':').unwrap_or(("default", name));
    StreamKey::parse_any(bucket, name).expect(name)
}

pub(super) fn text() -> ContentType {
    ContentType::parse("text/plain")
}

/// A text stream.
pub(super) fn create(name: &str) -> Create {
    Create {
        key: key(name),
        content_type: Some(text()),
        lifetime: Lifetime::Forever,
        closed: false,
        body: Bytes::new(),
        fork: None,
        numbered: false,
        retention: Retention::default(),
    }
}

/// A fork of `source` at its tail.
pub(super) fn fork(name: &str, source: &str) -> Create {
    let fork = Some(ForkFrom { source: key(source), offset: None, sub_offset: 0 });
    Create { content_type: None, fork, ..create(name) }
}

/// A fork of `source` at an offset.
pub(super) fn fork_at(name: &str, source: &str, offset: u64, sub_offset: u64) -> Create {
    let fork_from = ForkFrom { source: key(source), offset: Some(Offset(offset)), sub_offset };
    Create { fork: Some(fork_from), ..fork(name, source) }
}

pub(super) fn append(name: &str, body: &'static str) -> Append {
    Append {
        key: key(name),
        content_type: Some(text()),
        body: Bytes::from_static(body.as_bytes()),
        close: false,
        producer: None,
        stream_seq: None,
        expected_offset: None,
    }
}

/// Closes without a body.
pub(super) fn close(name: &str) -> Append {
    Append { close: true, content_type: None, ..append(name, "") }
}

pub(super) fn by(id: &str, epoch: u64, seq: u64) -> Option<Producer> {
    Some(Producer { id: id.into(), epoch, seq })
}

pub(super) fn delete(name: &str) -> Op {
    Op::Delete(key(name))
}

/// Lets a stream begin at an offset.
pub(super) fn trim(name: &str, to: u64) -> Op {
    Op::Trim(Trim { key: key(name), to: Offset(to), cut: None })
}

/// An upload for a stream, of one piece.
pub(super) fn upload(name: &str, upload: u64, body: &'static str) -> Create {
    let body = Bytes::from_static(body.as_bytes());
    Create { key: key(name).companion(upload), lifetime: Lifetime::Ttl(900), body, ..create(name) }
}

/// Publishes an upload of so many bytes; its number is its digest.
pub(super) fn publish(name: &str, at: u64, upload: u64, bytes: u64) -> PublishSnapshot {
    PublishSnapshot {
        key: key(name),
        at: Offset(at),
        cut: None,
        upload,
        content_type: text(),
        bytes,
        digest: [upload as u8; 32],
        condition: SnapshotCondition::Any,
    }
}

pub(super) fn touch(name: &str) -> Op {
    Op::Touch(key(name))
}

/// What scripts can run.
pub(super) trait Verb {
    fn op(self) -> Op;
}

impl Verb for Op {
    fn op(self) -> Op {
        self
    }
}

impl Verb for Create {
    fn op(self) -> Op {
        Op::Create(self)
    }
}

impl Verb for Append {
    fn op(self) -> Op {
        Op::Append(self)
    }
}

impl Verb for PublishSnapshot {
    fn op(self) -> Op {
        Op::PublishSnapshot(self)
    }
}

/// The answer of a create.
pub(super) fn created(new: bool, tail: u64) -> Result<Reply, Error> {
    Ok(Reply::Created(Created { new, tail: Offset(tail), closed: false, content_type: text() }))
}

/// The answer of an append.
pub(super) fn appended(tail: u64) -> Result<Reply, Error> {
    Ok(Reply::Appended(Appended { tail: Offset(tail), closed: false, duplicate: false, producer: None }))
}

/// The answer of an append by a producer.
pub(super) fn produced(tail: u64, epoch: u64, seq: u64) -> Result<Reply, Error> {
    let producer = Some((epoch, seq));
    Ok(Reply::Appended(Appended { tail: Offset(tail), closed: false, duplicate: false, producer }))
}

/// The answer to an append that a producer repeats.
pub(super) fn repeated(tail: u64, epoch: u64, seq: u64) -> Result<Reply, Error> {
    let producer = Some((epoch, seq));
    Ok(Reply::Appended(Appended { tail: Offset(tail), closed: false, duplicate: true, producer }))
}
