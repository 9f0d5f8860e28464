//! `verify`: questions of the user's own to each shard, and the answers that must come.

use serde_json::Value as Json;

use crate::spec::yaml::{Mark, Node};
use crate::spec::{Assertion, Engine, Question};
use crate::sql::check_query;

use super::commands::collection;
use super::context::Context;
use super::fields::Fields;
use super::json::{json, object};
use super::scalars::text;

/// Whether the item of `verify` is one.
pub(super) fn is_one(fields: &Fields<'_>) -> bool {
    ["sql", "collection", "where", "equals"].into_iter().any(|key| fields.get(key).is_some())
}

/// One question with its answer.
pub(super) fn read(ctx: &mut Context, at: Mark, fields: &Fields<'_>) -> Option<Assertion> {
    let question = match ctx.engine? {
        Engine::Postgres => fields.require(ctx, "sql").and_then(|node| sql(ctx, node)),
        Engine::Mongodb => documents(ctx, fields),
    };
    let equals = fields.require(ctx, "equals").and_then(|node| answer(ctx, node));
    let (question, equals) = (question?, equals?);
    if matches!(question, Question::Documents { .. }) && equals.as_u64().is_none() {
        ctx.invalid(at, format!("verify.equals must be a number of documents, not {equals}"));
        return None;
    }
    Some(Assertion { question, equals })
}

fn sql(ctx: &mut Context, node: &Node) -> Option<Question> {
    let found = text(ctx, node, "verify.sql")?;
    match check_query(found) {
        Ok(query) => Some(Question::Sql(query)),
        Err(problem) => {
            ctx.bad_sql(node, "verify.sql", &problem);
            None
        }
    }
}

fn documents(ctx: &mut Context, fields: &Fields<'_>) -> Option<Question> {
    let collection =
        fields.require(ctx, "collection").and_then(|node| collection(ctx, node, "verify.collection"));
    let query = match fields.get("where") {
        Some(node) => object(ctx, node, "verify.where"),
        None => Some(serde_json::Map::new()),
    };
    Some(Question::Documents { collection: collection?, query: Json::Object(query?) })
}

/// A single value.
fn answer(ctx: &mut Context, node: &Node) -> Option<Json> {
    let value = json(ctx, node)?;
    if value.is_object() || value.is_array() {
        ctx.invalid(node.at, format!("verify.equals must be a single value, not {}", node.describe()));
        return None;
    }
    Some(value)
}
