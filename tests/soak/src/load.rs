//! The load: streams, and the tasks that write and read them at the same time, each answer judged as it comes.
//!
//! A slot is a place for a stream. When its stream is long enough, the first writer of the slot puts a new one in its
//! place and closes the old one, which is read whole and deleted, or kept until the end. So memory has a bound, here and
//! in the server, however long a run is.

mod finale;
mod follow;
mod keep;
mod life;
mod loss;
mod probe;
mod publish;
mod read;
mod write;

pub use loss::{Ended, Packed};

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::acks::Acks;
use crate::client::{Client, Gateways, Request};
use crate::ledger::{Ledger, Limits, Since};
use crate::record::{Format, Record, Tag, offset};
use crate::violation::{Findings, Lie, Violation};
use crate::{answer::Answer, answer::Done};

/// How much load, and of which kinds.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Makes the choices of tasks, and the names of streams.
    pub seed: u64,
    /// Streams that are written to at the same time.
    pub slots: usize,
    /// Connections that append, each to some streams in turn; a stream has one to three of them.
    pub writers: usize,
    /// Streams that are followed live, half of them by long poll, half by event stream.
    pub followers: usize,
    /// Connections that read streams from the start or from some place on.
    pub auditors: usize,
    /// Readers that ask for tails and do not wait for the answers, each at one gateway.
    pub probes: usize,
    /// Connections that create, fork, close, delete and create again.
    pub lives: usize,
    /// Connections that trim streams and publish snapshots of them, each of some streams; with any, there are streams with
    /// retentions too.
    pub keepers: usize,
    /// Some streams are in a bucket whose ops are acknowledged when they are offloaded.
    pub offloaded: bool,
    /// A stream of so many records is long enough.
    pub records_max: usize,
    /// Appends a second, if there is a limit.
    pub rate: Option<f64>,
    /// Records have so often twice their usual size; at most 15.
    pub doublings: u32,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions {
            seed: 1,
            slots: 240,
            writers: 64,
            followers: 60,
            auditors: 2,
            probes: 2,
            lives: 4,
            keepers: 1,
            offloaded: false,
            records_max: 10_000,
            rate: None,
            doublings: 0,
        }
    }
}

/// The bucket whose ops are acknowledged when they are offloaded.
pub const OFFLOADED: &str = "offloaded";
/// One in so many streams is there, if any is.
const OFFLOADED_EVERY: u32 = 3;

impl LoadOptions {
    fn path(&self, index: u32, incarnation: u32) -> String {
        let is_offloaded = self.offloaded && index % OFFLOADED_EVERY == OFFLOADED_EVERY - 1;
        let bucket = if is_offloaded { OFFLOADED } else { "v1/stream" };
        format!("/{bucket}/soak-{}/{index}-{incarnation}", self.seed)
    }

    /// What lets the streams of a slot lose their beginning, but for whoever trims them.
    fn limits(&self, slot: u32) -> Limits {
        Limits { snapshot: self.keepers > 0 && slot.is_multiple_of(2), ..Limits::default() }
    }
}

/// What happened so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) acked: AtomicU64,
    /// Appends with an unknown outcome.
    pub(crate) unknown: AtomicU64,
    /// Appends that were refused for the moment.
    pub(crate) refused: AtomicU64,
    /// Records that were shown to readers.
    pub(crate) shown: AtomicU64,
    /// Answers to HEAD, and tails told by long polls.
    pub(crate) tails: AtomicU64,
    /// Streams that were read whole after their end.
    pub(crate) whole: AtomicU64,
    /// Connections of live readers that ended, and went on elsewhere.
    pub(crate) resumed: AtomicU64,
    /// Creates, forks, closes and deletes.
    pub(crate) lifecycle: AtomicU64,
    /// Trims, and snapshots that were published or removed.
    pub(crate) kept: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// One incarnation of a stream.
pub(crate) struct Stream {
    pub(crate) path: String,
    format: Format,
    tag: Tag,
    ledger: Mutex<Ledger>,
    /// In its offsets; told when it is created.
    number: AtomicU64,
    /// It may be deleted from now on.
    gone: AtomicBool,
}

