//! Tasks, tokens, outcomes, facts.

use shardlift_domain::facts::{
    AppliedEntry, Check, RelationFacts, SchemaDepth, SchemaFacts, ShardFacts, ShardHello,
};
use shardlift_domain::fence::{Attempt, Epoch, Token};
use shardlift_domain::ids::{Checksum, ClusterName, ShardId, TaskId};
use shardlift_domain::progress::Receipt;
use shardlift_domain::verdict::{CheckResult, Saved, Sweep, TaskOutcome, Undone, VerifyReport};

use super::common::{
    failure_from_wire, key_from_wire, pass_from_wire, pass_to_wire, range_from_wire, range_to_wire,
};
use super::quarantine::{held_from_wire, held_to_wire};
use super::{WireError, need};
use crate::v1;

/// A task's name to the wire.
pub fn task_to_wire(task: &TaskId) -> v1::TaskId {
    v1::TaskId {
        migration: Some(task.migration.clone().into()),
        shard: task.shard.as_str().to_owned(),
        step: v1::Step::from(task.step).into(),
        range: task.range,
    }
}

/// A task's name from the wire.
pub fn task_from_wire(task: Option<v1::TaskId>) -> Result<TaskId, WireError> {
    let task = need(task, "task")?;
    let step = task.step().try_into()?;
    Ok(TaskId {
        migration: key_from_wire(need(task.migration, "migration")?)?,
        shard: ShardId::new(task.shard)?,
        step,
        range: task.range,
    })
}

/// A token to the wire.
pub fn token_to_wire(token: Token) -> v1::Token {
    v1::Token { epoch: token.epoch.0, attempt: token.attempt.0 }
}

/// A token from the wire.
pub fn token_from_wire(token: Option<v1::Token>) -> Result<Token, WireError> {
    let token = need(token, "token")?;
    Ok(Token { epoch: Epoch(token.epoch), attempt: Attempt(token.attempt) })
}

/// What a worker says of a shard, to the wire.
pub fn hello_to_wire(hello: &ShardHello) -> v1::ShardHello {
    v1::ShardHello {
        shard: hello.shard.as_str().to_owned(),
        cluster: hello.cluster.as_str().to_owned(),
        engine: v1::Engine::from(hello.engine).into(),
        fence: hello.fence.clone().map(Into::into),
        server_version: hello.server_version.clone(),
        problem: hello.problem.clone().map(Into::into),
        alarm: hello.alarm.clone().map(Into::into),
    }
}

/// What a worker says of a shard, from the wire.
pub fn hello_from_wire(hello: v1::ShardHello) -> Result<ShardHello, WireError> {
    let engine = hello.engine().try_into()?;
    Ok(ShardHello {
        shard: ShardId::new(hello.shard)?,
        cluster: ClusterName::new(hello.cluster)?,
        engine,
        fence: hello.fence.map(Into::into),
        server_version: hello.server_version,
        problem: hello.problem.map(failure_from_wire),
        alarm: hello.alarm.map(failure_from_wire),
    })
}

/// A receipt from the wire.
pub fn receipt_from_wire(progress: &v1::TaskProgress) -> Result<Receipt, WireError> {
    Ok(Receipt {
        range: range_from_wire(progress.range.as_ref().ok_or(WireError::Missing("range"))?),
        batch_size: progress.batch_size,
        rows_per_second: progress.rows_per_second,
        batch_ms: progress.batch_ms,
        waits: progress.waits.clone().map(failure_from_wire),
    })
}

/// What a finished task says, to the wire.
pub fn outcome_to_wire(outcome: &TaskOutcome) -> v1::TaskOutcome {
    use v1::task_outcome::Outcome;
    let outcome = match outcome {
        TaskOutcome::Prechecked => Outcome::Prechecked(v1::Prechecked {}),
        TaskOutcome::Saved(saved) => Outcome::Saved(saved_to_wire(*saved)),
        TaskOutcome::Applied { already } => Outcome::Applied(v1::Applied { already: *already }),
        TaskOutcome::Prepared => Outcome::Prepared(v1::Prepared {}),
        TaskOutcome::Committed => Outcome::Committed(v1::Committed {}),
        TaskOutcome::Aborted => Outcome::Aborted(v1::Aborted {}),
        TaskOutcome::Split(pass) => Outcome::Split(pass_to_wire(pass)),
        TaskOutcome::RangeDone(range) => Outcome::RangeDone(range_to_wire(range)),
        TaskOutcome::Swept(Sweep::Clean) => Outcome::Swept(v1::Swept { pending: 0, pass: None }),
        TaskOutcome::Swept(Sweep::Found { pending, pass }) => {
            Outcome::Swept(v1::Swept { pending: *pending, pass: Some(pass_to_wire(pass)) })
        }
        TaskOutcome::Verified(report) => Outcome::Verified(v1::VerifyReport {
            checks: report.checks.iter().cloned().map(check_to_wire).collect(),
            held: report.held.map(held_to_wire),
        }),
        TaskOutcome::Collected => Outcome::Digested(v1::Digested {}),
        TaskOutcome::Undone(Undone { restored, conflicts }) => {
            Outcome::Undone(v1::Undone { restored: *restored, conflicts: *conflicts })
        }
    };
    v1::TaskOutcome { outcome: Some(outcome) }
}

/// What was saved, to the wire.
pub fn saved_to_wire(saved: Saved) -> v1::Saved {
    v1::Saved { rows: saved.rows, bytes: saved.bytes }
}

