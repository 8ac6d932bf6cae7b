//! Leaves a store alone that does not answer, and asks it again from time to time (a circuit breaker). Knows no call.
//!
//! ```text
//! closed --- so many failures in a row ---> open --- its rest is over, one call goes ---> probing
//!    ^                                       ^                                              |
//!    |                                       +---- it failed: a rest twice as long ---------+
//!    +------------------- any call that the store answered --------------------------------+
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::SteadyOptions;
use crate::store::StoreError;

/// How a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Healthy,
    /// It does not do what it is asked.
    Failing {
        /// Since when.
        since: Instant,
        /// What the last error says.
        error: Arc<str>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Calls go; so many have failed in a row.
    Closed { failures: u32 },
    /// No call goes before the end of the rest.
    Open { until: Instant, rest: Duration },
    /// One call is on its way.
    Probing { rest: Duration },
}

#[derive(Debug)]
pub(super) struct Breaker {
    failures_max: u32,
    rest: Duration,
    rest_max: Duration,
    state: Mutex<State>,
    health: watch::Sender<Health>,
}

/// A call that may go. One that is dropped before it is settled tells nothing of the store.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    breaker: &'a Breaker,
    /// The rest before it, if it is a probe that is not settled.
    probe: Option<Duration>,
}

impl Breaker {
    pub(super) fn new(options: &SteadyOptions) -> Breaker {
        let SteadyOptions { failures_max, rest, rest_max, .. } = *options;
        let (state, (health, _)) = (Mutex::new(State::Closed { failures: 0 }), watch::channel(Health::Healthy));
        Breaker { failures_max, rest, rest_max, state, health }
    }

    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Lets a call go.
    ///
    /// # Errors
    /// If the store is left alone.
    pub(super) fn enter(&self) -> Result<Turn<'_>, StoreError> {
        let mut state = self.state();
        let probe = match *state {
            State::Closed { .. } => None,
            State::Open { until, rest } if until <= Instant::now() => {
                *state = State::Probing { rest };
                Some(rest)
            }
            State::Open { .. } | State::Probing { .. } => return Err(self.refusal()),
        };
        Ok(Turn { breaker: self, probe })
    }

    fn refusal(&self) -> StoreError {
        match &*self.health.borrow() {
            Health::Failing { error, .. } => {
                StoreError::Unavailable(format!("it is left alone for a while after: {error}"))
            }
            Health::Healthy => StoreError::Unavailable("it is left alone for a while".to_owned()),
        }
    }

    fn answered(&self) {
        *self.state() = State::Closed { failures: 0 };
    }

    /// A try failed. Returns whether the store is left alone.
    fn failed(&self, probe: Option<Duration>) -> bool {
        let mut state = self.state();
        let open = |rest: Duration| State::Open { until: Instant::now() + rest, rest };
        *state = match (*state, probe) {
            (_, Some(rest)) => open(rest.saturating_mul(2).min(self.rest_max)),
            (State::Closed { failures }, None) if failures + 1 >= self.failures_max => open(self.rest),
            (State::Closed { failures }, None) => State::Closed { failures: failures + 1 },
            // It was sent before the store was left alone.
            (state, None) => state,
        };
        !matches!(*state, State::Closed { .. })
    }

    fn tell_failing(&self, error: &StoreError) {
        let error: Arc<str> = match error {
            StoreError::Unavailable(reason) => reason.as_str().into(),
            error => error.to_string().into(),
        };
        self.health.send_modify(|health| {
            let since = match health {
                Health::Healthy => Instant::now(),
                Health::Failing { since, .. } => *since,
            };
            *health = Health::Failing { since, error };
        });
    }

    fn tell_healthy(&self) {
        self.health.send_if_modified(|health| std::mem::replace(health, Health::Healthy) != Health::Healthy);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// What came of the call. Returns whether the next one may go.
    pub(super) fn settle(mut self, error: Option<&StoreError>) -> bool {
        let probe = self.probe.take();
        match error {
            None | Some(StoreError::NotFound(_) | StoreError::Damaged { .. }) => {
                self.breaker.answered();
                self.breaker.tell_healthy();
            }
            // It answers, and somebody has to do something.
            Some(error @ (StoreError::Denied(_) | StoreError::NoPlace(_) | StoreError::Foreign(_))) => {
                self.breaker.answered();
                self.breaker.tell_failing(error);
            }
            Some(error @ StoreError::Unavailable(_)) => {
                if self.breaker.failed(probe) {
                    self.breaker.tell_failing(error);
                    return false;
                }
            }
        }
        true
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(rest) = self.probe {
            *self.breaker.state() = State::Open { until: Instant::now(), rest };
        }
    }
}
