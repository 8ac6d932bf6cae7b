//! The stored bytes of a stream: from memory if they are there, else from the log on disk, else from packs.

use std::io;

use bytes::Bytes;
use tracing::error;
use ursula_cold::reader::{ReadError as PackError, Wanted};
use ursula_cold::store::StoreError;
use ursula_common::packs::ColdEnd;
use ursula_common::verb::StreamInfo;
use ursula_common::{BucketName, Error, Offset, StreamId, pieces};
use ursula_wal::ReadError;

use super::Group;
use crate::hot::Range;
use crate::journal::read_error;
use crate::tails::{TailPage, Waiter};

impl Group {
    /// The bytes from `from` of a stream in a bucket to the first record boundary at or after `bytes_max` more, but not past
    /// `until`. Empty at the tail. May end earlier, between records.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the log or the store cannot be read, [`Error::HistoryDamaged`].
    pub(crate) async fn bytes(
        &self,
        bucket: &BucketName,
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
        let (start, records) = self.archived(bucket, info, from, end, bytes_max).await?;
        Ok(cut(start, records, from, end))
    }

    /// The same, but from the start of the record on that has `from`, which is returned, too.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the log or the store cannot be read, [`Error::HistoryDamaged`].
    pub(crate) async fn records(
        &self,
        bucket: &BucketName,
        info: &StreamInfo,
        from: Offset,
        until: Option<Offset>,
        bytes_max: usize,
    ) -> Result<(Offset, Range), Error> {
        let hot = self.state.borrow().hot_record(info.id, from);
        if let Some((start, _)) = hot {
            return Ok((start, self.bytes(bucket, info, start, until, bytes_max).await?));
        }
        // In one go: a look for its start alone would be a request of its own to the store.
        let end = until.map_or(info.tail, |until| until.min(info.tail));
        let (start, records) = self.archived(bucket, info, from, end, bytes_max).await?;
        Ok((start, cut(start, records, start, end)))
    }

    /// The record that `at` lies in: its start, and its bytes up to `until`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the log or the store cannot be read, [`Error::HistoryDamaged`].
    pub(crate) async fn record_at(
        &self,
        bucket: &BucketName,
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
        let (start, records) = self.archived(bucket, info, at, info.tail, 1).await?;
        let cut = |mut record: Bytes| {
            let end = until.map_or(u64::MAX, |until| until.0).saturating_sub(start.0);
            record.truncate(end.min(record.len() as u64) as usize);
            (start, record)
        };
        Ok(records.into_iter().next().map(cut))
    }

    /// Answers a tail that has fallen behind what is in memory.
    pub(crate) async fn answer_behind(&self, bucket: &BucketName, waiter: Waiter, info: StreamInfo) {
        let range = self.bytes(bucket, &info, waiter.from, None, waiter.bytes_max).await;
        let page = range.map(|range| TailPage::new(waiter.from, range, &info, || self.state.borrow().is_proven()));
        waiter.answer(page);
    }

    /// Records that continue a stream at `from`, from memory or the log, up to the first that ends at or after `until`;
    /// none if it has ended. May end earlier.
    ///
    /// # Errors
    /// If the log cannot be read, or is damaged.
    pub(crate) async fn own_records(&self, stream: StreamId, from: Offset, until: Offset) -> io::Result<Vec<Bytes>> {
        let bytes_max = (until.0 - from.0) as usize;
        let (hot, archive) = {
            let state = self.state.borrow();
            (state.hot_records(stream, from, until), state.archive().cloned())
        };
        match archive.filter(|_| hot.is_empty()) {
            None => Ok(hot),
            Some(archive) => Ok(archive.read(self.id, stream, from, until, bytes_max).await?.records),
        }
    }

    /// Whole records, from the one on that has `from`: from the log, or else from packs. None if there are none.
    async fn archived(
        &self,
        bucket: &BucketName,
        info: &StreamInfo,
        from: Offset,
        end: Offset,
        bytes_max: usize,
    ) -> Result<(Offset, Vec<Bytes>), Error> {
        let archive = self.state.borrow().archive().cloned();
        let Some(archive) = archive.filter(|_| from < end) else { return Ok((from, Vec::new())) };
        let in_packs = info.cold.filter(|cold| from < cold.end);
        match archive.read(self.id, info.id, from, end, bytes_max).await {
            Ok(found)
                if found.records.is_empty()
                    && let Some(cold) = in_packs =>
            {
                self.packed(bucket, info.id, cold, from, end.min(cold.end), bytes_max).await
            }
            Ok(found) => Ok((found.start, found.records)),
            Err(error) => {
                // A segment goes when packs have its bytes, also while it is being read.
                if in_packs.is_none() || !matches!(read_error(&error), Some(ReadError::Gone(_))) {
                    error!(group = %self.id, stream = info.id.0, offset = from.0, %error, "stored bytes cannot be read");
                }
                match in_packs {
                    Some(cold) => self.packed(bucket, info.id, cold, from, end.min(cold.end), bytes_max).await,
                    None => Err(Error::Unavailable),
                }
            }
        }
    }

    /// Whole records from packs.
    async fn packed(
        &self,
        bucket: &BucketName,
        stream: StreamId,
        cold: ColdEnd,
        from: Offset,
        until: Offset,
        bytes_max: usize,
    ) -> Result<(Offset, Vec<Bytes>), Error> {
        let mut packs = self.state.borrow().catalogue();
        loop {
            let (Some(store), Some(known)) = (&self.cold, &packs) else {
                error!(group = %self.id, "bytes of streams are in packs, and this node has no store: see its setting `store`");
                return Err(Error::Unavailable);
            };
            let wanted = Wanted {
                bucket: bucket.clone(),
                group: self.id,
                packs: known.clone(),
                stream,
                newest: cold.pack,
                from,
                until,
                bytes_max,
            };
            let PackError { error, until: resumes } = match store.read(wanted).await {
                Ok(found) => return Ok((found.start, found.records)),
                Err(error) => error,
            };
            // An object may have been replaced, and have gone, since this replica was asked.
            let now = self.state.borrow().catalogue();
            if matches!(error, StoreError::NotFound(_)) && now != packs {
                packs = now;
                continue;
            }
            error!(group = %self.id, stream = stream.0, offset = from.0, %error, "bytes in packs cannot be read");
            return Err(match error {
                StoreError::NotFound(_) | StoreError::Damaged { .. } => {
                    Error::HistoryDamaged { from, until: resumes.map_or(until, |resumes| resumes.min(until)) }
                }
                _ => Error::Unavailable,
            });
        }
    }
}

/// What lies in `from..end` of records that begin at `start`.
fn cut(start: Offset, records: Vec<Bytes>, from: Offset, end: Offset) -> Range {
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
    range
}
