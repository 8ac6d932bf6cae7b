//! One tail at the storage node for each stream that somebody follows, however many readers it has.
//!
//! Every event is framed once, into bytes that all readers share. A reader that falls behind what is kept
//! reads pages until it has caught up again, at its own speed.

mod feed;
mod frame;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ursula_common::{Clock, Offset, StreamId, StreamKey, verb::StreamInfo};

use crate::cluster::Cluster;
use crate::metrics::Metrics;
use feed::{Feed, KeptBudget};
pub(crate) use feed::{Reader, Step, unread};
pub(crate) use frame::{Frame, frameable};

type FeedKey = (StreamKey, StreamId);

/// All feeds of a gateway. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Inner>);

struct Inner {
    feeds: Mutex<HashMap<FeedKey, Arc<Feed>>>,
    cluster: Cluster,
    budget: Arc<KeptBudget>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl Hub {
    /// `kept_bytes_max` bounds the events that all feeds keep together.
    pub(crate) fn new(cluster: Cluster, kept_bytes_max: usize, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Hub {
        let budget = Arc::new(KeptBudget::new(kept_bytes_max));
        Hub(Arc::new(Inner { feeds: Mutex::default(), cluster, budget, clock, metrics }))
    }

    /// Follows a stream from `from` on, which is at or near its tail; opens a tail if nobody does yet.
    pub(crate) fn follow(&self, key: &StreamKey, info: &StreamInfo, from: Offset) -> Reader {
        let feed_key = (key.clone(), info.id);
        let mut feeds = self.0.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        let feed = feeds.entry(feed_key.clone()).or_insert_with(|| {
            let feed = Arc::new(Feed::new(&info.content_type, from, self.0.budget.clone(), self.0.metrics.clone()));
            tokio::spawn(run(self.clone(), feed_key, feed.clone()));
            feed
        });
        // Under the lock: a feed is removed only while it has no readers.
        Reader::new(feed.clone(), from)
    }

    /// Removes a feed, unless somebody follows it.
    fn remove_if_idle(&self, key: &FeedKey, feed: &Feed) -> bool {
        let mut feeds = self.0.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = feed.readers() == 0;
        if idle {
            feeds.remove(key);
        }
        idle
    }

    /// Removes a feed that has ended: its readers have what it kept, new ones ask the node.
    fn remove(&self, key: &FeedKey) {
        self.0.feeds.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

async fn run(hub: Hub, key: FeedKey, feed: Arc<Feed>) {
    let Inner { cluster, clock, metrics, .. } = &*hub.0;
    loop {
        let ended = feed.pump(cluster, &key, clock.as_ref(), metrics).await;
        if ended {
            return hub.remove(&key);
        }
        if hub.remove_if_idle(&key, &feed) {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
