//! Short lives: streams that are created, forked, closed, deleted and created again under the same name, each by one
//! task, which knows at every moment what must be there.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::{Duration, sleep};

use crate::answer::{Answer, Done};
use crate::client::{Client, Request};
use crate::ledger::{Ledger, Limits};
use crate::load::{Shared, Stream, count};
use crate::record::{Format, Record, Tag};
use crate::violation::{Lie, Violation};

/// Between two lives.
const LIFE_PAUSE: Duration = Duration::from_millis(20);
/// How often a name is used.
const INCARNATIONS: u32 = 4;
const RECORDS_MAX: u32 = 12;
/// Streams of the slots have smaller numbers.
pub(super) const FIRST_STREAM: u32 = 1 << 24;
/// Numbers of each task, more than it can use in weeks.
const STREAMS: u32 = 1 << 24;
/// Some keep so many bytes...
const KEPT_BYTES: Range<u64> = 100..2000;
/// ...or what is not older; all of it, unless clocks leap.
const KEPT_SECONDS: u64 = 600;
/// One in so many streams stays until the end of the run, as long as there are not so many.
const STAY_EVERY: u32 = 5;
const STAY_MAX: u32 = 6;
/// Who appends in such a stream.
const WRITER: u16 = 0;
/// As whom.
pub(super) const PRODUCER: &str = "life";

/// One task with its names.
struct Life {
    shared: Arc<Shared>,
    client: Client,
    random: StdRng,
    /// The number of the next name.
    stream: u32,
    /// Whether no request of this name can still be under way: a copy of it might do its work later, under the next
    /// incarnation.
    clean: bool,
    /// How many streams stay.
    stayed: u32,
}

impl Shared {
    pub(crate) async fn live(self: Arc<Self>, index: usize) {
        let random = StdRng::seed_from_u64(self.options.seed ^ (0x11fe << 32) ^ index as u64);
        let stream = FIRST_STREAM + index as u32 * STREAMS;
        let mut life = Life { client: self.client(index), shared: self, random, stream, clean: true, stayed: 0 };
        while !life.shared.stops() {
            life.begin_name().await;
            sleep(LIFE_PAUSE).await;
        }
    }
}

impl Life {
    /// Lives under a name that nobody has used.
    async fn begin_name(&mut self) {
        self.clean = true;
        // A stream that has forks stays hidden under its name for as long as they live.
        let forks = self.random.random_ratio(1, 3);
        let mut numbers = BTreeSet::new();
        for incarnation in 0..INCARNATIONS {
            let tag = Tag { stream: self.stream, incarnation };
            let format = [Format::Text, Format::Json][self.random.random_range(0..2)];
            let ledger = Ledger::new(tag, format).with_limits(self.limits());
            let stream = Stream::new(self.shared.options.path(self.stream, 0), ledger);
            let result = self.live_once(&stream, forks, &mut numbers).await;
            let good = self.shared.findings.check(&stream.path, result);
            if forks || !good || !self.clean || self.shared.stops() || self.shared.stays(&stream) {
                break;
            }
            self.client.turn();
        }
        // Its forks take the numbers after it.
        self.stream += 2;
    }

    /// What lets the next stream lose its beginning.
    fn limits(&mut self) -> Limits {
        if self.shared.options.keepers == 0 {
            return Limits::default();
        }
        let bytes = self.random.random_ratio(1, 3).then(|| self.random.random_range(KEPT_BYTES));
        let seconds = self.random.random_ratio(1, 6).then_some(KEPT_SECONDS);
        Limits { bytes, seconds, ..Limits::default() }
    }

    /// One life; `numbers` are those in the offsets of the lives before.
    async fn live_once(
        &mut self,
        stream: &Arc<Stream>,
        forks: bool,
        numbers: &mut BTreeSet<u64>,
    ) -> Result<(), Violation> {
        if !self.shared.create(&mut self.client, stream).await {
            return Ok(());
        }
        let number = stream.number.load(Ordering::SeqCst);
        if !numbers.insert(number) {
            let text = format!("offsets with the number {number}, which an earlier stream of that name had");
            return Err(Violation::new(Lie::Stale, text));
        }
        let records = self.random.random_range(1..=RECORDS_MAX);
        for seq in 0..records {
            self.append(stream, seq).await?;
        }
        self.client.turn();
        self.check(stream).await?;
        if self.random.random_ratio(1, 2) {
            self.close(stream, records).await?;
        }
        let fork = if forks { self.fork(stream).await? } else { None };
        if self.shared.options.keepers > 0 && self.stayed < STAY_MAX && self.random.random_ratio(1, STAY_EVERY) {
            self.stayed += 1;
            self.shared.stay([Some(stream.clone()), fork].into_iter().flatten());
            return Ok(());
        }
        let path = stream.path.clone();
        self.clean &= self.shared.delete(&mut self.client, &path).await;
        if let Some(fork) = fork {
            self.check(&fork).await?;
            self.shared.delete(&mut self.client, &fork.path).await;
        }
        Ok(())
    }

