//! An OTLP endpoint in this process: what the programs deliver, as a collector receives it.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// The variable by which all programs are told an endpoint.
pub(crate) const OTLP_ENDPOINT: &str = "SHARDLIFT__TELEMETRY__OTLP_ENDPOINT";

/// A span and the program that it is from.
#[derive(Debug, Clone)]
pub(crate) struct Delivered {
    pub(crate) service: String,
    pub(crate) span: Span,
}

impl Delivered {
    /// An attribute as text; empty when it has none of this name.
    pub(crate) fn attribute(&self, key: &str) -> String {
        text(&self.span.attributes, key)
    }

    /// Program and name.
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.service, self.span.name)
    }
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

/// A collector that keeps everything. Dropping it ends it.
pub(crate) struct Collector {
    endpoint: String,
    delivered: Arc<Mutex<Vec<Delivered>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let delivered = Arc::<Mutex<Vec<Delivered>>>::default();
        let receiver = TraceServiceServer::new(Receiver(Arc::clone(&delivered)));
        let serving = tokio::spawn(async move {
            let server = Server::builder().add_service(receiver);
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { endpoint, delivered, serving }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What has arrived so far.
    pub(crate) fn spans(&self) -> Vec<Delivered> {
        self.delivered.lock().unwrap().clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Receiver(Arc<Mutex<Vec<Delivered>>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut delivered = self.0.lock().unwrap();
        for resource in request.into_inner().resource_spans {
            let service = resource.resource.map(|resource| text(&resource.attributes, "service.name"));
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                delivered.push(Delivered { service: service.clone().unwrap_or_default(), span });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
