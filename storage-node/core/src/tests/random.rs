//! A random walk beside the model: two groups and the meta group, sessions that repeat themselves,
//! messages that are lost, late, doubled and out of order, snapshots in between. Every answer is
//! compared, every invariant is checked after every command, and in the end nothing may be left over.

mod compare;
mod held;
mod import;
mod packs;
mod snapshots;

use std::collections::{BTreeMap, BTreeSet};

use ursula_common::error::{Outcome, Retry};
use ursula_common::verb::{Ack, Append, Create, ForkPoint, Op, PublishSnapshot, RemoveSnapshot, Reply, SagaStep, Trim};
use ursula_common::{Error, GroupId, Offset, SagaId, SessionId, StreamId, StreamKey};

use super::dice::{BUCKETS, Dice};
use super::model::Model;
use super::world::*;
use crate::{Answer, Command, Destination, Effect, Message, Origin, State, decode_batch, encode_batch};

/// A saga as the test follows it.
enum Followed {
    Fork { create: Create, id: StreamId },
    Bucket { name: &'static str, removing: bool, restoring: bool, refused: bool, waiting: BTreeSet<GroupId> },
}

struct Walk {
    dice: Dice,
    world: World,
    model: Model,
    /// Buckets as the meta group sees them; `true` is busy.
    meta: BTreeMap<&'static str, (bool, Ack)>,
    followed: BTreeMap<(GroupId, SagaId), Followed>,
    /// The last step for a bucket that did something, by group.
    steps: BTreeMap<(GroupId, String), u64>,
    /// Client ops by group and sequence, with the first answer.
    asked: BTreeMap<(GroupId, u64), (Op, Answer)>,
    seq: u64,
    acked: u64,
    store: packs::Store,
    uploads: snapshots::Uploads,
    held: held::Held,
}

const SESSION: SessionId = SessionId(0xfeed_beef_feed_beef);

impl Walk {
    fn new(seed: u64) -> Walk {
        let mut model = Model::default();
        model.now = START.0;
        model.buckets.extend([1, 2].map(|group| (GroupId(group), bucket("default"))));
        Walk {
            dice: Dice(seed),
            world: World::new(),
            model,
            meta: BTreeMap::from([("default", (false, Ack::Quorum))]),
            followed: BTreeMap::new(),
            steps: BTreeMap::new(),
            asked: BTreeMap::new(),
            seq: 0,
            acked: 0,
            store: packs::Store::default(),
            uploads: snapshots::Uploads::default(),
            held: held::Held::default(),
        }
    }

    fn step(&mut self) {
        match self.dice.below(105) {
            0..50 => self.client(),
            50..55 => self.repeat(),
            55..88 => self.deliver(),
            88..91 => self.resend(),
            91..94 => self.pass(),
            94..98 => self.expire(),
            98..100 => self.restart(),
            _ => self.packs(),
        }
        assert!(self.model.to_release.is_empty(), "a reference that nobody gave back");
    }

    /// Applies one command to the group, and to a copy that has been through a snapshot.
    fn apply(&mut self, group: GroupId, op: Op, origin: Option<Origin>) -> Answer {
        let command = Command { at: self.world.now, origin, op: op.clone() };
        let twin = self.dice.chance(5).then(|| {
            let mut twin = State::decode(self.world.state(group).encode().into()).expect("a snapshot is read");
            let decoded = decode_batch(encode_batch(std::slice::from_ref(&command)).into());
            assert_eq!(decoded.as_deref(), Ok(&[command.clone()][..]));
            let mut effects = Vec::new();
            (twin.apply(command, &mut effects), effects, twin)
        });
        let answer = self.world.apply(group, op, origin);
        if let Some((twin_answer, effects, twin)) = twin {
            assert_eq!((&twin_answer, &effects), (&answer, &self.world.effects));
            assert!(twin.encode() == self.world.state(group).encode(), "a snapshot holds everything");
        }
        for effect in &self.world.effects {
            if let Effect::Send(Message { op: Op::ReleaseFork(fork_ref), .. }) = effect {
                let place = self.model.to_release.iter().position(|expected| expected == fork_ref);
                self.model.to_release.remove(place.expect("nobody should give this reference back"));
            }
        }
        answer
    }