impl Stream {
    fn new(path: String, ledger: Ledger) -> Arc<Stream> {
        let (format, tag) = (ledger.format(), ledger.tag());
        Arc::new(Stream {
            path,
            format,
            tag,
            ledger: Mutex::new(ledger),
            number: AtomicU64::new(0),
            gone: AtomicBool::new(false),
        })
    }

    fn offset(&self, at: u64) -> String {
        offset(self.number.load(Ordering::SeqCst), at)
    }

    /// Whether an offset with this number is one of its own.
    fn is_own(&self, number: u64) -> Result<(), Violation> {
        let own = self.number.load(Ordering::SeqCst);
        let text = || format!("an offset with the number {number}, but that of the stream is {own}");
        if number == own { Ok(()) } else { Err(Violation::new(Lie::Invented, text())) }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its ops are acknowledged when they are offloaded.
    fn is_offloaded(&self) -> bool {
        self.path[1..].starts_with(OFFLOADED)
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }
}

/// A place for a stream.
struct Slot {
    index: u32,
    format: Format,
    current: Mutex<Arc<Stream>>,
}

impl Slot {
    fn current(&self) -> Arc<Stream> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What all tasks share.
pub(crate) struct Shared {
    pub(crate) options: LoadOptions,
    pub(crate) gateways: Arc<Gateways>,
    pub(crate) findings: Findings,
    pub(crate) acks: Acks,
    pub(crate) counters: Counters,
    slots: Vec<Slot>,
    census: Mutex<loss::Census>,
    /// Streams that had their end, and are read again at the end of the run.
    kept: Mutex<Vec<Arc<Stream>>>,
    retiring: Mutex<JoinSet<()>>,
    stop: AtomicBool,
}

/// How long an answer may take until its connection is given up. Longer than a change of leader, shorter than the time
/// that a gateway takes: so some requests are given up while the server still works on them.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a request that led to nothing.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the server may be without an answer at all.
const OUTAGE_MAX: Duration = Duration::from_secs(60);

impl Shared {
    pub(crate) fn stops(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn client(&self, at: usize) -> Client {
        Client::new(self.gateways.clone(), at)
    }

    /// Makes a change until it is certain what became of it. True with the answer if every copy of it but the last was
    /// certainly not made.
    async fn settle(&self, client: &mut Client, request: &Request<'_>) -> (Answer, bool) {
        let mut clean = true;
        let settled = timeout(OUTAGE_MAX, async {
            loop {
                let answer = Answer::of(client.request(request, PATIENCE).await);
                match answer {
                    Answer::Refused(_) => {}
                    Answer::Unknown => clean = false,
                    answer => return answer,
                }
                client.turn();
                sleep(PAUSE).await;
            }
        });
        let answer = settled.await.unwrap_or(Answer::Other(format!("nothing for {OUTAGE_MAX:?}")));
        (answer, clean)
    }

    /// Appends as a producer, so that it is applied once at last. Also returns whether no copy of it may have come before.
    async fn produce(
        &self,
        client: &mut Client,
        stream: &Stream,
        id: &str,
        writer: u16,
        seq: u32,
    ) -> (Answer, bool, Since) {
        let body = Record { tag: stream.tag, writer, seq }.body(stream.format);
        let number = seq.to_string();
        let headers = [
            ("Content-Type", stream.format.content_type()),
            ("Producer-Id", id),
            ("Producer-Epoch", "0"),
            ("Producer-Seq", number.as_str()),
        ];
        let request = Request { headers: &headers, body: &body, ..Request::new("POST", &stream.path) };
        let since = stream.ledger().sent(writer, seq);
        let (answer, clean) = self.settle(client, &request).await;
        (answer, clean, since)
    }

    async fn create(&self, client: &mut Client, stream: &Arc<Stream>) -> bool {
        self.created_again(&stream.path);
        let Limits { bytes, seconds, snapshot } = stream.ledger().limits();
        let [bytes, seconds] = [bytes, seconds].map(|limit| limit.map(|limit| limit.to_string()));
        let mut headers = vec![("Content-Type", stream.format.content_type())];
        headers.extend(bytes.iter().map(|bytes| ("Stream-Retention-Max-Bytes", bytes.as_str())));
        headers.extend(seconds.iter().map(|seconds| ("Stream-Retention-Max-Age", seconds.as_str())));
        headers.extend(snapshot.then_some(("Stream-Retention-Snapshot", "true")));
        let request = Request { headers: &headers, ..Request::new("PUT", &stream.path) };
        let (answer, clean) = self.settle(client, &request).await;
        count(&self.counters.lifecycle, 1);
        match answer {
            // 200: a copy that was sent before has created it.
            Answer::Done(Done { status, tail: Some(0), number }) if status == 201 || (status == 200 && !clean) => {
                stream.number.store(number, Ordering::SeqCst);
                self.born(stream);
                true
            }
            answer => {
                self.findings.add(answer.unexpected(Lie::Unexpected).seen(format!("create {}", stream.path)));
                false
            }
        }
    }

    async fn create_offloaded(&self, client: &mut Client) {
        let (path, headers) = (format!("/{OFFLOADED}"), [("Bucket-Ack", "offloaded")]);
        let request = Request { headers: &headers, ..Request::new("PUT", &path) };
        let (answer, _) = self.settle(client, &request).await;
        if !matches!(answer, Answer::Done(_)) {
            self.findings.add(answer.unexpected(Lie::Unexpected).seen(format!("create {path}")));
        }
    }

    /// Closes a stream, and deletes it or keeps it.
    async fn retire(self: Arc<Self>, stream: Arc<Stream>, keep: bool) {
        let mut client = self.client(stream.tag.stream as usize);
        let since = {
            let mut ledger = stream.ledger();
            ledger.close_sent();
            ledger.since()
        };
        let close = [("Stream-Closed", "true")];
        let request = Request { headers: &close, ..Request::new("POST", &stream.path) };
        let result = match self.settle(&mut client, &request).await.0 {
            Answer::Done(Done { tail: Some(tail), .. }) => stream.ledger().closed(since, tail),
            answer => Err(answer.unexpected(Lie::Unexpected)),
        };
        self.findings.check(format!("close {}", stream.path), result);
        self.read_whole(&mut client, &stream).await;
        if keep {
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
            return;
        }
        stream.gone.store(true, Ordering::SeqCst);
        self.delete(&mut client, &stream.path).await;
    }

    /// Deletes a stream, after which nobody finds it. True if that was done by the only copy of the request.
    async fn delete(&self, client: &mut Client, path: &str) -> bool {
        let stream = self.dying(path);
        let (answer, clean) = self.settle(client, &Request::new("DELETE", path)).await;
        count(&self.counters.lifecycle, 1);
        let done = matches!(answer, Answer::Done(Done { status: 204, .. }));
        if !done && (clean || answer != Answer::Missing) {
            self.findings.add(answer.unexpected(Lie::Vanished).seen(format!("delete {path}")));
        }
        client.turn();
        match self.settle(client, &Request::new("HEAD", path)).await.0 {
            Answer::Missing => {}
            answer => self.findings.add(answer.unexpected(Lie::Vanished).seen(format!("{path} after its delete"))),
        }
        stream.into_iter().for_each(|stream| self.deleted(stream));
        done && clean
    }
}

/// Load that runs on a runtime of its own.
pub(crate) struct Load {
    pub(crate) shared: Arc<Shared>,
    runtime: Runtime,
    tasks: Tasks,
}

impl Load {
    /// Creates the streams and starts all tasks.
    pub(crate) fn start(options: LoadOptions, gateways: Arc<Gateways>) -> std::io::Result<Load> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let tasks = runtime.block_on(Tasks::start(options, gateways));
        Ok(Load { shared: tasks.shared.clone(), runtime, tasks })
    }

