//! Pages of a stream, put together from wherever its bytes are: a fork begins with those of its source.

mod body;
mod budget;

use bytes::Bytes;
use ursula_common::limits::PAGE_BYTES_MAX;
use ursula_common::verb::{ForkLink, ReadFrom, StreamInfo};
use ursula_common::{Error, GroupId, Offset, StreamKey};

use crate::cluster::Cluster;
use crate::link::{RangeRequest, ReadRange};
pub(crate) use body::body;
pub(crate) use budget::{Held, PAGE_BUDGET_BYTES_MIN, PageBudget};

/// A range of a stream that ends between records.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) group: GroupId,
    pub(crate) info: StreamInfo,
    pub(crate) start: Offset,
    pub(crate) next: Offset,
    pub(crate) pieces: Vec<Bytes>,
    /// Whether `info` says all there was. If not, a reader at the end of the page has to ask again.
    proven: bool,
    /// Its share of the memory for pages; to be kept until the client has taken the bytes.
    pub(crate) held: Held,
}

impl Page {
    /// Whether `info` says all there was.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven
    }

    /// Whether it reaches the tail, and nothing more was there.
    pub(crate) fn up_to_date(&self) -> bool {
        self.proven && self.next >= self.info.tail
    }

    /// Whether it reaches the end of a closed stream.
    pub(crate) fn closed(&self) -> bool {
        self.up_to_date() && self.info.closed
    }

    fn bytes(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    fn extend(&mut self, range: ReadRange) {
        self.next = range.next;
        self.pieces.extend(range.pieces);
    }
}

/// Reads about [`PAGE_BYTES_MAX`] from `from` on; counts as an access if `touch`.
///
/// # Errors
/// What the groups answer, or [`Error::Overloaded`] if there is no memory for a page.
pub(crate) async fn read(
    cluster: &Cluster,
    budget: &PageBudget,
    key: &StreamKey,
    from: ReadFrom,
    touch: bool,
) -> Result<Page, Error> {
    let held = budget.take().await?;
    let mut page = stitch(cluster, key, from, touch, held).await?;
    page.held.shrink_to(page.bytes());
    budget.delivered.increment(page.bytes() as u64);
    Ok(page)
}

async fn stitch(cluster: &Cluster, key: &StreamKey, from: ReadFrom, touch: bool, held: Held) -> Result<Page, Error> {
    let own = |from, bytes_max, touch| {
        // Where the tail is, only a leader can say.
        let applied_is_enough = from != ReadFrom::Now;
        cluster.read(key, None, move |target| RangeRequest {
            target,
            from,
            until: None,
            bytes_max,
            touch,
            applied_is_enough,
        })
    };
    let (group, range) = own(from, PAGE_BYTES_MAX, touch).await?;
    let ReadRange { info, start, next, pieces, proven } = range;
    let mut page = Page { group, info, start, next, pieces, proven, held };
    let Some(fork) = page.info.fork.clone().filter(|fork| page.next < fork.at) else { return Ok(page) };
    while page.next < fork.at && page.bytes() < PAGE_BYTES_MAX {
        let range = match inherited(cluster, &fork, page.next, PAGE_BYTES_MAX - page.bytes()).await {
            // Whoever reads on will hear of it.
            Err(Error::HistoryDamaged { .. }) if !page.pieces.is_empty() => return Ok(page),
            range => range?,
        };
        if range.next == page.next {
            // The bytes must be there as long as the fork is: it has just been deleted, or it never will.
            return Err(Error::Unavailable);
        }
        if page.pieces.is_empty() {
            page.start = range.start;
        }
        page.extend(range);
    }
    if page.next == fork.at && page.bytes() < PAGE_BYTES_MAX {
        let (_, range) = match own(ReadFrom::At(page.next), PAGE_BYTES_MAX - page.bytes(), false).await {
            Err(Error::HistoryDamaged { .. }) if !page.pieces.is_empty() => return Ok(page),
            range => range?,
        };
        if range.info.id == page.info.id {
            (page.info, page.proven) = (range.info.clone(), range.proven);
            page.extend(range);
        }
    }
    Ok(page)
}

/// Reads inherited bytes from the stream in the chain of sources that has them.
async fn inherited(cluster: &Cluster, fork: &ForkLink, from: Offset, bytes_max: usize) -> Result<ReadRange, Error> {
    let mut link = fork.clone();
    loop {
        let until = Some(link.at);
        let request = |target| RangeRequest {
            target,
            from: ReadFrom::At(from),
            until,
            bytes_max,
            touch: false,
            applied_is_enough: true,
        };
        let (_, range) = cluster.read(&link.source, Some(link.source_id), request).await?;
        match range.info.fork.clone().filter(|further| from < further.at) {
            Some(further) => link = ForkLink { at: further.at.min(link.at), ..further },
            None => return Ok(range),
        }
    }
}

#[cfg(test)]
mod tests;
