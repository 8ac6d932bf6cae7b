//! Named metrics of one part of a process. Nothing is global: two nodes in one process have two
//! registries.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusRecorder};
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

static METADATA: Metadata<'static> = Metadata::new("ursula", Level::INFO, None);

/// Buckets of counts: batches, frames.
const COUNTS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
/// Buckets of durations in seconds, from 50 µs to 10 s.
const SECONDS: [f64; 16] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// How often buffered samples are filed: histograms buffer without a bound until that is done.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

impl Registry {
    /// An empty registry. Histograms whose names end in `_seconds` have buckets of durations, others of
    /// counts. Needs a tokio runtime, for the task that files samples.
    ///
    /// # Errors
    /// If the buckets are not accepted: a mistake in the program.
    pub fn new() -> Result<Registry, BuildError> {
        let builder = PrometheusBuilder::new()
            .set_buckets(&COUNTS)?
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?;
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        let upkeep = tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP_INTERVAL).await;
                handle.run_upkeep();
            }
        });
        Ok(Registry { recorder, upkeep })
    }

    /// A counter; its name ends in `_total`.
    pub fn counter(&self, name: &'static str, help: &'static str) -> Counter {
        self.recorder.describe_counter(name.into(), None, help.into());
        self.recorder.register_counter(&Key::from_static_name(name), &METADATA)
    }

    /// A gauge.
    pub fn gauge(&self, name: &'static str, help: &'static str) -> Gauge {
        self.recorder.describe_gauge(name.into(), None, help.into());
        self.recorder.register_gauge(&Key::from_static_name(name), &METADATA)
    }

    /// One of several gauges of the same name, told apart by a label with few values.
    pub fn gauge_of(&self, name: &'static str, help: &'static str, label: &'static str, value: usize) -> Gauge {
        self.recorder.describe_gauge(name.into(), None, help.into());
        let key = Key::from_parts(name, vec![Label::new(label, value.to_string())]);
        self.recorder.register_gauge(&key, &METADATA)
    }

    /// A histogram.
    pub fn histogram(&self, name: &'static str, help: &'static str) -> Histogram {
        self.recorder.describe_histogram(name.into(), None, help.into());
        self.recorder.register_histogram(&Key::from_static_name(name), &METADATA)
    }

    /// All metrics in the text format of Prometheus.
    pub fn render(&self) -> String {
        let handle = self.recorder.handle();
        handle.run_upkeep();
        handle.render()
    }
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
