//! What is published: CloudEvents 1.0 in JSON, structured mode. `docs/schemas/event.json` describes them; a test holds the two
//! together.
//!
//! An event of the history has an id made of what is stored with it, so that a repeat has the same one. `sequence` counts the
//! events of one migration from 1 without gaps; `migration.progress` has none of its own, it carries that of the event before it.
//! Row keys and values are not told.

use chrono::SecondsFormat;
use serde::{Deserialize, Serialize};
use shardlift_domain::failure::{Failure, Fault};
use shardlift_domain::ids::{MigrationId, ShardId};
use shardlift_domain::migration::{Phase, Status, Step};

use super::Message;
use crate::orchestrator::{Numbered, Running};
use crate::store::{HistoryEntry, HistoryEvent, Recorded};

/// The media type of an event.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// How far a running migration is.
pub const PROGRESS: &str = "migration.progress";

/// What of the history is told.
pub const TOLD: &[HistoryEvent] = &[
    HistoryEvent::Submitted,
    HistoryEvent::Ready,
    HistoryEvent::PhaseEntered,
    HistoryEvent::Paused,
    HistoryEvent::Halted,
    HistoryEvent::Resumed,
    HistoryEvent::Cancelled,
    HistoryEvent::Retried,
    HistoryEvent::RollbackBegun,
    HistoryEvent::RolledBack,
    HistoryEvent::Completed,
    HistoryEvent::Failed,
];

/// The type of the event, if it is told.
pub fn kind(event: HistoryEvent) -> Option<&'static str> {
    Some(match event {
        HistoryEvent::Submitted => "migration.submitted",
        HistoryEvent::Ready => "migration.started",
        HistoryEvent::PhaseEntered => "migration.phase",
        HistoryEvent::Paused => "migration.paused",
        HistoryEvent::Halted => "migration.halted",
        HistoryEvent::Resumed => "migration.resumed",
        HistoryEvent::Cancelled => "migration.cancelled",
        HistoryEvent::Retried => "migration.retried",
        HistoryEvent::RollbackBegun => "migration.rolling_back",
        HistoryEvent::RolledBack => "migration.rolled_back",
        HistoryEvent::Completed => "migration.completed",
        HistoryEvent::Failed => "migration.failed",
        _ => return None,
    })
}

/// An event as it is written.
#[derive(Serialize)]
struct Envelope<'a, D> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    r#type: &'static str,
    subject: &'a str,
    time: String,
    datacontenttype: &'static str,
    sequence: String,
    partitionkey: &'a str,
    data: D,
}

#[derive(Serialize)]
struct Happened<'a> {
    migration: &'a MigrationId,
    version: u32,
    status: Option<Status>,
    phase: Option<Phase>,
    actor: &'a str,
    failure: Option<Told>,
}

#[derive(Serialize)]
struct Progress<'a> {
    migration: &'a MigrationId,
    version: u32,
    status: Status,
    phase: Phase,
    rows_done: u64,
    rows_total: u64,
    shards_done: usize,
    shards: usize,
}

/// A failure without the row that it happened at.
#[derive(Serialize)]
struct Told {
    code: &'static str,
    fault: Fault,
    message: String,
    next: String,
    shard: Option<ShardId>,
    step: Option<Step>,
}

impl From<Failure> for Told {
    fn from(failure: Failure) -> Self {
        Self {
            code: failure.code.as_str(),
            fault: failure.fault(),
            message: failure.message,
            next: failure.next,
            shard: failure.place.shard,
            step: failure.place.step,
        }
    }
}

/// What is stored beside the event's name.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Detail {
    status: Option<Status>,
    phase: Option<Phase>,
    failure: Option<Failure>,
}

/// What happened, as a message; `None`: it is not told.
pub fn happened(source: &str, numbered: Numbered) -> Option<Message> {
    let Numbered { recorded: Recorded { sequence, entry }, number } = numbered;
    let HistoryEntry { migration, event, at, actor, detail, .. } = entry;
    // What is about the installation is told to nobody outside.
    let migration = migration?;
    let detail = match event {
        HistoryEvent::Halted => {
            let failure = serde_json::from_value(detail).ok();
            Detail { status: Some(Status::Paused), phase: None, failure }
        }
        // What cannot be read must not hide that something happened.
        _ => serde_json::from_value(detail).unwrap_or_default(),
    };
    // The moment is part of it: a store that was restored from an old copy gives the same sequence again to something else.
    let id = format!("{migration}-{sequence}-{}", at.timestamp_micros());
    let data = Happened {
        migration: &migration.id,
        version: migration.version.0,
        status: detail.status,
        phase: detail.phase,
        actor: &actor,
        failure: detail.failure.map(Told::from),
    };
    let time = at.to_rfc3339_opts(SecondsFormat::Micros, true);
    message(source, kind(event)?, id, migration.id.as_str(), (number, time), &data)
}

