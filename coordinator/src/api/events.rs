//! What happened to a migration, on the wire.

use serde::Deserialize;
use shardlift_domain::failure::Failure;
use shardlift_domain::ids::ShardId;
use shardlift_domain::migration::{Decision, Phase, Status, Step};
use shardlift_domain::quarantine::Held;
use shardlift_domain::spec::Throttle;
use shardlift_proto::convert::{held_to_wire, throttle_to_wire};
use shardlift_proto::v1;

use super::views::moment;
use crate::service::{Services, migration_id};
use crate::store::{HistoryEvent, Recorded};

/// Entries of one answer unless the request says how many, and at most.
const EVENTS: u32 = 100;
const MOST_EVENTS: u32 = 1000;

/// One page of the history.
pub(super) async fn page(
    services: &Services,
    request: v1::EventsRequest,
) -> Result<v1::EventsResponse, Failure> {
    let id = migration_id(&request.id)?;
    let limit = if request.limit == 0 { EVENTS } else { request.limit.min(MOST_EVENTS) };
    // One more than is told says whether there are more.
    let asked = limit + u32::from(request.after.is_some());
    let mut found = services.orchestrator().events(id, request.after, asked).await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    Ok(v1::EventsResponse { events: found.into_iter().map(to_wire).collect(), more })
}

/// What is stored beside the event's name. Each event has some of it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Detail {
    status: Option<Status>,
    phase: Option<Phase>,
    shard: Option<ShardId>,
    step: Option<Step>,
    wave: Option<u32>,
    held: Option<Held>,
    failure: Option<Failure>,
    decision: Option<Decision>,
    throttle: Option<Throttle>,
}

fn to_wire(recorded: Recorded) -> v1::Event {
    let Recorded { sequence, entry } = recorded;
    // What cannot be read must not hide that something happened.
    let detail = match entry.event {
        HistoryEvent::Halted => {
            Detail { failure: serde_json::from_value(entry.detail).ok(), ..Detail::default() }
        }
        _ => serde_json::from_value(entry.detail).unwrap_or_default(),
    };
    v1::Event {
        sequence,
        migration: entry.migration.map(Into::into),
        event: entry.event.as_str().to_owned(),
        at: Some(moment(entry.at)),
        actor: entry.actor,
        status: detail.status.map_or(v1::Status::Unspecified, Into::into).into(),
        phase: detail.phase.map_or(v1::Phase::Unspecified, Into::into).into(),
        shard: detail.shard.map(Into::into),
        step: detail.step.map_or(v1::Step::Unspecified, Into::into).into(),
        wave: detail.wave.map(|wave| wave + 1),
        held: detail.held.map(held_to_wire),
        failure: detail.failure.map(Into::into),
        decision: detail.decision.map(|decision| decision.as_str().to_owned()),
        throttle: detail.throttle.map(throttle_to_wire),
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::json;
    use shardlift_domain::failure::ErrorCode;
    use shardlift_domain::ids::{MigrationId, MigrationKey, Version};

    use super::*;
    use crate::store::HistoryEntry;

    fn told(event: HistoryEvent, detail: serde_json::Value) -> v1::Event {
        let id = MigrationId::new("0008_text").expect("a name");
        let migration = Some(MigrationKey { id, version: Version::FIRST });
        let at = DateTime::from_timestamp(1_764_363_600, 123_456_000).expect("a time");
        to_wire(Recorded {
            sequence: 7,
            entry: HistoryEntry { migration, event, at, actor: "person".into(), request: None, detail },
        })
    }

    #[test]
    fn an_event_tells_what_belongs_to_it_and_nothing_else() {
        let started = told(HistoryEvent::Started, json!({ "status": "running", "phase": "precheck" }));
        assert_eq!((started.status(), started.phase()), (v1::Status::Running, v1::Phase::Precheck));
        assert_eq!((started.sequence, started.event.as_str(), started.shard), (7, "started", None));
        let opened = told(HistoryEvent::GateOpened, json!({ "wave": 0 }));
        assert_eq!((opened.wave, opened.status()), (Some(1), v1::Status::Unspecified));
        let held =
            told(HistoryEvent::Quarantined, json!({ "shard": "a", "held": { "rows": 3, "discarded": 1 } }));
        assert_eq!(held.held.map(|held| (held.rows, held.discarded)), Some((3, 1)));
    }

    #[test]
    fn a_decision_is_told_in_a_word() {
        let decided = told(HistoryEvent::Decided, json!({ "decision": Decision::Commit }));
        assert_eq!(decided.decision.as_deref(), Some("commit"));
    }

    #[test]
    fn a_throttle_is_told_as_it_holds_since() {
        let throttle = json!({ "rows_per_second": 50, "window": null });
        let told = told(HistoryEvent::Throttled, json!({ "status": "running", "throttle": throttle }));
        let expected = v1::Throttle { rows_per_second: Some(50), window: None };
        assert_eq!((told.event.as_str(), told.throttle), ("throttled", Some(expected)));
    }

    #[test]
    fn why_it_was_halted_is_the_failure_of_the_event() {
        let reason = Failure::new(ErrorCode::SweepNotConverging, "again and again", "deploy the new form");
        let halted = told(HistoryEvent::Halted, json!(reason));
        assert_eq!(halted.failure.map(|failure| failure.code), Some("sweep.not-converging".to_owned()));
    }

    #[test]
    fn what_cannot_be_read_does_not_hide_the_event() {
        let strange = told(HistoryEvent::StepDone, json!({ "step": "of a later release" }));
        assert_eq!((strange.event.as_str(), strange.step()), ("step_done", v1::Step::Unspecified));
    }
}
