//! Finds the pack that has an offset of a stream. Must not go in circles, whatever packs say.
//!
//! A row names the pack of the stream before it, so the way back from the newest one leads to every offset. It is cut short
//! by looking into the middle of the packs that are left: a stream with a long chain is in nearly all of them. What
//! was seen on the way is kept, so whoever reads on finds the next pack near.

use ursula_common::Offset;
use ursula_common::packs::PackRef;

use super::{Inner, Wanted};
use crate::pack::{PackId, Row};
use crate::store::StoreError;

/// Steps from pack to pack before packs in the middle are looked at.
const WALK: usize = 4;
/// The most rows that are kept of a stream, and how many of them lie before the place that was looked for.
const KEPT_MAX: usize = 256;
const KEPT_BEFORE: usize = 16;

/// An object that has bytes of a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) object: PackRef,
    pub(super) row: Row,
}

impl Step {
    fn has(&self, at: Offset) -> bool {
        self.row.start <= at && at < self.row.end
    }

    /// An error that says what is wrong with the object, as far as it concerns a stream.
    pub(super) fn damaged(&self, wanted: &Wanted, reason: &str) -> StoreError {
        damaged(wanted, &self.object, reason)
    }
}

impl Wanted {
    /// The object after another one.
    pub(super) fn after(&self, object: &PackRef) -> Option<&PackRef> {
        self.packs.find(object.last.checked_add(1)?)
    }
}

/// What is known of the place that is looked for: between two packs.
struct Search {
    /// Packs up to this one end before it.
    floor: u64,
    /// It begins after the place, and nearer than any other that was seen.
    above: Step,
    /// Everything that was seen.
    seen: Vec<Step>,
}

impl Inner {
    /// The object with the bytes at an offset.
    pub(super) async fn find(&self, wanted: &Wanted, at: Offset) -> Result<Step, StoreError> {
        let known = self.cache.trail(wanted.group, wanted.stream);
        let counts = |step: &&Step| wanted.packs.find(step.object.last) == Some(&step.object);
        let known: Vec<Step> = known.iter().flat_map(|steps| steps.iter()).filter(counts).copied().collect();
        if let Some(step) = known.iter().find(|step| step.has(at)) {
            return Ok(*step);
        }
        let (found, seen) = match self.next(wanted, &known, at).await {
            Some(step) => (Ok(step), known.into_iter().chain([step]).collect()),
            None => self.search(wanted, at, known).await,
        };
        self.cache.put_trail(wanted.group, wanted.stream, kept(seen, at));
        found
    }

    /// Where what can be read begins again after an offset that cannot, as far as is known: the next block, or what comes
    /// after the object.
    pub(super) async fn resumes(&self, wanted: &Wanted, at: Offset) -> Option<Offset> {
        if let Ok(step) = self.find(wanted, at).await {
            return Some(self.block_after(wanted, &step, at).await.unwrap_or(step.row.end));
        }
        let known = self.cache.trail(wanted.group, wanted.stream);
        known.iter().flat_map(|steps| steps.iter()).map(|step| step.row.start).filter(|start| *start > at).min()
    }

    /// Looks between what is known. Returns everything that was seen, too.
    async fn search(&self, wanted: &Wanted, at: Offset, known: Vec<Step>) -> (Result<Step, StoreError>, Vec<Step>) {
        let below = known.iter().filter(|step| step.row.end <= at).map(|step| step.object.last).max();
        let above = known.iter().filter(|step| step.row.start > at).min_by_key(|step| step.row.start).copied();
        let newest = match above {
            Some(above) => above,
            None => match self.newest(wanted, at).await {
                Ok(newest) => newest,
                Err(error) => return (Err(error), known),
            },
        };
        let mut search = Search { floor: below.unwrap_or(0), above: newest, seen: known };
        search.seen.push(newest);
        let found = self.descend(wanted, at, &mut search).await;
        (found, search.seen)
    }

