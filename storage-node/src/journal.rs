//! The log of one core: what its groups want on disk is written in batches, each synced once.
//!
//! Nothing waits to fill a batch: it is whatever came while the one before it was being written. A write
//! that fails is final: everyone who waits hears of it, and nothing is written any more.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use metrics::Histogram;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{spawn_local, yield_now};
use tokio::time::Instant;
use tracing::error;
use ursula_common::{GroupId, Offset, StreamId};
use ursula_wal::{Appender, Fact, Location, LogDir, ReadError, SegmentId};

use crate::runtime::{LogWriter, Runtime};

/// A handle to the log of a core. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Journal(Rc<Inner>);

struct Inner {
    appender: RefCell<Appender>,
    dir: LogDir,
    runtime: Runtime,
    waiting: RefCell<Vec<Waiting>>,
    wake: Notify,
    /// Whether a batch is being written, and who wants to hear when that is over.
    writing: Cell<bool>,
    idle: Notify,
    /// The first and the last place that this process was given, and the last that is on disk.
    first: Cell<Option<Location>>,
    last: Cell<Option<Location>>,
    synced: Cell<Option<Location>>,
    /// Whether something was written after the last mark.
    unmarked: Cell<bool>,
    /// Set once, when a write has failed.
    failed: watch::Sender<bool>,
    on_damage: OnDamage,
    sync_seconds: Histogram,
}

/// Told when something of a group is read that is not what was written.
pub(crate) type OnDamage = Box<dyn Fn(GroupId, &io::Error)>;

/// Told when everything before it is on disk, or that this will never be.
type Waiting = Box<dyn FnOnce(io::Result<()>)>;

impl Journal {
    /// Starts to write for the core `index`; `failed` tells the node that this core's log is done for, `on_damage` that a
    /// group has lost something, `sync_seconds` how long each batch took. Needs the local task set of the core.
    ///
    /// # Errors
    /// If the thread of the writer cannot be started.
    pub(crate) fn start(
        runtime: Runtime,
        dir: LogDir,
        index: u32,
        failed: watch::Sender<bool>,
        on_damage: OnDamage,
        sync_seconds: Histogram,
    ) -> io::Result<Journal> {
        let (appender, writer) = dir.writer(index);
        let writer = runtime.spawn_log_writer(format!("log-{index}"), writer)?;
        let journal = Journal(Rc::new(Inner {
            appender: RefCell::new(appender),
            dir,
            runtime,
            waiting: RefCell::default(),
            wake: Notify::new(),
            writing: Cell::new(false),
            idle: Notify::new(),
            first: Cell::default(),
            last: Cell::default(),
            synced: Cell::default(),
            unmarked: Cell::new(false),
            failed,
            on_damage,
            sync_seconds,
        }));
        spawn_local(journal.clone().run(writer));
        Ok(journal)
    }

    /// Adds an entry of a group, to be written with the next batch.
    pub(crate) fn append(&self, group: GroupId, index: u64, payload: &[&[u8]]) -> Location {
        self.placed(self.0.appender.borrow_mut().append_parts(group, index, payload))
    }

    /// Adds bytes of a stream that came with a snapshot.
    pub(crate) fn slice(&self, group: GroupId, stream: StreamId, at: Offset, bytes: &[u8]) -> Location {
        self.placed(self.0.appender.borrow_mut().slice(group, stream, at, bytes))
    }

    /// Notes the latest state of something about a group, to be written with the next batch.
    pub(crate) fn put(&self, group: GroupId, fact: Fact, payload: &[u8]) {
        self.0.appender.borrow_mut().put(group, fact, payload);
        self.0.unmarked.set(true);
    }

    /// Voids the entries of a group after `index`, before anything that is added from now on.
    pub(crate) fn truncate_after(&self, group: GroupId, index: Option<u64>) {
        self.0.appender.borrow_mut().truncate_after(group, index);
        self.0.unmarked.set(true);
    }

    /// Makes everything void that was said about a group.
    pub(crate) fn forget_group(&self, group: GroupId) {
        self.0.appender.borrow_mut().forget_group(group);
        self.0.unmarked.set(true);
    }

    /// Calls `done` when everything that was added until now is on disk.
    pub(crate) fn when_synced(&self, done: impl FnOnce(io::Result<()>) + 'static) {
        if *self.0.failed.borrow() {
            return done(Err(failed()));
        }
        self.0.waiting.borrow_mut().push(Box::new(done));
        self.0.wake.notify_one();
    }

    /// Returns when no batch is being written: what is added before goes with the next one, not sooner.
    pub(crate) async fn idle(&self) {
        while self.0.writing.get() {
            self.0.idle.notified().await;
        }
    }

