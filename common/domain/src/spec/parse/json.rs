//! YAML to JSON, for what MongoDB or a transformer will read. Order is kept; numbers are `i64` or `f64`.

use serde_json::{Map, Number, Value as Json};

use crate::spec::yaml::{Node, Scalar, Value};

use super::context::Context;

/// The value as JSON.
pub(super) fn json(ctx: &mut Context, node: &Node) -> Option<Json> {
    match &node.value {
        Value::Scalar(scalar) => leaf(ctx, node, scalar),
        Value::Sequence(items) => {
            let values: Vec<Option<Json>> = items.iter().map(|item| json(ctx, item)).collect();
            values.into_iter().collect::<Option<Vec<_>>>().map(Json::Array)
        }
        Value::Mapping(_) => object(ctx, node, "the value").map(Json::Object),
    }
}

/// The value as a JSON object.
pub(super) fn object(ctx: &mut Context, node: &Node, what: &str) -> Option<Map<String, Json>> {
    let Value::Mapping(entries) = &node.value else {
        ctx.invalid(node.at, format!("{what} must be a mapping, not {}", node.describe()));
        return None;
    };
    let mut object = Map::new();
    let mut whole = true;
    for entry in entries {
        match json(ctx, &entry.value) {
            Some(value) => drop(object.insert(entry.key.clone(), value)),
            None => whole = false,
        }
    }
    whole.then_some(object)
}

fn leaf(ctx: &mut Context, node: &Node, scalar: &Scalar) -> Option<Json> {
    let value = match scalar {
        Scalar::Null => Some(Json::Null),
        Scalar::Bool(value) => Some(Json::Bool(*value)),
        Scalar::Int(value) => Some(Json::Number((*value).into())),
        Scalar::Float(value) => Number::from_f64(*value).map(Json::Number),
        Scalar::Text(text, _) => Some(Json::String(text.clone())),
        Scalar::Unholdable(_) => None,
    };
    if value.is_none() {
        let message = format!(
            "{} fits neither 64 bits nor a double; write a text, or {{ $numberDecimal: \"…\" }} for MongoDB",
            node.describe()
        );
        ctx.invalid(node.at, message);
    }
    value
}
