//! The body of a schema spec.

use std::time::Duration;

use crate::spec::yaml::{Layout, Node, Scalar, Value};
use crate::spec::{Engine, SchemaChange, SchemaSpec};
use crate::sql::{Statement, split};

use super::context::Context;
use super::fields::Fields;
use super::scalars::{boolean, duration, text, word};
use super::{allow, commands, on_block, verify};

const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
const LOCK_BOUNDS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(60));
const HOLD_TIMEOUT: Duration = Duration::from_secs(5);
const HOLD_BOUNDS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(3600));
const DEADLINE_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));

pub(super) fn read(ctx: &mut Context, fields: &Fields<'_>) -> Option<SchemaSpec> {
    let up = fields.require(ctx, "up").and_then(|node| change(ctx, node, "up"));
    if let (Some(up), Some(node)) = (&up, fields.get("up"))
        && up.is_empty()
    {
        ctx.invalid(node.at, "up has nothing to do");
    }
    let down = match fields.get("down") {
        Some(node) => change(ctx, node, "down"),
        None => ctx.engine.map(nothing),
    };
    if let Some(node) = fields.get("undo")
        && word(ctx, node, "undo", &["none", "capture"]) == Some("capture")
    {
        ctx.invalid(node.at, "undo: capture is for kind: data; a schema change is taken back by its down");
    }
    if let Some(node) = fields.get("backup")
        && word(ctx, node, "backup", &["none", "table"]) == Some("table")
    {
        ctx.invalid(node.at, "backup: table is for kind: data; a schema change is taken back by its down");
    }
    let mut time = |name, default, bounds| match fields.get(name) {
        Some(node) => duration(ctx, node, name, bounds),
        None => Some(default),
    };
    let lock_timeout = time("lock_timeout", LOCK_TIMEOUT, LOCK_BOUNDS);
    let hold_timeout = time("hold_timeout", HOLD_TIMEOUT, HOLD_BOUNDS);
    let lock_deadline = match fields.get("lock_deadline") {
        Some(node) => duration(ctx, node, "lock_deadline", DEADLINE_BOUNDS).map(Some),
        None => Some(None),
    };
    let on_block = match fields.get("on_block") {
        Some(node) => on_block::read(ctx, node),
        None => Some(None),
    };
    let allow = match fields.get("allow") {
        Some(node) => allow::read(ctx, node),
        None => Some(Vec::new()),
    };
    let verify = match fields.get("verify") {
        Some(node) => verify::of_schema(ctx, node),
        None => Some(Vec::new()),
    };
    let atomic = match fields.get("atomic") {
        Some(node) => boolean(ctx, node, "atomic"),
        None => Some(false),
    };
    if let (Some(true), Some(up), Some(node)) = (atomic, &up, fields.get("up")) {
        refuse_unpreparable(ctx, up, node);
    }
    Some(SchemaSpec {
        up: up?,
        down: down?,
        lock_timeout: lock_timeout?,
        hold_timeout: hold_timeout?,
        lock_deadline: lock_deadline?,
        on_block: on_block?,
        allow: allow?,
        verify: verify?,
        atomic: atomic?,
    })
}

/// What is prepared is one transaction on each shard.
fn refuse_unpreparable(ctx: &mut Context, up: &SchemaChange, node: &Node) {
    let SchemaChange::Sql(statements) = up else { return };
    for statement in statements.iter().filter_map(|text| split(text).ok()).flatten() {
        if let Some(why) = statement.unpreparable {
            let begin: String =
                statement.text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(60).collect();
            ctx.invalid(node.at, format!("up: `atomic: true` cannot have \"{begin}\": {why}"));
        }
    }
}

fn nothing(engine: Engine) -> SchemaChange {
    match engine {
        Engine::Postgres => SchemaChange::Sql(Vec::new()),
        Engine::Mongodb => SchemaChange::Commands(Vec::new()),
    }
}

fn change(ctx: &mut Context, node: &Node, what: &str) -> Option<SchemaChange> {
    match ctx.engine? {
        Engine::Postgres => statements(ctx, node, what).map(SchemaChange::Sql),
        Engine::Mongodb => commands::read(ctx, node, what).map(SchemaChange::Commands),
    }
}

/// A text or a list of texts, each of any number of statements.
fn statements(ctx: &mut Context, node: &Node, what: &str) -> Option<Vec<String>> {
    let texts = match &node.value {
        Value::Sequence(items) => items.as_slice(),
        Value::Scalar(Scalar::Text(..)) => std::slice::from_ref(node),
        _ => {
            ctx.invalid(node.at, format!("{what} must be a list of SQL texts, not {}", node.describe()));
            return None;
        }
    };
    let mut found = Vec::new();
    let mut whole = true;
    for item in texts {
        match sql(ctx, item, what) {
            Some(statements) => found.extend(statements.into_iter().map(|statement| statement.text)),
            None => whole = false,
        }
    }
    whole.then_some(found)
}

fn sql(ctx: &mut Context, node: &Node, what: &str) -> Option<Vec<Statement>> {
    // Verbatim text comes from a section of a .sql file, which may be empty.
    let found = match &node.value {
        Value::Scalar(Scalar::Text(found, Layout::Verbatim)) => found,
        _ => text(ctx, node, &format!("a statement of {what}"))?,
    };
    match split(found) {
        Ok(statements) => Some(statements),
        Err(problems) => {
            problems.iter().for_each(|problem| ctx.bad_sql(node, what, problem));
            None
        }
    }
}
