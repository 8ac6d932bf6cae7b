//! Lives of a process over a log: opens it, compares it with the model, does all that can be done with it, and ends
//! when the disk fails.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use ursula_common::{Offset, StreamId};

use super::world::{GroupWorld, Op, World, rows};
use super::*;

/// Writers of a life: as many as the cores, which may be other ones in each life.
const WRITERS: u64 = 2;
const GROUPS: u64 = 4;

/// splitmix64, by Sebastiano Vigna.
#[derive(Debug, Clone)]
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn bytes(&mut self, len: u64) -> Bytes {
        let byte = self.next();
        (0..len).map(|at| (byte >> (at % 8)) as u8 ^ at as u8).collect::<Vec<u8>>().into()
    }
}

/// The model, where watchers of the disk can look at it at each call.
pub(super) type Shared = Arc<Mutex<World>>;

pub(super) fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap()
}

/// Why a life ended before its time.
#[derive(Debug)]
pub(super) enum Ended {
    /// The disk failed, as it was told to.
    Disk,
    /// Something was lost or invented.
    Wrong(String),
}

pub(super) struct Life<'a> {
    io: &'a FaultIo,
    world: &'a Shared,
    rng: Rng,
    log: LogDir,
    ends: Vec<(Appender, Writer)>,
    /// Who has a group, of those that were touched.
    owners: BTreeMap<GroupId, usize>,
    /// What each writer was given since its last batch.
    given: Vec<Vec<(GroupId, Op)>>,
    /// Groups as the appenders know them.
    ahead: BTreeMap<GroupId, GroupWorld>,
}

/// One life of so many steps. Salts are those of the random numbers.
pub(super) fn live(io: &FaultIo, world: &Shared, seed: u64, steps: usize) -> Result<(), Ended> {
    let mut rng = Rng(seed);
    let mut life = Life::open(io, world, &mut rng)?;
    for _ in 0..steps {
        life.step()?;
    }
    for writer in 0..life.ends.len() {
        life.write(writer)?;
    }
    Ok(())
}

