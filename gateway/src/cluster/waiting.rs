//! Buckets whose ops wait for the object store, as far as this gateway has heard, so that they hold up no others. Whoever
//! leads lets them wait, whatever is known here: what is not known, or is known no longer, costs time and nothing else.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use ursula_common::BucketName;
use ursula_common::verb::Ack;

use super::Cluster;

/// Buckets that are known; with more, all are asked for anew.
const BUCKETS_MAX: usize = 4096;

/// See the module.
pub(super) struct Acks {
    known: BTreeMap<BucketName, Ack>,
    /// One question at a time, whatever clients name.
    is_asking: bool,
}

impl Acks {
    pub(super) fn new() -> Acks {
        Acks { known: BTreeMap::from([(BucketName::default_bucket(), Ack::Quorum)]), is_asking: false }
    }
}

impl Cluster {
    /// Whether ops in a bucket are known to wait for the object store. Of one that is not known the meta group is asked,
    /// beside the op.
    pub(super) fn waits(&self, bucket: &BucketName) -> bool {
        let mut acks = self.acks();
        if let Some(ack) = acks.known.get(bucket) {
            return *ack == Ack::Offloaded;
        }
        if !std::mem::replace(&mut acks.is_asking, true) {
            tokio::spawn(self.clone().learn(bucket.clone()));
        }
        false
    }

    async fn learn(self, bucket: BucketName) {
        let described = self.describe_bucket(&bucket).await;
        let mut acks = self.acks();
        acks.is_asking = false;
        let Ok(ack) = described else { return };
        if acks.known.len() >= BUCKETS_MAX {
            *acks = Acks::new();
        }
        acks.known.insert(bucket, ack);
    }

    fn acks(&self) -> MutexGuard<'_, Acks> {
        self.0.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