/// How far a migration is, as a message. The same figures are the same event.
pub fn progress(source: &str, running: &Running) -> Option<Message> {
    let Running { migration, phase, rows_done, rows_total, shards_done, shards, number, at } = running;
    let id = format!("{migration}-{number}-{}-{rows_done}-{rows_total}-{shards_done}", phase.as_str());
    let data = Progress {
        migration: &migration.id,
        version: migration.version.0,
        status: Status::Running,
        phase: *phase,
        rows_done: *rows_done,
        rows_total: *rows_total,
        shards_done: *shards_done,
        shards: *shards,
    };
    let time = at.to_rfc3339_opts(SecondsFormat::Micros, true);
    message(source, PROGRESS, id, migration.id.as_str(), (*number, time), &data)
}

fn message(
    source: &str,
    kind: &'static str,
    id: String,
    subject: &str,
    (number, time): (u64, String),
    data: &impl Serialize,
) -> Option<Message> {
    let envelope = Envelope {
        specversion: "1.0",
        id: &id,
        source,
        r#type: kind,
        subject,
        time,
        datacontenttype: "application/json",
        // Sorts as text, as the extension `sequence` of CloudEvents wants it.
        sequence: format!("{number:010}"),
        partitionkey: subject,
        data,
    };
    let body = serde_json::to_vec(&envelope).ok()?;
    Some(Message { id, kind, key: subject.to_owned(), body })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::{Value, json};
    use shardlift_domain::failure::ErrorCode;
    use shardlift_domain::ids::{MigrationKey, Version};

    use super::*;

    fn key() -> MigrationKey {
        MigrationKey { id: MigrationId::new("0008_text").expect("a name"), version: Version(2) }
    }

    fn numbered(event: HistoryEvent, detail: Value) -> Numbered {
        let at = DateTime::from_timestamp(1_764_363_600, 123_456_000).expect("a time");
        let entry =
            HistoryEntry { migration: Some(key()), event, at, actor: "person".into(), request: None, detail };
        Numbered { recorded: Recorded { sequence: 41, entry }, number: 7 }
    }

    fn told(event: HistoryEvent, detail: Value) -> Value {
        let message = happened("/shardlift", numbered(event, detail)).expect("is told");
        serde_json::from_slice(&message.body).expect("is JSON")
    }

    #[test]
    fn an_event_is_a_cloud_event() {
        let event = told(HistoryEvent::Completed, json!({ "status": "completed", "phase": "verify" }));
        let expected = json!({
            "specversion": "1.0", "id": "0008_text@2-41-1764363600123456", "source": "/shardlift",
            "type": "migration.completed", "subject": "0008_text", "time": "2025-11-28T21:00:00.123456Z",
            "datacontenttype": "application/json", "sequence": "0000000007", "partitionkey": "0008_text",
            "data": { "migration": "0008_text", "version": 2, "status": "completed", "phase": "verify",
                      "actor": "person", "failure": null },
        });
        assert_eq!(event, expected);
    }

    #[test]
    fn what_is_told_has_a_type_and_nothing_else_has() {
        for event in HistoryEvent::ALL {
            assert_eq!(kind(*event).is_some(), TOLD.contains(event), "{event:?}");
        }
    }

    #[test]
    fn why_it_failed_is_told_without_the_row() {
        let failure = Failure::new(ErrorCode::RowRejected, "null value in column body", "mend the row");
        let failure = failure.on_shard(&ShardId::new("chat-01").expect("a name")).at_key("secret-key-4711");
        for (event, detail) in [
            (HistoryEvent::Halted, json!(failure)),
            (HistoryEvent::Failed, json!({ "status": "failed", "phase": "data", "failure": failure })),
        ] {
            let event = told(event, detail);
            let told = &event["data"]["failure"];
            assert_eq!(
                (&told["code"], &told["shard"]),
                (&json!("row.rejected"), &json!("chat-01")),
                "{event}"
            );
            assert!(!event.to_string().contains("4711"), "{event}");
        }
    }

    #[test]
    fn the_same_figures_are_the_same_event() {
        let at = DateTime::from_timestamp(1_764_363_600, 0).expect("a time");
        let running = |rows_done| Running {
            migration: key(),
            phase: Phase::Data,
            rows_done,
            rows_total: 10,
            shards_done: 0,
            shards: 2,
            number: 3,
            at,
        };
        let id = |running: &Running| progress("/shardlift", running).expect("is told").id;
        assert_eq!(id(&running(4)), id(&running(4)));
        assert_ne!(id(&running(4)), id(&running(5)));
    }
}
