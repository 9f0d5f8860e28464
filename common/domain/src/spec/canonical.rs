//! The meaning of a spec as one text: what its checksum is made of.
//!
//! Stored checksums depend on every character of it. Keys of later releases must be written only when they differ
//! from what happens without them, and at the end, so that the specs of today keep their checksums.

use std::fmt::Write;

use serde_json::Value as Json;

use crate::sql::{canonical as sql, parse_relation};

use super::{
    Anew, Assertion, Backup, DataSpec, Engine, Leeway, OnError, OnVerifyFailure, Question, Ranges, Reach,
    SchemaChange, SchemaSpec, Spec, SpecBody, Transform, Undo, VerifyCheck, WaveSpec, Where,
};

/// One line for each key, in an order of its own; defaults are written out; values are JSON.
pub(super) fn canonical(spec: &Spec) -> String {
    let mut lines = Lines::default();
    lines.text("id", spec.id.as_str());
    lines.text("kind", spec.kind().as_str());
    lines.text("engine", spec.engine.as_str());
    lines.text("cluster", spec.cluster.as_str());
    let mut dependencies: Vec<&str> = spec.depends_on.iter().map(|id| id.as_str()).collect();
    dependencies.sort_unstable();
    lines.json("depends_on", &dependencies.into());
    match &spec.body {
        SpecBody::Schema(schema) => write_schema(&mut lines, schema),
        SpecBody::Data(data) => write_data(&mut lines, data, spec.engine),
    }
    if spec.on_verify_failure == OnVerifyFailure::Rollback {
        lines.text("on_verify_failure", "rollback");
    }
    write_rollout(&mut lines, &spec.rollout);
    lines.out
}

#[derive(Default)]
struct Lines {
    out: String,
}

impl Lines {
    fn json(&mut self, key: &str, value: &Json) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "{key}={value}");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.json(key, &value.into());
    }
}

fn write_schema(lines: &mut Lines, schema: &SchemaSpec) {
    for (key, change) in [("up", &schema.up), ("down", &schema.down)] {
        let items: Vec<Json> = match change {
            SchemaChange::Sql(statements) => {
                statements.iter().map(|statement| sql(statement).into()).collect()
            }
            SchemaChange::Commands(commands) => commands.clone(),
        };
        lines.json(key, &items.into());
    }
    lines.json("lock_timeout_ms", &millis(schema.lock_timeout));
    lines.json("hold_timeout_ms", &millis(schema.hold_timeout));
    if let Some(deadline) = schema.lock_deadline {
        lines.json("lock_deadline_ms", &millis(deadline));
    }
    if let Some(end) = &schema.on_block {
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort_unstable();
            Json::from(names)
        };
        lines.json("on_block.end.applications", &sorted(&end.applications));
        lines.json("on_block.end.users", &sorted(&end.users));
        lines.json("on_block.end.younger_than_ms", &millis(end.younger_than));
        lines.text("on_block.end.written", end.written.as_str());
    }
    if !schema.verify.is_empty() {
        let mut checks: Vec<String> =
            schema.verify.iter().map(|asked| assertion(asked).to_string()).collect();
        checks.sort_unstable();
        lines.json("verify", &checks.into());
    }
    if schema.atomic {
        lines.json("atomic", &true.into());
    }
}

