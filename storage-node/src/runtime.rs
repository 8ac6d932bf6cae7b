//! Starts the threads of cores: the one place that knows they are threads.

use std::io;
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use tokio::task::LocalSet;

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
