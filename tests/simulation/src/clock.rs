//! The time of day of one machine: that of the simulation, wrong by as much as it is told.

use std::sync::atomic::{AtomicI64, Ordering};

use ursula_common::{Clock, Millis};

/// When simulations begin.
const BEGIN_MS: i64 = 1_700_000_000_000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct SimulatedClock {
    wrong_by_ms: AtomicI64,
}

impl SimulatedClock {
    pub(crate) fn be_wrong_by(&self, ms: i64) {
        self.wrong_by_ms.store(ms, Ordering::Relaxed);
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Millis {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        let now = BEGIN_MS + elapsed.as_millis() as i64 + self.wrong_by_ms.load(Ordering::Relaxed);
        Millis(now.unsigned_abs())
    }
}
