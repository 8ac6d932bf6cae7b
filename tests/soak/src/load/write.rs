//! Writers: each appends to some streams in turn, with one append in flight, by the rules of three kinds of client.

use std::ops::RangeInclusive;
use std::sync::{Arc, PoisonError};

use tokio::time::{Duration, Instant, sleep, sleep_until};

use crate::answer::{Answer, Done};
use crate::client::{Client, Request};
use crate::ledger::{Ledger, Since};
use crate::load::{PATIENCE, PAUSE, Shared, Slot, Stream, count};
use crate::record::{Record, Tag};
use crate::violation::{Lie, Violation};

/// Writers of one stream, at most.
const WRITERS_MAX: usize = 3;
/// After so many appends a writer goes to another gateway: all gateways have work, also those that were down.
const TURN_EVERY: usize = 100;
/// One in so many streams is kept until the end of the run...
const KEEP_EVERY: u32 = 8;
/// ...as long as there are not so many.
const KEPT_MAX: usize = 64;

/// What a client does about an append whose outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// It goes on with the next one.
    Plain,
    /// It sends it again until it is certain: the server knows it by its sequence.
    Producer,
    /// It names the tail that it knows, so that a second copy fails.
    Guarded {
        /// By `If-Match`, or else by `Stream-Expected-Offset`.
        if_match: bool,
    },
}

/// What a writer knows of one of its streams.
struct Pen {
    slot: usize,
    stream: Arc<Stream>,
    /// Its number among the writers of the stream.
    writer: u16,
    mode: Mode,
    seq: u32,
    /// The current record was sent, and nothing certain was heard of it.
    pending: bool,
    /// The tail that a guarded append asks for.
    expected: u64,
}

impl Mode {
    /// That of a writer of the stream in a slot.
    fn of(slot: usize, writer: usize) -> Mode {
        match (slot / WRITERS_MAX + writer) % 4 {
            0 | 1 => Mode::Plain,
            2 => Mode::Producer,
            _ => Mode::Guarded { if_match: slot.is_multiple_of(2) },
        }
    }
}

/// The writers of the stream in a slot.
fn writers_of(slot: usize) -> RangeInclusive<usize> {
    0..=slot % WRITERS_MAX
}

/// Those that the server knows by the sequence of what they send; each calls itself by its number.
pub(super) fn producers_of(slot: usize) -> impl Iterator<Item = u16> {
    writers_of(slot).filter(move |writer| Mode::of(slot, *writer) == Mode::Producer).map(|writer| writer as u16)
}

impl Pen {
    fn new(shared: &Shared, slot: usize, writer: usize) -> Pen {
        let mode = Mode::of(slot, writer);
        let stream = shared.slots[slot].current();
        Pen { slot, stream, writer: writer as u16, mode, seq: 0, pending: false, expected: 0 }
    }

    /// Goes on with the stream that is in the slot now.
    fn move_on(&mut self, slot: &Slot) {
        let stream = slot.current();
        if !Arc::ptr_eq(&stream, &self.stream) {
            self.give_up();
            *self = Pen { stream, seq: 0, expected: 0, ..*self };
        }
    }

    /// Nothing certain will be heard of a record that is pending.
    fn give_up(&mut self) {
        if self.pending {
            self.stream.ledger().unknown(self.writer, self.seq);
            self.pending = false;
            self.seq += 1;
        }
    }

    async fn send(&self, client: &mut Client, record: Record) -> Answer {
        let (body, epoch, id) = (record.body(self.stream.format), "0", self.writer.to_string());
        let (seq, expected) = (self.seq.to_string(), self.stream.offset(self.expected));
        let quoted = format!("\"{expected}\"");
        let mut headers = vec![("Content-Type", self.stream.format.content_type())];
        match self.mode {
            Mode::Plain => {}
            Mode::Producer => {
                headers.extend([("Producer-Id", id.as_str()), ("Producer-Epoch", epoch), ("Producer-Seq", &seq)]);
            }
            Mode::Guarded { if_match: true } => headers.push(("If-Match", &quoted)),
            Mode::Guarded { if_match: false } => headers.push(("Stream-Expected-Offset", &expected)),
        }
        let request = Request { headers: &headers, body: &body, ..Request::new("POST", &self.stream.path) };
        Answer::of(client.request(&request, PATIENCE).await)
    }

    /// Sends the current record once; true if it was acknowledged.
    async fn step(&mut self, shared: &Shared, client: &mut Client) -> bool {
        let record = Record { tag: self.stream.tag, writer: self.writer, seq: self.seq };
        let since = self.stream.ledger().sent(self.writer, self.seq);
        if matches!(self.mode, Mode::Guarded { .. }) && !self.pending {
            self.expected = since.tail;
        }
        let answer = self.send(client, record).await;
        let stream = self.stream.clone();
        let (result, acked) = self.take(&mut stream.ledger(), stream.is_gone(), since, record, &answer);
        match answer {
            Answer::Unknown => count(&shared.counters.unknown, 1),
            Answer::Refused(_) => count(&shared.counters.refused, 1),
            _ => {}
        }
        shared.findings.check(format!("append to {}", stream.path), result);
        if !acked {
            client.pause_after(&answer).await;
        }
        acked
    }

