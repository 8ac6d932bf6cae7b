//! Traces reach a collector, from the gateway down to the node, for those requests that are to be traced.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::transport::server::{Server as Grpc, TcpIncoming};
use tonic::{Request, Response, Status};
use ursula_tests::{Server, eventually};

const STREAM: &str = "/v1/stream/traces/log";
const TEXT: (&str, &str) = ("Content-Type", "text/plain");
const TRACE: [u8; 16] = *b"a trace of a  te";
const CALLER: [u8; 8] = *b"a caller";

/// Spans by the name of their service.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.0.lock().expect("no panic");
        for of_resource in request.into_inner().resource_spans {
            let attributes = of_resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            let name = attributes.into_iter().find(|attribute| attribute.key == "service.name");
            let Some(Value::StringValue(service)) = name.and_then(|name| name.value?.value) else { panic!("no name") };
            let found = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(found.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Collects on an address of its own, for as long as the runtime lives.
    fn start(runtime: &Runtime) -> (Collector, String) {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let collector = Collector::default();
        let service = TraceServiceServer::new(collector.clone());
        runtime.spawn(Grpc::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
        (collector, format!("http://{address}"))
    }

    fn span(&self, service: &str, name: &str) -> Option<Span> {
        let spans = self.0.lock().expect("no panic");
        spans.iter().find(|(of, span)| of == service && span.name == name).map(|(_, span)| span.clone())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_traced_request_is_traced_down_to_its_node() {
    let runtime = Runtime::new().expect("a runtime");
    let (collector, endpoint) = Collector::start(&runtime);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ursula.toml");
    let settings =
        format!("[gateway]\notlp_endpoint = '{endpoint}'\ntrace_ratio = 0\n[node]\notlp_endpoint = '{endpoint}'\n");
    std::fs::write(&file, settings).expect("a file");
    let server = Server::dev_with(&["--config", file.to_str().expect("a path")]);

    let parent = format!("00-{}-{}-01", hex(&TRACE), hex(&CALLER));
    let traced = ("traceparent", parent.as_str());
    let mut http = server.connect();
    assert_eq!(http.request("PUT", STREAM, &[TEXT], "").status, 201);
    assert_eq!(http.request("POST", STREAM, &[TEXT, traced], "traced").status, 204);
    assert_eq!(http.request("POST", STREAM, &[TEXT], "not traced").status, 204);
    assert_eq!(http.request("GET", STREAM, &[traced], "").status, 200);
    assert_eq!(http.request("POST", STREAM, &[("Content-Type", "text/html"), traced], "refused").status, 409);
    let not_sampled = format!("00-{}-{}-00", hex(&TRACE), hex(&CALLER));
    assert_eq!(http.request("HEAD", STREAM, &[("traceparent", &not_sampled)], "").status, 200);
    assert_eq!(http.request("HEAD", STREAM, &[("traceparent", "nonsense")], "").status, 200);
    server.gateway().terminate();
    assert_eq!(server.gateway().wait().code(), Some(0));

    let (gateway, node) = ("ursula-gateway", "ursula-storage-node");
    for (asked, done) in [("append", "op"), ("read", "read")] {
        let above = eventually("the span of the gateway", || collector.span(gateway, asked));
        assert_eq!((above.trace_id.as_slice(), above.parent_span_id.as_slice()), (&TRACE[..], &CALLER[..]));
        let below = eventually("the span of the node", || collector.span(node, done));
        assert_eq!((below.trace_id, below.parent_span_id), (TRACE.to_vec(), above.span_id));
        assert!(above.start_time_unix_nano <= below.start_time_unix_nano);
        assert!(below.end_time_unix_nano <= above.end_time_unix_nano);
    }
    let spans = collector.0.lock().expect("no panic");
    let names: Vec<&str> = spans.iter().filter(|(of, _)| of == gateway).map(|(_, span)| span.name.as_str()).collect();
    assert_eq!(names.len(), 3, "two appends and a read: {names:?}");
    let statuses =
        spans.iter().flat_map(|(_, span)| &span.attributes).filter(|of| of.key == "http.response.status_code");
    let mut statuses: Vec<_> = statuses.filter_map(|status| status.value.clone()?.value).collect();
    statuses.sort_by_key(|status| format!("{status:?}"));
    assert_eq!(statuses, [200, 204, 409].map(Value::IntValue));
}

#[test]
fn a_collector_that_is_not_there_disturbs_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ursula.toml");
    std::fs::write(&file, "[gateway]\notlp_endpoint = 'http://127.0.0.1:9'\ntrace_ratio = 1\n").expect("a file");
    let server = Server::dev_with(&["--config", file.to_str().expect("a path")]);
    let mut http = server.connect();
    assert_eq!(http.request("PUT", STREAM, &[TEXT], "").status, 201);
    for _ in 0..100 {
        assert_eq!(http.request("POST", STREAM, &[TEXT], "x").status, 204);
    }
    server.gateway().terminate();
    assert_eq!(server.gateway().wait().code(), Some(0));
}
