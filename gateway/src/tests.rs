//! What the tests of this crate share: a storage node that does what a test tells it, and time.

mod fake;
mod stored;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::GatewayConfig;
use crate::metrics::Metrics;
pub(crate) use fake::{FakeLane, FakeNode, Mode, OFFLOADED, Role, SentOp, address, nodes, topology, topology_of};
pub(crate) use stored::Stored;

/// Metrics of a gateway with default settings.
pub(crate) fn metrics() -> Arc<Metrics> {
    Metrics::new(&GatewayConfig::default()).expect("metrics")
}

/// The output of `future`, which must come in a while of paused time.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(600), future).await.expect("something happens")
}

/// Returns when everything that can happen at this moment has happened. Needs paused time: it moves on
/// only when every task waits.
pub(crate) async fn quiet() {
    sleep(Duration::from_millis(1)).await;
}
