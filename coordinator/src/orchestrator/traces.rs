//! The spans of what migrations are busy with. Each is below the submit that its migration came from, whose place in its
//! trace is stored with it: so a trace goes on under the next leader, with a span of that leader's own.

use std::collections::BTreeMap;

use shardlift_domain::Epoch;
use shardlift_domain::ids::MigrationKey;
use shardlift_domain::migration::{Migration, Phase, Status};
use shardlift_runtime::telemetry::context;
use tracing::Span;
use tracing::field::Empty;

/// The phases that are open, one per running migration. Dropping it ends them all.
pub(super) struct Traces {
    epoch: Epoch,
    open: BTreeMap<MigrationKey, (Phase, Span)>,
}

impl Traces {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self { epoch, open: BTreeMap::new() }
    }

    /// Follows a migration into its next phase, or out of its last.
    pub(super) fn follow(&mut self, migration: &Migration) {
        let running = migration.status == Status::Running;
        let phase = migration.phase;
        if self.open.get(&migration.key).is_some_and(|(open, _)| running && *open == phase) {
            return;
        }
        if let Some((_, span)) = self.open.remove(&migration.key) {
            span.record("status", migration.status.as_str());
            if !running {
                span.in_scope(|| tracing::info!(status = migration.status.as_str(), "stops"));
            }
        }
        if running {
            let span = self.begun(migration);
            span.in_scope(|| tracing::info!("begins"));
            self.open.insert(migration.key.clone(), (phase, span));
        }
    }

    fn begun(&self, migration: &Migration) -> Span {
        let span = tracing::info_span!(
            parent: None,
            "phase",
            otel.name = migration.phase.as_str(),
            migration = %migration.key,
            kind = migration.kind.as_str(),
            engine = migration.engine.as_str(),
            cluster = %migration.cluster,
            epoch = self.epoch.0,
            status = Empty,
        );
        context::below(span, migration.traceparent.as_deref())
    }

    /// The span of what a migration is busy with, for lines of the log about it.
    pub(super) fn span(&self, migration: &MigrationKey) -> Span {
        self.open.get(migration).map_or_else(Span::none, |(_, span)| span.clone())
    }

    /// What a worker is told, so that its spans are below the phase.
    pub(super) fn context(&self, migration: &MigrationKey) -> Option<String> {
        self.open.get(migration).and_then(|(_, span)| context::of(span))
    }
}
