//! Answers for scripts. The shapes are a promise: keys are added, never renamed or removed.

use serde_json::{Value, json};
use shardlift_client::model::{
    Coordinator, Drained, Leader, MigrationView, ShardPresence, ShardView, WorkerPresence,
};
use shardlift_domain::failure::Failure;
use shardlift_domain::migration::InForce;
use shardlift_domain::plan::{Disposition, Plan, PlannedMigration};
use shardlift_domain::verdict::Finding;

use super::harmless;
use super::rehearsal::rehearsal_json;

/// A value over several lines, with the end of its last one.
pub(crate) fn pretty(value: &Value) -> String {
    // `{:#}` of a Value cannot fail, unlike a serializer.
    harmless::json(&format!("{value:#}\n"))
}

/// A value on one line, with its end: one of a sequence.
pub(crate) fn compact(value: &Value) -> String {
    harmless::json(&format!("{value}\n"))
}

/// A migration with its shards.
pub(crate) fn status(view: &MigrationView) -> Value {
    let mut value = head(view);
    value["shards"] = view.shards.iter().map(part).collect();
    value
}

/// Many migrations, with their sums instead of their shards.
pub(crate) fn list(views: &[MigrationView]) -> Value {
    let entry = |view: &MigrationView| {
        let mut value = head(view);
        value["rows_done"] = json!(view.rows_done);
        value["rows_total"] = json!(view.rows_total);
        value
    };
    json!({ "migrations": views.iter().map(entry).collect::<Vec<_>>() })
}

/// Many migrations with their shards: how an apply ended.
pub(crate) fn statuses<'a>(views: impl Iterator<Item = &'a MigrationView>) -> Value {
    json!({ "migrations": views.map(status).collect::<Vec<_>>() })
}

/// A plan.
pub(crate) fn plan(plan: &Plan) -> Value {
    json!({
        "topology_revision": plan.topology_revision,
        "submittable": plan.submittable(),
        "migrations": plan.migrations.iter().map(planned).collect::<Vec<_>>(),
        "findings": plan.findings.iter().map(finding).collect::<Vec<_>>(),
        "rehearsals": plan.rehearsals.iter().map(rehearsal_json).collect::<Vec<_>>(),
    })
}

/// A refusal.
pub(crate) fn failures(all: &[Failure]) -> Value {
    json!({ "failures": all.iter().map(with_file).collect::<Vec<_>>() })
}

/// The declared shards.
pub(crate) fn shards(shards: &[ShardPresence]) -> Value {
    let entry = |shard: &ShardPresence| {
        json!({
            "shard": shard.shard,
            "cluster": shard.cluster,
            "engine": shard.engine,
            "reachable": shard.reachable,
            "workers": shard.workers,
            "server_version": shard.server_version,
            "problem": shard.problem.as_ref().map(failure),
        })
    };
    json!({ "shards": shards.iter().map(entry).collect::<Vec<_>>() })
}

/// The connected workers.
pub(crate) fn workers(workers: &[WorkerPresence]) -> Value {
    json!({ "workers": workers.iter().map(worker).collect::<Vec<_>>() })
}

fn worker(worker: &WorkerPresence) -> Value {
    json!({
        "worker": worker.worker,
        "version": worker.version,
        "shards": worker.shards,
        "slots": worker.slots,
        "busy": worker.busy,
        "draining": worker.draining,
    })
}

/// What became of a wish to drain a worker.
pub(crate) fn drained(answer: &Drained) -> Value {
    json!({ "worker": worker(&answer.worker), "changed": answer.changed, "alone": answer.alone })
}

/// Who leads.
pub(crate) fn leader(leader: &Leader) -> Value {
    let coordinator =
        |one: &Coordinator| json!({ "name": one.name, "address": one.address, "leads": one.leads });
    let coordinators: Vec<_> = leader.coordinators.iter().map(coordinator).collect();
    json!({ "name": leader.name, "epoch": leader.epoch, "here": leader.here, "coordinators": coordinators, "open": leader.open })
}

