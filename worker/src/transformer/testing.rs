//! What the tests of transformers share.

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof};
use serde_json::Value as Json;
use vrl::value::{KeyString, Value};

use super::{Document, TransformError, Transformer};

/// A document out of JSON.
pub(super) fn document(json: Json) -> Document {
    Value::from(json).into_object().expect("an object")
}

/// The document after the transformer.
pub(super) fn transformed(transformer: &dyn Transformer, before: Json) -> Result<Document, TransformError> {
    let mut row = document(before);
    transformer.transform(&mut row)?;
    Ok(row)
}

/// Arbitrary documents in which `field` often has something of every type, and names often mean something.
pub(super) fn any_document(field: &'static str) -> impl Strategy<Value = Document> {
    let name = prop_oneof![
        Just("text".to_owned()),
        Just("blocks".to_owned()),
        Just("plan".to_owned()),
        Just("limits".to_owned()),
        any::<String>(),
    ];
    let fields = prop::collection::btree_map(name.prop_map(KeyString::from), any_value(), 0..6);
    (fields, prop::option::of(any_value())).prop_map(move |(mut row, value)| {
        if let Some(value) = value {
            row.insert(field.into(), value);
        }
        row
    })
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from_f64_or_zero),
        any::<String>().prop_map(Value::from),
        any::<Vec<u8>>().prop_map(|bytes| Value::Bytes(bytes.into())),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        let name = prop_oneof![Just("text"), Just("blocks"), Just("plan"), Just("limits"), Just("type")];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::btree_map(name.prop_map(KeyString::from), inner, 0..5).prop_map(Value::Object),
        ]
    })
}
