//! Readers that ask for tails at a steady pace, whether or not those before were answered. One that waits is blind just
//! when answers are late, and those are the ones that may be old.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep};

use crate::client::{Client, Request};
use crate::load::{PATIENCE, Shared, Stream};
use crate::violation::{Lie, Violation};

/// Between two questions of a reader.
const PROBE_PAUSE: Duration = Duration::from_millis(40);
/// Questions of a reader without an answer, at most.
const PROBES_MAX: usize = 64;

impl Shared {
    /// Asks one gateway, for as long as the load runs.
    pub(crate) async fn probe(self: Arc<Self>, index: usize) {
        let mut random = StdRng::seed_from_u64(self.options.seed ^ (0x920b << 32) ^ index as u64);
        let mut asked = JoinSet::new();
        while !self.stops() {
            while asked.try_join_next().is_some() {}
            if asked.len() < PROBES_MAX {
                let stream = self.slots[random.random_range(0..self.slots.len())].current();
                asked.spawn(self.clone().probe_once(index, stream));
            }
            sleep(PROBE_PAUSE).await;
        }
    }

    async fn probe_once(self: Arc<Self>, gateway: usize, stream: Arc<Stream>) {
        let mut client = Client::staying(self.gateways.clone(), gateway);
        let since = stream.ledger().since();
        let answer = client.request(&Request::new("HEAD", &stream.path), PATIENCE).await;
        let result = match answer {
            Ok(_) if stream.is_gone() => Ok(()),
            Ok(response) if response.status == 200 => self.take_tail(&stream, since, &response),
            Ok(response) if matches!(response.status, 404 | 410) => {
                Err(Violation::new(Lie::Vanished, format!("{} for a stream that is there", response.status)))
            }
            Ok(_) | Err(_) => Ok(()),
        };
        self.findings.check(format!("the tail of {}", stream.path), result);
    }
}
