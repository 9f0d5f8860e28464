//! The span of a call, below the caller's if it told of one.

use shardlift_runtime::telemetry::context;
use tonic::Request;
use tracing::Span;

/// Puts the span of a call below the one that its metadata names.
pub(super) fn called<T>(span: Span, request: &Request<T>) -> Span {
    let parent = request.metadata().get(context::HEADER).and_then(|text| text.to_str().ok());
    context::below(span, parent)
}
