//! Reads ahead for whoever reads on: the next blocks are in the cache before they are asked for. Must not read ahead for
//! those who look here and there, and must not take all GETs.

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::iter::successors;
use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::stream::{self, TryStreamExt as _};
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use ursula_common::packs::PackRef;
use ursula_common::{GroupId, Offset, StreamId};

use super::blocks::GET_BYTES;
use super::trail::Step;
use super::{Page, Reader, ReaderOptions, Wanted};
use crate::store::StoreError;

/// Reads that are remembered in case somebody reads on.
const RUNS_MAX: usize = 4096;
/// How often somebody has to read on.
const HITS: u32 = 2;
/// Objects that a task reads at a time.
const STEPS_AT_ONCE: usize = 2;
/// Objects that are opened before they are needed, by somebody who reads through one after the other.
const OPEN_AHEAD: usize = 4;
/// What is read ahead for one must not take more than this part of the cache, or it is gone before it is asked for.
const CACHE_SHARE: usize = 2;

/// Somebody who may read on.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// How often the last read went on where the one before ended.
    hits: u32,
    /// To where it was read ahead.
    ahead: Offset,
}

type Place = (GroupId, StreamId, Offset);

#[derive(Debug)]
pub(super) struct Ahead {
    bytes: u64,
    /// One for each GET that may be under way for what is read ahead.
    permits: Arc<Semaphore>,
    gets_max: u64,
    /// Under the place where each has to read on.
    runs: Cache<Place, Run, UnitWeighter, BuildHasherDefault<DefaultHasher>>,
}

impl Ahead {
    pub(super) fn new(options: &ReaderOptions) -> Ahead {
        let permits = (options.gets_max / 2).clamp(1, u32::MAX as usize >> 3);
        Ahead {
            bytes: options.ahead_bytes.min(options.cache_bytes / CACHE_SHARE) as u64,
            permits: Arc::new(Semaphore::new(permits)),
            gets_max: permits as u64,
            runs: Cache::with(
                RUNS_MAX,
                RUNS_MAX as u64,
                UnitWeighter,
                BuildHasherDefault::default(),
                DefaultLifecycle::default(),
            ),
        }
    }

    /// Remembers a read that ended at `end`. Returns what is to be read ahead now.
    pub(super) fn note(&self, wanted: &Wanted, end: Offset) -> Option<(Wanted, OwnedSemaphorePermit)> {
        let before = self.runs.remove(&(wanted.group, wanted.stream, wanted.from)).map(|(_, run)| run);
        let mut run = before.map_or(Run { hits: 0, ahead: end }, |run| Run { hits: run.hits.saturating_add(1), ..run });
        run.ahead = run.ahead.max(end);
        let goal = Offset(end.0.saturating_add(self.bytes)).min(wanted.until);
        // Not for every page a little: half of it at a time, or all that is left.
        let is_due = goal.0.saturating_sub(run.ahead.0) >= self.bytes.div_ceil(2).max(1) || goal == wanted.until;
        let permit = (run.hits >= HITS && is_due && run.ahead < goal).then(|| {
            let gets = (goal.0 - run.ahead.0).div_ceil(GET_BYTES).max(STEPS_AT_ONCE as u64).min(self.gets_max);
            self.permits.clone().try_acquire_many_owned(gets as u32)
        });
        let task = permit.and_then(Result::ok).map(|permit| {
            let task = Wanted { from: run.ahead, until: goal, ..wanted.clone() };
            run.ahead = goal;
            (task, permit)
        });
        if end < wanted.until {
            self.runs.insert((wanted.group, wanted.stream, end), run);
        }
        task
    }
}

impl Reader {
    /// Reads ahead of a read that ended at `end`, if somebody reads on.
    pub(super) fn read_ahead(&self, wanted: &Wanted, end: Offset) {
        let Some((task, permit)) = self.0.ahead.note(wanted, end) else { return };
        let reader = self.clone();
        tokio::spawn(async move {
            // Whoever comes there meets the same error, and is told.
            drop(reader.fetch_ahead(&task).await);
            drop(permit);
        });
    }

    /// Has the cache fetch what lies in a range.
    async fn fetch_ahead(&self, task: &Wanted) -> Result<(), StoreError> {
        let steps = stream::try_unfold(task.from, async |at| {
            if at >= task.until {
                return Ok(None);
            }
            let step = self.0.find(task, at).await?;
            self.open_ahead(task, &step);
            Ok(Some(((at, step), step.row.end)))
        });
        let take = async |(at, step)| {
            let mut page = Page { start: None, end: at, records: Vec::new() };
            self.0.take_of(task, &step, task.until, &mut page).await
        };
        steps.try_for_each_concurrent(STEPS_AT_ONCE, take).await
    }

    /// Has the cache open the objects after that of a step, if the stream is in one after the other. Nobody waits for it: to open
    /// one may take as long as to read it.
    fn open_ahead(&self, task: &Wanted, step: &Step) {
        let is_dense = step.row.prev.is_some_and(|prev| prev + 1 == step.object.first);
        if !is_dense {
            return;
        }
        let after = |object: &PackRef| task.after(object).copied();
        let objects: Vec<_> = successors(after(&step.object), after).take(OPEN_AHEAD).collect();
        let permits = self.0.ahead.permits.clone();
        let Ok(permit) = permits.try_acquire_many_owned(objects.len() as u32) else { return };
        let (reader, group) = (self.clone(), task.group);
        tokio::spawn(async move {
            join_all(objects.iter().map(|object| reader.0.pack(group, object))).await;
            drop(permit);
        });
    }
}
