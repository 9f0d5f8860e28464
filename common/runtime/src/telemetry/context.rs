//! The place of a span in its trace, as the W3C `traceparent` text that travels between processes and is kept with a
//! migration. A `tracestate` is not carried: nothing of ours writes one.

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The header, and the gRPC metadata key, that carries it.
pub const HEADER: &str = "traceparent";

/// The text of a span; `None` when telemetry was not started.
pub fn of(span: &Span) -> Option<String> {
    let context = span.context();
    let span = context.span();
    let at = span.span_context();
    let flags = at.trace_flags().to_u8();
    at.is_valid().then(|| format!("00-{}-{}-{flags:02x}", at.trace_id(), at.span_id()))
}

/// The text of the span that the caller is in.
pub fn current() -> Option<String> {
    of(&Span::current())
}

/// Puts a new span below the one that the text names. Without a text, or with one that is none, the span begins a trace
/// or stays below the span that it was made in.
pub fn below(span: Span, parent: Option<&str>) -> Span {
    if let Some(parent) = parent.and_then(read) {
        // Fails only where no spans are collected at all.
        let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(parent));
    }
    span
}

/// Reads version 00, and of later versions what 00 has.
fn read(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let version = hex(parts.next()?, 2)?;
    let (trace, span, flags) = (hex(parts.next()?, 32)?, hex(parts.next()?, 16)?, hex(parts.next()?, 2)?);
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let context = SpanContext::new(trace, span, flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

fn hex(part: &str, length: usize) -> Option<&str> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (part.len() == length && part.bytes().all(is_hex)).then_some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_text_names_a_trace_and_a_span() {
        let read = read(TEXT).expect("valid");
        assert_eq!(read.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(read.span_id().to_string(), "b7ad6b7169203331");
        assert!(read.is_sampled() && read.is_remote());
    }

    #[test]
    fn what_is_no_text_of_a_span_is_not_read() {
        let zero = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let long = format!("{TEXT}-more");
        let upper = TEXT.to_uppercase();
        let newest = TEXT.replacen("00", "ff", 1);
        for wrong in ["", "00", zero, &long, &upper, &newest, "00-é-é-é", &TEXT[..54]] {
            assert!(read(wrong).is_none(), "{wrong} was read");
        }
        assert!(read(&format!("{}-more", TEXT.replacen("00", "01", 1))).is_some(), "a later version");
    }
}
