//! What the history says of a move, and when things happened, for people. Nothing is decided by it.

use chrono::{DateTime, Utc};
use serde_json::json;
use shardlift_domain::migration::{Event, Migration, Phase, Status, Stop, Verb};

use super::wake::Asker;
use crate::store::{HistoryEntry, HistoryEvent, Times};

/// A wall clock may be set back meanwhile: what came later never carries an earlier time than what it followed.
pub(super) fn times_after(times: &Times, before: Status, after: Status, now: DateTime<Utc>) -> Times {
    let mut times = *times;
    let begun = times.started_at.unwrap_or(times.created_at);
    if before == Status::Pending && after == Status::Running {
        times.started_at = times.started_at.or(Some(now.max(times.created_at)));
    }
    if before != after {
        times.completed_at = after.is_final().then(|| now.max(begun));
    }
    times
}

/// What happened, by whom, with where the migration stands now.
pub(super) fn record(migration: &Migration, event: HistoryEvent, by: &Asker) -> HistoryEntry {
    HistoryEntry {
        migration: Some(migration.key.clone()),
        event,
        at: shardlift_runtime::clock::now(),
        actor: by.name.clone(),
        request: by.request.clone(),
        detail: json!({ "status": migration.status, "phase": migration.phase }),
    }
}

/// What happened to the installation, by whom.
pub(super) fn of_the_installation(
    event: HistoryEvent,
    detail: serde_json::Value,
    by: &Asker,
) -> HistoryEntry {
    let (actor, request) = (by.name.clone(), by.request.clone());
    HistoryEntry { migration: None, event, at: shardlift_runtime::clock::now(), actor, request, detail }
}

/// What a move leaves in the history: the event itself, then what it led to.
pub(super) fn records(
    (status, phase): (Status, Phase),
    after: &Migration,
    event: &Event,
    by: &Asker,
) -> Vec<HistoryEntry> {
    let mut entries = Vec::new();
    let mut add = |what, detail: Option<serde_json::Value>| {
        let mut entry = record(after, what, by);
        entry.detail["before"] = json!({ "status": status, "phase": phase });
        entry.detail = detail.unwrap_or(entry.detail);
        entries.push(entry);
    };
    match event {
        Event::Asked(verb) => add(asked(*verb), None),
        Event::Ready => add(HistoryEvent::Ready, None),
        Event::StepDone { shard, step, .. } => {
            add(HistoryEvent::StepDone, Some(json!({ "shard": shard, "step": step })));
        }
        Event::Quarantined { shard, held, .. } => {
            add(HistoryEvent::Quarantined, Some(json!({ "shard": shard, "held": held })));
        }
        Event::Purged { .. } => add(HistoryEvent::Purged, None),
        Event::Approved { .. } => add(HistoryEvent::Approved, Some(approved(after))),
        Event::Reopened { shard } => add(HistoryEvent::Reopened, Some(json!({ "shard": shard }))),
        // What services are told is no history of the migration; that it is halted stands below.
        // So does what comes of a comparison.
        Event::Told(_) | Event::NotQuiet { .. } | Event::Compared { .. } | Event::Cleared => {}
        Event::Soaked { wave } => add(HistoryEvent::GateOpened, Some(json!({ "wave": wave }))),
        Event::StepFailed { shard, step, failure } => {
            add(HistoryEvent::StepFailed, Some(json!({ "shard": shard, "step": step, "failure": failure })));
        }
    }
    if after.phase != phase {
        add(HistoryEvent::PhaseEntered, None);
    }
    if after.status != status {
        match (after.status, &after.stop) {
            (Status::Completed, _) => add(HistoryEvent::Completed, None),
            (Status::Failed, _) => add(HistoryEvent::Failed, Some(with_failure(after))),
            (Status::RollingBack, _)
                if matches!(event, Event::StepFailed { .. } | Event::Compared { .. }) =>
            {
                add(HistoryEvent::RollbackBegun, None);
            }
            (Status::RolledBack, _) => add(HistoryEvent::RolledBack, None),
            (Status::Paused, Some(Stop::System { reason })) => add(HistoryEvent::Halted, Some(json!(reason))),
            _ => {}
        }
    }
    entries
}

/// Where a migration that failed stands, and the first of its failures.
fn with_failure(after: &Migration) -> serde_json::Value {
    let failure = after.shards.values().find_map(|part| part.failure.as_ref());
    json!({ "status": after.status, "phase": after.phase, "failure": failure })
}

/// That a move has decided about what shards have prepared.
pub(super) fn decided(undecided: bool, after: &Migration, by: &Asker) -> Option<HistoryEntry> {
    let decision = after.decision.as_ref().filter(|_| undecided)?;
    let entry = record(after, HistoryEvent::Decided, by);
    Some(HistoryEntry { detail: json!({ "decision": decision }), ..entry })
}

fn approved(migration: &Migration) -> serde_json::Value {
    json!({ "status": migration.status, "phase": migration.phase, "checksum": migration.checksum })
}

fn asked(verb: Verb) -> HistoryEvent {
    match verb {
        Verb::Start => HistoryEvent::Started,
        Verb::Pause => HistoryEvent::Paused,
        Verb::Resume => HistoryEvent::Resumed,
        Verb::Cancel => HistoryEvent::Cancelled,
        Verb::Retry => HistoryEvent::Retried,
        Verb::Rollback { .. } => HistoryEvent::RollbackBegun,
        Verb::Purge => HistoryEvent::PurgeBegun,
        Verb::Throttle(_) => HistoryEvent::Throttled,
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn a_wall_clock_that_is_set_back_makes_no_migration_end_before_it_began() {
        let made = shardlift_runtime::clock::now();
        let (later, back) = (made + TimeDelta::minutes(5), made - TimeDelta::hours(1));
        let times = Times { created_at: made, started_at: None, completed_at: None };
        let begun = times_after(&times, Status::Pending, Status::Running, back);
        assert_eq!((begun.started_at, begun.completed_at), (Some(made), None));
        let begun = times_after(&times, Status::Pending, Status::Running, later);
        assert_eq!(begun.started_at, Some(later));
        let ended = times_after(&begun, Status::Running, Status::Completed, back);
        assert_eq!((ended.started_at, ended.completed_at), (Some(later), Some(later)));
        assert_eq!(times_after(&ended, Status::Completed, Status::Completed, back), ended);
    }
}
