//! The end of a run: every stream that is left is read whole, by way of every gateway.

use std::sync::{Arc, PoisonError};

use tokio::task::JoinSet;

use crate::client::Client;
use crate::load::{Shared, Stream};

/// Streams that are read at the same time.
const READERS: usize = 8;

impl Shared {
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
                    }
                });
            }
            while readers.join_next().await.is_some() {}
        }
    }
}
