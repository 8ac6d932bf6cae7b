//! Keepers: each lets the beginnings of some streams go, and publishes their snapshots. Nobody else does that to these streams,
//! so at every moment it is known what must be there, but for what is just being asked.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::{Duration, sleep, timeout};

use crate::answer::Answer;
use crate::client::{Client, Request};
use crate::load::publish::Publisher;
use crate::load::{OUTAGE_MAX, PAUSE, Shared, Stream, count};
use crate::violation::{Lie, Violation};

/// Between two changes.
const KEEP_PAUSE: Duration = Duration::from_millis(30);
/// One in so many changes is a trim...
const TRIM_EVERY: u32 = 4;
/// ...and goes up to the newest snapshot but for one in so many times.
const TRIM_ELSEWHERE_EVERY: u32 = 3;

impl Shared {
    pub(crate) async fn keep(self: Arc<Self>, index: usize) {
        let mut random = StdRng::seed_from_u64(self.options.seed ^ (0x6ee9 << 32) ^ index as u64);
        let mut client = self.client(index);
        let own: Vec<_> = self.slots.iter().skip(index).step_by(self.options.keepers).collect();
        let mut publishers: Vec<Publisher> = own.iter().map(|slot| Publisher::new(slot.current())).collect();
        while !self.stops() && !own.is_empty() {
            let at = random.random_range(0..own.len());
            publishers[at].move_on(own[at]);
            let stream = publishers[at].stream.clone();
            let result = match random.random_ratio(1, TRIM_EVERY) {
                true => self.trim(&mut client, &mut random, &stream).await,
                false => publishers[at].step(&self, &mut client, &mut random).await,
            };
            self.findings.check(format!("keeping {}", stream.path), result);
            count(&self.counters.kept, 1);
            client.turn();
            let result = self.look_at_snapshot(&mut client, &stream).await;
            self.findings.check(format!("the snapshot of {}", stream.path), result);
            sleep(KEEP_PAUSE).await;
        }
    }

    /// Lets the beginning of a stream go; then nobody reads it.
    async fn trim(&self, client: &mut Client, random: &mut StdRng, stream: &Stream) -> Result<(), Violation> {
        let (to, below) = {
            let ledger = stream.ledger();
            let newest = ledger.newest_shot().filter(|_| !random.random_ratio(1, TRIM_ELSEWHERE_EVERY));
            let to = match newest {
                Some(shot) => shot.at,
                None => ledger.boundary(random.random_range(0..=ledger.records() / 2)),
            };
            let before = ledger.records_until(to);
            (to, before.checked_sub(1).map(|last| ledger.boundary(random.random_range(0..=last))))
        };
        let path = format!("{}?before={}", stream.path, stream.offset(to));
        let since = stream.ledger().trim_sent(to);
        match self.settle(client, &Request::new("DELETE", &path)).await.0 {
            Answer::Begins { status: 204, number, at } => {
                stream.is_own(number)?;
                stream.ledger().trimmed(since, to, at)?;
            }
            Answer::Missing if stream.is_gone() => return Ok(()),
            answer => return Err(answer.unexpected(Lie::Unexpected).seen(format!("trim to {to}"))),
        }
        client.turn();
        self.ask_tail(client, stream).await?;
        match below {
            Some(below) => self.read_below(client, stream, below).await,
            None => Ok(()),
        }
    }

    /// Reads what was trimmed, until it is gone: who stands in for a leader may still have it.
    async fn read_below(&self, client: &mut Client, stream: &Stream, from: u64) -> Result<(), Violation> {
        let path = format!("{}?offset={}", stream.path, stream.offset(from));
        let told = timeout(OUTAGE_MAX, async {
            loop {
                let asked = self.ask(client, stream, &Request::new("GET", &path)).await?;
                let Some((since, response)) = asked else { return Ok(()) };
                if response.status == 410 {
                    let earliest = response.header(super::read::EARLIEST);
                    return self.take_gone(stream, since, from, earliest).map(|_| ());
                }
                self.take_page(stream, since, from, &response)?;
                client.turn();
                sleep(PAUSE).await;
            }
        });
        told.await.unwrap_or_else(|_| Err(Violation::new(Lie::Returned, format!("what is at {from} does not go"))))
    }
}
