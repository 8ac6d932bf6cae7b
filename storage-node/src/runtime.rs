//! Runs cores, log writers and what blocks: as threads, or as tasks of a simulation. The one place that knows.

mod slice;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{RwLock, oneshot};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;
use ursula_wal::{Batch, Poisoned, Writer};

/// How a node runs. Cheap to clone.
#[derive(Clone)]
pub enum Runtime {
    /// By threads of its own: one for each core, one for each log, some for what blocks.
    Threads(Blocking),
    /// By tasks of the local task set in which the node is started. What would block begins after a time that this
    /// function tells.
    Tasks(Takes),
}

/// What blocks on threads of its own, to wait for its end: each reads this lock meanwhile.
#[derive(Debug, Clone, Default)]
pub struct Blocking(Arc<RwLock<()>>);

impl Default for Runtime {
    fn default() -> Runtime {
        Runtime::Threads(Blocking::default())
    }
}

/// How long something takes that would block.
pub type Takes = Arc<dyn Fn(Work) -> Duration + Send + Sync>;

/// What would block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A write of the log, with its sync.
    Log,
    /// Anything else.
    Other,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Runtime::Threads(_) => "Threads",
            Runtime::Tasks(_) => "Tasks",
        })
    }
}

/// Resolves when a core has ended, one way or another.
pub(crate) type Ended = oneshot::Receiver<()>;

impl Runtime {
    /// Runs `work` to its end with a local task set of its own. Tasks that `work` leaves behind end with it.
    ///
    /// # Errors
    /// If the system refuses a thread or a runtime.
    #[expect(clippy::disallowed_methods, reason = "the seam that starts threads")]
    pub(crate) fn spawn_core<W, F>(&self, name: String, work: W) -> io::Result<Ended>
    where
        W: FnOnce() -> F + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        let (ends, ended) = oneshot::channel();
        match self {
            Runtime::Threads(_) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
                std::thread::Builder::new().name(name).spawn(move || {
                    slice::ask_for_short();
                    runtime.block_on(with_tasks(work));
                    drop((runtime, ends));
                })?;
            }
            Runtime::Tasks(_) => drop(spawn_local(async move {
                with_tasks(work).await;
                drop(ends);
            })),
        }
        Ok(ended)
    }

    /// Starts what writes one batch after the other, until the handle is dropped.
    ///
    /// # Errors
    /// If the system refuses a thread.
    #[expect(clippy::disallowed_methods, reason = "the seam that starts threads")]
    pub(crate) fn spawn_log_writer(&self, name: String, mut writer: Writer) -> io::Result<LogWriter> {
        if let Runtime::Tasks(takes) = self {
            return Ok(LogWriter::Task { writer, takes: takes.clone() });
        }
        // Its user hands over one batch at a time, so there is never more than one in the channel.
        let (orders, batches) = std::sync::mpsc::channel::<Order>();
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            slice::ask_for_short();
            for (batch, done) in batches {
                drop(done.send(writer.write(batch)));
            }
        })?;
        Ok(LogWriter::Thread(WriterThread { orders: Some(orders), thread: Some(thread) }))
    }

    /// What runs outside of cores; called where the node is started.
    pub(crate) fn outside(&self) -> Outside {
        match self {
            Runtime::Threads(_) => Outside(Some(tokio::runtime::Handle::current())),
            Runtime::Tasks(_) => Outside(None),
        }
    }

    /// Returns when nothing blocks any more, also of what nobody waits for.
    pub(crate) async fn finish(&self) {
        if let Runtime::Threads(blocking) = self {
            drop(blocking.0.write().await);
        }
    }

    /// Runs what blocks outside of the core that asks.
    ///
    /// # Errors
    /// Those of `work`, or if it panicked.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        match self {
            Runtime::Threads(blocking) => {
                let busy = blocking.0.clone().read_owned().await;
                let work = move || {
                    let done = work();
                    drop(busy);
                    done
                };
                tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
            }
            Runtime::Tasks(takes) => {
                sleep(takes(Work::Other)).await;
                work()
            }
        }
    }
}

/// Runs what waits for the network: where the node was started, or by the task that asks.
#[derive(Debug, Clone)]
pub(crate) struct Outside(Option<tokio::runtime::Handle>);

impl Outside {
    /// Runs `work` to its end, or until nobody waits for it any more.
    ///
    /// # Errors
    /// If it panicked.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
        match &self.0 {
            None => Ok(work.await),
            Some(handle) => {
                let task = handle.spawn(work);
                let _ends = AbortOnDrop(task.abort_handle());
                task.await.map_err(io::Error::other)
            }
        }
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn with_tasks<W, F>(work: W)
where
    W: FnOnce() -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let tasks = LocalSet::new();
    let (done, is_done) = oneshot::channel::<()>();
    tasks.spawn_local(async move {
        work().await;
        drop(done);
    });
    // Polling the set as a future serves its tasks fairly; `LocalSet::block_on` does not.
    tokio::select! {
        () = tasks => {}
        _ = is_done => {}
    }
}

/// Writes the log of one core.
pub(crate) enum LogWriter {
    Thread(WriterThread),
    Task { writer: Writer, takes: Takes },
}

/// Ends with the batch that it writes. Whoever drops it waits for that: the writer holds the lock of the log, which the next
/// life of the node wants.
pub(crate) struct WriterThread {
    orders: Option<std::sync::mpsc::Sender<Order>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        drop(self.orders.take());
        // One that panicked has said so already.
        drop(self.thread.take().map(std::thread::JoinHandle::join));
    }
}

/// A batch to write, and who hears how it went.
type Order = (Batch, oneshot::Sender<Result<(), Poisoned>>);

impl LogWriter {
    /// Writes and syncs a batch.
    ///
    /// # Errors
    /// If this write or an earlier one failed, or the thread is gone: nothing can be written any more.
    pub(crate) async fn write(&mut self, batch: Batch) -> io::Result<()> {
        let gone = || io::Error::other("the thread of the log writer has ended");
        let written = match self {
            LogWriter::Thread(WriterThread { orders, .. }) => {
                let (done, written) = oneshot::channel();
                orders.as_ref().and_then(|orders| orders.send((batch, done)).ok()).ok_or_else(gone)?;
                written.await.map_err(|_| gone())?
            }
            LogWriter::Task { writer, takes } => {
                sleep(takes(Work::Log)).await;
                writer.write(batch)
            }
        };
        written.map_err(io::Error::other)
    }
}

/// A number that nobody can guess.
pub(crate) fn random() -> u64 {
    rand::random()
}