/// What was saved, from the wire.
pub fn saved_from_wire(saved: v1::Saved) -> Saved {
    Saved { rows: saved.rows, bytes: saved.bytes }
}

fn check_to_wire(check: CheckResult) -> v1::CheckResult {
    v1::CheckResult { check: check.check, passed: check.passed, detail: check.detail }
}

/// What a finished task says, from the wire.
pub fn outcome_from_wire(outcome: Option<v1::TaskOutcome>) -> Result<TaskOutcome, WireError> {
    use v1::task_outcome::Outcome;
    Ok(match need(need(outcome, "outcome")?.outcome, "outcome")? {
        Outcome::Prechecked(_) => TaskOutcome::Prechecked,
        Outcome::Saved(saved) => TaskOutcome::Saved(saved_from_wire(saved)),
        Outcome::Applied(applied) => TaskOutcome::Applied { already: applied.already },
        Outcome::Prepared(_) => TaskOutcome::Prepared,
        Outcome::Committed(_) => TaskOutcome::Committed,
        Outcome::Aborted(_) => TaskOutcome::Aborted,
        Outcome::Split(pass) => TaskOutcome::Split(pass_from_wire(&pass)),
        Outcome::RangeDone(range) => TaskOutcome::RangeDone(range_from_wire(&range)),
        Outcome::Swept(v1::Swept { pass: None, .. }) => TaskOutcome::Swept(Sweep::Clean),
        Outcome::Swept(v1::Swept { pending, pass: Some(pass) }) => {
            TaskOutcome::Swept(Sweep::Found { pending, pass: pass_from_wire(&pass) })
        }
        Outcome::Verified(report) => TaskOutcome::Verified(VerifyReport {
            checks: report
                .checks
                .into_iter()
                .map(|check| CheckResult { check: check.check, passed: check.passed, detail: check.detail })
                .collect(),
            held: report.held.map(held_from_wire),
        }),
        Outcome::Digested(_) => TaskOutcome::Collected,
        Outcome::Undone(v1::Undone { restored, conflicts }) => {
            TaskOutcome::Undone(Undone { restored, conflicts })
        }
    })
}

/// Facts to the wire.
pub fn facts_to_wire(facts: ShardFacts) -> v1::ShardFacts {
    v1::ShardFacts {
        shard: facts.shard.into(),
        engine: v1::Engine::from(facts.engine).into(),
        server_version: facts.server_version,
        relations: facts
            .relations
            .into_iter()
            .map(|relation| v1::RelationFacts {
                name: relation.name,
                exists: relation.exists,
                rows: relation.rows,
                bytes: relation.bytes,
                key: relation.key,
            })
            .collect(),
        applied: facts
            .applied
            .into_iter()
            .map(|entry| v1::AppliedEntry {
                migration: Some(entry.migration.into()),
                checksum: entry.checksum.to_string(),
            })
            .collect(),
        schema: facts.schema.map(|schema| v1::SchemaFacts {
            digest: schema.digest,
            lines: schema.lines,
            truncated: schema.truncated,
        }),
        findings: facts.findings.into_iter().map(Into::into).collect(),
    }
}

/// Facts from the wire.
pub fn facts_from_wire(facts: v1::ShardFacts) -> Result<ShardFacts, WireError> {
    let engine = facts.engine().try_into()?;
    Ok(ShardFacts {
        shard: ShardId::new(facts.shard)?,
        engine,
        server_version: facts.server_version,
        relations: facts
            .relations
            .into_iter()
            .map(|relation| RelationFacts {
                name: relation.name,
                exists: relation.exists,
                rows: relation.rows,
                bytes: relation.bytes,
                key: relation.key,
            })
            .collect(),
        applied: facts
            .applied
            .into_iter()
            .map(|entry| {
                Ok(AppliedEntry {
                    migration: key_from_wire(need(entry.migration, "migration")?)?,
                    checksum: Checksum::from_stored(entry.checksum),
                })
            })
            .collect::<Result<_, WireError>>()?,
        schema: facts.schema.map(|schema| SchemaFacts {
            digest: schema.digest,
            lines: schema.lines,
            truncated: schema.truncated,
        }),
        findings: facts.findings.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
    })
}

/// A migration to look a shard over for, to the wire.
pub fn check_request_to_wire(check: Check) -> v1::SpecCheck {
    v1::SpecCheck { migration: Some(check.migration.into()), spec: Some(check.file.into()) }
}

/// A migration to look a shard over for, from the wire.
pub fn check_request_from_wire(check: v1::SpecCheck) -> Result<Check, WireError> {
    Ok(Check {
        migration: key_from_wire(need(check.migration, "migration")?)?,
        file: need(check.spec, "spec")?.into(),
    })
}

/// How much of a schema is asked for, to the wire.
pub fn depth_to_wire(depth: SchemaDepth) -> v1::SchemaDepth {
    match depth {
        SchemaDepth::None => v1::SchemaDepth::Unspecified,
        SchemaDepth::Digest => v1::SchemaDepth::Digest,
        SchemaDepth::Lines => v1::SchemaDepth::Lines,
    }
}

/// How much of a schema is asked for, from the wire.
pub fn depth_from_wire(depth: v1::SchemaDepth) -> SchemaDepth {
    match depth {
        v1::SchemaDepth::Unspecified => SchemaDepth::None,
        v1::SchemaDepth::Digest => SchemaDepth::Digest,
        v1::SchemaDepth::Lines => SchemaDepth::Lines,
    }
}
