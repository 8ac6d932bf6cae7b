//! Readers that catch up: pages from anywhere to the tail, and tails alone.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::{Duration, sleep, timeout};
use ursula_tests::Response;

use crate::client::{Client, Request};
use crate::ledger::{Page, Since};
use crate::load::{OUTAGE_MAX, PATIENCE, PAUSE, Shared, Stream, count};
use crate::record::place;
use crate::violation::{Lie, Violation};

/// Between two requests of a reader, which is not there to take the server's time.
const READ_PAUSE: Duration = Duration::from_millis(5);
/// A reader reads a whole stream once in so many times, and a part of it otherwise.
const WHOLE_EVERY: u32 = 8;
/// Says where a stream begins that does not have all that it ever had...
pub(crate) const EARLIEST: &str = "stream-earliest-offset";
/// ...and where its newest snapshot is.
pub(crate) const SNAPSHOT: &str = "stream-snapshot-offset";
/// How many records of the end a reader reads otherwise, at most.
const END_RECORDS_MAX: usize = 500;

/// Where an answer says that it ends, and whether that is the tail and the end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) next: u64,
    pub(crate) up_to_date: bool,
    pub(crate) closed: bool,
}

impl Ends {
    pub(crate) fn of(stream: &Stream, response: &Response) -> Result<Ends, Violation> {
        let next = response.header("stream-next-offset").and_then(place);
        let without = || Violation::new(Lie::Unexpected, "an answer without Stream-Next-Offset");
        let (number, next) = next.ok_or_else(without)?;
        stream.is_own(number)?;
        let up_to_date = response.header("stream-up-to-date").is_some();
        Ok(Ends { next, up_to_date, closed: response.header("stream-closed").is_some() })
    }
}

/// Where an answer says that a stream begins.
pub(crate) fn beginning(stream: &Stream, earliest: Option<&str>) -> Result<u64, Violation> {
    let Some(text) = earliest else { return Ok(0) };
    let unknown = || Violation::new(Lie::Unexpected, format!("it begins at {text:?}"));
    let (number, at) = place(text).ok_or_else(unknown)?;
    stream.is_own(number)?;
    Ok(at)
}

impl Shared {
    /// Judges that a reader was told where a stream begins, instead of what is before that at `from`.
    pub(crate) fn take_gone(
        &self,
        stream: &Stream,
        since: Since,
        from: u64,
        earliest: Option<&str>,
    ) -> Result<u64, Violation> {
        let begins = earliest.and_then(place);
        let (number, at) = begins.ok_or_else(|| Violation::new(Lie::Vanished, "410 for a stream that is there"))?;
        stream.is_own(number)?;
        stream.ledger().gone(since, from, at)?;
        Ok(at)
    }

    /// Judges a page that came for a request from `from`.
    pub(crate) fn take_page(
        &self,
        stream: &Stream,
        since: Since,
        from: u64,
        response: &Response,
    ) -> Result<Ends, Violation> {
        let ends = Ends::of(stream, response)?;
        let Ends { next, up_to_date, closed } = ends;
        if next == from && !up_to_date {
            return Err(Violation::new(Lie::Unexpected, format!("nothing from {from}, and not up to date")));
        }
        if up_to_date && from < since.earliest {
            // Only who stands in for a leader may still have them, and says nothing of the tail.
            let text = format!("bytes from {from} on, but it had lost all before {}", since.earliest);
            return Err(Violation::new(Lie::Returned, text));
        }
        let payload = &response.body;
        let page = Page { from, payload, next, up_to_date, closed };
        let mut ledger = stream.ledger();
        let before = ledger.records();
        ledger.page(since, page)?;
        count(&self.counters.shown, (ledger.records() - before) as u64);
        Ok(ends)
    }

    /// Asks for something that changes nothing until there is an answer; `None` if the stream may be deleted. What an
    /// answer must show is what was known when it was asked for.
    pub(crate) async fn ask(
        &self,
        client: &mut Client,
        stream: &Stream,
        request: &Request<'_>,
    ) -> Result<Option<(Since, Response)>, Violation> {
        let asked = timeout(OUTAGE_MAX, async {
            loop {
                let since = stream.ledger().since();
                let response = client.request(request, PATIENCE).await;
                if stream.is_gone() {
                    return Ok(None);
                }
                match response {
                    Ok(response) if matches!(response.status, 200 | 204) => return Ok(Some((since, response))),
                    Ok(response) if response.status == 410 && response.header(EARLIEST).is_some() => {
                        return Ok(Some((since, response)));
                    }
                    Ok(response) if matches!(response.status, 404 | 410) => {
                        return Err(Violation::new(
                            Lie::Vanished,
                            format!("{} for a stream that is there", response.status),
                        ));
                    }
                    Ok(response) if !matches!(response.status, 503 | 429) => {
                        return Err(Violation::new(
                            Lie::Unexpected,
                            format!("{} {}", response.status, response.text()),
                        ));
                    }
                    _ => client.turn(),
                }
                sleep(PAUSE).await;
            }
        });
        asked.await.unwrap_or_else(|_| Err(Violation::new(Lie::Unexpected, format!("no answer for {OUTAGE_MAX:?}"))))
    }

