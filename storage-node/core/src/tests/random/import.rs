//! At the end of the walk, when packs have everything: their streams are taken into the groups of another cluster, by attempts
//! that are given up, in pieces that come again, too late and too early. In the end all of them are there as they were, and
//! what was refused has changed nothing.

use ursula_common::packs::PackRef;
use ursula_common::placement::SlotTable;
use ursula_common::verb::{Ack, BucketStep, EndImport, Import, ImportRun};

use super::packs::plain;
use super::*;
use crate::packing::Cold;
use crate::stream::{ForkStart, Stream};
use crate::{StreamImage, encode_images};

/// Greater than any id of the walk.
const FIRST: u64 = 1 << 30;
const DONE: Answer = Answer::Done(Ok(Reply::Done));
const MALFORMED: Answer = Answer::Done(Err(Error::Malformed));

/// The new id of each stream of the walk.
type Ids = BTreeMap<(StreamKey, StreamId), StreamId>;

/// A group of the new cluster, and what it must have by now.
struct Target {
    state: State,
    run: ImportRun,
    /// The packs that it had before, and has of this attempt.
    had: u64,
    packs: u64,
    known: BTreeSet<StreamId>,
    /// Ids from here on are free.
    next: u64,
}

/// A step, as whoever restores sends it.
#[derive(Clone)]
struct Piece {
    packs: Vec<PackRef>,
    images: Vec<StreamImage>,
}

impl Walk {
    pub(super) fn import(&mut self) {
        let mut old = Vec::new();
        for group in [1, 2].map(GroupId) {
            self.apply(group, Op::BeginPacks, None);
            self.settle(group);
            old.extend(self.store.images(group));
        }
        let groups = 1 + self.dice.below(3) as u32;
        let slots = SlotTable::spread(groups);
        let (ids, mut new) = renamed(&old, &slots);
        let next_stream = StreamId(FIRST + old.len() as u64 + self.dice.below(10));
        for group in (1..=groups).map(GroupId) {
            let had = self.dice.below(2);
            let images = new.remove(&group).unwrap_or_default();
            let mut target = Target::new(group, groups, had, self.world.now);
            for number in 0..self.dice.below(3) {
                self.try_import(&mut target, &images, number);
            }
            let pieces = self.begin(&mut target, &images, 10);
            self.finish_import(&mut target, &pieces, next_stream);
            let end = EndImport { run: target.run, streams: images.len() as u64, next_stream };
            assert_eq!(target.apply(Op::EndImport(end)), DONE);
            self.after_the_end(&mut target, &pieces, end);
            assert!(target.state.next_stream >= next_stream.0 && target.state.streams == images.len());
            assert_eq!(target.state.packing().map(|packing| packing.next), Some(had + target.packs + 1));
            for image in pieces.iter().flat_map(|piece| &piece.images) {
                let found = target.state.stream(image.key()).expect("it was taken in");
                assert_eq!(found.touched, self.world.now, "its time to live begins anew");
                let expected = self.expected(image, &ids);
                assert_eq!(plain(found), plain(&expected), "{}", image.key());
            }
        }
    }

    /// Begins an attempt, and makes its pieces.
    fn begin(&mut self, target: &mut Target, images: &[StreamImage], attempt: u64) -> Vec<Piece> {
        target.begin(attempt);
        for (number, bucket) in self.meta.keys().enumerate() {
            let step = BucketStep { bucket: super::bucket(bucket), order: number as u64 + 1, ack: Ack::Quorum };
            assert_eq!(target.apply(Op::InstallBucket(step)), DONE);
        }
        let packs = 1 + self.dice.below(4);
        let pack =
            |number| PackRef { first: number, last: number, maker: 100 * attempt + number, bytes: 1, hash: [7; 32] };
        let packs: Vec<PackRef> = (target.had + 1..=target.had + packs).map(pack).collect();
        let place = |mut image: StreamImage| {
            let newest = packs[self.dice.below(packs.len() as u64) as usize].last;
            image.place(image.id(), if image.start() < image.tail() { newest } else { 0 });
            image
        };
        let mut images: Vec<StreamImage> = images.iter().cloned().map(place).collect();
        let mut pieces: Vec<Piece> =
            packs.chunks(2).map(|packs| Piece { packs: packs.to_vec(), images: Vec::new() }).collect();
        while !images.is_empty() {
            let some = (1 + self.dice.below(4) as usize).min(images.len());
            pieces.push(Piece { packs: Vec::new(), images: images.drain(..some).collect() });
        }
        pieces
    }

