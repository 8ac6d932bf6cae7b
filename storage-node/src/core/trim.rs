//! Lets the log go whose bytes are in packs, beyond what is to be kept of it.
//!
//! In two steps. First it is seen that all bytes that a group has in a segment are in packs, as far as is applied. Then
//! a checkpoint has to say the same: a replica that gets it as a snapshot, or a node that starts with it, must not look
//! here for bytes that went. `docs/adr/0015-packs-hold-records-of-streams.md`.

use std::collections::{BTreeMap, HashMap};
use std::io;

use ursula_common::{GroupId, Offset, StreamId};
use ursula_wal::SegmentId;

use super::{Core, Hosted, Log};
use crate::cold::Cold;

/// Checkpoints are asked for when the log has so many percent of what is to be kept: before, those that come anyway will
/// do.
const URGENT_PERCENT: u64 = 125;

/// What is known of segments that may go. One for each core.
#[derive(Debug, Default)]
pub(super) struct Trimmer {
    ready: BTreeMap<GroupId, Ready>,
}

/// A group whose bytes up to a segment are in packs.
#[derive(Debug, Clone, Copy)]
struct Ready {
    upto: SegmentId,
    as_of: AsOf,
}

/// When something was seen.
#[derive(Debug, Clone, Copy)]
struct AsOf {
    /// The last entry that the state had.
    applied: u64,
    /// See [`Archive::restored`](crate::archive::Archive::restored): a snapshot may come with bytes for old segments.
    restored: u64,
}

/// What a group has that is in no pack: of these streams, from there on.
type Unpacked = HashMap<StreamId, Offset>;

impl Trimmer {
    /// Looks what may go, and lets go what could go before.
    ///
    /// # Errors
    /// If the index of a segment cannot be read.
    async fn trim(&mut self, log: &Log, hosted: &[Hosted], cold: &Cold) -> io::Result<()> {
        let segments = log.dir.log().segments();
        let kept = (cold.log_bytes() / log.dir.log().segment_bytes()) as usize;
        let Some(upto) = segments.len().checked_sub(kept + 1).map(|last| segments[last].0) else { return Ok(()) };
        let is_urgent = segments.len() as u64 * 100 > kept as u64 * URGENT_PERCENT;
        for Hosted { group, .. } in hosted {
            let Some(Ready { upto, as_of }) = self.ready.get(&group.id).copied() else { continue };
            if as_of.restored != log.archive.restored(group.id) {
                self.ready.remove(&group.id);
            } else if group.replica.checkpointed().is_none_or(|index| index < as_of.applied) {
                if is_urgent {
                    group.replica.checkpoint().await;
                }
            } else if log.archive.release(group.id, upto) {
                group.replica.purge(upto).await;
                self.ready.remove(&group.id);
            }
        }
        self.look(log, hosted, upto).await
    }

    async fn look(&mut self, log: &Log, hosted: &[Hosted], upto: SegmentId) -> io::Result<()> {
        let oldest = log.archive.oldest();
        let mut open: BTreeMap<GroupId, (AsOf, Unpacked)> = BTreeMap::new();
        for Hosted { group, .. } in hosted.iter().filter(|hosted| !self.ready.contains_key(&hosted.group.id)) {
            let begins = [oldest.get(&group.id).copied(), group.replica.oldest_entry()];
            if begins.iter().flatten().any(|begin| *begin <= upto)
                && let (Some(applied), Some(unpacked)) = (group.replica.applied(), group.state.borrow().unpacked())
            {
                let restored = log.archive.restored(group.id);
                open.insert(group.id, (AsOf { applied, restored }, unpacked));
            }
        }
        let segments = log.dir.log().segments().into_iter().map(|(segment, _)| segment);
        for segment in segments.filter(|segment| *segment <= upto) {
            if open.is_empty() {
                break;
            }
            let unindexed = log.archive.unindexed_groups(segment);
            open.retain(|group, _| !unindexed.contains(group));
            let dir = log.dir.log().clone();
            let ends = log.dir.blocking(move || dir.index_ends(segment)).await?;
            for (group, stream, end) in ends {
                let keeps = |(_, unpacked): &(AsOf, Unpacked)| unpacked.get(&stream).is_some_and(|from| from.0 < end);
                if open.get(&group).is_some_and(keeps) {
                    open.remove(&group);
                }
            }
            self.ready.extend(open.iter().map(|(group, (as_of, _))| (*group, Ready { upto: segment, as_of: *as_of })));
        }
        Ok(())
    }
}

impl Core {
    /// See the module. Without a store nothing goes.
    pub(super) async fn trim(&self, trimmer: &mut Trimmer, hosted: &[Hosted]) -> io::Result<()> {
        match (&self.log, &self.cold) {
            (Some(log), Some(cold)) => trimmer.trim(log, hosted, cold).await,
            _ => Ok(()),
        }
    }
}
