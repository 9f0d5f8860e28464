//! Logs to stderr, and spans with trace ids.
//!
//! `SHARDLIFT_LOG` is a filter such as `info,shardlift_worker=debug`; `SHARDLIFT_LOG_FORMAT` is `text` or `json`.
//! There is no exporter yet: spans get their ids here so that one can be added without touching a caller.

use std::io;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// What is logged when `SHARDLIFT_LOG` is not set: drivers speak up only when something is wrong.
pub const DEFAULT_FILTER: &str =
    "info,sqlx=warn,mongodb=warn,h2=warn,hyper=warn,tonic=warn,tower=warn,rustls=warn,opentelemetry=warn";

/// Keeps telemetry alive; dropping it hands over what is still buffered.
#[must_use = "telemetry ends when the guard is dropped"]
#[derive(Debug)]
pub struct TelemetryGuard {
    provider: SdkTracerProvider,
}

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        // Nobody is left to tell about a failure to flush.
        let _ = self.provider.shutdown();
    }
}

/// Starts logging for the whole process. `program` names the tracer. A second call changes nothing.
pub fn init(program: &'static str) -> TelemetryGuard {
    let wanted = crate::config::variable("SHARDLIFT_LOG").filter(|text| !text.trim().is_empty());
    let parsed = wanted.as_deref().map(EnvFilter::try_new);
    let refused = matches!(parsed, Some(Err(_)));
    let filter = parsed.and_then(Result::ok).unwrap_or_else(|| EnvFilter::new(DEFAULT_FILTER));
    let json = crate::config::variable("SHARDLIFT_LOG_FORMAT").is_some_and(|form| form == "json");

    let provider = SdkTracerProvider::builder().build();
    let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer(program));
    let installed =
        tracing_subscriber::registry().with(spans).with(lines(json).with_filter(filter)).try_init();
    if installed.is_ok() && refused {
        tracing::warn!("SHARDLIFT_LOG is not a filter; using {DEFAULT_FILTER:?}");
    }
    TelemetryGuard { provider }
}

type Lines<S> = Box<dyn Layer<S> + Send + Sync>;
type WithSpans = tracing_subscriber::layer::Layered<
    tracing_opentelemetry::OpenTelemetryLayer<Registry, opentelemetry_sdk::trace::SdkTracer>,
    Registry,
>;

fn lines(json: bool) -> Lines<WithSpans> {
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    if json { Box::new(lines.json().flatten_event(true)) } else { Box::new(lines.with_ansi(false)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::TraceContextExt;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    #[test]
    fn the_default_filter_is_a_filter() {
        EnvFilter::try_new(DEFAULT_FILTER).expect("parses");
    }

    #[test]
    fn spans_have_trace_ids_and_a_second_start_does_no_harm() {
        let _first = init("test");
        let _second = init("test");
        let span = tracing::info_span!("work");
        assert!(span.context().span().span_context().is_valid());
    }
}
