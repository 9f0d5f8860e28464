//! The span of a task: below the phase that the coordinator hands it out in.

use shardlift_runtime::telemetry::context;
use tracing::Span;
use tracing::field::Empty;

use crate::executor::Ending;
use crate::lease::TaskLease;

/// The span of one hand-out. Ids only: nothing of a row is in a span.
pub(super) fn task(lease: &TaskLease, parent: Option<&str>) -> Span {
    let (task, token) = (lease.task(), lease.token());
    let span = tracing::info_span!(
        "task",
        otel.kind = "consumer",
        migration = %task.migration,
        shard = %task.shard,
        step = task.step.as_str(),
        range = task.range,
        epoch = token.epoch.0,
        attempt = token.attempt.0,
        outcome = Empty,
        code = Empty,
        otel.status_code = Empty,
    );
    context::below(span, parent)
}

/// Tells the span that the caller is in how its task ended; answers the word for it.
pub(super) fn ended(ending: &Ending) -> &'static str {
    let span = Span::current();
    let outcome = match ending {
        Ending::Finished(_) => "finished",
        Ending::Broke(failure) => {
            span.record("code", failure.code.as_str()).record("otel.status_code", "error");
            "broke"
        }
        Ending::Released => "released",
    };
    span.record("outcome", outcome);
    outcome
}