    async fn append(&mut self, stream: &Stream, seq: u32) -> Result<(), Violation> {
        let record = Record { tag: stream.tag, writer: WRITER, seq };
        let (answer, clean, since) = self.shared.produce(&mut self.client, stream, PRODUCER, WRITER, seq).await;
        self.clean &= clean;
        match answer {
            Answer::Done(Done { status: 200, tail: Some(tail), number }) => {
                stream.is_own(number)?;
                stream.ledger().acked(since, record, tail, None)?;
            }
            // Nobody else appends, so what a copy of it appended before is the last.
            Answer::Done(Done { status: 204, tail: Some(tail), number }) if !clean => {
                stream.is_own(number)?;
                stream.ledger().acked(since, record, tail, None)?;
            }
            Answer::Missing => return Err(answer.unexpected(Lie::Vanished)),
            answer => return Err(answer.unexpected(Lie::Unexpected)),
        }
        count(&self.shared.counters.acked, 1);
        Ok(())
    }

    /// Closes it, after which it takes no more.
    async fn close(&mut self, stream: &Stream, seq: u32) -> Result<(), Violation> {
        stream.ledger().close_sent();
        let since = stream.ledger().since();
        let headers = [("Stream-Closed", "true")];
        let request = Request { headers: &headers, ..Request::new("POST", &stream.path) };
        let (answer, clean) = self.shared.settle(&mut self.client, &request).await;
        self.clean &= clean;
        count(&self.shared.counters.lifecycle, 1);
        match answer {
            Answer::Done(Done { tail: Some(tail), .. }) => stream.ledger().closed(since, tail)?,
            answer => return Err(answer.unexpected(Lie::Unexpected)),
        }
        let body = Record { tag: stream.tag, writer: WRITER, seq }.body(stream.format);
        let headers = [("Content-Type", stream.format.content_type())];
        let request = Request { headers: &headers, body: &body, ..Request::new("POST", &stream.path) };
        let (answer, clean) = self.shared.settle(&mut self.client, &request).await;
        self.clean &= clean;
        match answer {
            Answer::Closed => self.check(stream).await,
            answer => Err(answer.unexpected(Lie::AfterClose)),
        }
    }

    /// A fork at some record, with records of its own.
    async fn fork(&mut self, source: &Stream) -> Result<Option<Arc<Stream>>, Violation> {
        let tag = Tag { stream: self.stream + 1, incarnation: 0 };
        let (at, fork) = {
            let ledger = source.ledger();
            let first = ledger.records_until(ledger.latest_beginning());
            let at = ledger.boundary(self.random.random_range(first..=ledger.records()));
            (at, Stream::new(self.shared.options.path(tag.stream, 0), Ledger::fork(&ledger, tag, at)))
        };
        let place = source.offset(at);
        let headers = [("Stream-Forked-From", source.path.as_str()), ("Stream-Fork-Offset", place.as_str())];
        let request = Request { headers: &headers, ..Request::new("PUT", &fork.path) };
        let (answer, clean) = self.shared.settle(&mut self.client, &request).await;
        count(&self.shared.counters.lifecycle, 1);
        match answer {
            Answer::Done(Done { status, tail, number }) if tail == Some(at) && (status == 201 || !clean) => {
                fork.number.store(number, Ordering::SeqCst);
                self.shared.born(&fork);
            }
            answer => return Err(answer.unexpected(Lie::Unexpected).seen(format!("fork {} at {at}", fork.path))),
        }
        for seq in 0..self.random.random_range(0..3) {
            self.append(&fork, seq).await?;
        }
        self.check(&fork).await?;
        Ok(Some(fork))
    }

    /// Reads all of it: everything is there, and the tail is what it must be.
    async fn check(&mut self, stream: &Stream) -> Result<(), Violation> {
        self.shared.ask_tail(&mut self.client, stream).await?;
        if let Some((begin, ends)) = self.shared.read_on(&mut self.client, stream, 0).await? {
            stream.ledger().finish(begin, ends.next)?;
        }
        count(&self.shared.counters.whole, 1);
        Ok(())
    }
}