    fn client(&mut self) {
        let mut op = self.dice.op(self.model.now);
        if self.dice.chance(80) {
            self.aim(&mut op);
        }
        self.choose_upload(&mut op);
        let group = group_of(&op);
        let seq = self.seq;
        self.seq += 1;
        if self.dice.chance(2) {
            self.acked += self.dice.below(self.seq - self.acked);
        }
        self.observe_key(&op);
        let op = self.world.look_for_cut(op);
        let expected = self.expect(&op);
        let answer = self.apply(group, op.clone(), Some(Origin { session: SESSION, seq, acked: self.acked }));
        match (&answer, expected) {
            (Answer::Done(outcome), Some(expected)) => assert_eq!(*outcome, expected, "{op:?}"),
            (Answer::Pending(saga), None) => self.follow(group, *saga, &op),
            (answer, expected) => panic!("{op:?}: {answer:?} instead of {expected:?}"),
        }
        self.compare_key(&op);
        self.hold(group, &op);
        let later = matches!(&answer, Answer::Done(Err(error)) if error.retry() == Retry::Later);
        if !later {
            self.asked.insert((group, seq), (op, answer));
        }
    }

    /// Lets the offset in an op be one of the stream that it is about, or nearly.
    fn aim(&self, op: &mut Op) {
        let (key, offset) = match op {
            Op::Append(append) => (&append.key, &mut append.expected_offset),
            Op::Create(Create { fork: Some(fork), .. }) => (&fork.source, &mut fork.offset),
            Op::Trim(Trim { key, to: at, .. })
            | Op::PublishSnapshot(PublishSnapshot { key, at, .. })
            | Op::RemoveSnapshot(RemoveSnapshot { key, at, .. }) => {
                at.0 += self.model.streams.get(key).map_or(0, |stream| stream.first.0);
                return;
            }
            _ => return,
        };
        if let (Some(stream), Some(offset)) = (self.model.streams.get(key), offset) {
            offset.0 += stream.first.0;
        }
    }

    /// `None` if it takes a saga.
    fn expect(&mut self, op: &Op) -> Option<Result<Reply, Error>> {
        match op {
            Op::Append(append) => Some(self.model.append(append)),
            Op::Create(create) => {
                // Time may have to pass first.
                let mut state = self.world.state(group_of(op)).clone();
                state.now = self.world.now;
                state.expire_if_due(&create.key, &mut Vec::new());
                let first = if create.numbered { state.first_offset() } else { Offset::ZERO };
                self.model.create(create, first)
            }
            Op::Delete(key) => Some(self.model.delete(key)),
            Op::Touch(key) => Some(self.model.touch(key)),
            Op::Trim(trim) => Some(self.model.trim(trim)),
            Op::PublishSnapshot(publish) => Some(self.publish(publish)),
            Op::RemoveSnapshot(remove) => Some(self.model.remove_snapshot(remove)),
            Op::CreateBucket(name, ack) => match self.meta.get(name.as_str()) {
                None if *ack == Ack::Quorum || self.world.state(GroupId::META).packing().is_some() => None,
                None => Some(Err(Error::StoreAway)),
                Some((true, _)) => Some(Err(Error::BucketBusy)),
                Some((false, known)) if known != ack => Some(Err(Error::BucketExists)),
                Some((false, _)) => Some(Ok(Reply::Bucket(false))),
            },
            Op::DeleteBucket(name) => match self.meta.get(name.as_str()) {
                _ if name.as_str() == "default" => Some(Err(Error::BucketProtected)),
                None => Some(Err(Error::BucketNotFound)),
                Some((true, _)) => Some(Err(Error::BucketBusy)),
                Some((false, _)) => None,
            },
            _ => panic!("not an op of a client"),
        }
    }

    fn follow(&mut self, group: GroupId, saga: SagaId, op: &Op) {
        let bucket = |name: &str, removing| {
            let name = BUCKETS.into_iter().find(|known| *known == name).expect("one of ours");
            let waiting = [1, 2].map(GroupId).into();
            (name, Followed::Bucket { name, removing, restoring: false, refused: false, waiting })
        };
        let followed = match op {
            Op::Create(create) => {
                let ask = self.world.effects.iter().find_map(|effect| match effect {
                    Effect::Send(Message { op: Op::AcquireFork(ask), .. }) => Some(ask),
                    _ => None,
                });
                let ask = ask.expect("a question to the source");
                Followed::Fork { create: create.clone(), id: ask.fork_ref.fork_id }
            }
            Op::CreateBucket(name, ack) => {
                let (name, followed) = bucket(name.as_str(), false);
                self.meta.insert(name, (true, *ack));
                followed
            }
            Op::DeleteBucket(name) => {
                let (name, followed) = bucket(name.as_str(), true);
                self.meta.entry(name).and_modify(|known| known.0 = true);
                followed
            }
            _ => panic!("{op:?} needs no saga"),
        };
        self.followed.insert((group, saga), followed);
    }

