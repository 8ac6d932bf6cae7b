//! The trace of the request that a task serves, for what it asks of storage nodes meanwhile.

use tokio::task_local;

task_local! {
    static PARENT: Box<str>;
}

/// Serves within a trace.
pub(crate) async fn scope<T>(parent: String, work: impl Future<Output = T>) -> T {
    PARENT.scope(parent.into(), work).await
}

/// The parent for spans of storage nodes, if the request is traced.
pub(crate) fn parent() -> Option<Box<str>> {
    PARENT.try_with(Clone::clone).ok()
}