    /// Ends all tasks, then reads every stream whole by way of every gateway.
    pub(crate) fn finish(self) {
        drop(self.runtime.block_on(self.tasks.finish()));
        self.runtime.shutdown_background();
    }
}

/// What a load has found so far. Cheap to clone.
#[derive(Clone)]
pub struct Found(Arc<Shared>);

impl Found {
    /// What was wrong; the first of it.
    pub fn violations(&self) -> Vec<Violation> {
        self.0.findings.after(0)
    }

    /// Whether nothing was wrong.
    pub fn is_good(&self) -> bool {
        self.0.findings.counts().is_empty()
    }

    /// How many appends were acknowledged.
    pub fn acked(&self) -> u64 {
        self.0.counters.acked.load(Ordering::Relaxed)
    }
}

/// Load that runs on the runtime that started it.
pub struct Tasks {
    shared: Arc<Shared>,
    writers: JoinSet<()>,
    readers: JoinSet<()>,
}

impl Tasks {
    /// Creates the streams and starts all tasks.
    pub async fn start(options: LoadOptions, gateways: Arc<Gateways>) -> Tasks {
        let formats = [Format::Text, Format::Json, Format::Text, Format::Binary];
        let slot = |index: usize| {
            let (format, index) = (formats[index % formats.len()], index as u32);
            let tag = Tag { stream: index, incarnation: 0 }.with_larger_records(options.doublings);
            let ledger = Ledger::new(tag, format).with_limits(options.limits(index));
            Slot { index, format, current: Mutex::new(Stream::new(options.path(index, 0), ledger)) }
        };
        let shared = Arc::new(Shared {
            slots: (0..options.slots).map(slot).collect(),
            acks: Acks::new(options.writers),
            options,
            gateways,
            findings: Findings::default(),
            counters: Counters::default(),
            census: Mutex::default(),
            kept: Mutex::default(),
            retiring: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let (writers, readers) = start_tasks(&shared).await;
        Tasks { shared, writers, readers }
    }

    /// What was found so far, and will be.
    pub fn found(&self) -> Found {
        Found(self.shared.clone())
    }

    /// Ends all tasks where they are: nobody waits for an answer any more.
    pub async fn halt(mut self) -> Ended {
        self.writers.shutdown().await;
        self.readers.shutdown().await;
        let mut retiring = std::mem::take(&mut *self.shared.retiring.lock().unwrap_or_else(PoisonError::into_inner));
        retiring.shutdown().await;
        Ended(self.shared)
    }

    /// Ends all tasks, then reads every stream whole by way of every gateway.
    pub async fn finish(mut self) -> Ended {
        let shared = self.shared;
        shared.stop.store(true, Ordering::SeqCst);
        let ended = async { while self.writers.join_next().await.is_some() {} };
        let ended = timeout(2 * OUTAGE_MAX, ended).await;
        // They wait for events that nobody writes any more.
        self.readers.shutdown().await;
        if ended.is_err() {
            shared.findings.add(Violation::new(Lie::Unexpected, "tasks of the load do not end"));
        }
        let mut retiring = std::mem::take(&mut *shared.retiring.lock().unwrap_or_else(PoisonError::into_inner));
        while retiring.join_next().await.is_some() {}
        shared.read_all_whole().await;
        Ended(shared)
    }
}

async fn start_tasks(shared: &Arc<Shared>) -> (JoinSet<()>, JoinSet<()>) {
    let mut client = shared.client(0);
    if shared.options.offloaded {
        shared.create_offloaded(&mut client).await;
    }
    for slot in &shared.slots {
        shared.create(&mut client, &slot.current()).await;
    }
    let (mut writers, mut readers) = (JoinSet::new(), JoinSet::new());
    for index in 0..shared.options.writers {
        writers.spawn(shared.clone().write(index));
    }
    for index in 0..shared.options.lives {
        writers.spawn(shared.clone().live(index));
    }
    for index in 0..shared.options.keepers {
        writers.spawn(shared.clone().keep(index));
    }
    for index in 0..shared.options.followers {
        readers.spawn(shared.clone().follow(index));
    }
    for index in 0..shared.options.auditors {
        readers.spawn(shared.clone().audit(index));
    }
    for index in 0..shared.options.probes {
        readers.spawn(shared.clone().probe(index));
    }
    (writers, readers)
}

#[cfg(test)]
mod tests;