    /// An attempt of which anything comes, at any time.
    fn try_import(&mut self, target: &mut Target, images: &[StreamImage], attempt: u64) {
        let pieces = self.begin(target, images, attempt);
        for _ in 0..self.dice.below(2 * pieces.len() as u64) {
            let run = ImportRun { attempt: attempt.saturating_sub(self.dice.below(2)), ..target.run };
            target.take(run, &self.dice.pick(&pieces));
        }
    }

    /// One of which everything comes at last, and some of it again.
    fn finish_import(&mut self, target: &mut Target, pieces: &[Piece], next_stream: StreamId) {
        for (number, piece) in pieces.iter().enumerate() {
            if number > 0 && self.dice.chance(40) {
                target.take(target.run, &self.dice.pick(&pieces[..number]));
            }
            if self.dice.chance(20) {
                target.take(ImportRun { attempt: 0, ..target.run }, &self.dice.pick(pieces));
            }
            if self.dice.chance(20) {
                let streams = target.known.len() as u64 + 1;
                let end = EndImport { run: target.run, streams, next_stream };
                assert_eq!(target.unchanged(Op::EndImport(end)), MALFORMED, "not everything is there");
            }
            target.take(target.run, piece);
        }
    }

    /// What comes once more changes nothing.
    fn after_the_end(&mut self, target: &mut Target, pieces: &[Piece], end: EndImport) {
        let again = ImportRun { attempt: self.dice.below(20), ..target.run };
        assert_eq!(target.unchanged(Op::BeginImport(again)), DONE);
        assert_eq!(target.unchanged(Op::EndImport(end)), DONE);
        assert!(is_refused(&target.unchanged(target.op(target.run, &self.dice.pick(pieces)))));
        let other = ImportRun { import: 6, attempt: 30 };
        assert!(is_refused(&target.unchanged(Op::BeginImport(other))), "it has, or had, streams");
    }

    /// A stream of the walk as it must be under its new id.
    fn expected(&self, image: &StreamImage, ids: &Ids) -> Stream {
        let key = image.key();
        let mut stream = self.world.state(home(key)).stream(key).expect("it is still there").clone();
        stream.id = image.id();
        let found = image.cold().map_or(0, |cold| cold.pack);
        stream.cold = Some(Box::new(Cold { end: stream.tail, pack: found, turn: 0, changed: 0, recorded: true }));
        let Some(rare) = &mut stream.rare else { return stream };
        if let Some(link) = &mut rare.fork {
            link.source_id = ids[&(link.source.clone(), link.source_id)];
        }
        let start = |((fork, id), start): (&(StreamKey, StreamId), &ForkStart)| {
            let known = self.world.state(home(fork)).stream(fork).expect("a fork of it");
            let from = known.kept().map_or(known.tail.first(), |kept| kept.earliest).min(start.anchor);
            ((fork.clone(), ids[&(fork.clone(), *id)]), ForkStart { from, ..*start })
        };
        rare.forks = rare.forks.iter().map(start).collect();
        if let Some(kept) = &mut rare.kept {
            kept.set_needed(rare.forks.values().filter_map(ForkStart::needs));
        }
        stream
    }
}

impl Target {
    fn new(group: GroupId, groups: u32, had: u64, now: ursula_common::Millis) -> Target {
        let mut state = State::new(group, groups);
        state.now = now;
        if had > 0 {
            let mut apply = |op| state.apply(Command { at: now, origin: None, op }, &mut Vec::new());
            assert_eq!(apply(Op::BeginPacks), DONE);
            let plan = state.plan_pack(1, 1).expect("the group itself");
            let own = PackRef { first: 1, last: 1, maker: 1, bytes: 1, hash: [7; 32] };
            let op = Op::CommitPack(Box::new(plan.commit(own, &[])));
            assert_eq!(state.apply(Command { at: now, origin: None, op }, &mut Vec::new()), DONE);
        }
        let run = ImportRun { import: 5, attempt: u64::MAX };
        Target { state, run, had, packs: 0, known: BTreeSet::new(), next: 1 }
    }