    /// Returns when everything that was added until now is on disk.
    ///
    /// # Errors
    /// If the log has failed.
    pub(crate) async fn sync(&self) -> io::Result<()> {
        let (done, synced) = oneshot::channel();
        self.when_synced(|result| drop(done.send(result)));
        synced.await.unwrap_or_else(|_| Err(failed()))
    }

    /// Returns when what lies at `at` can be read.
    ///
    /// # Errors
    /// If the log has failed.
    pub(crate) async fn readable(&self, at: Location) -> io::Result<()> {
        let place = |at: Location| (at.segment, at.at);
        let old = self.0.first.get().is_none_or(|first| place(at) < place(first));
        let synced = self.0.synced.get().is_some_and(|synced| place(at) <= place(synced));
        if old || synced { Ok(()) } else { self.sync().await }
    }

    /// The payloads of records of a group, which lie there in this order.
    ///
    /// # Errors
    /// If one cannot be read, or is damaged.
    pub(crate) async fn read_all(&self, group: GroupId, places: Vec<Location>) -> io::Result<Vec<Bytes>> {
        let Some(last) = places.last() else { return Ok(Vec::new()) };
        self.readable(*last).await?;
        let dir = self.0.dir.clone();
        let read = move || places.into_iter().map(|at| dir.read(at).map_err(io::Error::other)).collect();
        self.blocking_read(group, read).await
    }

    /// Reads something of a group outside of the core.
    ///
    /// # Errors
    /// Those of `read`. The node hears of damage.
    pub(crate) async fn blocking_read<T: Send + 'static>(
        &self,
        group: GroupId,
        read: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let read = self.blocking(read).await;
        if let Err(error) = &read
            && is_damage(error)
        {
            (self.0.on_damage)(group, error);
        }
        read
    }

    /// Runs what blocks outside of the core.
    ///
    /// # Errors
    /// Those of `work`.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.0.runtime.blocking(work).await
    }

    /// The directory in which the log lies.
    pub(crate) fn dir(&self) -> &LogDir {
        &self.0.dir
    }

    /// No place that is given from now on is in a segment before this one.
    pub(crate) fn writes_from(&self) -> SegmentId {
        self.0.appender.borrow().writes_from()
    }

    /// Bytes that wait to be written.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.0.appender.borrow().pending_bytes()
    }

    /// Proves to a later reader that all before was on disk, if nothing more comes.
    pub(crate) fn mark_if_idle(&self) {
        let idle = self.0.waiting.borrow().is_empty() && !*self.0.failed.borrow();
        if idle && self.0.unmarked.get() {
            let marked = self.0.appender.borrow_mut().mark();
            self.0.unmarked.set(!marked && self.pending_bytes() > 0);
            self.0.wake.notify_one();
        }
    }

    fn placed(&self, at: Location) -> Location {
        if self.0.first.get().is_none() {
            self.0.first.set(Some(at));
        }
        self.0.last.set(Some(at));
        self.0.unmarked.set(true);
        at
    }

    /// Writes batch after batch for as long as the core runs.
    async fn run(self, mut writer: LogWriter) {
        loop {
            // What other tasks of this core are about to add shares the sync.
            yield_now().await;
            let batch = self.0.appender.borrow_mut().take();
            let waiting = std::mem::take(&mut *self.0.waiting.borrow_mut());
            let last = self.0.last.get();
            if let Some(batch) = batch {
                self.0.writing.set(true);
                let begin = Instant::now();
                let written = writer.write(batch).await;
                self.0.sync_seconds.record(begin.elapsed().as_secs_f64());
                self.0.writing.set(false);
                self.0.idle.notify_waiters();
                if let Err(error) = written {
                    error!(%error, "the log cannot be written any more: this node stops");
                    self.0.failed.send_replace(true);
                }
                self.0.synced.set(last.filter(|_| !*self.0.failed.borrow()).or(self.0.synced.get()));
            } else if waiting.is_empty() {
                self.0.wake.notified().await;
                continue;
            }
            let result = || if *self.0.failed.borrow() { Err(failed()) } else { Ok(()) };
            waiting.into_iter().for_each(|done| done(result()));
            if *self.0.failed.borrow() {
                return self.give_up();
            }
        }
    }

    fn give_up(&self) {
        let waiting = std::mem::take(&mut *self.0.waiting.borrow_mut());
        waiting.into_iter().for_each(|done| done(Err(failed())));
    }
}

fn is_damage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData || matches!(read_error(error), Some(ReadError::Damaged { .. }))
}

/// Why a segment could not be read, if it was that.
pub(crate) fn read_error(error: &io::Error) -> Option<&ReadError> {
    error.get_ref()?.downcast_ref()
}

fn failed() -> io::Error {
    io::Error::other("the log of this node has failed; see its messages")
}
