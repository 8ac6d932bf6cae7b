//! A fingerprint of all that happens: every message of the network with its bytes, and every fault.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use xxhash_rust::xxh3::Xxh3;

/// Targets of events that count: of the network, and of this crate.
const TARGETS: [&str; 2] = ["turmoil", "ursula_simulation"];

/// See the module. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Fingerprint(Arc<Mutex<Sum>>);

#[derive(Default)]
struct Sum {
    hash: Xxh3,
    events: u64,
}

impl Fingerprint {
    /// The fingerprint so far, and of how many events.
    pub(crate) fn get(&self) -> (u64, u64) {
        let sum = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (sum.hash.digest(), sum.events)
    }

    /// Whether an event of this target counts.
    pub(crate) fn counts(target: &str) -> bool {
        TARGETS.iter().any(|known| target.starts_with(known))
    }
}

impl<S: Subscriber> Layer<S> for Fingerprint {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !Fingerprint::counts(event.metadata().target()) {
            return;
        }
        let mut text = Text(format!("{:?} ", turmoil::sim_elapsed()));
        event.record(&mut text);
        let mut sum = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sum.hash.update(text.0.as_bytes());
        sum.events += 1;
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}
