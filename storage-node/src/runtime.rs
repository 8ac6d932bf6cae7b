//! Starts the threads of cores and of log writers, and runs what blocks: the one place that knows they are
//! threads.

use std::io;
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use tokio::task::LocalSet;
use ursula_wal::{Batch, Poisoned, Writer};

/// Runs `work` to its end on a thread of its own, in a single-threaded runtime with a local task set.
/// Tasks that `work` leaves behind end with it.
///
/// # Errors
/// If the system refuses a thread or a runtime.
#[expect(clippy::disallowed_methods, reason = "the seam that starts threads")]
pub(crate) fn spawn_core<W, F>(name: String, work: W) -> io::Result<JoinHandle<()>>
where
    W: FnOnce() -> F + Send + 'static,
    F: Future<Output = ()> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name(name).spawn(move || {
        let tasks = LocalSet::new();
        let (done, is_done) = oneshot::channel::<()>();
        tasks.spawn_local(async move {
            work().await;
            drop(done);
        });
        // Polling the set as a future serves its tasks fairly; `LocalSet::block_on` does not.
        runtime.block_on(async move {
            tokio::select! {
                () = tasks => {}
                _ = is_done => {}
            }
        });
    })
}

/// A log writer on a thread of its own.
pub(crate) struct LogWriter(std::sync::mpsc::Sender<Order>);

/// A batch to write, and who hears how it went.
type Order = (Batch, oneshot::Sender<Result<(), Poisoned>>);

/// Starts a thread that writes one batch after the other, until the handle is dropped.
///
/// # Errors
/// If the system refuses a thread.
#[expect(clippy::disallowed_methods, reason = "the seam that starts threads")]
pub(crate) fn spawn_log_writer(name: String, mut writer: Writer) -> io::Result<LogWriter> {
    // Its user hands over one batch at a time, so there is never more than one in the channel.
    let (orders, batches) = std::sync::mpsc::channel::<Order>();
    std::thread::Builder::new().name(name).spawn(move || {
        for (batch, done) in batches {
            drop(done.send(writer.write(batch)));
        }
    })?;
    Ok(LogWriter(orders))
}

impl LogWriter {
    /// Writes and syncs a batch.
    ///
    /// # Errors
    /// If this write or an earlier one failed, or the thread is gone: nothing can be written any more.
    pub(crate) async fn write(&mut self, batch: Batch) -> io::Result<()> {
        let (done, written) = oneshot::channel();
        let gone = || io::Error::other("the thread of the log writer has ended");
        self.0.send((batch, done)).map_err(|_| gone())?;
        written.await.map_err(|_| gone())?.map_err(io::Error::other)
    }
}

/// Runs what blocks outside of the core that asks.
///
/// # Errors
/// Those of `work`, or if it panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// A number that nobody can guess.
pub(crate) fn random() -> u64 {
    rand::random()
}
