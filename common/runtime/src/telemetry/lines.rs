//! Log lines on stderr. A line that is written within a span names the trace, so that one leads to the other.

use std::fmt;
use std::io;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

use super::{DEFAULT_FILTER, LogForm};

/// The filter of `SHARDLIFT_LOG`, such as `info,shardlift_worker=debug`; `true`: it was none, and the default is used.
pub(super) fn filter() -> (EnvFilter, bool) {
    let wanted = crate::config::variable("SHARDLIFT_LOG").filter(|text| !text.trim().is_empty());
    let parsed = wanted.as_deref().map(EnvFilter::try_new);
    let refused = matches!(parsed, Some(Err(_)));
    (parsed.and_then(Result::ok).unwrap_or_else(|| EnvFilter::new(DEFAULT_FILTER)), refused)
}

/// Lines in this form.
pub(super) fn layer<S>(form: LogForm) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    match form {
        LogForm::Human => {
            Box::new(lines.with_ansi(false).map_event_format(|inner| Stamped { inner, stamp: human }))
        }
        LogForm::Json => Box::new(
            lines.json().flatten_event(true).map_event_format(|inner| Stamped { inner, stamp: json }),
        ),
    }
}

/// Lines of another form, with the trace added.
struct Stamped<F> {
    inner: F,
    /// Adds a trace id to a whole line.
    stamp: fn(&str, &str) -> String,
}

impl<S, N, F> FormatEvent<S, N> for Stamped<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(trace) = trace() else { return self.inner.format_event(context, writer, event) };
        let mut line = String::new();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&(self.stamp)(&line, &trace))
    }
}

/// The trace of the span that is entered.
fn trace() -> Option<String> {
    Context::map_current(|context| {
        let span = context.span();
        let at = span.span_context();
        at.is_valid().then(|| at.trace_id().to_string())
    })
}

fn human(line: &str, trace: &str) -> String {
    format!("{} trace_id={trace}\n", line.trim_end_matches('\n'))
}

fn json(line: &str, trace: &str) -> String {
    match line.strip_prefix('{') {
        Some(rest) => format!("{{\"trace_id\":\"{trace}\",{rest}"),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_filter_is_a_filter() {
        EnvFilter::try_new(DEFAULT_FILTER).expect("parses");
    }

    #[test]
    fn a_stamped_line_is_still_one_line_of_its_form() {
        assert_eq!(human("INFO begins\n", "7f"), "INFO begins trace_id=7f\n");
        assert_eq!(json("{\"level\":\"INFO\"}\n", "7f"), "{\"trace_id\":\"7f\",\"level\":\"INFO\"}\n");
    }
}
