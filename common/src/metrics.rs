//! Named metrics of one part of a process. Nothing is global: two nodes in one process have two
//! registries.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusRecorder};
use metrics_process::Collector;
use tokio::task::JoinHandle;

/// Hands out handles to metrics and renders them for Prometheus.
pub struct Registry {
    recorder: PrometheusRecorder,
    /// Files samples, whether anybody renders them or not.
    upkeep: JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.upkeep.abort();
    }
}

/// The type of what [`Registry::render`] gives: the text format of Prometheus.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

static METADATA: Metadata<'static> = Metadata::new("ursula", Level::INFO, None);

/// Buckets of counts: batches, frames.
const COUNTS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
/// Buckets of durations in seconds, from 50 µs to 10 s.
const SECONDS: [f64; 16] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Buckets of sizes in bytes, from 256 B to 256 MiB.
const BYTES: [f64; 11] = {
    let mut bytes = [256.0; 11];
    let mut i = 1;
    while i < bytes.len() {
        bytes[i] = bytes[i - 1] * 4.0;
        i += 1;
    }
    bytes
};

/// How often buffered samples are filed: histograms buffer without a bound until that is done.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

impl Registry {
    /// A registry that tells which build this is. Histograms whose names end in `_seconds` have buckets of durations,
    /// those in `_bytes` of sizes, others of counts. Needs a tokio runtime, for the task that files samples.
    ///
    /// # Errors
    /// If the buckets are not accepted: a mistake in the program.
    pub fn new() -> Result<Registry, BuildError> {
        let builder = PrometheusBuilder::new()
            .set_buckets(&COUNTS)?
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
            .set_buckets_for_metric(Matcher::Suffix("_bytes".into()), &BYTES)?;
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        let upkeep = tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP_INTERVAL).await;
                handle.run_upkeep();
            }
        });
        let registry = Registry { recorder, upkeep };
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        registry.gauge_of("ursula_build_info", "always 1; the version is in the label", &version).set(1.0);
        metrics::with_local_recorder(&registry.recorder, || Collector::default().describe());
        Ok(registry)
    }

    /// A counter; its name ends in `_total`.
    pub fn counter(&self, name: &'static str, help: &'static str) -> Counter {
        self.counter_of(name, help, &[])
    }

    /// One of several counters of the same name, told apart by labels with few values.
    pub fn counter_of(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        self.recorder.describe_counter(name.into(), None, help.into());
        self.recorder.register_counter(&key(name, labels), &METADATA)
    }

    /// A gauge.
    pub fn gauge(&self, name: &'static str, help: &'static str) -> Gauge {
        self.gauge_of(name, help, &[])
    }

    /// One of several gauges of the same name, told apart by labels with few values.
    pub fn gauge_of(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
        self.recorder.describe_gauge(name.into(), None, help.into());
        self.recorder.register_gauge(&key(name, labels), &METADATA)
    }

    /// A histogram.
    pub fn histogram(&self, name: &'static str, help: &'static str) -> Histogram {
        self.histogram_of(name, help, &[])
    }

    /// One of several histograms of the same name, told apart by labels with few values.
    pub fn histogram_of(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Histogram {
        self.recorder.describe_histogram(name.into(), None, help.into());
        self.recorder.register_histogram(&key(name, labels), &METADATA)
    }

    /// All metrics in the text format of Prometheus, with those of the process.
    pub fn render(&self) -> String {
        metrics::with_local_recorder(&self.recorder, || Collector::default().collect());
        let handle = self.recorder.handle();
        handle.run_upkeep();
        handle.render()
    }
}

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    let label = |(name, value): &(&'static str, &str)| Label::new(*name, (*value).to_owned());
    Key::from_parts(name, labels.iter().map(label).collect::<Vec<_>>())
}

/// Counts something that is open for as long as this lives.
pub struct OpenGauge(Gauge);

impl OpenGauge {
    /// One more is open.
    pub fn new(gauge: Gauge) -> OpenGauge {
        gauge.increment(1.0);
        OpenGauge(gauge)
    }
}

impl Drop for OpenGauge {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
