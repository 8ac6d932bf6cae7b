//! The stored bytes of a stream, from memory if they are there, else from the log on disk.

use bytes::Bytes;
use tracing::error;
use ursula_common::verb::StreamInfo;
use ursula_common::{Error, Offset, pieces};

use super::Group;
use crate::hot::Range;
use crate::tails::{TailPage, Waiter};

impl Group {
    /// The bytes from `from` to the first record boundary at or after `bytes_max` more, but not past
    /// `until`. Empty at the tail. May end earlier, between records.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the log cannot be read.
    pub(crate) async fn bytes(
        &self,
        info: &StreamInfo,
        from: Offset,
        until: Option<Offset>,
        bytes_max: usize,
    ) -> Result<Range, Error> {
        let end = until.map_or(info.tail, |until| until.min(info.tail));
        let range = self.state.borrow().read_hot(info.id, from, Some(end), bytes_max);
        if !range.pieces.is_empty() || from >= end {
            return Ok(range);
        }
        let (start, records) = self.archived(info, from, end, bytes_max).await?;
        let mut range = Range { pieces: Vec::with_capacity(records.len()), next: from };
        let mut at = start;
        for mut record in records {
            let record_end = Offset(at.0 + record.len() as u64);
            record.truncate(end.0.saturating_sub(at.0).min(record.len() as u64) as usize);
            let skip = from.0.saturating_sub(at.0).min(record.len() as u64) as usize;
            range.pieces.push(record.split_off(skip));
            at = record_end;
        }
        range.next = from.max(at.min(end));
        Ok(range)
    }

    /// The record that `at` lies in: its start, and its bytes up to `until`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the log cannot be read.
    pub(crate) async fn record_at(
        &self,
        info: &StreamInfo,
        at: Offset,
        until: Option<Offset>,
    ) -> Result<Option<(Offset, Bytes)>, Error> {
        let found = self.state.borrow().hot_record(info.id, at);
        if let Some((start, end)) = found {
            let end = until.map_or(end, |until| until.min(end));
            let range = self.state.borrow().read_hot(info.id, start, Some(end), usize::MAX);
            return Ok(Some((start, pieces::join(&range.pieces))));
        }
        let (start, records) = self.archived(info, at, info.tail, 1).await?;
        let cut = |mut record: Bytes| {
            let end = until.map_or(u64::MAX, |until| until.0).saturating_sub(start.0);
            record.truncate(end.min(record.len() as u64) as usize);
            (start, record)
        };
        Ok(records.into_iter().next().map(cut))
    }

    /// Answers a tail that has fallen behind what is in memory.
    pub(crate) async fn answer_behind(&self, waiter: Waiter, info: StreamInfo) {
        let range = self.bytes(&info, waiter.from, None, waiter.bytes_max).await;
        let page = range.map(|range| TailPage::new(waiter.from, range, &info, || self.state.borrow().is_proven()));
        waiter.answer(page);
    }

    /// Whole records from the log, from the one on that has `from`; none if it is not there.
    async fn archived(
        &self,
        info: &StreamInfo,
        from: Offset,
        end: Offset,
        bytes_max: usize,
    ) -> Result<(Offset, Vec<Bytes>), Error> {
        let archive = self.state.borrow().archive().cloned();
        let Some(archive) = archive.filter(|_| from < end) else { return Ok((from, Vec::new())) };
        match archive.read(self.id, info.id, from, end, bytes_max).await {
            Ok(found) => Ok((found.start, found.records)),
            Err(error) => {
                error!(group = %self.id, stream = info.id.0, offset = from.0, %error, "stored bytes cannot be read");
                Err(Error::Unavailable)
            }
        }
    }
}
