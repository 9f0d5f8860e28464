//! Logs to stderr and spans to an OTLP endpoint.
//!
//! Reading order: [`Settings`] is what an operator says, [`start`] begins, [`context`] carries a trace from one process
//! to the next. Telemetry never blocks or fails a program: spans wait in a bounded queue and are dropped when it is
//! full, and the end waits two seconds for what is left.

pub mod context;
mod export;
mod lines;
mod settings;

use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tokio::sync::oneshot;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterFn, LevelFilter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

pub use settings::{LogForm, Settings, Written};

/// What is logged when `SHARDLIFT_LOG` is not set: drivers speak up only when something is wrong.
pub const DEFAULT_FILTER: &str =
    "info,sqlx=warn,mongodb=warn,h2=warn,hyper=warn,tonic=warn,tower=warn,rustls=warn,opentelemetry=warn";

/// How long the end of a program waits for spans that are not delivered yet.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// Keeps telemetry alive until [`Telemetry::end`].
#[must_use = "the last spans are delivered by `end`"]
#[derive(Debug)]
pub struct Telemetry {
    provider: SdkTracerProvider,
}

impl Telemetry {
    /// Delivers what is still buffered, for at most two seconds.
    pub async fn end(self) {
        let (done, ended) = oneshot::channel();
        // A thread of its own, which is left behind when it hangs: the delivery needs this runtime to go on meanwhile.
        std::thread::spawn(move || {
            // Nobody is left to tell about a failure to flush.
            let _ = self.provider.shutdown_with_timeout(FLUSH_WITHIN);
            let _ = done.send(());
        });
        let _ = tokio::time::timeout(FLUSH_WITHIN, ended).await;
    }
}

/// Starts logs and spans for the whole process, within the tokio runtime. `program` and `instance` name it in traces.
/// A second call changes nothing.
pub fn start(program: &'static str, instance: &str, settings: &Settings) -> Telemetry {
    let (filter, refused) = lines::filter();
    let provider = provider(program, instance, settings);
    let installed = tracing_subscriber::registry()
        .with(spans(program, &provider))
        .with(lines::layer(settings.log).with_filter(filter))
        .try_init();
    if installed.is_ok() && refused {
        tracing::warn!("SHARDLIFT_LOG is not a filter; using {DEFAULT_FILTER:?}");
    }
    Telemetry { provider }
}

/// Starts spans without logs, for a command line: what it says is its answer. `None`: no endpoint is set, nothing is
/// started.
pub fn start_quiet(program: &'static str, settings: &Settings) -> Option<Telemetry> {
    settings.otlp_endpoint.as_ref()?;
    let provider = provider(program, program, settings);
    let installed = tracing_subscriber::registry().with(spans(program, &provider)).try_init();
    installed.is_ok().then_some(Telemetry { provider })
}

/// Without an endpoint spans still have ids, for the logs, and a caller's decision to sample is handed on.
fn provider(program: &'static str, instance: &str, settings: &Settings) -> SdkTracerProvider {
    let processor =
        settings.otlp_endpoint.as_deref().and_then(|endpoint| match export::processor(endpoint) {
            Ok(processor) => Some(processor),
            Err(error) => {
                tracing::warn!(%error, "no spans are delivered");
                None
            }
        });
    let root = match processor {
        Some(_) => Sampler::TraceIdRatioBased(settings.sample_ratio),
        None => Sampler::AlwaysOff,
    };
    let builder = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(root)))
        .with_resource(export::resource(program, instance));
    match processor {
        Some(processor) => builder.with_span_processor(processor).build(),
        None => builder.build(),
    }
}

/// Our own spans only. Events stay in the logs, which name the trace.
fn spans<S>(program: &'static str, provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let ours = FilterFn::new(|metadata: &Metadata<'_>| {
        metadata.is_span() && *metadata.level() <= Level::INFO && metadata.target().starts_with("shardlift")
    });
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(program))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(ours.with_max_level_hint(LevelFilter::INFO))
}

#[cfg(test)]
mod tests;
