//! Where in the stored bytes a fork begins, or a stream that is trimmed, or a snapshot ends.
//!
//! A sub-offset counts bytes or messages within one record, and a stream begins with a whole one as a snapshot ends with one,
//! which only the stored bytes tell. They never change, so the leader may look before it proposes, and every replica applies the same place.

use bytes::Bytes;
use ursula_common::verb::{AcquireFork, ForkCut, StreamInfo};
use ursula_common::{BucketName, Error, Offset, StreamId, StreamKey, json};

use super::Group;
use crate::directory::Directory;

impl Group {
    /// Fills in `acquire.cut` where it is needed.
    ///
    /// # Errors
    /// If the offset or the sub-offset is no place in the source. Everything else that may be wrong is
    /// left to apply.
    pub(crate) async fn find_cut(&self, acquire: &mut AcquireFork, directory: &Directory) -> Result<(), Error> {
        let info = self.state.borrow().info(&acquire.fork_ref.source, None, self.clock.now());
        let Ok(info) = info else { return Ok(()) };
        let Some(anchor) = acquire.anchor(info.tail).filter(|anchor| *anchor >= info.earliest) else { return Ok(()) };
        let record = match anchor < info.tail {
            true => self.record(&acquire.fork_ref.source.bucket, &info, anchor, None, directory).await?,
            false => None,
        };
        let at = place(&info, anchor, acquire.sub_offset, record)?;
        acquire.cut = Some(ForkCut { stream: info.id, at });
        Ok(())
    }

    /// Where the record begins that `at` lies in, for a stream to begin there or a snapshot to end; nothing where no record
    /// has to be looked for.
    ///
    /// # Errors
    /// If another group that has to be asked cannot answer. Everything else that may be wrong is left to apply.
    pub(crate) async fn find_record(
        &self,
        key: &StreamKey,
        at: Offset,
        directory: &Directory,
    ) -> Result<Option<ForkCut>, Error> {
        let info = self.state.borrow().info(key, None, self.clock.now());
        let Ok(info) = info else { return Ok(None) };
        if at <= info.earliest || at >= info.tail {
            return Ok(None);
        }
        // None of its bytes are wanted.
        let found = self.record(&key.bucket, &info, at, Some(Offset::ZERO), directory).await?;
        Ok(found.map(|(start, _)| ForkCut { stream: info.id, at: start }))
    }

    /// The record that `at` lies in, wherever it is stored: its start, and its bytes up to `until`.
    ///
    /// # Errors
    /// If another group that has to be asked cannot answer.
    pub(crate) async fn record(
        &self,
        bucket: &BucketName,
        info: &StreamInfo,
        at: Offset,
        until: Option<Offset>,
        directory: &Directory,
    ) -> Result<Option<(Offset, Bytes)>, Error> {
        match info.fork.as_ref().filter(|fork| at < fork.at) {
            Some(fork) => {
                let until = until.map_or(fork.at, |until| until.min(fork.at));
                directory.record(&fork.source, fork.source_id, at, until).await
            }
            None => self.record_at(bucket, info, at, until).await,
        }
    }

    /// Serves [`Group::record`] to another group, for one incarnation.
    ///
    /// # Errors
    /// If the incarnation is not here, or another group cannot answer.
    pub(crate) async fn inherited_record(
        &self,
        key: &StreamKey,
        id: StreamId,
        at: Offset,
        until: Offset,
        directory: &Directory,
    ) -> Result<Option<(Offset, Bytes)>, Error> {
        let info = self.state.borrow().info(key, Some(id), self.clock.now())?;
        self.record(&key.bucket, &info, at, Some(until), directory).await
    }
}

/// The place `sub_offset` bytes or messages after `anchor`, given the record that `anchor` lies in.
fn place(info: &StreamInfo, anchor: Offset, sub_offset: u64, record: Option<(Offset, Bytes)>) -> Result<Offset, Error> {
    let Some((start, bytes)) = record else {
        return if sub_offset == 0 { Ok(anchor) } else { Err(Error::ForkSubOffsetInvalid) };
    };
    let inside = usize::try_from(anchor.0 - start.0).map_err(|_| Error::ForkSubOffsetInvalid)?;
    let json = info.content_type.is_json();
    if json && !json::is_boundary(&bytes, inside) {
        return Err(Error::ForkOffsetInvalid { tail: info.tail });
    }
    let rest = &bytes[inside..];
    let length = if json {
        json::cut(rest, sub_offset).map(|length| length as u64)
    } else {
        (sub_offset <= rest.len() as u64).then_some(sub_offset)
    };
    length.map(|length| Offset(anchor.0 + length)).ok_or(Error::ForkSubOffsetInvalid)
}
