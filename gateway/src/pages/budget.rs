//! Memory for pages on their way to clients.
//!
//! A read waits until there is room for the largest page, then keeps only what its page has, until the
//! client has taken it. So many slow readers of large streams share a bound, and small pages cost little.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use ursula_common::Error;
use ursula_common::limits::{APPEND_BYTES_MAX, PAGE_BYTES_MAX};

/// What permits count in bytes.
const UNIT_BYTES: usize = 1024;
/// A page ends with the record that reaches [`PAGE_BYTES_MAX`], and one record may be as large as an
/// append; most are not.
const PAGE_UNITS: u32 = (PAGE_BYTES_MAX / UNIT_BYTES) as u32;
/// The least that lets every page be read.
pub(crate) const PAGE_BUDGET_BYTES_MIN: usize = PAGE_BYTES_MAX + APPEND_BYTES_MAX;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PageBudget {
    room: Arc<Semaphore>,
    patience: Duration,
    gauge: Gauge,
    /// Bytes of the pages that were read.
    pub(super) delivered: Counter,
}

impl PageBudget {
    pub(crate) fn new(bytes_max: usize, patience: Duration, gauge: Gauge, delivered: Counter) -> PageBudget {
        let units = (bytes_max / UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        PageBudget { room: Arc::new(Semaphore::new(units)), patience, gauge, delivered }
    }

    /// Waits for room for one page.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if there is none for too long.
    pub(super) async fn take(&self) -> Result<Held, Error> {
        let room = timeout(self.patience, self.room.clone().acquire_many_owned(PAGE_UNITS)).await;
        let permit = room.ok().and_then(Result::ok).ok_or(Error::Overloaded)?;
        self.gauge.increment(f64::from(PAGE_UNITS) * UNIT_BYTES as f64);
        Ok(Held { permit, gauge: self.gauge.clone() })
    }
}

/// Room for one page; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    permit: OwnedSemaphorePermit,
    gauge: Gauge,
}

impl Held {
    /// Gives back what a page of `bytes` does not need.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let spare = self.permit.num_permits().saturating_sub(bytes.div_ceil(UNIT_BYTES));
        if let Some(spare) = self.permit.split(spare) {
            self.gauge.decrement((spare.num_permits() * UNIT_BYTES) as f64);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gauge.decrement((self.permit.num_permits() * UNIT_BYTES) as f64);
    }
}
