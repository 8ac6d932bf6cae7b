//! The end of a run: every stream that is left is read whole, by way of every gateway.

use std::sync::{Arc, PoisonError};

use tokio::task::JoinSet;

use crate::client::Client;
use crate::load::{Shared, Stream};

/// Streams that are read at the same time.
const READERS: usize = 8;

impl Shared {
    /// These streams stay until the end of the run.
    pub(crate) fn stay(&self, streams: impl Iterator<Item = Arc<Stream>>) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).extend(streams);
    }

    /// Whether a stream does.
    pub(crate) fn stays(&self, stream: &Arc<Stream>) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().any(|kept| Arc::ptr_eq(kept, stream))
    }

    /// Those in the slots, and those that were kept.
    fn left(&self) -> Vec<Arc<Stream>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        self.slots.iter().map(|slot| slot.current()).chain(kept.iter().cloned()).collect()
    }

    pub(crate) async fn read_all_whole(self: &Arc<Self>) {
        for gateway in 0..self.gateways.count() {
            let mut readers = JoinSet::new();
            for part in 0..READERS {
                let shared = self.clone();
                readers.spawn(async move {
                    let mut client = Client::staying(shared.gateways.clone(), gateway);
                    for stream in shared.left().iter().skip(part).step_by(READERS) {
                        shared.read_whole(&mut client, stream).await;
                        if shared.options.keepers > 0 {
                            let result = shared.look_at_snapshot(&mut client, stream).await;
                            shared.findings.check(format!("the snapshot of {}", stream.path), result);
                        }
                    }
                });
            }
            while readers.join_next().await.is_some() {}
        }
    }
}