fn write_data(lines: &mut Lines, data: &DataSpec, engine: Engine) {
    let source = &data.source;
    let relation = match engine {
        Engine::Postgres => parse_relation(&source.relation).map(|relation| relation.to_string()),
        Engine::Mongodb => Ok(source.relation.clone()),
    };
    lines.text("relation", &relation.unwrap_or_else(|_| source.relation.clone()));
    lines.json("key", &source.key.clone().into());
    lines.json(
        "where",
        &match &source.pending {
            Some(Where::Sql(predicate)) => sql(predicate).into(),
            Some(Where::Query(query)) => query.clone(),
            None => Json::Null,
        },
    );
    lines.json("immutable_key", &source.immutable_key.into());
    write_transform(lines, &data.transform);
    lines
        .json("batch", &vec![millis(data.batch.target), data.batch.min.into(), data.batch.max.into()].into());
    let ranges = match data.parallel.ranges {
        Ranges::Auto => Json::from("auto"),
        Ranges::Count(count) => count.into(),
    };
    lines.json("parallel", &vec![ranges, data.parallel.workers.into()].into());
    lines.json("rows_per_second", &data.throttle.rows_per_second.into());
    let window = data.throttle.window.map(|window| vec![window.from_minute, window.to_minute]);
    lines.json("window", &window.into());
    if let Some(bound) = data.max_replica_lag {
        lines.json("max_replica_lag_ms", &millis(bound));
    }
    let mut checks: Vec<String> = data.verify.iter().map(check).collect();
    checks.sort_unstable();
    lines.json("verify", &checks.into());
    if let Some(tenants) = &source.tenants {
        // Who has opted out is not of the content: the file that a person wrote stays the same one.
        let keys = tenants.keys.iter().chain(&tenants.left_out);
        let mut keys: Vec<String> = keys.map(ToString::to_string).collect();
        keys.sort_unstable();
        lines.text("tenant", &tenants.field);
        lines.json("tenants", &keys.into());
    }
    if let OnError::Quarantine { budget } = data.on_error {
        lines.json("on_error.quarantine.budget", &budget.into());
    }
    if data.undo == Undo::Capture {
        lines.text("undo", "capture");
    }
    if data.backup == Backup::Table {
        lines.text("backup", "table");
    }
}

fn write_rollout(lines: &mut Lines, waves: &[WaveSpec]) {
    if waves.is_empty() {
        return;
    }
    let waves = waves.iter().map(|wave| {
        let (word, number) = match wave.reach {
            Reach::Shards(count) => ("shards", count),
            Reach::Percent(share) => ("percent", share),
        };
        Json::from(vec![word.into(), number.into(), millis(wave.soak)])
    });
    lines.json("rollout", &waves.collect());
}

fn write_transform(lines: &mut Lines, transform: &Transform) {
    match transform {
        Transform::Sql(list) => {
            let mut list: Vec<(&str, String)> =
                list.iter().map(|(column, value)| (column.as_str(), sql(value))).collect();
            list.sort_unstable();
            let list: Vec<Json> =
                list.into_iter().map(|(column, value)| vec![column.to_owned(), value].into()).collect();
            lines.json("transform.sql", &list.into());
        }
        Transform::Pipeline(stages) => lines.json("transform.pipeline", &stages.clone().into()),
        Transform::Vrl(program) => lines.text("transform.vrl", program.trim()),
        Transform::Named { name, options } => {
            lines.text("transform.transformer.name", name);
            lines.json("transform.transformer.options", &sorted(options));
        }
    }
}

fn check(check: &VerifyCheck) -> String {
    match check {
        VerifyCheck::Assert(asked) => assertion(asked).to_string(),
        VerifyCheck::Remaining => check.label().to_owned(),
        VerifyCheck::Count { tolerance } => format!("{} {tolerance}", check.label()),
        VerifyCheck::References(references) => format!("{} {references}", check.label()),
        VerifyCheck::Unique(unique) => format!("{} {unique}", check.label()),
        VerifyCheck::Transform(Anew { sample, changed, gone }) => {
            format!("{} {sample} {} {}", check.label(), most(*changed), most(*gone))
        }
        VerifyCheck::Digest(Leeway { changed, gone }) => {
            format!("{} {} {}", check.label(), most(*changed), most(*gone))
        }
    }
}

fn most(count: Option<u32>) -> String {
    count.map_or_else(|| "any".to_owned(), |count| count.to_string())
}

fn assertion(asked: &Assertion) -> Json {
    let question = match &asked.question {
        Question::Sql(query) => vec!["sql".into(), sql(query).into()],
        Question::Documents { collection, query } => {
            vec!["documents".into(), collection.clone().into(), query.clone()]
        }
    };
    vec![question.into(), asked.equals.clone()].into()
}

fn millis(duration: std::time::Duration) -> Json {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).into()
}

/// The same JSON with the keys of its objects in alphabetical order. Not for MongoDB, where order has a meaning.
fn sorted(value: &Json) -> Json {
    match value {
        Json::Object(object) => {
            let mut entries: Vec<_> =
                object.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            Json::Object(entries.into_iter().collect())
        }
        Json::Array(items) => Json::Array(items.iter().map(sorted).collect()),
        leaf => leaf.clone(),
    }
}
