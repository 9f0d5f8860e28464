//! `transform`: exactly one way to turn an old row into a new one.

use serde_json::{Map, Value as Json};

use crate::spec::yaml::{Mark, Node, Value};
use crate::spec::{Source, Transform};
use crate::sql::parse_ident;

use super::context::Context;
use super::data::expression;
use super::fields::Fields;
use super::json::{json, object};
use super::nearest::nearest;
use super::scalars::text;

/// Stages that MongoDB allows in an update pipeline.
const STAGES: [&str; 6] = ["$set", "$unset", "$addFields", "$project", "$replaceRoot", "$replaceWith"];
const WAYS: [&str; 4] = ["sql", "pipeline", "vrl", "transformer"];
const MAX_NAME: usize = 63;

pub(super) fn read(ctx: &mut Context, node: &Node, source: Option<&Source>) -> Option<Transform> {
    let fields = Fields::open(ctx, node, "transform")?;
    let chosen: Vec<(&str, &Node)> =
        WAYS.into_iter().filter_map(|way| fields.get(way).map(|node| (way, node))).collect();
    match chosen.as_slice() {
        [("sql", list)] => set_list(ctx, list, source).map(Transform::Sql),
        [("pipeline", stages)] => pipeline(ctx, stages).map(Transform::Pipeline),
        [("vrl", program)] => {
            text(ctx, program, "transform.vrl").map(|program| Transform::Vrl(program.into()))
        }
        [(_, transformer)] => named(ctx, transformer),
        [] => {
            // A key that was refused is problem enough.
            if matches!(&node.value, Value::Mapping(entries) if entries.is_empty()) {
                ctx.invalid(
                    node.at,
                    "transform is empty; write exactly one of sql, pipeline, vrl, transformer",
                );
            }
            None
        }
        several => {
            let ways: Vec<&str> = several.iter().map(|(way, _)| *way).collect();
            let message = format!("transform must have exactly one way, not {}", ways.join(" and "));
            ctx.invalid(node.at, message);
            None
        }
    }
}

/// Column to expression. Every expression sees the old row, so the order does not matter.
fn set_list(ctx: &mut Context, node: &Node, source: Option<&Source>) -> Option<Vec<(String, String)>> {
    let Value::Mapping(entries) = &node.value else {
        ctx.invalid(
            node.at,
            format!("transform.sql must be a mapping of columns to expressions, not {}", node.describe()),
        );
        return None;
    };
    if entries.is_empty() {
        ctx.invalid(node.at, "transform.sql sets no column");
        return None;
    }
    let mut list: Vec<(String, String)> = Vec::new();
    let mut whole = true;
    for entry in entries {
        let column = column(ctx, entry.at, &entry.key, source);
        let value = expression(ctx, &entry.value, &format!("transform.sql, {}", entry.key));
        match (column, value) {
            (Some(column), Some(_)) if list.iter().any(|(other, _)| *other == column) => {
                ctx.invalid(entry.at, format!("transform.sql sets column {column:?} twice"));
            }
            (Some(column), Some(value)) => list.push((column, value)),
            _ => whole = false,
        }
    }
    whole.then_some(list)
}

fn column(ctx: &mut Context, at: Mark, key: &str, source: Option<&Source>) -> Option<String> {
    match parse_ident(key) {
        Err(problem) => {
            ctx.invalid(
                at,
                format!("transform.sql: {key:?} is not the name of a column: {}", problem.message),
            );
            None
        }
        Ok(column) if source.is_some_and(|source| source.key.contains(&column)) => {
            ctx.invalid(at, format!("transform.sql must not set {column:?}: it belongs to the key"));
            None
        }
        Ok(column) => Some(column),
    }
}

fn pipeline(ctx: &mut Context, node: &Node) -> Option<Vec<Json>> {
    let Value::Sequence(items) = &node.value else {
        ctx.invalid(node.at, format!("transform.pipeline must be a list of stages, not {}", node.describe()));
        return None;
    };
    if items.is_empty() {
        ctx.invalid(node.at, "transform.pipeline has no stage");
        return None;
    }
    let stages: Vec<Option<Json>> = items.iter().map(|item| stage(ctx, item)).collect();
    stages.into_iter().collect()
}

fn stage(ctx: &mut Context, node: &Node) -> Option<Json> {
    let operator = match &node.value {
        Value::Mapping(entries) if entries.len() == 1 => entries.first(),
        _ => None,
    };
    let Some(operator) = operator else {
        let message =
            "a stage of transform.pipeline must be a mapping of one operator, such as { $set: { … } }";
        ctx.invalid(node.at, message);
        return None;
    };
    if !STAGES.contains(&operator.key.as_str()) {
        let hint = match nearest(&operator.key, STAGES.into_iter()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("MongoDB allows {} in an update", STAGES.join(", ")),
        };
        ctx.invalid(operator.at, format!("unknown stage {:?}; {hint}", operator.key));
        return None;
    }
    json(ctx, node)
}

fn named(ctx: &mut Context, node: &Node) -> Option<Transform> {
    let fields = Fields::open(ctx, node, "transform.transformer")?;
    let name = fields.require(ctx, "name").and_then(|node| {
        let name = text(ctx, node, "transform.transformer.name")?;
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        if !plain || name.len() > MAX_NAME {
            ctx.invalid(
                node.at,
                format!("transform.transformer.name {name:?} is not the name of a transformer"),
            );
            return None;
        }
        Some(name.to_owned())
    });
    let options = match fields.get("options") {
        Some(node) => object(ctx, node, "transform.transformer.options"),
        None => Some(Map::new()),
    };
    Some(Transform::Named { name: name?, options: Json::Object(options?) })
}