    fn take(
        &mut self,
        ledger: &mut Ledger,
        gone: bool,
        since: Since,
        record: Record,
        answer: &Answer,
    ) -> (Result<(), Violation>, bool) {
        let next = |pen: &mut Pen| {
            pen.pending = false;
            pen.seq += 1;
        };
        let result = match answer {
            Answer::Done(Done { status, tail: Some(tail), number }) => {
                let result = match self.mode {
                    Mode::Producer if *status == 204 => ledger.acked_again(since, record, *tail),
                    Mode::Guarded { .. } => ledger.acked(since, record, *tail, Some(self.expected)),
                    Mode::Plain | Mode::Producer => ledger.acked(since, record, *tail, None),
                };
                next(self);
                return (result.and(self.stream.is_own(*number)), true);
            }
            Answer::Refused(reason) => {
                ledger.refused(self.writer, self.seq, reason);
                Ok(())
            }
            Answer::Unknown => {
                if self.mode == Mode::Plain {
                    ledger.unknown(self.writer, self.seq);
                    next(self);
                } else {
                    self.pending = true;
                }
                Ok(())
            }
            // It was on its way for so long that the stream has had its end, or was deleted after that.
            Answer::Missing | Answer::Closed if !ledger.is_open() && (gone || *answer == Answer::Closed) => {
                if self.pending {
                    ledger.unknown(self.writer, self.seq);
                    next(self);
                }
                Ok(())
            }
            Answer::Mismatch { tail } if matches!(self.mode, Mode::Guarded { .. }) => {
                if self.pending {
                    // The first copy may have been applied.
                    ledger.unknown(self.writer, self.seq);
                    next(self);
                }
                ledger.told_tail(since, *tail)
            }
            Answer::Missing => Err(answer.unexpected(Lie::Vanished)),
            _ => Err(answer.unexpected(Lie::Unexpected)),
        };
        if result.is_err() {
            ledger.unknown(self.writer, self.seq);
            next(self);
        }
        (result, false)
    }
}

impl Client {
    /// After an append that was not acknowledged: nothing is asked in a tight loop, and what refused may go on refusing.
    async fn pause_after(&mut self, answer: &Answer) {
        match answer {
            Answer::Mismatch { .. } | Answer::Closed => {}
            Answer::Refused(_) => {
                self.turn();
                sleep(PAUSE).await;
            }
            _ => sleep(PAUSE).await,
        }
    }
}

impl Shared {
    /// The streams of a writer: a stream has one to three writers, each on another connection.
    fn pens(&self, index: usize) -> Vec<Pen> {
        let writers = self.options.writers;
        let places = (0..self.slots.len()).flat_map(|slot| writers_of(slot).map(move |writer| (slot, writer)));
        let own = places.filter(|(slot, writer)| (slot + writer * (writers / WRITERS_MAX).max(1)) % writers == index);
        own.map(|(slot, writer)| Pen::new(self, slot, writer)).collect()
    }

    pub(crate) async fn write(self: Arc<Self>, index: usize) {
        let mut pens = self.pens(index);
        let mut client = self.client(index);
        let pause = self.options.rate.map(|rate| Duration::from_secs_f64(self.options.writers as f64 / rate));
        let mut due = Instant::now();
        // Not all at the same time.
        let mut turn = index * TURN_EVERY / self.options.writers;
        while !self.stops() && !pens.is_empty() {
            let count_pens = pens.len();
            let pen = &mut pens[turn % count_pens];
            turn += 1;
            if turn.is_multiple_of(TURN_EVERY) {
                client.turn();
            }
            pen.move_on(&self.slots[pen.slot]);
            if pen.step(&self, &mut client).await {
                self.acks.ack(index);
                count(&self.counters.acked, 1);
            }
            if pen.writer == 0 && pen.stream.ledger().records() >= self.options.records_max {
                self.renew(&mut client, pen).await;
            }
            if let Some(pause) = pause {
                due = (due + pause).max(Instant::now() - pause * 10);
                sleep_until(due).await;
            }
        }
        self.acks.rest(index);
        for pen in &mut pens {
            pen.give_up();
        }
    }

    /// Puts a new stream into the slot of a pen; the old one retires.
    async fn renew(self: &Arc<Self>, client: &mut Client, pen: &Pen) {
        let (slot, old) = (&self.slots[pen.slot], pen.stream.clone());
        let tag = Tag { incarnation: old.tag.incarnation + 1, ..old.tag };
        let ledger = Ledger::new(tag, slot.format).with_limits(self.options.limits(slot.index));
        let next = Stream::new(self.options.path(slot.index, tag.incarnation), ledger);
        if !self.create(client, &next).await {
            return;
        }
        *slot.current.lock().unwrap_or_else(PoisonError::into_inner) = next;
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).len();
        let keep = kept < KEPT_MAX && (slot.index + tag.incarnation).is_multiple_of(KEEP_EVERY);
        let mut retiring = self.retiring.lock().unwrap_or_else(PoisonError::into_inner);
        while retiring.try_join_next().is_some() {}
        retiring.spawn(self.clone().retire(old, keep));
    }
}