    fn apply(&mut self, op: Op) -> Answer {
        let command = Command { at: self.state.now, origin: None, op };
        let answer = self.state.apply(command, &mut Vec::new());
        self.state.check();
        let bytes = self.state.encode();
        self.state = State::decode(bytes.clone().into()).expect("a snapshot is read");
        assert!(self.state.encode() == bytes, "a snapshot holds everything");
        answer
    }

    fn unchanged(&mut self, op: Op) -> Answer {
        let before = self.state.encode();
        let answer = self.apply(op);
        assert!(self.state.encode() == before, "{answer:?} changes nothing");
        answer
    }

    fn begin(&mut self, attempt: u64) {
        self.run.attempt = attempt;
        (self.packs, self.next) = (0, 1);
        self.known.clear();
        let answer = self.apply(Op::BeginImport(self.run));
        assert!(matches!(answer, Answer::Done(Ok(Reply::ImportBegun(newest))) if newest.is_some() == (self.had > 0)));
        assert_eq!(self.state.streams, 0, "what an attempt before brought is forgotten");
    }

    fn op(&self, run: ImportRun, piece: &Piece) -> Op {
        let Piece { packs, images } = piece;
        let records = match images.last() {
            None => Vec::new(),
            Some(last) => encode_images(self.state.group, self.state.data_groups, StreamId(last.id().0 + 1), images),
        };
        Op::Import(Box::new(Import { run, packs: packs.clone(), records: records.into() }))
    }

    /// Takes a piece if it is of this attempt, its packs are the next ones, and its streams are there or come after all
    /// that are.
    fn take(&mut self, run: ImportRun, piece: &Piece) {
        let op = self.op(run, piece);
        let newest = self.had + self.packs;
        let new: Vec<u64> = piece.packs.iter().map(|pack| pack.last).filter(|pack| *pack > newest).collect();
        let follow = new.first().is_none_or(|first| *first == newest + 1);
        let last = new.last().copied().unwrap_or(newest);
        let fits = |image: &StreamImage| {
            let is_free = self.known.contains(&image.id()) || image.id().0 >= self.next;
            is_free && image.cold().is_none_or(|cold| cold.pack <= last)
        };
        if run != self.run {
            assert!(is_refused(&self.unchanged(op)), "another attempt has begun since");
        } else if !follow || !piece.images.iter().all(fits) {
            assert_eq!(self.unchanged(op), MALFORMED);
        } else if new.is_empty() && piece.images.iter().all(|image| self.known.contains(&image.id())) {
            assert_eq!(self.unchanged(op), DONE);
        } else {
            assert_eq!(self.apply(op), DONE);
            self.packs += new.len() as u64;
            self.known.extend(piece.images.iter().map(StreamImage::id));
            self.next = self.known.last().map_or(1, |last| last.0 + 1);
        }
    }
}

fn is_refused(answer: &Answer) -> bool {
    matches!(answer, Answer::Done(Err(Error::ClusterRefused { .. })))
}

/// The streams under new ids, those of each new group in their order.
fn renamed(old: &[StreamImage], slots: &SlotTable) -> (Ids, BTreeMap<GroupId, Vec<StreamImage>>) {
    let new_id =
        |(number, image): (usize, &StreamImage)| ((image.key().clone(), image.id()), StreamId(FIRST + number as u64));
    let ids: Ids = old.iter().enumerate().map(new_id).collect();
    let id = |image: &StreamImage| ids[&(image.key().clone(), image.id())];
    let mut groups: BTreeMap<GroupId, Vec<StreamImage>> = BTreeMap::new();
    for image in old {
        let mut new = image.clone();
        if let Some(link) = image.fork() {
            new.set_source(ids[&(link.source.clone(), link.source_id)]);
        }
        let is_fork = |fork: &&StreamImage| {
            fork.fork().is_some_and(|link| (&link.source, link.source_id) == (image.key(), image.id()))
        };
        new.set_forks(old.iter().filter(is_fork).map(|fork| (id(fork), fork)));
        new.place(id(image), 0);
        groups.entry(slots.group_of(image.key())).or_default().push(new);
    }
    (ids, groups)
}
