//! Spans on their way to an OTLP endpoint: a bounded queue, one thread, and nobody who waits for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData};

/// Spans that may wait; more are dropped.
const QUEUE: usize = 8192;
/// Spans of one delivery.
const DELIVERY: usize = 512;
/// How long a span waits for others at most.
const EVERY: Duration = Duration::from_secs(1);
/// How long one delivery may take.
const WITHIN: Duration = Duration::from_secs(2);

/// Delivers to this endpoint. Connects when there is something to deliver, again and again.
pub(super) fn processor(endpoint: &str) -> Result<BatchSpanProcessor, ExporterBuildError> {
    let builder = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(WITHIN);
    let builder = if endpoint.starts_with("https://") {
        builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots())
    } else {
        builder
    };
    let exporter = Watched { inner: builder.build()?, failing: AtomicBool::new(false) };
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE)
        .with_max_export_batch_size(DELIVERY)
        .with_scheduled_delay(EVERY)
        .build();
    Ok(BatchSpanProcessor::builder(exporter).with_batch_config(config).build())
}

/// Who the spans are from.
pub(super) fn resource(program: &'static str, instance: &str) -> Resource {
    Resource::builder()
        .with_service_name(program)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
        .build()
}

/// Tells once when deliveries begin to fail, and once when they succeed again: never a line per delivery.
#[derive(Debug)]
struct Watched {
    inner: SpanExporter,
    failing: AtomicBool,
}

impl opentelemetry_sdk::trace::SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.inner.export(batch).await;
        let failed = result.is_err();
        if self.failing.swap(failed, Ordering::Relaxed) != failed {
            match &result {
                Ok(()) => tracing::info!("spans are delivered again"),
                // The error holds the status of the call, not the endpoint.
                Err(error) => {
                    tracing::warn!(%error, "spans cannot be delivered and are dropped; work goes on")
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
