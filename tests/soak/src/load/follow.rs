//! Live readers: each follows the streams of a slot from their start to their end, and resumes where it was.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::time::{Duration, sleep};
use ursula_tests::{Event, EventParser};

use crate::client::{Client, Failure, Request};
use crate::ledger::{Page, Since};
use crate::load::read::{EARLIEST, Ends};
use crate::load::{PATIENCE, PAUSE, Shared, Stream, count};
use crate::record::{Format, place};
use crate::violation::{Lie, Violation};

/// Longer than a long poll waits, or an event stream is silent.
const LIVE_PATIENCE: Duration = Duration::from_secs(20);

impl Shared {
    pub(crate) async fn follow(self: Arc<Self>, index: usize) {
        let slot = &self.slots[index % self.slots.len()];
        let mut client = self.client(index);
        while !self.stops() {
            let stream = slot.current();
            let result = match index.is_multiple_of(2) {
                true => self.poll(&mut client, &stream).await,
                false => self.listen(&mut client, &stream).await,
            };
            self.findings.check(format!("following {}", stream.path), result);
            // What is in the slot may be the same as before for a moment, and read to its end.
            sleep(PAUSE).await;
        }
    }

    /// Follows a stream by long polls until it ends.
    async fn poll(&self, client: &mut Client, stream: &Stream) -> Result<(), Violation> {
        let mut at = 0;
        while !self.stops() {
            let path = format!("{}?offset={}&live=long-poll", stream.path, stream.offset(at));
            let since = stream.ledger().since();
            let answer = client.request(&Request::new("GET", &path), LIVE_PATIENCE).await;
            if stream.is_gone() {
                return Ok(());
            }
            let ends = match answer {
                Ok(response) if response.status == 200 => self.take_page(stream, since, at, &response)?,
                Ok(response) if response.status == 204 => {
                    let ends = Ends::of(stream, &response)?;
                    if ends.next != at {
                        let text = format!("a long poll from {at} ended without data at {}", ends.next);
                        return Err(Violation::new(Lie::Gap, text));
                    }
                    count(&self.counters.tails, 1);
                    stream.ledger().known_tail(since, ends.next, ends.closed)?;
                    ends
                }
                Ok(response) if response.status == 410 => {
                    at = self.take_gone(stream, since, at, response.header(EARLIEST))?;
                    continue;
                }
                other => {
                    self.resume(client, other).await.map_err(|violation| violation.seen(format!("from {at}")))?;
                    continue;
                }
            };
            at = ends.next;
            if ends.closed {
                return Ok(());
            }
        }
        Ok(())
    }

    /// After an answer that a reader cannot use: an error if it may not come at all.
    async fn resume<T: Refusal>(&self, client: &mut Client, answer: Result<T, Failure>) -> Result<(), Violation> {
        match answer.map(|answer| (answer.status(), answer.text())) {
            Ok((status @ 404, _)) => {
                return Err(Violation::new(Lie::Vanished, format!("{status} for a stream that is there")));
            }
            Ok((503 | 429, _)) | Err(_) => {}
            Ok((status, text)) => {
                return Err(Violation::new(Lie::Unexpected, format!("{status} for a live reader: {text}")));
            }
        }
        count(&self.counters.resumed, 1);
        client.turn();
        sleep(PAUSE).await;
        Ok(())
    }

    /// Follows a stream by event streams until it ends.
    async fn listen(&self, client: &mut Client, stream: &Stream) -> Result<(), Violation> {
        let mut at = 0;
        let mut by_id = false;
        while !self.stops() && !stream.is_gone() {
            // An offset and an id say the same.
            let from = stream.offset(at);
            by_id = !by_id && at > 0;
            let path = match by_id {
                true => format!("{}?offset=-1&live=sse", stream.path),
                false => format!("{}?offset={from}&live=sse", stream.path),
            };
            let headers = [("Last-Event-ID", from.as_str())];
            let headers = if by_id { &headers[..] } else { &[] };
            let since = stream.ledger().since();
            let answer = client.open(&Request { headers, ..Request::new("GET", &path) }, PATIENCE).await;
            match answer {
                Ok(head) if head.status == 200 => {
                    if self.take_events(client, stream, since, &mut at).await? {
                        return Ok(());
                    }
                    count(&self.counters.resumed, 1);
                    client.turn();
                }
                _ if stream.is_gone() => return Ok(()),
                Ok(head) if head.status == 410 => {
                    at = self.take_gone(stream, since, at, head.header(EARLIEST))?;
                    client.turn();
                }
                other => self.resume(client, other).await?,
            }
        }
        Ok(())
    }

    /// Takes events until the connection ends; true if the stream has ended.
    async fn take_events(
        &self,
        client: &mut Client,
        stream: &Stream,
        since: Since,
        at: &mut u64,
    ) -> Result<bool, Violation> {
        let mut parser = EventParser::default();
        let mut data: Option<Vec<u8>> = None;
        // What an event must show at least: what was known when the connection began, but only the first time.
        let mut since = since;
        while let Ok(Some(part)) = client.part(LIVE_PATIENCE).await {
            parser.push(&part);
            while let Some(event) = parser.next_event() {
                if event.kind == "data" {
                    let payload = payload(stream.format, &event)?;
                    if data.replace(payload).is_some() {
                        return Err(Violation::new(Lie::Unexpected, "two data events without a control event"));
                    }
                    continue;
                }
                let payload = data.take().unwrap_or_else(|| empty(stream.format));
                let ends = ends(stream, &event)?;
                let Ends { next, up_to_date, closed } = ends;
                let page = Page { from: *at, payload: &payload, next, up_to_date, closed };
                {
                    let mut ledger = stream.ledger();
                    let before = ledger.records();
                    ledger.page(since, page)?;
                    count(&self.counters.shown, (ledger.records() - before) as u64);
                }
                *at = next;
                if up_to_date {
                    since = Since { tail: next, closed: false, ..since };
                }
                if closed {
                    return Ok(true);
                }
            }
            if self.stops() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// An answer that is no page and no event.
trait Refusal {
    fn status(&self) -> u16;

    /// Its body, if that was read.
    fn text(&self) -> String;
}

impl Refusal for ursula_tests::Response {
    fn status(&self) -> u16 {
        self.status
    }

    fn text(&self) -> String {
        ursula_tests::Response::text(self)
    }
}

impl Refusal for ursula_tests::Head {
    fn status(&self) -> u16 {
        self.status
    }

    fn text(&self) -> String {
        String::new()
    }
}

fn payload(format: Format, event: &Event) -> Result<Vec<u8>, Violation> {
    match format {
        Format::Text | Format::Json => Ok(event.data.clone().into_bytes()),
        Format::Binary => {
            let damaged = |_| Violation::new(Lie::Damaged, format!("not base64: {:?}", event.data));
            BASE64_STANDARD.decode(&event.data).map_err(damaged)
        }
    }
}

fn empty(format: Format) -> Vec<u8> {
    match format {
        Format::Text | Format::Binary => Vec::new(),
        Format::Json => b"[]".to_vec(),
    }
}

fn ends(stream: &Stream, event: &Event) -> Result<Ends, Violation> {
    let next = event.next_offset().and_then(place);
    let unknown = || Violation::new(Lie::Unexpected, format!("an event without an offset: {event:?}"));
    let (number, next) = next.ok_or_else(unknown)?;
    stream.is_own(number)?;
    let has = |flag: &str| event.data.contains(flag);
    Ok(Ends {
        next,
        // The end says it too.
        up_to_date: has("\"upToDate\":true") || has("\"streamClosed\":true"),
        closed: has("\"streamClosed\":true"),
    })
}