    /// A client sends an old op again.
    fn repeat(&mut self) {
        let known: Vec<_> = self.asked.keys().copied().collect();
        if known.is_empty() {
            return;
        }
        let (group, seq) = self.dice.pick(&known);
        let (op, first) = self.asked[&(group, seq)].clone();
        let origin = Origin { session: SESSION, seq, acked: 0 };
        let before = self.world.state(group).sessions.known[&SESSION].floor;
        let answer = self.apply(group, op, Some(origin));
        let expected = match first {
            _ if seq < before => Answer::Done(Err(Error::ResultForgotten)),
            Answer::Pending(saga) => match self.world.finished.get(&(group, saga)) {
                Some(outcome) => Answer::Done(outcome.clone()),
                None => first,
            },
            Answer::Done(_) => first,
        };
        assert_eq!(answer, expected);
        assert!(self.world.effects.is_empty(), "a repeated op has no effects");
        if seq < before {
            self.asked.remove(&(group, seq));
        }
    }

    fn deliver(&mut self) {
        if self.world.flights.is_empty() {
            return;
        }
        let index = self.dice.below(self.world.flights.len() as u64) as usize;
        let flight = self.world.flights.swap_remove(index);
        if self.world.flights.len() > 40 || self.dice.chance(10) {
            return; // Lost.
        }
        if self.dice.chance(25) {
            self.world.flights.push(flight.clone());
        }
        match flight {
            Flight::Request { from, message } => self.request(from, message),
            Flight::Reply { to, step } => self.reply(to, step),
        }
    }

    fn request(&mut self, from: GroupId, message: Message) {
        let Message { saga, message, to, op } = message;
        let to = match &to {
            Destination::Stream(key) => home(key),
            Destination::Group(group) => *group,
        };
        let failure = [Error::NOT_HERE, Error::Overloaded, Error::OutcomeUnknown, Error::Unavailable];
        let outcome = if self.dice.chance(8) {
            Err(self.dice.pick(&failure))
        } else {
            let op = self.world.look_for_cut(op);
            let expected = self.expect_request(to, &op);
            let Answer::Done(outcome) = self.apply(to, op.clone(), None) else { panic!("decided at once") };
            let mut seen = outcome.clone();
            if let Ok(Reply::ForkAcquired(point)) = &mut seen {
                point.source_id = StreamId(0);
            }
            assert_eq!(seen, expected, "{op:?}");
            outcome
        };
        self.world.flights.push(Flight::Reply { to: from, step: SagaStep { saga, message, outcome } });
    }

    fn expect_request(&mut self, to: GroupId, op: &Op) -> Result<Reply, Error> {
        match op {
            Op::AcquireFork(ask) => {
                self.observe(&ask.fork_ref.source);
                return self.model.acquire(ask);
            }
            Op::ReleaseFork(fork_ref) => self.model.release(fork_ref),
            Op::InstallBucket(step) | Op::DropBucket(step) => {
                let last = self.steps.entry((to, step.bucket.to_string())).or_default();
                let there = self.model.buckets.contains(&(to, step.bucket.clone()));
                let install = matches!(op, Op::InstallBucket(_));
                if step.order < *last || install == there {
                    *last = step.order.max(*last);
                } else if install {
                    *last = step.order;
                    self.model.buckets.insert((to, step.bucket.clone()));
                } else if self.model.drop_bucket(to, &step.bucket) {
                    *last = step.order;
                } else {
                    return Err(Error::BucketNotEmpty);
                }
            }
            _ => panic!("not an op between groups"),
        }
        Ok(Reply::Done)
    }

