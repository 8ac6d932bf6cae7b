//! Traces of requests: spans that are sent over OTLP to a collector. Off, and without cost, unless a collector is named.
//!
//! A request is traced if its client says so in `traceparent` (<https://www.w3.org/TR/trace-context/>), or, if it says
//! nothing, by chance. Between the tiers the context travels in the same form.

use std::io;
use std::time::Duration;

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};

/// The header, and the key of metadata, that has the context.
pub const TRACEPARENT: &str = "traceparent";

/// How long the collector may take for a batch of spans.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a process that stops waits for what was not sent yet.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Begins spans, or none. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Traces(Option<On>);

#[derive(Debug, Clone)]
struct On {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// Something that is traced; it ends when this is dropped.
#[derive(Debug)]
pub struct Span(opentelemetry_sdk::trace::Span);

impl Traces {
    /// Sends spans of `service` to a collector, such as `http://127.0.0.1:4317`, if there is one; begins with the share `ratio` of requests that
    /// say nothing themselves. What a collector does not take in time is dropped. Needs a tokio runtime.
    ///
    /// # Errors
    /// A sentence, if the address is none.
    pub fn start(service: &'static str, endpoint: Option<&str>, ratio: f64) -> io::Result<Traces> {
        let Some(endpoint) = endpoint else { return Ok(Traces::default()) };
        let exporter =
            SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT).build();
        let failed = |error| io::Error::other(format!("traces cannot be sent to {endpoint}: {error}"));
        let exporter = exporter.map_err(failed)?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
            .with_resource(Resource::builder().with_service_name(service).with_attribute(version).build())
            .build();
        Ok(Traces(Some(On { tracer: provider.tracer("ursula"), provider })))
    }

    /// Begins to trace a request of a client, if it is to be traced. `parent` is its `traceparent`.
    pub fn request(&self, name: &'static str, parent: Option<&str>) -> Option<Span> {
        self.begin(name, parent)
    }

    /// Begins a part of what the other tier traces; nothing if it does not.
    pub fn part(&self, name: &'static str, parent: Option<&str>) -> Option<Span> {
        parent.and_then(|parent| self.begin(name, Some(parent)))
    }

    fn begin(&self, name: &'static str, parent: Option<&str>) -> Option<Span> {
        let On { tracer, .. } = self.0.as_ref()?;
        let parent = parent.map_or_else(Context::new, |parent| {
            TraceContextPropagator::new().extract_with_context(&Context::new(), &Carrier(Some(parent.to_owned())))
        });
        let span = tracer.span_builder(name).with_kind(SpanKind::Server).start_with_context(tracer, &parent);
        span.span_context().is_sampled().then_some(Span(span))
    }

    /// Sends what was not sent yet.
    pub async fn stop(self) {
        let Some(On { provider, .. }) = self.0 else { return };
        drop(tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT)).await);
    }
}

impl Span {
    /// Notes something about it; never the content of a stream.
    pub fn note(&mut self, key: &'static str, value: impl Into<opentelemetry::Value>) {
        self.0.set_attribute(KeyValue::new(key, value));
    }

    /// It failed, for a reason that is none of its client's.
    pub fn fail(&mut self, code: &'static str) {
        self.0.set_status(Status::error(code));
    }

    /// What its parts are given as their parent.
    pub fn traceparent(&self) -> String {
        let mut carrier = Carrier(None);
        let context = Context::new().with_remote_span_context(self.0.span_context().clone());
        TraceContextPropagator::new().inject_context(&context, &mut carrier);
        carrier.0.unwrap_or_default()
    }
}

/// A context in the form of the header.
struct Carrier(Option<String>);

impl Extractor for Carrier {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.as_deref().filter(|_| key == TRACEPARENT)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

impl Injector for Carrier {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACEPARENT {
            self.0 = Some(value);
        }
    }
}
