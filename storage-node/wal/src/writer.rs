//! The writing end of a log: makes batches durable, one after the other. Must never go on after a failure.

use std::io;
use std::sync::Arc;

use crate::appender::{Batch, Run};
use crate::dir::Shared;
use crate::io::File;
use crate::segment::SegmentId;

/// Writes the batches of one [`crate::Appender`]; it blocks, and so belongs on a thread of its own.
pub struct Writer {
    shared: Arc<Shared>,
    open: Option<Open>,
    poisoned: Option<Poisoned>,
}

struct Open {
    id: SegmentId,
    file: Arc<dyn File>,
    /// Where the next run must begin.
    end: u64,
}

/// The log of this core failed, for good. What was written after the last batch that succeeded may or may not be on
/// disk, and asking again would not tell: the page that could not be written may be gone from memory.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the log cannot be written any more: {what} of segment {segment} failed: {error}")]
pub struct Poisoned {
    /// What failed.
    pub what: &'static str,
    /// Where.
    pub segment: SegmentId,
    /// How.
    pub error: Arc<io::Error>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>) -> Writer {
        Writer { shared, open: None, poisoned: None }
    }

    /// Returns when the batch is durable, after one sync (and one more for each segment that it filled).
    ///
    /// # Errors
    /// The first failure is final: every later call returns it again.
    ///
    /// # Panics
    /// If a batch was left out.
    pub fn write(&mut self, batch: Batch) -> Result<(), Poisoned> {
        if let Some(poisoned) = &self.poisoned {
            return Err(poisoned.clone());
        }
        if let Err(poisoned) = self.try_write(&batch) {
            self.poisoned = Some(poisoned.clone());
            return Err(poisoned);
        }
        let mut table = self.shared.table();
        for header in batch.runs.iter().filter_map(|run| run.opens) {
            table.add(header, header.size.into(), true, false);
        }
        for ((segment, group), note) in &batch.notes {
            table.note(*segment, *group, note);
        }
        Ok(())
    }

    fn try_write(&mut self, batch: &Batch) -> Result<(), Poisoned> {
        for (number, run) in batch.runs.iter().enumerate() {
            let to = batch.runs.get(number + 1).map_or(batch.bytes.len(), |next| next.from);
            self.write_run(run, &batch.bytes[run.from..to])?;
        }
        self.sync()
    }

    fn write_run(&mut self, run: &Run, bytes: &[u8]) -> Result<(), Poisoned> {
        let failed = |what| move |error| Poisoned { what, segment: run.segment, error: Arc::new(error) };
        if run.opens.is_some() {
            // What is sealed is on disk before anything is written behind it.
            self.sync()?;
            let file = self.shared.begin_segment(run.segment).map_err(failed("making the file"))?;
            self.open = Some(Open { id: run.segment, file, end: 0 });
        }
        let open = self.open.as_mut().expect("the first run opens a segment");
        assert!((open.id, open.end) == (run.segment, u64::from(run.at)), "a batch of the log was left out");
        open.file.write_at(bytes, open.end).map_err(failed("a write"))?;
        open.end += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Poisoned> {
        let Some(open) = &self.open else { return Ok(()) };
        let failed = |error| Poisoned { what: "a sync", segment: open.id, error: Arc::new(error) };
        open.file.sync_data().map_err(failed)
    }
}