fn head(view: &MigrationView) -> Value {
    json!({
        "id": view.key.id,
        "version": view.key.version,
        "kind": view.kind,
        "engine": view.engine,
        "cluster": view.cluster,
        "status": view.status,
        "phase": view.phase,
        "author": view.author,
        "approved_by": view.approved_by,
        "approval_needed": view.approval_needed.as_ref().map(failure),
        "checksum": view.checksum,
        "halted": view.halted.as_ref().map(|reason| {
            json!({ "code": reason.code, "message": reason.message, "next": reason.next })
        }),
        "error": view.error.as_ref().map(failure),
        "created_at": view.created_at,
        "started_at": view.started_at,
        "completed_at": view.completed_at,
        "rows_restored": view.undone.restored,
        "conflicts": view.undone.conflicts,
        "rolled_back_for": view.rolled_back_for.as_ref().map(failure),
        "before_images": view.purged.map(|gone| if gone { "purged" } else { "purging" }),
        "quarantined": view.held.rows,
        "discarded": view.held.discarded,
        "throttle": view.throttle.as_ref().map(throttle),
        "wave": view.wave,
        "waves": view.waves,
        "gate": view.gate.as_ref().map(|gate| {
            json!({
                "soak_left_ms": u64::try_from(gate.soak_left.as_millis()).unwrap_or(u64::MAX),
                "closed": gate.closed.as_ref().map(failure),
            })
        }),
        "decided": view.decided,
    })
}

fn throttle(in_force: &InForce) -> Value {
    let mut value = json!(in_force.now);
    value["in_spec"] = json!(in_force.in_spec);
    value
}

fn part(part: &ShardView) -> Value {
    let progress = &part.progress;
    json!({
        "shard": part.shard,
        "step": part.step,
        "rows_done": progress.rows_done,
        "rows_total": progress.rows_total,
        "batches": progress.batches,
        "rows_per_second": progress.rows_per_second,
        "batch_size": progress.batch_size,
        "ranges": progress.ranges,
        "ranges_done": progress.ranges_done,
        "rows_saved": progress.saved.rows,
        "bytes_saved": progress.saved.bytes,
        "verified": part.verified,
        "error": part.error.as_ref().map(failure),
        "trouble": part.trouble.as_ref().map(failure),
        "quarantined": part.held.rows,
        "discarded": part.held.discarded,
        "wave": part.wave,
    })
}

fn planned(planned: &PlannedMigration) -> Value {
    let (disposition, known_status) = match planned.disposition {
        Disposition::New => ("new", None),
        Disposition::Known { status } => ("known", Some(status)),
        Disposition::NextVersion => ("next_version", None),
    };
    json!({
        "id": planned.id,
        "version": planned.version,
        "kind": planned.kind,
        "engine": planned.engine,
        "cluster": planned.cluster,
        "checksum": planned.checksum,
        "disposition": disposition,
        "known_status": known_status,
        "waits_for": planned.waits_for,
        "steps": planned.steps,
        "waves": planned.waves.iter().map(|wave| &wave.shards).collect::<Vec<_>>(),
        "estimates": planned.estimates,
        "notes": planned.notes,
        "soaks_ms": planned.waves.iter().map(|wave| u64::try_from(wave.soak.as_millis()).unwrap_or(u64::MAX)).collect::<Vec<_>>(),
    })
}

fn finding(finding: &Finding) -> Value {
    let mut value = with_file(&finding.failure);
    value["severity"] = json!(finding.severity);
    value
}

pub(super) fn failure(failure: &Failure) -> Value {
    json!({
        "code": failure.code,
        "message": failure.message,
        "shard": failure.place.shard,
        "step": failure.place.step,
        "key": failure.place.key,
        "fault": failure.fault(),
        "next": failure.next,
    })
}

