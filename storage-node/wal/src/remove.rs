//! Removal of segments that nobody needs: their files become spares, or go. Judges nothing itself.

use std::io;

use ursula_common::GroupId;

use crate::dir::{LogDir, Shared};
use crate::segment::{self, SegmentId};
use crate::spare;

impl Shared {
    /// Removes the segments that the log does not need and `unneeded` gives up, which is told who is in them. Returns
    /// those that went.
    pub(crate) fn remove(&self, unneeded: &mut dyn FnMut(SegmentId, &[GroupId]) -> bool) -> io::Result<Vec<SegmentId>> {
        let mut removed = Vec::new();
        {
            let mut table = self.table();
            let ids: Vec<SegmentId> = table.segments.keys().copied().collect();
            for id in ids {
                // One after the other: who mentions a forgotten group depends on those before.
                if table.is_free(id) && unneeded(id, &table.groups_in(id)) {
                    let len = table.segments[&id].len;
                    table.remove(id);
                    removed.push((id, len));
                }
            }
        }
        let mut recycled = Vec::new();
        for (id, len) in &removed {
            self.files().close(*id);
            let path = self.path.join(segment::file_name(*id));
            let wanted = {
                let pool = self.pool();
                pool.wants(self.options.spares.saturating_sub(recycled.len() as u32))
            };
            if wanted && *len == u64::from(self.options.segment_bytes) {
                let number = self.next_spare();
                self.io.rename(&path, &self.path.join(segment::spare_name(number)))?;
                recycled.push(number);
            } else {
                self.io.remove(&path)?;
            }
        }
        if !removed.is_empty() {
            // Before the files are touched: under its old name a crash must find a segment whole, or not at all.
            self.io.sync_dir(&self.path)?;
        }
        for (id, _) in &removed {
            // After the segment: one without its index would have to be read again.
            LogDir::remove_index(self, *id)?;
            self.remove_summary(*id)?;
        }
        for number in recycled {
            let file = self.io.open(&self.path.join(segment::spare_name(number)))?;
            spare::blank(&*file)?;
            self.pool().ready.push(number);
        }
        Ok(removed.into_iter().map(|(id, _)| id).collect())
    }
}
