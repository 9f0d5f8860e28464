//! The body of a data spec.

use std::time::Duration;

use crate::spec::yaml::{Node, Scalar, Value};
use crate::spec::{
    Backup, Batch, DataSpec, Engine, MAX_RATE, OnError, Parallel, Ranges, Source, Throttle, Undo, Where,
};
use crate::sql::{check_expression, check_relation, parse_ident};

use super::commands::collection;
use super::context::Context;
use super::fields::Fields;
use super::json::object;
use super::scalars::{boolean, count, duration, text, window, word};
use super::tenants::{self, Wanted};
use super::{anew, transform, unique, verify};

const LAG_BOUNDS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3600));
const TARGET_BOUNDS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(30));
const MAX_BATCH: u32 = 1_000_000;
const MAX_WORKERS: u32 = 64;
const MAX_RANGES: u32 = 1024;
pub(super) const MAX_KEY: usize = 32;
/// Their keys travel with statements. More bad rows than this are a bad transform.
const MAX_QUARANTINED: u32 = 10_000;

pub(super) fn read(ctx: &mut Context, fields: &Fields<'_>) -> Option<DataSpec> {
    let wanted = tenants::wanted(ctx, fields);
    let source = fields.require(ctx, "source").and_then(|node| source(ctx, node, wanted));
    let transform =
        fields.require(ctx, "transform").and_then(|node| transform::read(ctx, node, source.as_ref()));
    let batch = section(ctx, fields, "batch", Batch::default(), batch);
    let parallel = section(ctx, fields, "parallel", Parallel::default(), parallel);
    let throttle = section(ctx, fields, "throttle", (Throttle::default(), None), throttle);
    let on_error = match fields.get("on_error") {
        Some(node) => on_error(ctx, node),
        None => Some(OnError::default()),
    };
    let undo = match fields.get("undo") {
        Some(node) => undo(ctx, node),
        None => Some(Undo::default()),
    };
    let backup = match fields.get("backup") {
        Some(node) => backup(ctx, node),
        None => Some(Backup::default()),
    };
    // Without a readable source it is not known which checks fit.
    let pending = source.as_ref().map(|source| source.pending.is_some());
    let verify = match fields.get("verify") {
        Some(node) => verify::read(ctx, node, pending),
        None => Some(verify::default(pending.unwrap_or(false))),
    };
    if let (Some(checks), Some(node)) = (&verify, fields.get("verify")) {
        anew::check(ctx, node, checks, transform.as_ref(), undo);
        unique::check(ctx, node, checks, source.as_ref());
    }
    let (throttle, max_replica_lag) = throttle?;
    Some(DataSpec {
        source: source?,
        transform: transform?,
        batch: batch?,
        parallel: parallel?,
        throttle,
        max_replica_lag,
        on_error: on_error?,
        verify: verify?,
        undo: undo?,
        backup: backup?,
    })
}

fn section<'n, T>(
    ctx: &mut Context,
    fields: &Fields<'n>,
    name: &'static str,
    default: T,
    read: impl Fn(&mut Context, &Fields<'n>, T) -> Option<T>,
) -> Option<T> {
    let Some(node) = fields.get(name) else { return Some(default) };
    let below = Fields::open(ctx, node, name)?;
    read(ctx, &below, default)
}

fn source(ctx: &mut Context, node: &Node, wanted: Wanted) -> Option<Source> {
    let fields = Fields::open(ctx, node, "source")?;
    let engine = ctx.engine?;
    let relation = match engine {
        Engine::Postgres => fields.require(ctx, "table").and_then(|node| table(ctx, node, "source.table")),
        Engine::Mongodb => {
            fields.require(ctx, "collection").and_then(|node| collection(ctx, node, "source.collection"))
        }
    };
    let key = match fields.get("key") {
        Some(node) => key(ctx, node, engine),
        None => Some(Vec::new()),
    };
    let pending = fields.get("where").map(|node| pending(ctx, node, engine));
    let immutable_key = match fields.get("immutable_key") {
        Some(node) => boolean(ctx, node, "source.immutable_key"),
        None => Some(false),
    };
    let tenants = tenants::read(ctx, &fields, wanted, engine);
    match (engine, &pending, immutable_key) {
        (_, Some(_), Some(true)) => {
            let at = fields.place("immutable_key");
            ctx.invalid(at, "source.immutable_key and source.where exclude each other; leave immutable_key out");
        }
        (Engine::Postgres, None, Some(false)) => ctx.invalid(
            fields.at,
            "source needs a where that the transform turns false, or immutable_key: true if no key ever changes",
        ),
        _ => {}
    }
    let pending = match pending {
        Some(read) => Some(read?),
        None => None,
    };
    Some(Source { relation: relation?, key: key?, pending, immutable_key: immutable_key?, tenants: tenants? })
}

