//! Reads ahead for whoever reads on: the next blocks are in the cache before they are asked for, and stay there until then.
//! Must not read ahead for those who look here and there, and must not take all GETs, nor all of the cache.

use std::collections::BTreeMap;
use std::iter::successors;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, TryStreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use ursula_common::packs::PackRef;
use ursula_common::{GroupId, Offset, StreamId};

use super::blocks::GET_BYTES;
use super::trail::Step;
use super::{Reader, ReaderOptions, Wanted};
use crate::store::StoreError;

/// Reads that are remembered in case somebody reads on, and for how long.
const RUNS_MAX: usize = 4096;
pub(super) const RUN_IDLE: Duration = Duration::from_secs(10);
/// How often somebody has to read on.
const HITS: u32 = 2;
/// Objects that a task reads at a time.
const STEPS_AT_ONCE: usize = 2;
/// Objects that are opened before they are needed, by somebody who reads through one after the other.
const OPEN_AHEAD: usize = 4;
/// What is read ahead stays in the cache until its reader has come by, so for all readers it is at most this part of it: with
/// the lengths of the smallest records, and what an allocator adds, it takes two and a half times as much.
const CACHE_SHARE: usize = 3;
/// Room in the cache is counted in such parts.
const PERMIT_BYTES: u64 = 1 << 10;

/// Somebody who may read on.
#[derive(Debug)]
struct Run {
    /// How often the last read went on where the one before ended.
    hits: u32,
    /// To where it was read ahead.
    ahead: Offset,
    /// Where the last read ended: what lies behind need not be kept.
    at: Arc<AtomicU64>,
    /// Room for what lies between the two.
    room: Option<OwnedSemaphorePermit>,
    read: Instant,
}

type Place = (GroupId, StreamId, Offset);

/// What was read of late, under the place where somebody has to read on.
#[derive(Debug, Default)]
struct Runs {
    count: u64,
    /// By place, with their numbers.
    runs: BTreeMap<Place, (u64, Run)>,
    /// By number: the oldest first.
    places: BTreeMap<u64, Place>,
}

#[derive(Debug)]
pub(super) struct Ahead {
    bytes: u64,
    /// One for each GET that may be under way for what is read ahead.
    permits: Arc<Semaphore>,
    gets_max: u64,
    room: Arc<Semaphore>,
    room_max: usize,
    runs: Mutex<Runs>,
}

/// What is to be read ahead.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) wanted: Wanted,
    /// Where the reader is, as long as he may come.
    reader: Weak<AtomicU64>,
    _permit: OwnedSemaphorePermit,
}

impl Run {
    fn new(end: Offset) -> Run {
        Run { hits: 0, ahead: end, at: Arc::default(), room: None, read: Instant::now() }
    }

    /// He has come to `end`.
    fn go_on(&mut self, end: Offset) {
        self.ahead = self.ahead.max(end);
        self.at.store(end.0, Ordering::Relaxed);
        let kept = permits(self.ahead.0 - end.0) as usize;
        if let Some(room) = &mut self.room {
            drop(room.split(room.num_permits().saturating_sub(kept)));
        }
    }
}

impl Runs {
    fn take(&mut self, place: &Place) -> Option<Run> {
        let (number, run) = self.runs.remove(place)?;
        self.places.remove(&number);
        Some(run)
    }

    /// Remembers one, and forgets those that nobody has gone on with for long, or that are too many.
    fn put(&mut self, place: Place, run: Run) {
        let now = run.read;
        drop(self.take(&place));
        self.places.insert(self.count, place);
        self.runs.insert(place, (self.count, run));
        self.count += 1;
        while let Some(oldest) = self.places.values().next().copied() {
            let is_idle = self.runs.get(&oldest).is_some_and(|(_, run)| now - run.read >= RUN_IDLE);
            if !is_idle && self.runs.len() <= RUNS_MAX {
                break;
            }
            drop(self.take(&oldest));
        }
    }
}

fn permits(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX)
}

impl Ahead {
    pub(super) fn new(options: &ReaderOptions) -> Ahead {
        let gets_max = (options.gets_max / 2).clamp(1, u32::MAX as usize >> 3);
        let room_max = options.cache_bytes / CACHE_SHARE / PERMIT_BYTES as usize;
        Ahead {
            bytes: (options.ahead_bytes as u64).min(room_max as u64 * PERMIT_BYTES),
            permits: Arc::new(Semaphore::new(gets_max)),
            gets_max: gets_max as u64,
            room: Arc::new(Semaphore::new(room_max)),
            room_max,
            runs: Mutex::default(),
        }
    }

