//! Figures in the order they are printed in, and latencies on the way to becoming figures.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::procfs::Sample;

/// The longest latency that is told apart from longer ones.
const LATENCY_MAX: Duration = Duration::from_secs(120);
/// Bytes of a MiB.
pub(crate) const MIB: f64 = 1_048_576.0;

/// The result of a run. Names of figures end with their unit.
#[derive(Debug)]
pub(crate) struct Report {
    figures: Vec<(String, Value)>,
    /// Whether the server did what was asked of it.
    pub(crate) good: bool,
}

impl Report {
    pub(crate) fn new() -> Self {
        Report { figures: Vec::new(), good: true }
    }

    /// Adds a figure, rounded to three places.
    pub(crate) fn number(&mut self, name: &str, value: f64) {
        self.figures.push((name.to_owned(), json!((value * 1000.0).round() / 1000.0)));
    }

    /// Adds a count.
    pub(crate) fn count(&mut self, name: &str, value: u64) {
        self.figures.push((name.to_owned(), json!(value)));
    }

    /// Adds counts by name, as one figure.
    pub(crate) fn counts<'a>(&mut self, name: &str, counts: impl Iterator<Item = (&'a String, &'a u64)>) {
        let counts: Map<String, Value> = counts.map(|(name, count)| (name.clone(), json!(count))).collect();
        self.figures.push((name.to_owned(), Value::Object(counts)));
    }

    /// Adds the percentiles of latencies.
    pub(crate) fn latencies(&mut self, latencies: &Latencies) {
        for (name, quantile) in [("p50_ms", 0.5), ("p99_ms", 0.99), ("p99.9_ms", 0.999), ("max_ms", 1.0)] {
            self.number(name, latencies.millis(quantile));
        }
    }

    /// Adds what the server and this process used between two looks, per unit of work; nothing about a server
    /// whose processes are not known.
    pub(crate) fn usage(&mut self, unit: &str, done: u64, before: &Sample, after: &Sample) {
        let per_unit = |cpu: Duration| if done == 0 { 0.0 } else { cpu.as_secs_f64() * 1e6 / done as f64 };
        if let (Some(before), Some(after)) = (before.server, after.server) {
            let used = after.cpu - before.cpu;
            self.number(&format!("server_cpu_us_per_{unit}"), per_unit(used.user + used.system));
            self.number(&format!("server_user_us_per_{unit}"), per_unit(used.user));
            self.number(&format!("server_system_us_per_{unit}"), per_unit(used.system));
            self.number("server_rss_before_mib", before.rss_bytes as f64 / MIB);
            self.number("server_rss_after_mib", after.rss_bytes as f64 / MIB);
        }
        let used = after.client.cpu - before.client.cpu;
        self.number(&format!("client_cpu_us_per_{unit}"), per_unit(used.user + used.system));
    }

    /// One line a figure.
    pub(crate) fn table(&self) -> String {
        let width = self.figures.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let mut text = String::new();
        for (name, value) in &self.figures {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name:width$}  {value}");
        }
        text
    }

    /// One object on one line.
    pub(crate) fn json(&self) -> String {
        let figures: Map<String, Value> = self.figures.iter().cloned().collect();
        format!("{}\n", Value::Object(figures))
    }
}

/// Latencies, to three digits.
#[derive(Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Self {
        let longest = LATENCY_MAX.as_nanos() as u64;
        Latencies(Histogram::new_with_bounds(1_000, longest, 3).expect("the bounds are constants in a valid order"))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    fn millis(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e6
    }
}

#[cfg(test)]
mod tests;