    /// Reads pages from `from` to the tail, and returns that, and from where on it was told everything.
    pub(crate) async fn read_on(
        &self,
        client: &mut Client,
        stream: &Stream,
        from: u64,
    ) -> Result<Option<(u64, Ends)>, Violation> {
        let (mut begin, mut at) = (from, from);
        loop {
            let from = if at == 0 { "-1".to_owned() } else { stream.offset(at) };
            let path = format!("{}?offset={from}", stream.path);
            let Some((since, response)) = self.ask(client, stream, &Request::new("GET", &path)).await? else {
                return Ok(None);
            };
            let earliest = response.header(EARLIEST);
            if response.status == 410 {
                at = self.take_gone(stream, since, at, earliest)?;
                begin = at;
                continue;
            }
            if at == 0 {
                // Only who leads answers that.
                at = beginning(stream, earliest)?;
                stream.ledger().begins(since, at)?;
                begin = at;
            }
            let ends = self.take_page(stream, since, at, &response)?;
            if ends.up_to_date {
                return Ok(Some((begin, ends)));
            }
            at = ends.next;
        }
    }

    /// Reads a stream whole whose writers have stopped.
    pub(crate) async fn read_whole(&self, client: &mut Client, stream: &Stream) {
        let result = match self.read_on(client, stream, 0).await {
            Ok(Some((begin, ends))) => stream.ledger().finish(begin, ends.next),
            Ok(None) => Ok(()),
            Err(violation) => Err(violation),
        };
        if self.findings.check(format!("the whole of {}", stream.path), result) {
            count(&self.counters.whole, 1);
        }
    }

    /// Asks for the tail alone.
    pub(crate) async fn ask_tail(&self, client: &mut Client, stream: &Stream) -> Result<(), Violation> {
        let Some((since, response)) = self.ask(client, stream, &Request::new("HEAD", &stream.path)).await? else {
            return Ok(());
        };
        self.take_tail(stream, since, &response)
    }

    /// Judges a tail that came for a request.
    pub(crate) fn take_tail(&self, stream: &Stream, since: Since, response: &Response) -> Result<(), Violation> {
        let Ends { next, closed, .. } = Ends::of(stream, response)?;
        count(&self.counters.tails, 1);
        let begin = beginning(stream, response.header(EARLIEST))?;
        let snapshot = response.header(SNAPSHOT).and_then(place).map(|(_, at)| at);
        let mut ledger = stream.ledger();
        ledger.known_tail(since, next, closed)?;
        ledger.begins(since, begin)?;
        ledger.told_shot(since, snapshot)
    }

    /// Reads here and there for as long as the load runs, each time by another gateway.
    pub(crate) async fn audit(self: Arc<Self>, index: usize) {
        let mut random = StdRng::seed_from_u64(self.options.seed ^ (0xa0d1 << 32) ^ index as u64);
        let mut client = self.client(index);
        while !self.stops() {
            let stream = self.slots[random.random_range(0..self.slots.len())].current();
            let records = stream.ledger().records();
            let from = match random.random_ratio(1, WHOLE_EVERY) {
                true => 0,
                false => stream.ledger().boundary(records - random.random_range(0..=records.min(END_RECORDS_MAX))),
            };
            let result = self.read_on(&mut client, &stream, from).await.map(|_| ());
            self.findings.check(format!("{} from {from}", stream.path), result);
            client.turn();
            let result = self.ask_tail(&mut client, &stream).await;
            self.findings.check(format!("the tail of {}", stream.path), result);
            if self.options.keepers > 0 {
                let result = self.look_at_snapshot(&mut client, &stream).await;
                self.findings.check(format!("the snapshot of {}", stream.path), result);
            }
            sleep(READ_PAUSE).await;
        }
    }
}
