//! One gateway: what its handlers share.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::header::CONTENT_TYPE;
use tokio::sync::watch;
use tower::service_fn;
use ursula_common::Clock;
use ursula_common::metrics;
use ursula_common::traces::Traces;

use crate::cluster::{Cluster, Connect, Seed};
use crate::config::GatewayConfig;
use crate::failures::Failures;
use crate::handlers;
use crate::handlers::upload::UploadBudget;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::origin::Trusted;
use crate::pages::PageBudget;
use crate::server::Routes;

/// A gateway. Cheap to clone; every clone is the same gateway.
#[derive(Clone)]
pub struct Gateway(Arc<App>);

/// See [`Gateway`].
pub(crate) struct App {
    pub(crate) config: GatewayConfig,
    pub(crate) cluster: Cluster,
    pub(crate) hub: Hub,
    pub(crate) uploads: UploadBudget,
    pub(crate) pages: PageBudget,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) traces: Traces,
    pub(crate) trusted: Trusted,
    pub(crate) failures: Failures,
    /// Set as soon as the process is to stop: `/ready` says no.
    pub(crate) leaving: AtomicBool,
    /// Set when nothing new is served any more: live reads end.
    pub(crate) draining: watch::Sender<bool>,
}

impl Gateway {
    /// Starts to follow the cluster that `seeds` belong to. Needs a tokio runtime.
    ///
    /// # Errors
    /// If metrics cannot be set up.
    pub fn start(config: GatewayConfig, seeds: Vec<Seed>, clock: Arc<dyn Clock>) -> io::Result<Gateway> {
        Gateway::start_over(config, seeds, Arc::new(ursula_proto::remote), clock)
    }

    /// The same; `connect` makes the ways to nodes that are not seeds.
    ///
    /// # Errors
    /// If metrics cannot be set up.
    pub fn start_over(
        config: GatewayConfig,
        seeds: Vec<Seed>,
        connect: Arc<Connect>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Gateway> {
        let metrics = Metrics::new(&config)?;
        let (time, bytes) = (config.op_timeout(), config.upload_bytes_max);
        let cluster = Cluster::reach(seeds, connect, rand::random(), time, bytes, metrics.clone());
        let hub = Hub::new(cluster.clone(), config.tail_bytes_max, clock.clone(), metrics.clone());
        let uploads = UploadBudget::new(config.upload_bytes_max, metrics.upload_bytes.clone());
        let pages = PageBudget::new(
            config.page_bytes_max,
            config.op_timeout(),
            metrics.page_bytes.clone(),
            metrics.delivered_bytes.clone(),
        );
        let traces = Traces::start("ursula-gateway", config.otlp_endpoint.as_deref(), config.trace_ratio)?;
        let trusted = Trusted::parse(&config.trusted_proxies).map_err(io::Error::other)?;
        Ok(Gateway(Arc::new(App {
            config,
            cluster,
            hub,
            uploads,
            pages,
            clock,
            metrics,
            traces,
            trusted,
            failures: Failures::default(),
            leaving: AtomicBool::new(false),
            draining: watch::channel(false).0,
        })))
    }

    pub(crate) fn app(&self) -> &Arc<App> {
        &self.0
    }

    /// The metrics of this gateway in the text format of Prometheus.
    pub fn render_metrics(&self) -> String {
        self.0.render_metrics()
    }
}

impl App {
    fn render_metrics(&self) -> String {
        self.cluster.report();
        self.metrics.registry.render()
    }

    /// What clients are served. The dialect decides what a path means, so there is nothing to route.
    pub(crate) fn public_routes(self: &Arc<Self>) -> impl Routes {
        let app = self.clone();
        service_fn(move |request: http::Request<Body>| {
            let app = app.clone();
            async move { Ok(handlers::serve(&app, request).await) }
        })
    }

    /// What operators are served.
    pub(crate) fn operations_routes(self: &Arc<Self>) -> Router {
        let (app, settings) = (self.clone(), ursula_common::config::shown(&self.config));
        Router::new()
            .route(
                "/metrics",
                get(move || std::future::ready(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], app.render_metrics()))),
            )
            .route("/settings", get(move || std::future::ready(settings.clone())))
            .fallback(handlers::serve_probe)
            .with_state(self.clone())
    }

    /// Whether the process is about to stop.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }
}