impl Life<'_> {
    fn open<'a>(io: &'a FaultIo, world: &'a Shared, rng: &mut Rng) -> Result<Life<'a>, Ended> {
        let (log, found) = match open(io, rng.next()) {
            Ok(opened) => opened,
            Err(OpenError::Io { .. }) => return Err(Ended::Disk),
            Err(error) => return Err(Ended::Wrong(format!("not opened: {error}"))),
        };
        // The comparison reads; it is not the disk's turn to fail, and the numbers of calls stay those of the log.
        let quiet = io.pause();
        let settled = lock(world).settle(&log, &found);
        io.resume(quiet);
        settled.map_err(Ended::Wrong)?;
        let writers = 1 + rng.below(WRITERS);
        let ends: Vec<_> = (0..writers as u32).map(|index| log.writer(index)).collect();
        let given = vec![Vec::new(); ends.len()];
        let ahead = lock(world).groups.clone();
        let owners = BTreeMap::new();
        Ok(Life { io, world, rng: rng.clone(), log, ends, owners, given, ahead })
    }

    fn step(&mut self) -> Result<(), Ended> {
        let group = GroupId(self.rng.below(GROUPS) as u32);
        match self.rng.below(40) {
            0..=15 => self.append(group),
            16..=17 => {
                let payload = self.payload(40);
                self.put(group, Fact::Vote, payload);
            }
            18..=19 => {
                let payload = self.payload(40);
                self.put(group, Fact::Committed, payload);
            }
            20..=21 => self.purge(group),
            22..=23 => self.truncate(group),
            24 => self.slice(group),
            25 => return self.forget(group),
            26 => return self.remove(),
            27 => self.index(),
            28 => {
                let _ = self.log.prepare_spare();
            }
            29 => {
                let writer = self.rng.below(self.ends.len() as u64) as usize;
                self.ends[writer].0.mark();
            }
            30..=31 => {
                let _ = self.log.summarize();
            }
            _ => {
                let writer = self.rng.below(self.ends.len() as u64) as usize;
                return self.write(writer);
            }
        }
        Ok(())
    }

    fn payload(&mut self, most: u64) -> Bytes {
        let len = self.rng.below(most + 1);
        self.rng.bytes(len)
    }

    fn owner(&mut self, group: GroupId) -> usize {
        let writers = self.ends.len() as u64;
        let drawn = self.rng.below(writers) as usize;
        *self.owners.entry(group).or_insert(drawn)
    }

    fn give(&mut self, writer: usize, group: GroupId, op: Op) {
        let mut world = World::default();
        world.groups.insert(group, self.ahead.remove(&group).unwrap_or_default());
        world.in_flight.push((group, op.clone()));
        world.acknowledge();
        self.ahead.extend(world.groups);
        self.given[writer].push((group, op));
    }

    fn append(&mut self, group: GroupId) {
        let writer = self.owner(group);
        let most = if self.rng.below(3) == 0 { 1500 } else { 300 };
        let payload = self.payload(most);
        let first = self.rng.below(2) * 5;
        let index = self.ahead.entry(group).or_default().next().unwrap_or(first);
        self.ends[writer].0.append(group, index, &payload);
        self.give(writer, group, Op::Append(index, payload));
    }

    fn put(&mut self, group: GroupId, fact: Fact, payload: Bytes) {
        let writer = self.owner(group);
        self.ends[writer].0.put(group, fact, &payload);
        self.give(writer, group, Op::Put(fact, payload));
    }

    fn purge(&mut self, group: GroupId) {
        let known = self.ahead.entry(group).or_default();
        let purged = known.purged.as_ref().map_or(0, |(index, _)| *index);
        let next = known.next().unwrap_or(1);
        // Now and then further than the log reaches, as after a snapshot.
        let index = match self.rng.below(8) {
            0 => next + 3,
            1..=3 => next - 1,
            _ => purged + (next - purged) / 2,
        };
        let payload = self.payload(20);
        self.put(group, Fact::Purged { index: index.max(purged) }, payload);
    }

    fn truncate(&mut self, group: GroupId) {
        let known = self.ahead.entry(group).or_default();
        let kept = known.entries.len() as u64;
        let after = match (kept, known.purged.as_ref()) {
            (0, purged) => purged.map(|(index, _)| *index),
            (_, purged) => {
                let floor = purged.map(|(index, _)| *index);
                let first = known.entries[0].0;
                let keep = kept - self.rng.below(kept.min(4) + 1);
                if keep == 0 { floor } else { Some(first + keep - 1) }
            }
        };
        let writer = self.owner(group);
        self.ends[writer].0.truncate_after(group, after);
        self.give(writer, group, Op::Truncate(after));
    }

    fn slice(&mut self, group: GroupId) {
        let writer = self.owner(group);
        let payload = self.payload(700);
        let (stream, offset) = (StreamId(self.rng.below(5)), Offset(self.rng.below(1000)));
        let at = self.ends[writer].0.slice(group, stream, offset, &payload);
        self.give(writer, group, Op::Slice(Slice { stream, offset, at }, payload));
    }

    fn forget(&mut self, group: GroupId) -> Result<(), Ended> {
        let writer = self.owner(group);
        self.ends[writer].0.forget_group(group);
        self.give(writer, group, Op::Forget);
        self.write(writer)?;
        self.owners.remove(&group);
        Ok(())
    }

    fn remove(&mut self) -> Result<(), Ended> {
        let segments = self.log.segments();
        if segments.is_empty() {
            return Ok(());
        }
        let (last, _) = segments[self.rng.below(segments.len() as u64) as usize];
        {
            let mut world = lock(self.world);
            world.kept_from = world.kept_from.max(last);
        }
        let Ok(removed) = self.log.remove_before(last) else { return Ok(()) };
        let gone = |slice: &(Slice, Bytes)| removed.contains(&slice.0.at.segment);
        for groups in [&mut lock(self.world).groups, &mut self.ahead] {
            groups.values_mut().for_each(|group| group.slices.retain(|slice| !gone(slice)));
        }
        for (_, op) in self.given.iter().flatten() {
            let Op::Slice(slice, _) = op else { continue };
            assert!(!removed.contains(&slice.at.segment), "removed before it was written");
        }
        Ok(())
    }

    fn index(&mut self) {
        let complete: Vec<_> = self.log.segments().into_iter().filter(|(_, complete)| *complete).collect();
        if complete.is_empty() {
            return;
        }
        let (segment, _) = complete[self.rng.below(complete.len() as u64) as usize];
        let quiet = self.io.pause();
        let rows = rows(&self.log, segment);
        self.io.resume(quiet);
        if let Ok(refs) = self.log.write_index(segment, &rows) {
            lock(self.world).indexed.insert(segment, refs);
        }
    }

    fn write(&mut self, writer: usize) -> Result<(), Ended> {
        let (appender, end) = &mut self.ends[writer];
        let Some(batch) = appender.take() else { return Ok(()) };
        lock(self.world).in_flight = std::mem::take(&mut self.given[writer]);
        if end.write(batch).is_ok() {
            lock(self.world).acknowledge();
            return Ok(());
        }
        appender.append(GroupId(99), 0, b"more");
        let calls = self.io.calls();
        let again = appender.take().map(|batch| end.write(batch));
        if !matches!(again, Some(Err(_))) || self.io.calls() != calls {
            return Err(Ended::Wrong("a log that failed was written again".into()));
        }
        Err(Ended::Disk)
    }
}