    /// What is set aside for what readers have not come to yet.
    pub(super) fn held_bytes(&self) -> u64 {
        (self.room_max - self.room.available_permits()) as u64 * PERMIT_BYTES
    }

    /// Remembers a read that ended at `end`. Returns what is to be read ahead now.
    pub(super) fn note(&self, wanted: &Wanted, end: Offset) -> Option<Task> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let before = runs.take(&(wanted.group, wanted.stream, wanted.from));
        let go_on = |run: Run| Run { hits: run.hits.saturating_add(1), read: Instant::now(), ..run };
        let mut run = before.map_or_else(|| Run::new(end), go_on);
        run.go_on(end);
        let task = self.plan(wanted, end, &mut run);
        if end < wanted.until {
            runs.put((wanted.group, wanted.stream, end), run);
        }
        task
    }

    /// What is to be read ahead of somebody, if there is room for it.
    fn plan(&self, wanted: &Wanted, end: Offset, run: &mut Run) -> Option<Task> {
        let goal = Offset(end.0.saturating_add(self.bytes)).min(wanted.until);
        let more = goal.0.saturating_sub(run.ahead.0);
        // Not for every record a little: a quarter of it at a time, so that what was fetched before lasts until this has come, or
        // all that is left.
        let is_due = more >= self.bytes.div_ceil(4).max(1) || goal == wanted.until;
        if run.hits < HITS || !is_due || more == 0 {
            return None;
        }
        let gets = more.div_ceil(GET_BYTES).max(STEPS_AT_ONCE as u64).min(self.gets_max);
        let permit = self.permits.clone().try_acquire_many_owned(gets as u32).ok()?;
        let kept = run.room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let needed = (permits(goal.0 - end.0) as usize).saturating_sub(kept);
        let room = self.room.clone().try_acquire_many_owned(needed as u32).ok()?;
        match &mut run.room {
            Some(kept) => kept.merge(room),
            none => *none = Some(room),
        }
        let wanted = Wanted { from: run.ahead, until: goal, ..wanted.clone() };
        run.ahead = goal;
        Some(Task { wanted, reader: Arc::downgrade(&run.at), _permit: permit })
    }
}

impl Reader {
    /// Reads ahead of a read that ended at `end`, if somebody reads on.
    pub(super) fn read_ahead(&self, wanted: &Wanted, end: Offset) {
        let Some(task) = self.0.ahead.note(wanted, end) else { return };
        let reader = self.clone();
        // Whoever comes there meets the same error, and is told.
        tokio::spawn(async move { drop(reader.fetch_ahead(&task).await) });
    }

    /// Has the cache fetch what lies in a range.
    async fn fetch_ahead(&self, Task { wanted, reader, .. }: &Task) -> Result<(), StoreError> {
        let steps = stream::try_unfold(wanted.from, async |at| {
            if at >= wanted.until {
                return Ok(None);
            }
            let step = self.0.find(wanted, at).await?;
            self.open_ahead(wanted, &step);
            Ok(Some(((at, step), step.row.end)))
        });
        let take = |(at, step)| async move { self.0.blocks_ahead(wanted, &step, at..wanted.until, reader).await };
        steps.try_for_each_concurrent(STEPS_AT_ONCE, take).await
    }

    /// Has the cache open the objects after that of a step, if the stream is in one after the other. Nobody waits for it: to open
    /// one may take as long as to read it.
    fn open_ahead(&self, wanted: &Wanted, step: &Step) {
        let is_dense = step.row.prev.is_some_and(|prev| prev + 1 == step.object.first);
        if !is_dense {
            return;
        }
        let after = |object: &PackRef| wanted.after(object).copied();
        let objects: Vec<_> = successors(after(&step.object), after).take(OPEN_AHEAD).collect();
        let permits = self.0.ahead.permits.clone();
        let Ok(permit) = permits.try_acquire_many_owned(objects.len() as u32) else { return };
        let (reader, wanted) = (self.clone(), wanted.clone());
        tokio::spawn(async move {
            join_all(objects.iter().map(|object| reader.0.pack(&wanted, object))).await;
            drop(permit);
        });
    }
}
