//! What the requests to an object store cost. Prices are those of S3 Standard in us-east-1 without the tax
//! (<https://aws.amazon.com/s3/pricing/>, as of 2026); a request inside the region has no price by its bytes.

use std::time::Duration;

use serde_json::{Value, json};
use ursula_test_s3::Counts;

/// Of 1000 PUT or LIST requests, in dollars. DELETE is free.
const WRITES: f64 = 0.005;
/// Of 1000 GET or HEAD requests, in dollars.
const READS: f64 = 0.0004;
const HOURS_A_MONTH: f64 = 730.0;

/// What came after `before`.
pub(crate) fn between(before: Counts, after: Counts) -> Counts {
    Counts {
        puts: after.puts - before.puts,
        gets: after.gets - before.gets,
        heads: after.heads - before.heads,
        lists: after.lists - before.lists,
        deletes: after.deletes - before.deletes,
    }
}

/// What these, in that time, are an hour, and cost a month.
pub(crate) fn of(counts: Counts, time: Duration) -> Value {
    let hours = time.as_secs_f64() / 3600.0;
    let hourly = |count: u64| count as f64 / hours;
    let dollars =
        hourly(counts.puts + counts.lists) / 1000.0 * WRITES + hourly(counts.gets + counts.heads) / 1000.0 * READS;
    json!({
        "store_puts_per_hour": hourly(counts.puts) as u64,
        "store_gets_per_hour": hourly(counts.gets + counts.heads) as u64,
        "store_lists_per_hour": hourly(counts.lists) as u64,
        "store_requests_dollars_per_month": (dollars * HOURS_A_MONTH * 100.0).round() / 100.0,
    })
}