pub(super) fn table(ctx: &mut Context, node: &Node, what: &str) -> Option<String> {
    let found = text(ctx, node, what)?;
    match check_relation(found) {
        Ok(_) => Some(found.to_owned()),
        Err(problem) => {
            ctx.bad_sql(node, what, &problem);
            None
        }
    }
}

fn key(ctx: &mut Context, node: &Node, engine: Engine) -> Option<Vec<String>> {
    let Value::Sequence(items) = &node.value else {
        ctx.invalid(node.at, format!("source.key must be a list of columns, not {}", node.describe()));
        return None;
    };
    if items.is_empty() || items.len() > MAX_KEY {
        ctx.invalid(
            node.at,
            format!("source.key must name 1 to {MAX_KEY} columns; leave it out for the primary key"),
        );
        return None;
    }
    let mut columns: Vec<String> = Vec::new();
    for item in items {
        let found = text(ctx, item, "a column of source.key")?;
        match engine {
            Engine::Mongodb if found != "_id" || items.len() > 1 => {
                ctx.invalid(item.at, "source.key can only be [_id] in MongoDB; leave it out");
                return None;
            }
            Engine::Mongodb => {}
            Engine::Postgres => {
                let column = column(ctx, item, found, "source.key")?;
                if columns.contains(&column) {
                    ctx.invalid(item.at, format!("source.key names {column:?} twice"));
                }
                columns.push(column);
            }
        }
    }
    Some(columns)
}

pub(super) fn column(ctx: &mut Context, node: &Node, found: &str, what: &str) -> Option<String> {
    match parse_ident(found) {
        Ok(column) => Some(column),
        Err(problem) => {
            ctx.bad_sql(node, what, &problem);
            None
        }
    }
}

fn pending(ctx: &mut Context, node: &Node, engine: Engine) -> Option<Where> {
    match (engine, &node.value) {
        (Engine::Postgres, Value::Mapping(_) | Value::Sequence(_)) => {
            let message =
                format!("source.where must be an SQL predicate in PostgreSQL, not {}", node.describe());
            ctx.invalid(node.at, message);
            None
        }
        (Engine::Postgres, _) => expression(ctx, node, "source.where").map(Where::Sql),
        (Engine::Mongodb, Value::Mapping(entries)) if entries.is_empty() => {
            // Keys that were refused are no longer there.
            if !ctx.is_clean() {
                return None;
            }
            ctx.invalid(
                node.at,
                "source.where is empty: no document could ever stop being pending; leave it out",
            );
            None
        }
        (Engine::Mongodb, Value::Mapping(_)) => {
            object(ctx, node, "source.where").map(|query| Where::Query(serde_json::Value::Object(query)))
        }
        (Engine::Mongodb, _) => {
            let message =
                format!("source.where must be a query document in MongoDB, not {}", node.describe());
            ctx.invalid(node.at, message);
            None
        }
    }
}

/// A text that is exactly one SQL expression.
pub(super) fn expression(ctx: &mut Context, node: &Node, what: &str) -> Option<String> {
    let found = text(ctx, node, what)?;
    match check_expression(found) {
        Ok(()) => Some(found.trim().to_owned()),
        Err(problem) => {
            ctx.bad_sql(node, what, &problem);
            None
        }
    }
}

