//! Reads: answered from applied state, after the replica has made sure that it still leads.

use std::rc::Rc;

use tokio::sync::oneshot;
use ursula_common::verb::{Ack, ReadFrom, StreamInfo};
use ursula_common::{BucketName, Error, Millis, Offset, StreamId, StreamKey, StreamName};

use crate::core::{List, Read, ReadDone};
use crate::group::Group;
use crate::hot::Range;

type Reply<T> = oneshot::Sender<Result<T, Error>>;

pub(crate) async fn describe(
    group: Rc<Group>,
    key: StreamKey,
    inherited: Option<StreamId>,
    touch: bool,
    now: Millis,
    reply: Reply<StreamInfo>,
) {
    let confirmed = group.replica.confirm_leadership().await;
    let info = confirmed.and_then(|()| group.state.borrow().info(&key, inherited, now));
    if touch && info.is_ok() {
        group.touch(&key);
    }
    drop(reply.send(info));
}

pub(crate) async fn read(group: Rc<Group>, read: Read, now: Millis, reply: Reply<ReadDone>) {
    let confirmed = group.replica.confirm_leadership().await;
    let done = match confirmed {
        Ok(()) => range(&group, &read, now).await,
        Err(error) if read.applied_is_enough => applied_range(&group, &read, now).await.ok_or(error),
        Err(error) => Err(error),
    };
    if read.touch && done.as_ref().is_ok_and(|done| done.proven) {
        group.touch(&read.key);
    }
    drop(reply.send(done));
}

pub(crate) async fn list(group: Rc<Group>, list: List, now: Millis, reply: Reply<Vec<(StreamName, StreamInfo)>>) {
    let List { bucket, prefix, after, limit } = list;
    let confirmed = group.replica.confirm_leadership().await;
    drop(reply.send(confirmed.and_then(|()| group.state.borrow().list(&bucket, &prefix, &after, limit, now))));
}

pub(crate) async fn describe_bucket(group: Rc<Group>, bucket: BucketName, reply: Reply<Ack>) {
    let confirmed = group.replica.confirm_leadership().await;
    drop(reply.send(confirmed.and_then(|()| group.state.borrow().bucket(&bucket))));
}

async fn range(group: &Group, read: &Read, now: Millis) -> Result<ReadDone, Error> {
    let info = group.state.borrow().info(&read.key, read.inherited, now)?;
    let start = match read.from {
        ReadFrom::Start => info.earliest,
        ReadFrom::Now => info.tail,
        ReadFrom::At(offset) => offset.within(info.tail),
    };
    if start < info.earliest || start.first() != info.tail.first() {
        return Err(Error::OffsetGone { earliest: info.earliest });
    }
    let start = start.min(info.tail);
    let elsewhere = info.fork.as_ref().is_some_and(|fork| start < fork.at);
    if elsewhere || start == info.tail {
        return Ok(ReadDone { info, start, range: Range { pieces: Vec::new(), next: start }, proven: true });
    }
    let (start, range) = match is_divisible(&info) {
        true => (start, group.bytes(&read.key.bucket, &info, start, read.until, read.bytes_max).await?),
        false => group.records(&read.key.bucket, &info, start, read.until, read.bytes_max).await?,
    };
    if range.next == start {
        // The stream has ended meanwhile, and its bytes with it; or they are damaged.
        return Err(group.state.borrow().info(&read.key, read.inherited, now).err().unwrap_or(Error::Unavailable));
    }
    Ok(ReadDone { info, start, range, proven: true })
}

/// What a replica can say that may lag behind: bytes that it has, or where inherited bytes are, of the stream that the
/// reader means. That a stream is not there, or ends here, may have changed.
async fn applied_range(group: &Group, read: &Read, now: Millis) -> Option<ReadDone> {
    let done = range(group, read, now).await.ok()?;
    // The start is that of any stream, and a fork has the offsets of its source.
    let is_meant = match read.from {
        ReadFrom::At(offset) => offset != Offset::ZERO && done.info.fork.is_none(),
        ReadFrom::Start | ReadFrom::Now => false,
    };
    if read.inherited.is_none() && !is_meant {
        return None;
    }
    let inherits = done.info.fork.as_ref().is_some_and(|fork| done.start < fork.at);
    (inherits || done.range.next > done.start).then_some(ReadDone { proven: false, ..done })
}

/// Whether a read may begin inside a record. Only text may: an event ends before a character whose rest
/// has not come yet. Anywhere else an offset inside a record is one that no server returned, and the
/// record is sent whole, as the reference server does.
fn is_divisible(info: &StreamInfo) -> bool {
    info.content_type.is_text() && !info.content_type.is_json()
}
