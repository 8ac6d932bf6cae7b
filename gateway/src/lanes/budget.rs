//! How many ops may be under way, and how many bytes of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::Gauge;
use ursula_common::Error;

/// Ops that a gateway has under way at a time.
const OPS_MAX: usize = 64 << 10;

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ops: AtomicUsize,
    bytes: AtomicUsize,
    bytes_max: usize,
    ops_gauge: Gauge,
    bytes_gauge: Gauge,
}

impl Budget {
    pub(super) fn new(bytes_max: usize, ops_gauge: Gauge, bytes_gauge: Gauge) -> Budget {
        let (ops, bytes) = Default::default();
        Budget(Arc::new(Inner { ops, bytes, bytes_max, ops_gauge, bytes_gauge }))
    }

    /// Room for one op.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if there is none.
    pub(super) fn take(&self, bytes: usize) -> Result<Held, Error> {
        let Inner { ops, bytes: used, bytes_max, .. } = &*self.0;
        let before = (ops.fetch_add(1, Ordering::Relaxed), used.fetch_add(bytes, Ordering::Relaxed));
        let held = Held { budget: self.clone(), bytes };
        let fits = before.0 < OPS_MAX && (before.1 + bytes <= *bytes_max || before.1 == 0);
        if fits { Ok(held) } else { Err(Error::Overloaded) }
    }

    /// Whether nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.0.ops.load(Ordering::Relaxed) == 0
    }

    /// Tells how much is under way.
    pub(super) fn report(&self) {
        self.0.ops_gauge.set(self.0.ops.load(Ordering::Relaxed) as f64);
        self.0.bytes_gauge.set(self.0.bytes.load(Ordering::Relaxed) as f64);
    }
}

/// Room for one op; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Budget,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.0.ops.fetch_sub(1, Ordering::Relaxed);
        self.budget.0.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