fn batch(ctx: &mut Context, fields: &Fields<'_>, default: Batch) -> Option<Batch> {
    let target = match fields.get("target") {
        Some(node) => duration(ctx, node, "batch.target", TARGET_BOUNDS),
        None => Some(default.target),
    };
    let mut size = |name: &str, default| match fields.get(name) {
        Some(node) => count(ctx, node, &format!("batch.{name}"), 1, MAX_BATCH),
        None => Some(default),
    };
    let (min, max) = (size("min", default.min), size("max", default.max));
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        let at = fields.get("min").or(fields.get("max")).map_or(fields.at, |node| node.at);
        ctx.invalid(at, format!("batch.min ({min}) must not be larger than batch.max ({max})"));
    }
    Some(Batch { target: target?, min: min?, max: max? })
}

fn parallel(ctx: &mut Context, fields: &Fields<'_>, default: Parallel) -> Option<Parallel> {
    let ranges = match fields.get("ranges").map(|node| (node, &node.value)) {
        Some((_, Value::Scalar(Scalar::Text(word, _)))) if word == "auto" => Some(Ranges::Auto),
        Some((node, Value::Scalar(Scalar::Int(_)))) => {
            count(ctx, node, "parallel.ranges", 1, MAX_RANGES).map(Ranges::Count)
        }
        Some((node, _)) => {
            let found = node.describe();
            ctx.invalid(
                node.at,
                format!("parallel.ranges must be auto or a number from 1 to {MAX_RANGES}, not {found}"),
            );
            None
        }
        None => Some(default.ranges),
    };
    let workers = match fields.get("workers") {
        Some(node) => count(ctx, node, "parallel.workers", 1, MAX_WORKERS),
        None => Some(default.workers),
    };
    Some(Parallel { ranges: ranges?, workers: workers? })
}

/// How fast and when, which an operator may change, and how far replicas may be behind, which the spec alone says.
type Limits = (Throttle, Option<Duration>);

fn throttle(ctx: &mut Context, fields: &Fields<'_>, _default: Limits) -> Option<Limits> {
    let rows_per_second =
        fields.get("rows_per_second").map(|node| count(ctx, node, "throttle.rows_per_second", 1, MAX_RATE));
    let window = fields.get("window").map(|node| window(ctx, node, "throttle.window"));
    let max_replica_lag = match fields.get("max_replica_lag").map(|node| (node, &node.value)) {
        None => Some(None),
        Some((_, Value::Scalar(Scalar::Text(word, _)))) if word == "none" => Some(None),
        Some((node, _)) => duration(ctx, node, "throttle.max_replica_lag", LAG_BOUNDS).map(Some),
    };
    let throttle = Throttle {
        rows_per_second: rows_per_second.map_or(Some(None), |read| read.map(Some))?,
        window: window.map_or(Some(None), |read| read.map(Some))?,
    };
    Some((throttle, max_replica_lag?))
}

fn on_error(ctx: &mut Context, node: &Node) -> Option<OnError> {
    match &node.value {
        Value::Mapping(_) => {
            let fields = Fields::open(ctx, node, "on_error")?;
            let below = fields.require(ctx, "quarantine")?;
            let below = Fields::open(ctx, below, "on_error.quarantine")?;
            let budget = below.require(ctx, "budget")?;
            let budget = count(ctx, budget, "on_error.quarantine.budget", 1, MAX_QUARANTINED)?;
            Some(OnError::Quarantine { budget })
        }
        Value::Scalar(Scalar::Text(found, _)) if found == "quarantine" => {
            ctx.invalid(node.at, "on_error: quarantine needs a budget: { quarantine: { budget: 100 } }");
            None
        }
        _ => word(ctx, node, "on_error", &["fail"]).map(|_| OnError::Fail),
    }
}

fn undo(ctx: &mut Context, node: &Node) -> Option<Undo> {
    match word(ctx, node, "undo", &["none", "capture"])? {
        "capture" => Some(Undo::Capture),
        _ => Some(Undo::None),
    }
}

fn backup(ctx: &mut Context, node: &Node) -> Option<Backup> {
    match word(ctx, node, "backup", &["none", "table"])? {
        "table" => Some(Backup::Table),
        _ => Some(Backup::None),
    }
}
