//! Answers as YAML: what JSON says, in the form that people read more easily. Every text is quoted, so that none of them turns
//! into a number or a truth, and none can act on a terminal.

use saphyr::{Mapping, Scalar, ScalarStyle, Yaml, YamlEmitter};
use serde_json::Value;

use super::harmless;

/// A value as one document, with the end of its last line.
pub(crate) fn document(value: &Value) -> String {
    let mut text = String::new();
    let mut emitter = YamlEmitter::new(&mut text);
    emitter.quoted_value(true);
    // Writing to a String cannot fail.
    let _ = emitter.dump(&node(value));
    text.push('\n');
    harmless::json(&text)
}

fn node(value: &Value) -> Yaml<'static> {
    match value {
        Value::Null => plain("null"),
        Value::Bool(truth) => Yaml::Value(Scalar::Boolean(*truth)),
        Value::Number(number) => plain(&number.to_string()),
        Value::String(text) => Yaml::Value(Scalar::String(text.clone().into())),
        Value::Array(values) => Yaml::Sequence(values.iter().map(node).collect()),
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| {
                (Yaml::Value(Scalar::String(key.clone().into())), node(value))
            };
            Yaml::Mapping(fields.iter().map(field).collect::<Mapping<'_>>())
        }
    }
}

fn plain(text: &str) -> Yaml<'static> {
    Yaml::Representation(text.to_owned().into(), ScalarStyle::Plain, None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_a_document_in_which_texts_stay_texts() {
        let value = json!({
            "id": "0001", "status": "no", "rows": 12, "speed": 0.5, "error": null, "done": true,
            "shards": [{ "shard": "a" }, { "shard": "b\u{1b}[2J" }], "none": [], "nothing": {},
        });
        let expected = "\
---
id: \"0001\"
status: \"no\"
rows: 12
speed: 0.5
error: null
done: true
shards:
  - shard: \"a\"
  - shard: \"b\\u001b[2J\"
none: []
nothing: {}
";
        assert_eq!(document(&value), expected);
    }
}