    fn reply(&mut self, to: GroupId, step: SagaStep) {
        let saga = (to, step.saga);
        let undecided = matches!(&step.outcome, Err(error)
            if error.retry() == Retry::Later || error.outcome() == Outcome::Unknown);
        let expected = match self.followed.get_mut(&saga) {
            _ if undecided => None,
            None => None,
            Some(Followed::Fork { create, id }) => {
                let point: Result<ForkPoint, Error> = step.outcome.clone().map(|reply| match reply {
                    Reply::ForkAcquired(point) => point,
                    other => panic!("{other:?}"),
                });
                Some(self.model.forked(create, *id, point))
            }
            Some(Followed::Bucket { name, removing, restoring, refused, waiting }) => {
                let group = GroupId(step.message / 2);
                if (step.message % 2 == 1) == *restoring && waiting.remove(&group) {
                    *refused |= step.outcome.is_err();
                }
                let done = waiting.is_empty();
                let gone = done && *removing && !*refused;
                if gone {
                    self.meta.remove(*name);
                } else if done && *refused && !*restoring {
                    (*restoring, *waiting) = (true, [1, 2].map(GroupId).into());
                } else if done {
                    self.meta.entry(*name).and_modify(|known| known.0 = false);
                }
                match (waiting.is_empty(), *removing, *refused) {
                    (false, _, _) => None,
                    (true, false, _) => Some(Ok(Reply::Bucket(true))),
                    (true, true, false) => Some(Ok(Reply::Done)),
                    (true, true, true) => Some(Err(Error::BucketNotEmpty)),
                }
            }
        };
        self.apply(to, Op::SagaStep(step), None);
        let finished = self.world.effects.iter().find_map(|effect| match effect {
            Effect::Finished { saga, outcome } => Some((*saga, outcome.clone())),
            _ => None,
        });
        assert_eq!(finished, expected.clone().map(|outcome| (saga.1, outcome)));
        if expected.is_some() {
            self.followed.remove(&saga);
        }
    }

    /// A new leader, or one that has waited for long.
    fn resend(&mut self) {
        let from = GroupId(self.dice.below(3) as u32);
        let outbox: Vec<_> = self.world.state(from).outbox().collect();
        self.world.flights.extend(outbox.into_iter().map(|message| Flight::Request { from, message }));
    }

    fn pass(&mut self) {
        self.world.pass(self.dice.below(2000) as f64 / 1000.0);
        self.model.now = self.world.now.0;
    }

    fn expire(&mut self) {
        let group = GroupId(self.dice.below(3) as u32);
        self.model.expire(group);
        self.apply(group, Op::Expire, None);
        assert!(self.world.state(group).next_expiry().is_none_or(|at| at > self.world.now));
    }

    fn restart(&mut self) {
        let group = self.dice.below(3) as usize;
        let bytes = self.world.groups[group].encode();
        self.world.groups[group] = State::decode(bytes.into()).expect("a snapshot is read");
        self.compare_all();
    }

    /// Everything arrives in the end, whatever was lost before, and nothing is left over.
    fn finish(mut self) {
        for _ in 0..10_000 {
            if self.world.flights.is_empty() {
                (0..3).for_each(|group| self.world.flights.extend(self.outbox(GroupId(group))));
            }
            let Some(flight) = self.world.flights.pop() else { break };
            match flight {
                Flight::Request { from, message } => self.request(from, message),
                Flight::Reply { to, step } => self.reply(to, step),
            }
        }
        assert!(self.followed.is_empty(), "a saga that does not end");
        self.compare_all();
        self.import();
        let keys: Vec<_> = self.model.streams.keys().cloned().collect();
        for round in 0..keys.len() {
            for key in &keys {
                let expected = self.model.delete(key);
                let answer = self.apply(home(key), Op::Delete(key.clone()), None);
                assert_eq!(answer, Answer::Done(expected), "{key} in round {round}");
            }
            while let Some(flight) = self.world.flights.pop() {
                match flight {
                    Flight::Request { from, message } => self.request(from, message),
                    Flight::Reply { to, step } => self.reply(to, step),
                }
            }
            (0..3).for_each(|group| self.world.flights.extend(self.outbox(GroupId(group))));
        }
        let left: usize = self.world.groups.iter().map(|group| group.stats().streams).sum();
        assert_eq!((left, self.world.rings.len()), (0, 0), "a reference that is never given back");
        (0..3).for_each(|group| self.settle(GroupId(group)));
        self.all_are_told();
    }

    fn outbox(&self, from: GroupId) -> Vec<Flight> {
        self.world.state(from).outbox().map(|message| Flight::Request { from, message }).collect()
    }
}

fn walks(commands: u64) {
    const COMMANDS_EACH: u64 = 2000;
    for seed in 0..commands / COMMANDS_EACH {
        let walk = std::panic::catch_unwind(|| {
            let mut walk = Walk::new(seed);
            (0..COMMANDS_EACH).for_each(|_| walk.step());
            walk.finish();
        });
        assert!(walk.is_ok(), "seed {seed}");
    }
}

/// 100,000 commands; `URSULA_WALK_COMMANDS` sets another number.
#[test]
fn the_state_does_what_the_model_does() {
    let commands = std::env::var("URSULA_WALK_COMMANDS").ok().and_then(|text| text.parse().ok());
    walks(commands.unwrap_or(100_000));
}
