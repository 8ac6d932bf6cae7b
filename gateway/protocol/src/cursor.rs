//! Cursors: numbers that change with time, so that a cache never answers a live read for ever.

use ursula_common::Millis;

/// 2024-10-09T00:00:00Z, from which the protocol counts.
const EPOCH_MS: u64 = 1_728_432_000_000;
const INTERVAL_SECONDS: u64 = 20;
/// The largest cursor that is taken from a client: what a JavaScript client can count to.
const CURSOR_MAX: u64 = (1 << 53) - 1;

/// The greatest jitter that [`next`] takes, in seconds; the smallest is 1.
pub const JITTER_SECONDS_MAX: u64 = 3600;

/// The cursor of an answer: the number of the interval, or, if the client is not behind it, one
/// that is greater than the client's. `jitter` is a random number of seconds,
/// 1 to [`JITTER_SECONDS_MAX`].
pub fn next(now: Millis, client: Option<u64>, jitter: u64) -> u64 {
    let current = now.0.saturating_sub(EPOCH_MS) / (INTERVAL_SECONDS * 1000);
    match client {
        Some(client) if client >= current => client + jitter.clamp(1, JITTER_SECONDS_MAX).div_ceil(INTERVAL_SECONDS),
        _ => current,
    }
}

/// Reads a cursor from a query; anything else than one is as good as none.
pub(crate) fn parse(text: &str) -> Option<u64> {
    crate::headers::digits(text).filter(|cursor| *cursor <= CURSOR_MAX)
}

#[cfg(test)]
mod tests;