/// A refusal may speak of a file or of another migration, a failure within a migration does not.
fn with_file(about: &Failure) -> Value {
    let mut value = failure(about);
    value["migration"] = json!(about.place.migration.as_ref().map(|key| &key.id));
    value["file"] = json!(about.place.file);
    value
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().expect("an object").keys().map(String::as_str).collect()
    }

    const HEAD: [&str; 27] = [
        "id",
        "version",
        "kind",
        "engine",
        "cluster",
        "status",
        "phase",
        "author",
        "approved_by",
        "approval_needed",
        "checksum",
        "halted",
        "error",
        "created_at",
        "started_at",
        "completed_at",
        "rows_restored",
        "conflicts",
        "rolled_back_for",
        "before_images",
        "quarantined",
        "discarded",
        "throttle",
        "wave",
        "waves",
        "gate",
        "decided",
    ];
    const FAILURE: [&str; 7] = ["code", "message", "shard", "step", "key", "fault", "next"];

    #[test]
    fn a_status_has_the_promised_keys() {
        let value = status(&samples::failed());
        assert_eq!(keys(&value), [HEAD.as_slice(), &["shards"]].concat());
        assert_eq!(keys(&value["error"]), FAILURE);
        assert_eq!(value["halted"], Value::Null);
        let expected = [
            "shard",
            "step",
            "rows_done",
            "rows_total",
            "batches",
            "rows_per_second",
            "batch_size",
            "ranges",
            "ranges_done",
            "rows_saved",
            "bytes_saved",
            "verified",
            "error",
            "trouble",
            "quarantined",
            "discarded",
            "wave",
        ];
        assert_eq!(keys(&value["shards"][0]), expected);
        assert_eq!(keys(&value["shards"][0]["error"]), FAILURE);
        assert_eq!(value["error"]["fault"], "application");
        assert_eq!(value["shards"][1]["error"], Value::Null);
        assert_eq!((&value["status"], &value["phase"]), (&json!("failed"), &json!("data")));
        assert_eq!(value["version"], 1);
        assert_eq!(keys(&status(&samples::halted())["halted"]), ["code", "message", "next"]);
    }

    #[test]
    fn a_throttle_is_told_with_what_the_spec_says_instead() {
        assert_eq!(status(&samples::running())["throttle"], Value::Null);
        let in_spec = json!({ "rows_per_second": 50, "window": "22:00-06:00 UTC" });
        let expected = json!({ "rows_per_second": 5_000, "window": null, "in_spec": in_spec });
        assert_eq!(status(&samples::throttled())["throttle"], expected);
    }

    #[test]
    fn a_gate_and_a_plan_tell_of_waves() {
        let value = status(&samples::soaking(false));
        assert_eq!(value["gate"], json!({ "soak_left_ms": 44_200, "closed": null }));
        assert_eq!(
            (&value["wave"], &value["waves"], &value["shards"][1]["wave"]),
            (&json!(1), &json!(2), &json!(2))
        );
        assert_eq!(status(&samples::soaking(true))["gate"]["closed"]["code"], "gate.closed");
        let planned = &plan(&samples::plan())["migrations"][1];
        assert_eq!(planned["waves"], json!([["chat-pg-01", "chat-pg-02"]]));
        assert_eq!(planned["soaks_ms"], json!([0]));
    }

    #[test]
    fn a_list_has_sums_instead_of_shards() {
        let value = list(&[samples::running()]);
        let expected = [HEAD.as_slice(), &["rows_done", "rows_total"]].concat();
        assert_eq!(keys(&value["migrations"][0]), expected);
    }

    #[test]
    fn shards_and_workers_have_the_promised_keys() {
        let value = shards(&samples::shards());
        let expected = ["shard", "cluster", "engine", "reachable", "workers", "server_version", "problem"];
        assert_eq!(keys(&value["shards"][0]), expected);
        assert_eq!(keys(&value["shards"][1]["problem"]), FAILURE);
        let value = workers(&samples::workers());
        assert_eq!(keys(&value["workers"][0]), ["worker", "version", "shards", "slots", "busy", "draining"]);
    }

    #[test]
    fn a_value_is_json_on_one_or_several_lines() {
        let value = json!({ "a": [1, 2] });
        assert_eq!(compact(&value), "{\"a\":[1,2]}\n");
        assert_eq!(serde_json::from_str::<Value>(&pretty(&value)).expect("JSON"), value);
    }
}
