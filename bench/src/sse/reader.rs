//! One SSE reader: counts what it is sent, checks the order, and comes back where it was when the server hangs up.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Run;
use super::events::{Event, Events};
use crate::Error;

/// An event ends with its number and its time, 20 digits each.
pub(super) const EVENT_BYTES_MIN: usize = 40;
const BUFFER_BYTES: usize = 8 * 1024;
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// Writes an event of `bytes` bytes, one line of text.
pub(super) fn event(number: u64, sent: Duration, bytes: usize) -> Vec<u8> {
    let mut event = vec![b'x'; bytes - EVENT_BYTES_MIN];
    event.extend_from_slice(format!("{number:020}{:020}", sent.as_nanos()).as_bytes());
    event
}

/// Reads the number and the time of an event.
fn parse_event(event: &[u8]) -> Option<(u64, Duration)> {
    let digits = std::str::from_utf8(event.get(event.len().checked_sub(EVENT_BYTES_MIN)?..)?).ok()?;
    let (number, sent) = digits.split_at_checked(20)?;
    Some((number.parse().ok()?, Duration::from_nanos(sent.parse().ok()?)))
}

/// Where a control event tells the reader to go on.
fn parse_control(control: &[u8]) -> Option<String> {
    let control: serde_json::Value = serde_json::from_slice(control).ok()?;
    Some(control.get("streamNextOffset")?.as_str()?.to_owned())
}

/// What a reader remembers between connections.
struct Reader {
    run: Arc<Run>,
    stream: usize,
    offset: String,
    /// The number of the next event.
    next: u64,
    connected: bool,
}

/// Reads a stream from its start, for as long as the task lives.
pub(super) async fn read(run: Arc<Run>, stream: usize) {
    let mut reader = Reader::new(run, stream);
    loop {
        // What ends a connection, and how, shows in the events that are missing.
        let _ = reader.follow().await;
        sleep(RECONNECT_PAUSE).await;
    }
}

impl Reader {
    fn new(run: Arc<Run>, stream: usize) -> Reader {
        Reader { run, stream, offset: "-1".to_owned(), next: 0, connected: false }
    }

    async fn follow(&mut self) -> Result<(), Error> {
        let run = self.run.clone();
        let mut connection = run.target.connection_with(BUFFER_BYTES);
        let request = run.target.get(self.stream, &format!("?offset={}&live=sse", self.offset));
        let mut head = {
            // Never closed, so a permit always comes.
            let _permit = run.connecting.acquire().await;
            connection.send(&request).await?
        };
        if head.status != 200 {
            return Err(Error::Status(head.status));
        }
        let counter = if self.connected { &run.reconnects } else { &run.connected };
        counter.fetch_add(1, Ordering::Relaxed);
        self.connected = true;
        let mut events = Events::default();
        while let Some(piece) = connection.piece(&mut head.body).await? {
            let now = Instant::now();
            events.push(piece, |event| match event {
                Event::Data(data) => data.chunks(run.bytes).for_each(|event| self.deliver(event, now)),
                Event::Control(control) => {
                    if let Some(offset) = parse_control(control) {
                        self.offset = offset;
                    }
                }
            });
        }
        Ok(())
    }

    fn deliver(&mut self, event: &[u8], now: Instant) {
        let run = &self.run;
        let parsed = parse_event(event).filter(|_| event.len() == run.bytes);
        let Some((number, sent)) = parsed.filter(|(number, _)| *number == self.next) else {
            run.misplaced.fetch_add(1, Ordering::Relaxed);
            // After a gap it is the gap that counts, not everything behind it.
            self.next = parsed.map_or(self.next, |(number, _)| self.next.max(number + 1));
            return;
        };
        self.next = number + 1;
        run.delivered.fetch_add(1, Ordering::Relaxed);
        let sent = run.epoch + sent;
        let mut tally = run.tally.lock().unwrap_or_else(PoisonError::into_inner);
        if sent >= tally.from {
            tally.latencies.record(now - sent);
            tally.measured += 1;
        }
    }
}

#[cfg(test)]
mod tests;