    /// Who reads a stream that is in nearly every pack goes on in the one after.
    async fn next(&self, wanted: &Wanted, known: &[Step], at: Offset) -> Option<Step> {
        let before = known.iter().find(|step| step.row.end == at)?;
        // What is wrong with it, whoever needs it is told.
        let step = self.look(wanted, wanted.after(&before.object)?).await.ok()??;
        step.has(at).then_some(step)
    }

    async fn newest(&self, wanted: &Wanted, at: Offset) -> Result<Step, StoreError> {
        let Some(object) = wanted.packs.find(wanted.newest) else {
            let name = PackId::folder(wanted.group);
            let reason = format!("no object stands for pack {}, which has stream {}", wanted.newest, wanted.stream);
            return Err(StoreError::Damaged { name, reason });
        };
        let step = self.look(wanted, object).await?;
        let end = step.map_or(Offset::ZERO, |step| step.row.end);
        step.filter(|_| at < end).ok_or_else(|| {
            damaged(wanted, object, &format!("it should have the newest bytes, to beyond {at}, and ends at {end}"))
        })
    }

    /// From `above` down to the object that has `at`.
    async fn descend(&self, wanted: &Wanted, at: Offset, search: &mut Search) -> Result<Step, StoreError> {
        let mut steps = 0;
        while search.above.row.start > at {
            steps += 1;
            if steps > WALK && steps % 2 == 0 {
                self.probe(wanted, at, search).await?;
                if search.above.row.start <= at {
                    break;
                }
            }
            let above = search.above;
            let prev = above.row.prev.filter(|prev| *prev > search.floor).ok_or_else(|| {
                above.damaged(wanted, &format!("nothing comes before {}, and {at} is missing", above.row.start))
            })?;
            // Never upwards: whoever follows a chain gets to its end.
            let object =
                wanted.packs.find(prev).filter(|object| object.last < above.object.first).ok_or_else(|| {
                    above.damaged(wanted, &format!("it names pack {prev} before it, which does not come before it"))
                })?;
            let Some(step) = self.look(wanted, object).await?.filter(|step| step.row.end == above.row.start) else {
                return Err(damaged(wanted, object, &format!("it should have bytes up to {}", above.row.start)));
            };
            search.above = step;
            search.seen.push(step);
        }
        match search.above.has(at) {
            true => Ok(search.above),
            false => Err(search.above.damaged(wanted, &format!("it ends before {at}, which should be in it"))),
        }
    }

    /// Looks into the object in the middle of what is left.
    async fn probe(&self, wanted: &Wanted, at: Offset, search: &mut Search) -> Result<(), StoreError> {
        let top = search.above.row.prev.unwrap_or_default();
        let middle = search.floor + top.saturating_sub(search.floor) / 2;
        let object = wanted.packs.find(middle);
        let between = |object: &&PackRef| object.first > search.floor && object.last < search.above.object.first;
        let Some(object) = object.filter(between) else { return Ok(()) };
        let Some(step) = self.look(wanted, object).await? else { return Ok(()) };
        search.seen.push(step);
        match step.row.end <= at {
            true => search.floor = step.object.last,
            false => search.above = step,
        }
        Ok(())
    }

    /// What an object has of the stream.
    async fn look(&self, wanted: &Wanted, object: &PackRef) -> Result<Option<Step>, StoreError> {
        let pack = self.pack(wanted, object).await?;
        let row = self.row(wanted, &pack).await?;
        Ok(row.map(|row| Step { object: *object, row }))
    }
}

/// As many steps as are kept, in ascending order: those next to the place, and above rather than below it.
fn kept(mut steps: Vec<Step>, at: Offset) -> Vec<Step> {
    steps.sort_unstable_by_key(|step| step.object.last);
    steps.dedup_by_key(|step| step.object.last);
    let before = steps.partition_point(|step| step.row.end <= at).saturating_sub(KEPT_BEFORE);
    if steps.len() > KEPT_MAX {
        steps.drain(..before);
        steps.truncate(KEPT_MAX);
    }
    steps
}

fn damaged(wanted: &Wanted, object: &PackRef, reason: &str) -> StoreError {
    let id = PackId::of(wanted.group, object);
    StoreError::Damaged { name: id.name(), reason: format!("of stream {}: {reason}", wanted.stream) }
}
