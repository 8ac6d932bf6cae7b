//! The files of the log: which may go, those that are made ahead, and how full the disk is.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use tracing::{info, warn};
use ursula_common::GroupId;
use ursula_wal::{SegmentId, Space};

use super::DataDir;
use crate::directory::core_of;

/// Segments that are summarized at a time.
const SUMMARIES: usize = 4;

/// What the groups of one core need of the log beside what it keeps by itself: bytes of streams.
#[derive(Debug, Clone)]
pub(crate) struct Needs {
    /// Nothing was judged from this segment on: what comes next goes there.
    pub(crate) until: SegmentId,
    /// Groups of which nothing is known yet: they may need anything.
    pub(crate) unknown: BTreeSet<GroupId>,
    /// The oldest segment that has bytes, of each group that has any.
    pub(crate) oldest: BTreeMap<GroupId, SegmentId>,
}

impl Needs {
    /// Whether this group may have bytes in the segment.
    fn has(&self, segment: SegmentId, group: GroupId) -> bool {
        let begun = || self.oldest.get(&group).is_some_and(|oldest| *oldest <= segment);
        segment >= self.until || self.unknown.contains(&group) || begun()
    }
}

impl DataDir {
    /// Whether appends should be refused, so that the log can go on.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.0.full.load(Ordering::Relaxed)
    }

    /// How full the disk was when it was last looked at.
    pub(crate) fn space(&self) -> Option<Space> {
        *self.0.space.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what the groups of a core need from now on. Before each core has told this, nothing is removed that its
    /// groups may be in.
    pub(crate) fn need(&self, core: usize, needs: Needs) {
        self.needs()[core] = Some(needs);
    }

    /// Removes segments that nobody needs, makes files for coming ones, and looks how full the disk is.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) async fn keep_house(&self) -> io::Result<()> {
        let dir = self.clone();
        self.blocking(move || {
            let DataDir(inner) = &dir;
            let space = inner.log.space()?;
            *inner.space.lock().unwrap_or_else(PoisonError::into_inner) = Some(space);
            if inner.full.swap(space.high_water, Ordering::Relaxed) != space.high_water {
                match space.high_water {
                    true => warn!(free_bytes = space.free, "the disk is nearly full: appends are refused"),
                    false => info!(free_bytes = space.free, "the disk has room again"),
                }
            }
            // A core that tells its needs must not wait for the disk.
            let needs = dir.needs().clone();
            let has = |segment, group| {
                let needs = needs[core_of(group, needs.len())].as_ref();
                needs.is_none_or(|needs| needs.has(segment, group))
            };
            let unneeded = |segment, groups: &[GroupId]| !groups.iter().any(|group| has(segment, *group));
            inner.log.remove(unneeded)?;
            // Also when it is nearly full: the reserve is made of these files.
            while inner.log.prepare_spare()? {}
            // Each reads a segment: those of a log that has none wait their turn.
            let room = if space.high_water { 0 } else { SUMMARIES };
            (0..room).try_for_each(|_| inner.log.summarize().map(drop))
        })
        .await
    }

    fn needs(&self) -> MutexGuard<'_, Vec<Option<Needs>>> {
        self.0.needs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
